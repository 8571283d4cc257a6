package admission

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func TestEventTypes(t *testing.T) {
	const whole = `{name: type, required: true, value: order.created}, {name: source, required: true, value: "/orders/{id}"}, {name: specversion, required: true, value: "1.0"}, {name: id, required: true}`
	const ref = "reference: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: b}"
	for _, c := range []struct{ version, spec, want string }{
		{"v1beta3", "attributes: [" + whole + "]", ""},
		{"v1beta3", ref + "\n  description: placed\n  attributes: [" + whole + `, {name: schemadata, required: false, value: '{"type":"object"}'}]`, ""},
		{"v1beta3", "description: nothing", "spec.attributes: Required value: every event has the attribute type"},
		{"v1beta3", "attributes: [" + strings.Replace(whole, "name: id", "name: other", 1) + "]", "attribute id: add {name: id, required: true}"},
		{"v1beta3", "attributes: [" + whole + ", {name: id, required: true}]", "spec.attributes[4].name: Duplicate value"},
		{"v1beta3", "attributes: [" + whole + ", {name: Not-A-Name, required: true}]", "spec.attributes[4].name: Invalid value"},
		{"v1beta3", "attributes: [" + strings.Replace(whole, "order.created", "''", 1) + "]", "spec.attributes[0].value: Required value"},
		{"v1beta3", "attributes: [" + strings.Replace(whole, "{id}", "{id", 1) + "]", "spec.attributes[1].value: Invalid value"},
		{"v1beta3", "attributes: [" + strings.Replace(whole, "/orders/{id}", "http://[x", 1) + "]", "spec.attributes[1].value: Invalid value"},
		{"v1beta3", "attributes: [" + strings.Replace(whole, "1.0", "0.3", 1) + "]", `Unsupported value: "0.3"`},
		{"v1beta3", "reference: {kind: Broker}\n  attributes: [" + whole + "]", "spec.reference.name"},
		{"v1beta2", "type: order.created", ""},
		{"v1beta2", "type: order.created\n  source: /orders\n  schema: http://example.com/s\n  broker: b\n  " + ref, ""},
		{"v1beta2", "source: /orders", "spec.type: Required value"},
		{"v1beta2", "type: x\n  source: 'http://[x'", "spec.source: Invalid value"},
		{"v1beta2", "type: x\n  broker: other\n  " + ref, "spec.broker: Forbidden"},
	} {
		u := &unstructured.Unstructured{}
		text := "apiVersion: eventing.knative.dev/" + c.version + "\nkind: EventType\nmetadata: {name: e, namespace: default}\nspec:\n  " + c.spec
		if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		a := New(Options{})
		a.Default(u, nil)
		errs := a.Validate(u, nil)
		switch {
		case c.want == "" && len(errs) > 0:
			t.Errorf("%s: %v", c.spec, errs)
		case c.want != "" && (len(errs) == 0 || !strings.Contains(errs.ToAggregate().Error(), c.want)):
			t.Errorf("%s: got %v, want %q", c.spec, errs, c.want)
		}
		if ns, ok, _ := unstructured.NestedString(u.Object, "spec", "reference", "namespace"); ok && ns != "default" {
			t.Errorf("%s: the reference's namespace is %q", c.spec, ns)
		}
	}
}
