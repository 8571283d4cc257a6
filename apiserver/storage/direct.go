package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/leat-dev/leat/api/members"
)

// ErrOtherVersion: the object is not, or no longer, at the version that was
// given.
var ErrOtherVersion = errors.New("the object has another version")

// Life ends when the store is closed.
func (s *Store) Life() context.Context { return s.life }

// Forget gives up the objects that are kept for watches, which decode for themselves
// what they have not seen; it gives their bytes as stored.
func (s *Store) Forget() int64 { return s.recent.clear() }

// Follow watches all objects from a version on, and delivers what is shared as
// it is: see Shared.
func (s *Store) Follow(ctx context.Context, resourceVersion string) (watch.Interface, error) {
	p := apistorage.Everything
	p.AllowWatchBookmarks = true
	return s.watch(ctx, s.c.ResourcePrefix, apistorage.ListOptions{ResourceVersion: resourceVersion, Predicate: p, Recursive: true}, s.c.Gather)
}

// of is the key of an object, as callers of the store pass it.
func (s *Store) of(namespace, name string) string {
	prefix := strings.TrimSuffix(s.c.ResourcePrefix, "/") + "/"
	if namespace == "" {
		return prefix + name
	}
	return prefix + namespace + "/" + name
}

// Has says whether there is an object of a name.
func (s *Store) Has(namespace, name string) (bool, error) {
	key, err := s.key(s.of(namespace, name), false)
	if err != nil {
		return false, err
	}
	cur, _, err := s.c.KV.Get(key)
	return cur != nil, err
}

// Add creates an object that has no type of its own, and gives the text of what
// was stored, with its version. The object is the store's from then on.
func (s *Store) Add(ctx context.Context, namespace, name string, u *unstructured.Unstructured) ([]byte, error) {
	key, err := s.key(s.of(namespace, name), false)
	if err != nil {
		return nil, err
	}
	data, err := s.encodeNew(key, u)
	if err != nil {
		return nil, err
	}
	object := s.given(u, data)
	r, end, err := s.put(ctx, key, data, 0, 0, object)
	defer end()
	if err != nil {
		return nil, err
	}
	if !r.OK {
		return nil, apistorage.NewKeyExistsError(key, 0)
	}
	s.keep(key, data, r.Rev, object)
	return versioned(data, r.Rev)
}

// keep has an object that was written at hand for watches that have not come to
// it yet.
func (s *Store) keep(key string, data []byte, rev uint64, object func(rev uint64) runtime.Object) {
	if !s.watched() {
		return
	}
	// What fails here fails for each watch, which says so.
	_, _ = s.recent.get(slotID{rev, key, false}, len(data), func() (runtime.Object, error) {
		if obj := object(rev); obj != nil {
			return obj, nil
		}
		return s.decoded(key, data, rev)
	})
}

// versioned is the text of an object with its resourceVersion, which is not stored.
func versioned(data []byte, rev uint64) ([]byte, error) {
	object, err := members.Of(data)
	if err != nil {
		return nil, fmt.Errorf("read what was encoded: %w", err)
	}
	text := object.Get("metadata")
	if text == nil {
		return nil, errors.New("an object was encoded without metadata")
	}
	metadata, err := members.Of(text.Value)
	if err != nil {
		return nil, fmt.Errorf("read the metadata that were encoded: %w", err)
	}
	version := strconv.AppendQuote(make([]byte, 0, 24), strconv.FormatUint(rev, 10))
	out := make([]byte, 0, len(data)+64)
	out = metadata.AppendWith(append(out, data[:text.From]...), text.Value, "resourceVersion", version)
	return append(out, data[text.To:]...), nil
}

// Rewrite changes an object as it is stored, if it still has a version, and
// gives the version that it has then. It is for those who know the form. Object,
// which may be nil, is asked after change, and gives the object of what that gave,
// made of the one before, which is shared and must not be changed; where it gives
// nil the object is decoded.
func (s *Store) Rewrite(ctx context.Context, namespace, name string, version uint64, change func([]byte) ([]byte, error), object Remake) (uint64, error) {
	key, err := s.key(s.of(namespace, name), false)
	if err != nil {
		return 0, err
	}
	cur, _, err := s.c.KV.Get(key)
	if err != nil {
		return 0, err
	}
	if cur == nil {
		return 0, apistorage.NewKeyNotFoundError(key, 0)
	}
	if cur.ModRev != version {
		return 0, ErrOtherVersion
	}
	data, stale, err := s.open(ctx, cur)
	if err != nil {
		return 0, apistorage.NewInternalError(err)
	}
	next, err := change(data)
	if err != nil {
		return 0, err
	}
	if bytes.Equal(next, data) && !stale {
		return cur.ModRev, nil
	}
	made := s.rewritten(key, version, object)
	r, end, err := s.put(ctx, key, next, version, 0, made)
	defer end()
	if err != nil {
		return 0, err
	}
	if !r.OK {
		return 0, ErrOtherVersion
	}
	s.keep(key, next, r.Rev, made)
	return r.Rev, nil
}
