package garbage

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	listers "k8s.io/apiextensions-apiserver/pkg/client/listers/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata/fake"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"github.com/leat-dev/leat/apiserver/catalog"
	"github.com/leat-dev/leat/raftlog/kv"
	"github.com/leat-dev/leat/raftlog/kv/kvtest"
)

var configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

// bench is a collector whose watch and workers are played by the test.
type bench struct {
	*Collector
	t      *testing.T
	store  *kv.Store
	client *fake.FakeMetadataClient
}

// newBench makes one; the API has these ConfigMaps of namespace n.
func newBench(t *testing.T, names ...string) *bench {
	t.Helper()
	store, _ := kvtest.Open(t, kv.Options{})
	scheme := fake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	client := fake.NewSimpleMetadataClient(scheme)
	for _, name := range names {
		if err := client.Tracker().Add(&metav1.PartialObjectMetadata{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: name, UID: "u"},
		}); err != nil {
			t.Fatal(err)
		}
	}
	c := New(Options{
		KV: store, Catalog: catalog.New("/registry", []catalog.Resource{{GroupVersionResource: configMaps, Kind: "ConfigMap", Namespaced: true}}, listers.NewCustomResourceDefinitionLister(cache.NewIndexer(cache.MetaNamespaceKeyFunc, nil))),
		Client: client, Plain: func(_ context.Context, _ string, b []byte) ([]byte, error) { return b, nil }, Logger: slog.New(slog.DiscardHandler),
	})
	c.queue = workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]())
	t.Cleanup(c.queue.ShutDown)
	return &bench{Collector: c, t: t, store: store, client: client}
}

func (b *bench) key(name string) string {
	return b.o.Catalog.Key(catalog.Object{Resource: configMaps.GroupResource(), Namespace: "n", Name: name})
}

// write stores a ConfigMap of namespace n; more is of its metadata.
func (b *bench) write(name, uid, more, data string) *kv.Event {
	b.t.Helper()
	value := fmt.Sprintf(`{"metadata":{"namespace":"n","name":%q,"uid":%q%s},"data":{"x":%q}}`, name, uid, more, data)
	r, err := b.store.Put(b.t.Context(), b.key(name), []byte(value), kv.AnyRev, 0)
	if err != nil || !r.OK {
		b.t.Fatal(r, err)
	}
	return &kv.Event{Rev: r.Rev, Key: b.key(name), Value: []byte(value)}
}

func (b *bench) take(e *kv.Event) {
	b.event(b.t.Context(), e)
	b.graph.advance(e.Rev)
}

func owned(by ...string) string {
	var refs []string
	for _, o := range by {
		name, uid, _ := strings.Cut(o, "/")
		refs = append(refs, fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","name":%q,"uid":%q}`, name, uid))
	}
	return `,"ownerReferences":[` + strings.Join(refs, ",") + `]`
}

// deleted says whether the API was asked to delete an object.
func (b *bench) deleted() bool {
	for _, a := range b.client.Actions() {
		if a.Matches("delete", "configmaps") {
			return true
		}
	}
	return false
}

// TestWhoIsCollected: an object that has owners goes when none of them is left,
// and not before; another object of an owner's name is none.
func TestWhoIsCollected(t *testing.T) {
	for name, c := range map[string]struct {
		metadata string
		goes     bool
	}{
		"without owners":                     {"", false},
		"its owner is there":                 {owned("here/1"), false},
		"its owner is gone":                  {owned("gone/9"), true},
		"its owner was made anew":            {owned("here/0"), true},
		"one of two is there":                {owned("gone/9", "here/1"), false},
		"both are gone":                      {owned("gone/9", "gone/8"), true},
		"its owner waits for it":             {owned("waits/2"), true},
		"of a kind that is not served (yet)": {`,"ownerReferences":[{"apiVersion":"x/v1","kind":"Y","name":"gone","uid":"9"}]`, false},
		"it is being deleted already":        {owned("gone/9") + `,"deletionTimestamp":"2026-01-02T03:04:05Z","finalizers":["x/y"]`, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, "child")
			b.take(b.write("here", "1", "", ""))
			b.take(b.write("waits", "2", `,"deletionTimestamp":"2026-01-02T03:04:05Z","finalizers":["foregroundDeletion"]`, ""))
			b.take(b.write("child", "u", c.metadata, ""))
			if err := b.look(t.Context(), b.key("child")); err != nil {
				t.Fatal(err)
			}
			if b.deleted() != c.goes {
				t.Errorf("deleted: %v, want %v: %v", b.deleted(), c.goes, b.client.Actions())
			}
		})
	}
}

// TestWritesThatChangeNoOwnerLoseNoLook: an object is looked at because its
// owner is gone, and just then somebody writes its data. The write is no reason
// to look at it, so the look before must not be given up for it.
func TestWritesThatChangeNoOwnerLoseNoLook(t *testing.T) {
	c := newBench(t, "child")
	write := func(data string) *kv.Event { return c.write("child", "u", owned("owner/gone"), data) }
	c.take(write("1"))
	taken, _ := c.queue.Get()
	later := write("2")
	err := c.look(t.Context(), taken)
	c.queue.Done(taken)
	c.take(later)
	if err == nil && c.queue.Len() == 0 {
		t.Fatal("the object is not looked at again")
	}
	if err := c.look(t.Context(), taken); err != nil {
		t.Fatal(err)
	}
	if !c.deleted() {
		t.Errorf("it was not collected: %v", c.client.Actions())
	}
}
