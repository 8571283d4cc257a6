package controller

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	eventingv1 "github.com/leat-dev/leat/api/eventing/v1"
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
		trigger := got.(*eventingv1.Trigger)
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
