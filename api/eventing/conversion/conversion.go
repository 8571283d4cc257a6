// Package conversion converts between the versions in which a kind is served.
package conversion

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	eventingv1 "github.com/leat-dev/leat/api/eventing/v1"
	"github.com/leat-dev/leat/api/eventing/v1beta2"
	"github.com/leat-dev/leat/api/eventing/v1beta3"
)

// AttributesAnnotation of an EventType of v1beta2 keeps, as JSON, the attributes
// that this version has no fields for.
const AttributesAnnotation = "eventing.leat.dev/attributes"

// Convert gives an object in another version of its group. It is pure, and
// leaves obj alone.
func Convert(obj *unstructured.Unstructured, to schema.GroupVersion) (*unstructured.Unstructured, error) {
	from := obj.GroupVersionKind()
	if from.Group != eventingv1.GroupName || from.Kind != "EventType" || to.Group != from.Group {
		return nil, fmt.Errorf("convert %s to %s: only EventTypes have several versions", from, to)
	}
	if from.Version == to.Version {
		return obj.DeepCopy(), nil
	}
	var out any
	switch {
	case from.GroupVersion() == v1beta2.GroupVersion() && to == v1beta3.GroupVersion():
		in := &v1beta2.EventType{}
		if err := decode(obj, in); err != nil {
			return nil, err
		}
		out = Newer(in)
	case from.GroupVersion() == v1beta3.GroupVersion() && to == v1beta2.GroupVersion():
		in := &v1beta3.EventType{}
		if err := decode(obj, in); err != nil {
			return nil, err
		}
		older, err := Older(in)
		if err != nil {
			return nil, err
		}
		out = older
	default:
		return nil, fmt.Errorf("convert %s to %s: the versions are v1beta2 and v1beta3", from, to)
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(out)
	if err != nil {
		return nil, fmt.Errorf("convert %s to %s: %w", from, to, err)
	}
	return whole(obj, &unstructured.Unstructured{Object: content}), nil
}

// whole takes over what the Go types do not have: the metadata as it is, but
// for the annotations, and whether there is a status.
func whole(in, out *unstructured.Unstructured) *unstructured.Unstructured {
	annotations := out.GetAnnotations()
	if meta, ok := in.Object["metadata"].(map[string]any); ok {
		out.Object["metadata"] = runtime.DeepCopyJSON(meta)
		if len(annotations) > 0 || len(in.GetAnnotations()) > 0 {
			out.SetAnnotations(annotations)
		}
	} else {
		delete(out.Object, "metadata")
	}
	delete(out.Object, "status")
	if status, ok := in.Object["status"]; ok {
		out.Object["status"] = runtime.DeepCopyJSONValue(status)
	}
	return out
}

func decode(obj *unstructured.Unstructured, into any) error {
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, into); err != nil {
		return fmt.Errorf("EventType %s/%s: %w", obj.GetNamespace(), obj.GetName(), err)
	}
	return nil
}

// Newer is an EventType in v1beta3.
func Newer(in *v1beta2.EventType) *v1beta3.EventType {
	out := &v1beta3.EventType{ObjectMeta: *in.ObjectMeta.DeepCopy()}
	out.SetGroupVersionKind(v1beta3.GroupVersion().WithKind("EventType"))
	out.Spec = v1beta3.EventTypeSpec{Reference: in.Spec.Reference.DeepCopy(), Description: in.Spec.Description, Attributes: attributes(&in.Spec)}
	if in.Spec.Reference == nil && in.Spec.Broker != "" {
		out.Spec.Reference = &duckv1.KReference{APIVersion: eventingv1.GroupVersion().String(), Kind: "Broker", Namespace: in.Namespace, Name: in.Spec.Broker}
	}
	if kept, ok := in.Annotations[AttributesAnnotation]; ok {
		out.Annotations = maps.Clone(in.Annotations)
		delete(out.Annotations, AttributesAnnotation)
		var all []v1beta3.EventAttributeDefinition
		// Unless somebody has changed what both versions have.
		if err := json.Unmarshal([]byte(kept), &all); err == nil && sameFields(fields(all), in.Spec) {
			out.Spec.Attributes = all
		}
	}
	return out
}

// Older is an EventType in v1beta2.
func Older(in *v1beta3.EventType) (*v1beta2.EventType, error) {
	out := &v1beta2.EventType{ObjectMeta: *in.ObjectMeta.DeepCopy()}
	out.SetGroupVersionKind(v1beta2.GroupVersion().WithKind("EventType"))
	out.Spec = fields(in.Spec.Attributes)
	out.Spec.Reference, out.Spec.Description = in.Spec.Reference.DeepCopy(), in.Spec.Description
	if !slices.Equal(attributes(&out.Spec), in.Spec.Attributes) {
		kept, err := json.Marshal(in.Spec.Attributes)
		if err != nil {
			return nil, fmt.Errorf("EventType %s/%s: %w", in.Namespace, in.Name, err)
		}
		out.Annotations = maps.Clone(in.Annotations)
		if out.Annotations == nil {
			out.Annotations = map[string]string{}
		}
		out.Annotations[AttributesAnnotation] = string(kept)
	}
	return out, nil
}

// attributes are what the fields of v1beta2 say.
func attributes(s *v1beta2.EventTypeSpec) []v1beta3.EventAttributeDefinition {
	all := []v1beta3.EventAttributeDefinition{
		{Name: "type", Required: true, Value: s.Type}, {Name: "source", Required: true, Value: s.Source},
		{Name: "specversion", Required: true, Value: "1.0"}, {Name: "id", Required: true},
	}
	if s.Schema != "" {
		all = append(all, v1beta3.EventAttributeDefinition{Name: "dataschema", Value: s.Schema})
	}
	if s.SchemaData != "" {
		all = append(all, v1beta3.EventAttributeDefinition{Name: "schemadata", Value: s.SchemaData})
	}
	return all
}

// fields are what v1beta2 has fields for.
func fields(all []v1beta3.EventAttributeDefinition) v1beta2.EventTypeSpec {
	var s v1beta2.EventTypeSpec
	for _, a := range all {
		switch a.Name {
		case "type":
			s.Type = a.Value
		case "source":
			s.Source = a.Value
		case "dataschema":
			s.Schema = a.Value
		case "schemadata":
			s.SchemaData = a.Value
		}
	}
	return s
}

func sameFields(a, b v1beta2.EventTypeSpec) bool {
	return a.Type == b.Type && a.Source == b.Source && a.Schema == b.Schema && a.SchemaData == b.SchemaData
}
