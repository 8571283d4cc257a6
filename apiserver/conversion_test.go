package apiserver

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

const olderType = `
apiVersion: eventing.knative.dev/v1beta2
kind: EventType
metadata: {name: placed}
spec: {type: order.placed, source: /orders, broker: default, description: old}
`

// TestVersionsAreOneObject: what is written in one version is read, listed,
// watched, changed and deleted in the other, and what is refused is refused in
// the words of the version that it came in.
func TestVersionsAreOneObject(t *testing.T) {
	r := start(t, options(t))
	older, newer := r.resource("eventing.knative.dev", "v1beta2", "eventtypes"), r.resource("eventing.knative.dev", "v1beta3", "eventtypes")
	field := func(u *unstructured.Unstructured, path ...string) string {
		v, _, _ := unstructured.NestedString(u.Object, path...)
		return v
	}
	attribute := func(u *unstructured.Unstructured, name string) any {
		all, _, _ := unstructured.NestedSlice(u.Object, "spec", "attributes")
		for _, a := range all {
			if m, ok := a.(map[string]any); ok && m["name"] == name {
				return m["value"]
			}
		}
		return nil
	}
	w, err := older.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	next := func(kind, description string) {
		t.Helper()
		select {
		case e := <-w.ResultChan():
			u, ok := e.Object.(*unstructured.Unstructured)
			if !ok || string(e.Type) != kind || u.GetAPIVersion() != "eventing.knative.dev/v1beta2" || field(u, "spec", "description") != description {
				t.Fatalf("watched %s %v, want %s of %q", e.Type, e.Object, kind, description)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s was not watched", kind)
		}
	}

	made, err := older.Create(t.Context(), object(t, olderType), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if field(made, "spec", "type") != "order.placed" || made.GetAPIVersion() != "eventing.knative.dev/v1beta2" {
		t.Errorf("made: %v", made.Object)
	}
	next("ADDED", "old")
	got, err := newer.Get(t.Context(), "placed", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if attribute(got, "type") != "order.placed" || attribute(got, "source") != "/orders" || field(got, "spec", "reference", "name") != "default" || got.GetUID() != made.GetUID() {
		t.Errorf("in the newer version: %v", got.Object)
	}
	patch := `{"spec":{"description":"new","attributes":[{"name":"type","required":true,"value":"order.placed"},{"name":"source","required":true,"value":"/orders/{id}"},{"name":"tenant","required":false},{"name":"specversion","required":true},{"name":"id","required":true}]}}`
	if _, err := newer.Patch(t.Context(), "placed", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	next("MODIFIED", "new")
	list, err := older.List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || field(&list.Items[0], "spec", "source") != "/orders/{id}" {
		t.Fatalf("list: %v %v", list, err)
	}
	// A change by the older version leaves alone what it does not know.
	if _, err := older.Patch(t.Context(), "placed", types.MergePatchType, []byte(`{"spec":{"description":"newest"}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	next("MODIFIED", "newest")
	got, err = newer.Get(t.Context(), "placed", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if all, _, _ := unstructured.NestedSlice(got.Object, "spec", "attributes"); len(all) != 5 || len(got.GetAnnotations()) != 0 {
		t.Errorf("after a change by the older version: %v", got.Object)
	}
	if _, err := older.Apply(t.Context(), "placed", object(t, olderType), metav1.ApplyOptions{FieldManager: "m", Force: true}); err != nil {
		t.Errorf("server-side apply: %v", err)
	}
	next("MODIFIED", "old")

	bad := object(t, strings.Replace(olderType, "type: order.placed, ", "", 1))
	bad.SetName("bad")
	if _, err := older.Create(t.Context(), bad, metav1.CreateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "spec.type") {
		t.Errorf("no type: %v", err)
	}
	if err := older.Delete(t.Context(), "placed", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	next("DELETED", "old")
	if _, err := newer.Get(t.Context(), "placed", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("deleted: %v", err)
	}
}

// TestTheTableOfEachVersion is what kubectl prints.
func TestTheTableOfEachVersion(t *testing.T) {
	r := start(t, options(t))
	if _, err := r.resource("eventing.knative.dev", "v1beta2", "eventtypes").Create(t.Context(), object(t, olderType), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"v1beta2", "v1beta3"} {
		b, err := r.client().Discovery().RESTClient().Get().AbsPath("/apis/eventing.knative.dev", version, "namespaces/default/eventtypes").
			SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").Do(t.Context()).Raw()
		if err != nil {
			t.Fatal(err)
		}
		var table metav1.Table
		if err := json.Unmarshal(b, &table); err != nil {
			t.Fatal(err)
		}
		if cells := fmt.Sprint(table.Rows[0].Cells); !strings.HasPrefix(cells, "[placed order.placed /orders ") || !strings.Contains(cells, "default Broker old") {
			t.Errorf("%s: %s", version, cells)
		}
	}
}

// TestOtherServicesAreNoWebhooks: nothing but Leat's own conversion is done
// in process.
func TestOtherServicesAreNoWebhooks(t *testing.T) {
	if _, err := (conversions{}).one([]byte("{}"), "a/b/c"); err == nil {
		t.Error("a version that is none")
	}
	if _, err := (noServices{}).ResolveEndpoint("default", "convert", 443); err == nil || !strings.Contains(err.Error(), "give its url") {
		t.Errorf("got %v", err)
	}
}
