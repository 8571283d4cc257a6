package storage

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/apitesting"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	apistorage "k8s.io/apiserver/pkg/storage"
	suite "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/apiserver/pkg/storage/value"

	"github.com/leat-dev/leat/raftlog/kv"
	"github.com/leat-dev/leat/raftlog/kv/kvtest"
)

const storedPrefix = "test!" // what the suite's transformer puts before each value

func newCodec(tb testing.TB) runtime.Codec {
	tb.Helper()
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	for _, add := range []func(*runtime.Scheme) error{example.AddToScheme, examplev1.AddToScheme} {
		if err := add(scheme); err != nil {
			tb.Fatal(err)
		}
	}
	return apitesting.TestCodec(serializer.NewCodecFactory(scheme), examplev1.SchemeGroupVersion)
}

func newPod() runtime.Object     { return &example.Pod{} }
func newPodList() runtime.Object { return &example.PodList{} }

// podConfig is a storage of pods on a new store, with the suite's transformer.
func podConfig(tb testing.TB) Config {
	tb.Helper()
	s, _ := kvtest.Open(tb, kv.Options{ExpireEvery: 100 * time.Millisecond})
	return Config{
		KV: s, Codec: newCodec(tb), NewFunc: newPod, Prefix: "/", ResourcePrefix: "/pods/",
		GroupResource: schema.GroupResource{Resource: "pods"},
		Transformer:   suite.NewPrefixTransformer([]byte(storedPrefix), false),
		times:         times{progress: 500 * time.Millisecond, fresh: 50 * time.Millisecond},
	}
}

func newStore(tb testing.TB, change ...func(*Config)) *Store {
	tb.Helper()
	c := podConfig(tb)
	for _, f := range change {
		f(&c)
	}
	s, err := New(c)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// increase makes a write beside the resource.
func increase(s *kv.Store) suite.IncreaseRVFunc {
	return func(ctx context.Context, t *testing.T) int64 {
		r, err := s.Put(ctx, "beside", []byte("ok"), kv.AnyRev, 0)
		if err != nil {
			t.Fatal(err)
		}
		return int64(r.Rev)
	}
}

// compact gives up the history; the suite expects that this takes a revision.
func compact(s *kv.Store) suite.Compaction {
	return func(ctx context.Context, t *testing.T, resourceVersion string) {
		rev, err := strconv.ParseUint(resourceVersion, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := s.Compact(ctx, rev); err != nil || !r.OK {
			t.Fatalf("compact at %d: %v, %v", rev, r, err)
		}
		increase(s)(ctx, t)
	}
}

// storedClean checks that what is stored holds no resourceVersion.
func storedClean(s *Store) suite.KeyValidation {
	return func(_ context.Context, t *testing.T, key string) {
		k, err := s.key(key, false)
		if err != nil {
			t.Fatal(err)
		}
		cur, _, err := s.c.KV.Get(k)
		if err != nil || cur == nil {
			t.Fatalf("%s is not stored: %v", k, err)
		}
		obj, err := runtime.Decode(s.c.Codec, cur.Value[len(storedPrefix):])
		if err != nil {
			t.Fatalf("%s: %v: %q", k, err, cur.Value)
		}
		if pod := obj.(*example.Pod); pod.ResourceVersion != "" || pod.SelfLink != "" {
			t.Errorf("%s is stored with resourceVersion %q, selfLink %q", k, pod.ResourceVersion, pod.SelfLink)
		}
	}
}

// readsCounted checks how many objects a list decoded.
func readsCounted(s *Store) suite.CallsValidation {
	return func(t *testing.T, _, want uint64) {
		if got := s.transformer.(*suite.PrefixTransformer).GetReadsAndReset(); got != want {
			t.Errorf("%d objects were read, want %d", got, want)
		}
	}
}

// prefixed lets the suite change the transformer of a store.
type prefixed struct{ *Store }

func (p prefixed) UpdatePrefixTransformer(change suite.PrefixTransformerModifier) func() {
	original := p.transformer.(*suite.PrefixTransformer)
	modified := *original
	p.transformer = change(&modified)
	return func() { p.transformer = original }
}

func (p prefixed) UpdateTransformer(change suite.TransformerModifier) func() {
	original := p.transformer
	p.transformer = change(original)
	return func() { p.transformer = original }
}

var errFlipped = errors.New("bits flipped")

// failingTransformer fails to read on demand.
type failingTransformer struct {
	value.Transformer
	fail atomic.Bool
}

func (f *failingTransformer) TransformFromStorage(ctx context.Context, data []byte, v value.Context) ([]byte, bool, error) {
	if f.fail.Load() {
		return nil, false, errFlipped
	}
	return f.Transformer.TransformFromStorage(ctx, data, v)
}

// failingCodec fails to decode on demand.
type failingCodec struct {
	runtime.Codec
	fail atomic.Bool
}

func (f *failingCodec) Decode(data []byte, kind *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	if f.fail.Load() {
		return nil, nil, errFlipped
	}
	return f.Codec.Decode(data, kind, into)
}

var _ apistorage.Interface = prefixed{}
