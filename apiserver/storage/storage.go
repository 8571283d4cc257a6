// Package storage gives the API server's resources a home in the replicated
// key-value state: it is k8s.io/apiserver's storage.Interface over a kv.Store.
//
// A resourceVersion is a revision of the store. Reads of the present state are
// linearizable where this node is the sole voter: a write is applied here
// before it is answered.
package storage

import (
	"context"
	"errors"
	"fmt"
	"path"
	"reflect"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apiserver/pkg/features"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/apiserver/pkg/storage/value/encrypt/identity"
	utilfeature "k8s.io/apiserver/pkg/util/feature"

	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/kv"
)

// Config says what a Store holds and how. KV, Codec, NewFunc and
// ResourcePrefix must be set.
type Config struct {
	KV    *kv.Store
	Codec runtime.Codec
	// NewFunc makes an empty object of the resource.
	NewFunc func() runtime.Object
	// Prefix stands before all keys in the store; "/registry".
	Prefix string
	// ResourcePrefix begins every key that callers pass: "/apps/deployments".
	ResourcePrefix string
	GroupResource  schema.GroupResource
	// Transformer encrypts values at rest, with the key as authenticated data;
	// by default they are stored as they are.
	Transformer value.Transformer
	Clock       raftlog.Clock

	// TellDamage names objects that cannot be read as damaged, so that the
	// registry lets them be deleted unread. It goes with the feature gate
	// AllowUnsafeMalformedObjectDeletion.
	TellDamage bool
	// SharedBytes bounds the objects of the latest events that are kept decoded, for
	// all watches, by their size as stored, but for the latest one; 2 MiB. Decoded
	// they take some ten times as much.
	SharedBytes int64
	// AsStored says of an object that has no type of its own whether the codec would
	// leave it as it is in JSON: then it is not asked. nil: it always is.
	AsStored func(object map[string]any) bool
	// Gather has those who Follow take many writes together.
	Gather kv.Gather

	times times // zero: usualTimes; tests have others
}

// These are no settings: what they bound is bounded by others already, or is what
// clients of Kubernetes' API count on.
const (
	// watchBuffer is how many events may wait for a watch's reader, decoded. Behind
	// them wait as many as the store's WatchQueue says, as they are stored.
	watchBuffer = 100
	// sharedObjects is how many objects are kept decoded at most, beside what
	// Config.SharedBytes says: as many as are written until what was made of one is.
	sharedObjects = 256
	// countEvery is how often a resource's objects are counted, for the metrics.
	countEvery = time.Minute
)

// times are how long a read waits for a resourceVersion that this node has not
// reached, and how long after a write, and at most where there are none, watches
// that ask for bookmarks get one.
type times struct{ fresh, progress, silence time.Duration }

// usualTimes are those of Kubernetes' own storage, and of its watch cache where
// nothing happens: clients' time limits go by them.
var usualTimes = times{fresh: 3 * time.Second, progress: 5 * time.Second, silence: time.Minute}

// Store is a resource's storage. It is safe for concurrent use.
type Store struct {
	c           Config
	versioner   apistorage.APIObjectVersioner
	transformer value.Transformer
	root        string // ends in a slash
	unsafely    bool   // damaged objects can be deleted unread, and do not end a list
	progress    ticker
	recent      *recent
	coming      coming

	life  context.Context // ends by Close
	close context.CancelFunc

	mu       sync.Mutex
	sized    bool // sizes are part of the statistics
	watchers int
}

var _ apistorage.Interface = (*Store)(nil)

// New makes the storage of a resource.
func New(c Config) (*Store, error) {
	if c.KV == nil || c.Codec == nil {
		return nil, errors.New("storage: KV and Codec must be set")
	}
	if !strings.HasPrefix(c.ResourcePrefix, "/") || c.ResourcePrefix == "/" {
		return nil, fmt.Errorf("storage: resource prefix %q must begin with a slash and name a resource", c.ResourcePrefix)
	}
	setDefault(&c.Prefix, "/registry")
	setDefault(&c.times.progress, usualTimes.progress)
	setDefault(&c.times.fresh, usualTimes.fresh)
	setDefault(&c.times.silence, usualTimes.silence)
	setDefault(&c.SharedBytes, 2<<20)
	if c.Transformer == nil {
		c.Transformer = identity.NewEncryptCheckTransformer()
	}
	if c.Clock == nil {
		c.Clock = raftlog.SystemClock{}
	}
	root := path.Join("/", c.Prefix)
	if !strings.HasSuffix(root, "/") {
		root += "/"
	}
	life, end := context.WithCancel(context.Background())
	return &Store{
		c: c, transformer: c.Transformer, root: root, recent: newRecent(sharedObjects, c.SharedBytes), life: life, close: end,
		unsafely: utilfeature.DefaultFeatureGate.Enabled(features.AllowUnsafeMalformedObjectDeletion),
	}, nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Close ends all watches: their clients begin others, which see the resource as
// it is served then.
func (s *Store) Close() { s.close() }

// watching counts a watch that shares its objects until the function returned is
// called. The last one takes along what they shared.
func (s *Store) watching() (done func()) {
	add := func(n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.watchers += n; s.watchers == 0 {
			s.recent.clear()
		}
	}
	add(1)
	return func() { add(-1) }
}

func (s *Store) watched() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watchers > 0
}

// authenticated binds an encrypted value to its key.
type authenticated string

// AuthenticatedData implements value.Context.
func (a authenticated) AuthenticatedData() []byte { return []byte(a) }

func (s *Store) key(key string, recursive bool) (string, error) {
	key, err := apistorage.PrepareKey(s.c.ResourcePrefix, key, recursive)
	if err != nil {
		return "", err
	}
	return s.root + strings.TrimPrefix(key, "/"), nil
}

// all is the prefix of every key of the resource.
func (s *Store) all() string {
	return s.root + strings.Trim(s.c.ResourcePrefix, "/") + "/"
}

// Versioner implements storage.Interface.
func (s *Store) Versioner() apistorage.Versioner { return s.versioner }

// ReadinessCheck implements storage.Interface.
func (s *Store) ReadinessCheck() error {
	_, _, err := s.c.KV.Get(s.root)
	return err
}

// RequestWatchProgress implements storage.Interface: each watch of the resource
// gets a bookmark behind the events that it has not seen.
func (s *Store) RequestWatchProgress(context.Context) error {
	s.c.KV.Progress(s.all())
	return nil
}

// GetCurrentResourceVersion implements storage.Interface.
func (s *Store) GetCurrentResourceVersion(context.Context) (uint64, error) {
	return s.c.KV.Rev(), nil
}

// CompactRevision implements storage.Interface.
func (s *Store) CompactRevision() int64 {
	if rev := s.c.KV.CompactRev(); rev > 1 {
		return int64(rev)
	}
	return 0 // a store begins at revision 1: nothing was compacted
}

// EnableResourceSizeEstimation implements storage.Interface. Sizes are read
// from the store, so the keys are not needed.
func (s *Store) EnableResourceSizeEstimation(keys apistorage.KeysFunc) error {
	if keys == nil {
		return errors.New("storage: the function that lists keys must be given")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sized {
		return errors.New("storage: size estimation is enabled already")
	}
	s.sized = true
	return nil
}

// Stats implements storage.Interface.
func (s *Store) Stats(context.Context) (apistorage.Stats, error) {
	n, size, err := s.c.KV.Count(s.all())
	if err != nil {
		return apistorage.Stats{}, err
	}
	stats := apistorage.Stats{ObjectCount: n}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sized && n > 0 {
		stats.EstimatedAverageObjectSizeBytes = size / n
	}
	return stats, nil
}

// fresh waits until this node has reached a resourceVersion that a caller has
// seen elsewhere.
func (s *Store) fresh(ctx context.Context, resourceVersion string) error {
	if resourceVersion == "" || resourceVersion == "0" {
		return nil
	}
	rev, err := s.versioner.ParseResourceVersion(resourceVersion)
	if err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("invalid resource version: %v", err))
	}
	return s.reach(ctx, rev)
}

func (s *Store) reach(ctx context.Context, rev uint64) error {
	if s.c.KV.Rev() >= rev {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, s.c.times.fresh)
	defer cancel()
	err := s.c.KV.WaitRev(wait, rev)
	if err != nil && wait.Err() != nil {
		return apistorage.NewTooLargeResourceVersionError(rev, s.c.KV.Rev(), 1)
	}
	return err
}

// open turns what is stored under a key into the object's bytes. Stale says
// that they should be stored anew, though nothing changed.
func (s *Store) open(ctx context.Context, k *kv.KV) (data []byte, stale bool, err error) {
	data, stale, err = s.transformer.TransformFromStorage(ctx, k.Value, authenticated(k.Key))
	if err != nil && s.c.TellDamage {
		err = asCorrupt(err, "the stored data cannot be transformed", k.ModRev)
	}
	return data, stale, err
}

func (s *Store) decode(data []byte, rev uint64, into runtime.Object) error {
	if _, err := conversion.EnforcePtr(into); err != nil {
		return fmt.Errorf("the object to fill is no pointer: %w", err)
	}
	if u, ok := into.(*unstructured.Unstructured); ok {
		if content := s.plain(data); content != nil {
			u.Object = content
			return s.versioner.UpdateObject(into, rev)
		}
	}
	if _, _, err := s.c.Codec.Decode(data, nil, into); err != nil {
		return s.decodeError(err, rev)
	}
	return s.versioner.UpdateObject(into, rev)
}

// decoded is a new object of its bytes.
func (s *Store) decoded(key string, data []byte, rev uint64) (runtime.Object, error) {
	obj, err := s.object(data, func() runtime.Object { return nil })
	if err != nil {
		return nil, s.decodeError(err, rev)
	}
	if err := s.versioner.UpdateObject(obj, rev); err != nil {
		return nil, fmt.Errorf("set the resourceVersion of %s: %w", key, err)
	}
	return obj, nil
}

// object decodes what is stored; empty makes an object for the codec to fill.
func (s *Store) object(data []byte, empty func() runtime.Object) (runtime.Object, error) {
	if content := s.plain(data); content != nil {
		return &unstructured.Unstructured{Object: content}, nil
	}
	obj, _, err := s.c.Codec.Decode(data, nil, empty())
	return obj, err
}

// plain is the content of an object that the codec would leave as it is; nil where
// it has to be asked.
func (s *Store) plain(data []byte) map[string]any {
	if s.c.AsStored == nil {
		return nil
	}
	var content map[string]any
	if err := json.Unmarshal(data, &content); err != nil || !s.c.AsStored(content) {
		return nil // the codec says what is wrong
	}
	return content
}

func (s *Store) decodeError(err error, rev uint64) error {
	if s.c.TellDamage {
		return asCorrupt(err, "the stored object cannot be decoded", rev)
	}
	return err
}

// Get implements storage.Interface.
func (s *Store) Get(ctx context.Context, key string, opts apistorage.GetOptions, out runtime.Object) error {
	key, err := s.key(key, false)
	if err != nil {
		return err
	}
	if err := s.fresh(ctx, opts.ResourceVersion); err != nil {
		return err
	}
	cur, _, err := s.c.KV.Get(key)
	if err != nil {
		return err
	}
	if cur == nil {
		if opts.IgnoreNotFound {
			return runtime.SetZeroValue(out)
		}
		return apistorage.NewKeyNotFoundError(key, 0)
	}
	data, _, err := s.open(ctx, cur)
	if err != nil {
		return s.readError(key, apistorage.NewInternalError(err))
	}
	return s.readError(key, s.decode(data, cur.ModRev, out))
}

// Create implements storage.Interface.
func (s *Store) Create(ctx context.Context, key string, obj, out runtime.Object, ttl uint64) error {
	key, err := s.key(key, false)
	if err != nil {
		return err
	}
	data, err := s.encodeNew(key, obj)
	if err != nil {
		return err
	}
	object := s.asStored(obj, data)
	r, end, err := s.put(ctx, key, data, 0, ttl, object)
	defer end()
	if err != nil {
		return err
	}
	if !r.OK {
		return apistorage.NewKeyExistsError(key, 0)
	}
	if out == nil {
		return nil
	}
	return s.written(key, data, r.Rev, object, out)
}

// encodeNew encodes an object that is to be created.
func (s *Store) encodeNew(key string, obj runtime.Object) ([]byte, error) {
	if rev, err := s.versioner.ObjectResourceVersion(obj); err == nil && rev != 0 {
		return nil, apistorage.ErrResourceVersionSetOnCreate
	}
	if err := s.versioner.PrepareObjectForStorage(obj); err != nil {
		return nil, fmt.Errorf("prepare %s to be stored: %w", key, err)
	}
	return runtime.Encode(s.c.Codec, obj)
}

// put stores an object's bytes if the key is at the expected revision. The
// time to live is in seconds; 0: for ever. Watches may ask for the object until
// end is called.
func (s *Store) put(ctx context.Context, key string, data []byte, expected, ttl uint64, object func(rev uint64) runtime.Object) (r kv.Result, end func(), err error) {
	end = func() {}
	stored, err := s.transformer.TransformToStorage(ctx, data, authenticated(key))
	if err != nil {
		return r, end, apistorage.NewInternalError(err)
	}
	if s.watched() {
		end = s.coming.begin(key, stored, object)
	}
	const longest = 100 * 365 * 24 * 3600
	r, err = s.c.KV.Put(ctx, key, stored, expected, time.Duration(min(ttl, longest))*time.Second)
	return r, end, writeError(key, err)
}

// newLike makes an empty object of v's type.
func newLike(v reflect.Value) runtime.Object {
	if u, ok := v.Addr().Interface().(runtime.Unstructured); ok {
		return u.NewEmptyInstance()
	}
	return reflect.New(v.Type()).Interface().(runtime.Object)
}
