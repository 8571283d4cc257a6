package garbage

import (
	"context"
	"log/slog"
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

// TestWritesThatChangeNoOwnerLoseNoLook: an object is looked at because its
// owner is gone, and just then somebody writes its data. The write is no reason
// to look at it, so the look before must not be given up for it.
func TestWritesThatChangeNoOwnerLoseNoLook(t *testing.T) {
	ctx := t.Context()
	store, _ := kvtest.Open(t, kv.Options{})
	scheme := fake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	gvr := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	client := fake.NewSimpleMetadataClient(scheme, &metav1.PartialObjectMetadata{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "child", UID: "u"},
	})
	c := New(Options{
		KV: store, Catalog: catalog.New("/registry", []catalog.Resource{{GroupVersionResource: gvr, Kind: "ConfigMap", Namespaced: true}}, listers.NewCustomResourceDefinitionLister(cache.NewIndexer(cache.MetaNamespaceKeyFunc, nil))),
		Client: client, Plain: func(_ context.Context, _ string, b []byte) ([]byte, error) { return b, nil }, Logger: slog.New(slog.DiscardHandler),
	})
	c.queue = workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]())
	defer c.queue.ShutDown()

	key := c.o.Catalog.Key(catalog.Object{Resource: gvr.GroupResource(), Namespace: "n", Name: "child"})
	write := func(data string) *kv.Event {
		t.Helper()
		value := `{"metadata":{"namespace":"n","name":"child","uid":"u","ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"owner","uid":"gone"}]},"data":{"x":"` + data + `"}}`
		r, err := store.Put(ctx, key, []byte(value), kv.AnyRev, 0)
		if err != nil || !r.OK {
			t.Fatal(r, err)
		}
		return &kv.Event{Rev: r.Rev, Key: key, Value: []byte(value)}
	}
	take := func(e *kv.Event) {
		c.event(ctx, e)
		c.graph.advance(e.Rev)
	}
	take(write("1"))
	taken, _ := c.queue.Get()
	later := write("2")
	err := c.look(ctx, taken)
	c.queue.Done(taken)
	take(later)
	if err == nil && c.queue.Len() == 0 {
		t.Fatal("the object is not looked at again")
	}
	if err := c.look(ctx, taken); err != nil {
		t.Fatal(err)
	}
	for _, a := range client.Actions() {
		if a.Matches("delete", "configmaps") {
			return
		}
	}
	t.Errorf("it was not collected: %v", client.Actions())
}
