package conversion

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/leat-dev/leat/api/eventing/v1beta2"
	"github.com/leat-dev/leat/api/eventing/v1beta3"
)

func object(t *testing.T, version, rest string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	text := "apiVersion: eventing.knative.dev/" + version + "\nkind: EventType\n" + rest
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return u
}

func convert(t *testing.T, u *unstructured.Unstructured, to schema.GroupVersion) *unstructured.Unstructured {
	t.Helper()
	before := u.DeepCopy()
	out, err := Convert(u, to)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before.Object, u.Object); diff != "" {
		t.Errorf("the input was changed: %s", diff)
	}
	return out
}

func shows(t *testing.T, got *unstructured.Unstructured, version, rest string) {
	t.Helper()
	if diff := cmp.Diff(object(t, version, rest).Object, got.Object); diff != "" {
		t.Errorf("-want +got: %s", diff)
	}
}

const meta = `
metadata: {name: e, namespace: default, uid: u, creationTimestamp: "2026-01-01T00:00:00Z", labels: {a: b}, annotations: {c: d}, managedFields: [{manager: m, fieldsV1: {"f:spec": {}}}]}
`

func TestOlderToNewer(t *testing.T) {
	older := object(t, "v1beta2", meta+`
spec: {type: order.created, source: /orders, schema: "http://s", schemaData: '{"x":1}', broker: b, description: placed}
status: {observedGeneration: 2, conditions: [{type: Ready, status: "True"}]}
`)
	newer := convert(t, older, v1beta3.GroupVersion())
	shows(t, newer, "v1beta3", meta+`
spec:
  description: placed
  reference: {apiVersion: eventing.knative.dev/v1, kind: Broker, namespace: default, name: b}
  attributes:
  - {name: type, required: true, value: order.created}
  - {name: source, required: true, value: /orders}
  - {name: specversion, required: true, value: "1.0"}
  - {name: id, required: true}
  - {name: dataschema, required: false, value: "http://s"}
  - {name: schemadata, required: false, value: '{"x":1}'}
status: {observedGeneration: 2, conditions: [{type: Ready, status: "True"}]}
`)
	shows(t, convert(t, newer, v1beta2.GroupVersion()), "v1beta2", meta+`
spec:
  type: order.created
  source: /orders
  schema: "http://s"
  schemaData: '{"x":1}'
  reference: {apiVersion: eventing.knative.dev/v1, kind: Broker, namespace: default, name: b}
  description: placed
status: {observedGeneration: 2, conditions: [{type: Ready, status: "True"}]}
`)
}

// TestNothingIsLostOnTheWayThere: attributes that v1beta2 has no fields for come
// back, unless what it has fields for was changed.
func TestNothingIsLostOnTheWayThere(t *testing.T) {
	newer := object(t, "v1beta3", meta+`
spec:
  attributes:
  - {name: type, required: true, value: order.created}
  - {name: tenant, required: false, value: "{tenant}"}
  - {name: source, required: true, value: "/orders/{id}"}
  - {name: specversion, required: true}
  - {name: id, required: true}
`)
	older := convert(t, newer, v1beta2.GroupVersion())
	if _, ok := older.GetAnnotations()[AttributesAnnotation]; !ok {
		t.Fatalf("nothing is kept: %v", older.Object)
	}
	back := convert(t, older, v1beta3.GroupVersion())
	if diff := cmp.Diff(newer.Object, back.Object); diff != "" {
		t.Errorf("there and back: %s", diff)
	}
	if err := unstructured.SetNestedField(older.Object, "order.placed", "spec", "type"); err != nil {
		t.Fatal(err)
	}
	changed := convert(t, older, v1beta3.GroupVersion())
	all, _, err := unstructured.NestedSlice(changed.Object, "spec", "attributes")
	if err != nil || len(all) != 4 || all[0].(map[string]any)["value"] != "order.placed" {
		t.Errorf("changed: %v %v", all, err)
	}
	if _, ok := changed.GetAnnotations()[AttributesAnnotation]; ok {
		t.Error("the annotation is of v1beta2 only")
	}
}

func TestWhatCannotBeConverted(t *testing.T) {
	for _, c := range []struct {
		from, rest string
		to         schema.GroupVersion
		want       string
	}{
		{"v1beta2", "spec: {type: 3}", v1beta3.GroupVersion(), "EventType"},
		{"v1beta1", "spec: {}", v1beta3.GroupVersion(), "v1beta2 and v1beta3"},
		{"v1beta3", "spec: {}", schema.GroupVersion{Group: "other", Version: "v1beta2"}, "only EventTypes"},
	} {
		if _, err := Convert(object(t, c.from, c.rest), c.to); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	same := object(t, "v1beta3", meta)
	if diff := cmp.Diff(same.Object, convert(t, same, v1beta3.GroupVersion()).Object); diff != "" {
		t.Error(diff)
	}
}

// FuzzConvert: no object is too odd, and there and back is where it began.
func FuzzConvert(f *testing.F) {
	f.Add([]byte(`{"metadata":{"name":"e"},"spec":{"attributes":[{"name":"type","required":true,"value":"x"}]}}`))
	f.Add([]byte(`{"spec":{"description":"d","reference":{"kind":"Broker"}},"status":1}`))
	f.Add([]byte(`{"metadata":[],"spec":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		u := &unstructured.Unstructured{}
		if json.Unmarshal(b, &u.Object) != nil || u.Object == nil {
			return
		}
		u.SetGroupVersionKind(v1beta3.GroupVersion().WithKind("EventType"))
		older, err := Convert(u, v1beta2.GroupVersion())
		if err != nil {
			return
		}
		newer, err := Convert(older, v1beta3.GroupVersion())
		if err != nil {
			t.Fatal(err)
		}
		again, err := Convert(newer, v1beta2.GroupVersion())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(older.Object["spec"], again.Object["spec"]); diff != "" {
			t.Error(diff)
		}
	})
}
