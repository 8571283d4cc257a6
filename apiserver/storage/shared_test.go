package storage

import (
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
)

// countingCodec counts what it decodes.
type countingCodec struct {
	runtime.Codec
	decoded atomic.Int64
}

func (c *countingCodec) Decode(data []byte, kind *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	c.decoded.Add(1)
	return c.Codec.Decode(data, kind, into)
}

// What is written is decoded once, for its writer and for all who watch; the
// writer gets a copy. Without watches nothing is kept.
func TestWrittenIsDecodedOnce(t *testing.T) {
	codec := &countingCodec{}
	s := newStore(t, func(c *Config) {
		codec.Codec = c.Codec
		c.Codec = codec
	})
	since := mustCreate(t, s, pod("before")).ResourceVersion
	if len(s.recent.slots) != 0 {
		t.Error("what nobody watches is kept")
	}
	var all []watch.Interface
	for range 2 {
		w, err := s.Follow(t.Context(), since)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		all = append(all, w)
	}
	mustCreate(t, s, pod("started")) // by now all watches are counted
	for _, w := range all {
		<-w.ResultChan()
	}
	codec.decoded.Store(0)
	seen := func(want *example.Pod, node string) {
		t.Helper()
		for _, w := range all {
			got := Shared((<-w.ResultChan()).Object).(*example.Pod)
			if got == want || got.ResourceVersion != want.ResourceVersion || got.Spec.NodeName != node || len(got.Labels) != 1 {
				t.Errorf("a watch has %v, the writer %v", got, want)
			}
		}
		if n := codec.decoded.Swap(0); n != 1 {
			t.Errorf("it was decoded %d times", n)
		}
	}
	labeled := pod("new")
	labeled.Labels = map[string]string{"a": "b"}
	made := mustCreate(t, s, labeled)
	made.Spec.NodeName, made.Labels["c"] = "the writer's own", "d"
	seen(made, "")

	key, updated := "/pods/"+made.Namespace+"/"+made.Name, &example.Pod{}
	before := &example.Pod{}
	if err := s.Get(t.Context(), key, apistorage.GetOptions{}, before); err != nil {
		t.Fatal(err)
	}
	codec.decoded.Store(0)
	change := func(obj runtime.Object, _ apistorage.ResponseMeta) (runtime.Object, *uint64, error) {
		p := obj.(*example.Pod).DeepCopy()
		p.Spec.NodeName = "there"
		return p, nil, nil
	}
	if err := s.GuaranteedUpdate(t.Context(), key, updated, false, nil, change, before); err != nil {
		t.Fatal(err)
	}
	updated.Spec.NodeName, updated.Labels["c"] = "the writer's own", "d"
	seen(updated, "there")
}

// What is shared is bounded by its size, whatever the number; one object is there
// however large it is, for it is on its way.
func TestSharedIsBounded(t *testing.T) {
	r := newRecent(100, 1000)
	get := func(rev uint64, bytes int) {
		t.Helper()
		if _, err := r.get(slotID{rev: rev}, bytes, func() (runtime.Object, error) { return &example.Pod{}, nil }); err != nil {
			t.Fatal(err)
		}
	}
	is := func(revs ...uint64) {
		t.Helper()
		for _, rev := range revs {
			if r.peek(slotID{rev: rev}) == nil {
				t.Errorf("%d is not there", rev)
			}
		}
		if len(r.slots) != len(revs) || len(r.order) != len(revs) {
			t.Errorf("%d and %d are there, want %d", len(r.slots), len(r.order), len(revs))
		}
	}
	for rev := range uint64(5) {
		get(rev, 300)
	}
	is(2, 3, 4)
	get(5, 5000)
	is(5)
	get(5, 5000)
	is(5)
	get(6, 1000)
	is(6)
	for rev := range uint64(300) {
		get(rev, 0)
	}
	if len(r.slots) != 100 || r.bytes != 0 {
		t.Errorf("%d are there, of %d bytes", len(r.slots), r.bytes)
	}
	r.clear()
	get(1, 400)
	get(2, 400)
	is(1, 2)
	if bytes := r.clear(); bytes != 800 {
		t.Errorf("%d bytes were given up, want 800", bytes)
	}
	is()
}
