package namespace

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	corev1 "k8s.io/api/core/v1"
	listers "k8s.io/apiextensions-apiserver/pkg/client/listers/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata/fake"
	"k8s.io/client-go/tools/cache"

	"github.com/leat-dev/leat/apiserver/catalog"
	"github.com/leat-dev/leat/raftlog/kv"
	"github.com/leat-dev/leat/raftlog/kv/kvtest"
)

// oneNamespace is the API of a namespace that is Terminating.
type oneNamespace struct {
	clientcorev1.NamespaceInterface // what is not needed here

	ns        *corev1.Namespace
	finalized bool
}

func (o *oneNamespace) Get(context.Context, string, metav1.GetOptions) (*corev1.Namespace, error) {
	return o.ns.DeepCopy(), nil
}

func (o *oneNamespace) UpdateStatus(_ context.Context, ns *corev1.Namespace, _ metav1.UpdateOptions) (*corev1.Namespace, error) {
	o.ns = ns.DeepCopy()
	return ns, nil
}

func (o *oneNamespace) Finalize(_ context.Context, ns *corev1.Namespace, _ metav1.UpdateOptions) (*corev1.Namespace, error) {
	o.finalized = len(ns.Spec.Finalizers) == 0
	return ns, nil
}

// TestNamespaceEndsWhenItIsEmpty: and not while something is left in it, or on
// its way into it.
func TestNamespaceEndsWhenItIsEmpty(t *testing.T) {
	store, _ := kvtest.Open(t, kv.Options{})
	configMaps := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	scheme := fake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	now := metav1.Now()
	api := &oneNamespace{ns: &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: "n", DeletionTimestamp: &now},
		Spec:       corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}},
	}}
	busy := true
	c := New(Options{
		KV: store, Catalog: catalog.New("/registry", []catalog.Resource{{GroupVersionResource: configMaps, Kind: "ConfigMap", Namespaced: true}}, listers.NewCustomResourceDefinitionLister(cache.NewIndexer(cache.MetaNamespaceKeyFunc, nil))),
		Plain:      func(_ context.Context, _ string, b []byte) ([]byte, error) { return b, nil },
		Namespaces: api, Content: fake.NewSimpleMetadataClient(scheme), Busy: func(string) bool { return busy }, Logger: slog.New(slog.DiscardHandler),
	})
	object := func(name string) catalog.Object {
		return catalog.Object{Resource: configMaps.GroupResource(), Namespace: "n", Name: name}
	}
	put := func(name, more string) {
		t.Helper()
		value := fmt.Sprintf(`{"metadata":{"namespace":"n","name":%q%s}}`, name, more)
		if r, err := store.Put(t.Context(), c.o.Catalog.Key(object(name)), []byte(value), kv.AnyRev, 0); err != nil || !r.OK {
			t.Fatal(r, err)
		}
	}
	remove := func(name string) {
		t.Helper()
		if _, err := store.Delete(t.Context(), c.o.Catalog.Key(object(name)), kv.AnyRev); err != nil {
			t.Fatal(err)
		}
	}
	finish := func(what string, ends bool) {
		t.Helper()
		left, err := c.finish(t.Context(), "n")
		if err != nil {
			t.Fatal(err)
		}
		if left == ends || api.finalized != ends {
			t.Errorf("%s: left %v, ended %v", what, left, api.finalized)
		}
	}
	finish("something is on its way", false)
	busy = false
	put("a", "")
	put("b", `,"deletionTimestamp":"2026-01-02T03:04:05Z","finalizers":["x/y"]`)
	finish("two objects", false)
	remove("a") // as the API would, that it was asked
	finish("one that waits for a finalizer", false)
	remove("b")
	finish("nothing", true)
}
