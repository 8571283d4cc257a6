package admission

import (
	"fmt"
	"net/url"
	"regexp"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	"github.com/leat-dev/leat/api/eventing/v1beta2"
	"github.com/leat-dev/leat/api/eventing/v1beta3"
)

func defaultEventType(obj, _ *unstructured.Unstructured) {
	spec, _ := obj.Object["spec"].(map[string]any)
	if ref, ok := spec["reference"].(map[string]any); ok {
		defaultNamespace(ref, obj.GetNamespace())
	}
}

// validateEventType checks an EventType in the version that it came in, so that
// what is wrong is told by the names that its author knows.
func validateEventType(obj, _ *unstructured.Unstructured) field.ErrorList {
	if obj.GroupVersionKind().Version == v1beta2.GroupVersion().Version {
		return validateOlderEventType(obj)
	}
	t, errs := decode[v1beta3.EventType](obj)
	if len(errs) > 0 {
		return errs
	}
	spec := field.NewPath("spec")
	errs = append(validateMeta(t), validateTypeReference(t.Spec.Reference, spec)...)
	at := spec.Child("attributes")
	seen := map[string]bool{}
	for i, a := range t.Spec.Attributes {
		errs = append(errs, validateAttribute(a, at.Index(i))...)
		if seen[a.Name] {
			errs = append(errs, field.Duplicate(at.Index(i).Child("name"), a.Name))
		}
		seen[a.Name] = true
	}
	for _, name := range []string{"type", "source", "specversion", "id"} {
		if !seen[name] {
			errs = append(errs, field.Required(at, fmt.Sprintf("every event has the attribute %s: add {name: %s, required: true}", name, name)))
		}
	}
	return errs
}

func validateOlderEventType(obj *unstructured.Unstructured) field.ErrorList {
	t, errs := decode[v1beta2.EventType](obj)
	if len(errs) > 0 {
		return errs
	}
	spec := field.NewPath("spec")
	errs = append(validateMeta(t), validateTypeReference(t.Spec.Reference, spec)...)
	if t.Spec.Type == "" {
		errs = append(errs, field.Required(spec.Child("type"), `the attribute type of the events, such as "order.created"`))
	}
	errs = append(errs, validateURIReference(t.Spec.Source, spec.Child("source"))...)
	errs = append(errs, validateURIReference(t.Spec.Schema, spec.Child("schema"))...)
	if t.Spec.Broker == "" {
		return errs
	}
	errs = append(errs, validateName(t.Spec.Broker, spec.Child("broker"))...)
	if r := t.Spec.Reference; r != nil && (r.Kind != "Broker" || r.Name != t.Spec.Broker) {
		errs = append(errs, field.Forbidden(spec.Child("broker"), "reference names another object: remove one of the two"))
	}
	return errs
}

func validateTypeReference(r *duckv1.KReference, spec *field.Path) field.ErrorList {
	if r == nil {
		return nil
	}
	return validateReference(r, spec.Child("reference"))
}

var (
	attributeName = regexp.MustCompile(`^[a-z0-9]{1,64}$`)
	// template is text with {name} in it.
	template = regexp.MustCompile(`^(?:[^{}]|\{[A-Za-z_][A-Za-z0-9_]*\})*$`)
	variable = regexp.MustCompile(`\{[A-Za-z_][A-Za-z0-9_]*\}`)
)

func validateAttribute(a v1beta3.EventAttributeDefinition, p *field.Path) field.ErrorList {
	if !attributeName.MatchString(a.Name) {
		return field.ErrorList{field.Invalid(p.Child("name"), a.Name, "must be the name of a CloudEvents attribute: 1 to 64 of a-z and 0-9")}
	}
	value := p.Child("value")
	// A schema is text of its own kind, with braces that mean something else.
	if a.Name != "schemadata" && !template.MatchString(a.Value) {
		return field.ErrorList{field.Invalid(value, a.Value, "a part that varies stands as {NAME}, of letters, digits and _; other braces have no place here")}
	}
	switch {
	case a.Name == "type" && a.Value == "":
		return field.ErrorList{field.Required(value, `the attribute type of the events, such as "order.created"`)}
	case a.Name == "specversion" && a.Value != "" && a.Value != "1.0":
		return field.ErrorList{field.NotSupported(value, a.Value, []string{"1.0"})}
	case a.Name == "source" || a.Name == "dataschema":
		return validateURIReference(variable.ReplaceAllString(a.Value, "x"), value)
	}
	return nil
}

func validateURIReference(s string, p *field.Path) field.ErrorList {
	if s == "" {
		return nil
	}
	if _, err := url.Parse(s); err != nil {
		return field.ErrorList{field.Invalid(p, s, fmt.Sprintf("is not a URI reference: %v", unwrapURL(err)))}
	}
	return nil
}
