package controller

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/leat-dev/leat/api/annotations"
)

// TestCachesHoldWhatIsRead: neither who manages an object's fields nor kubectl's
// copy of it; and what came from the API is as it was, for others have it too.
func TestCachesHoldWhatIsRead(t *testing.T) {
	made := func(annotations map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "eventing.knative.dev/v1", "kind": "Trigger",
			"metadata": map[string]any{
				"name": "t", "resourceVersion": "7", "annotations": annotations,
				"managedFields": []any{map[string]any{"manager": "kubectl", "fieldsV1": map[string]any{"f:spec": map[string]any{}}}},
			},
			"spec": map[string]any{"broker": "default"},
		}}
	}
	for _, c := range []struct{ given, kept map[string]any }{
		{map[string]any{corev1.LastAppliedConfigAnnotation: "{}", "leat.dev/start-from": "earliest"}, map[string]any{"leat.dev/start-from": "earliest"}},
		{map[string]any{corev1.LastAppliedConfigAnnotation: "{}"}, nil},
		{nil, nil},
	} {
		u := made(c.given)
		before := u.DeepCopy()
		got, err := typed(kindTrigger, newAlike())(u)
		if err != nil {
			t.Fatal(err)
		}
		trigger := got.(*heldTrigger)
		if trigger.Name != "t" || trigger.ResourceVersion != "7" || trigger.Spec.Broker != "default" || trigger.ManagedFields != nil {
			t.Errorf("%v is read as %+v", c.given, trigger)
		}
		kept := map[string]any{}
		for name, value := range trigger.Annotations {
			kept[name] = value
		}
		if len(kept) != len(c.kept) || len(kept) > 0 && !reflect.DeepEqual(kept, c.kept) {
			t.Errorf("of %v is kept %v", c.given, kept)
		}
		if !reflect.DeepEqual(u, before) {
			t.Errorf("what was given has become %v", u)
		}
	}
}

// TestCachesHoldFiltersInTheirCanonicalForm: which is what a log is told.
func TestCachesHoldFiltersInTheirCanonicalForm(t *testing.T) {
	for _, c := range []struct {
		spec   map[string]any
		filter string
	}{
		{map[string]any{}, ""},
		{map[string]any{"filter": map[string]any{"attributes": map[string]any{}}}, ""},
		{map[string]any{"filter": map[string]any{"attributes": map[string]any{"type": "a"}}}, `{"filter":{"attributes":{"type":"a"}}}`},
		{map[string]any{
			"filter":  map[string]any{"attributes": map[string]any{"type": "a"}},
			"filters": []any{map[string]any{"prefix": map[string]any{"source": "b"}}},
		}, `{"filters":[{"prefix":{"source":"b"}}]}`},
	} {
		got, err := typed(kindTrigger, newAlike())(&unstructured.Unstructured{Object: map[string]any{
			"metadata": map[string]any{"name": "t"}, "spec": c.spec,
		}})
		if err != nil {
			t.Fatal(err)
		}
		held := got.(*heldTrigger)
		if string(held.filter) != c.filter || held.Spec.Filter != nil || held.Spec.Filters != nil {
			t.Errorf("%v is held as %s beside %+v", c.spec, held.filter, held.Spec)
		}
		if m := desired(held, false, annotations.Limits{}); string(m.sub.Filter) != c.filter {
			t.Errorf("of %v a log is told %s", c.spec, m.sub.Filter)
		}
	}
}
