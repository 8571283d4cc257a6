package controller

import (
	"fmt"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	eventingv1 "github.com/leat-dev/leat/api/eventing/v1"
)

// TestCachesShareWhatIsTheSame: each object is as it would be alone, and what
// it has in common with others is there once.
func TestCachesShareWhatIsTheSame(t *testing.T) {
	at := func(second int64) metav1.Time { return metav1.NewTime(time.Unix(second, 0)) }
	made := func(name, url string, second int64, ready metav1.ConditionStatus) *eventingv1.Trigger {
		o := &eventingv1.Trigger{TypeMeta: metav1.TypeMeta{APIVersion: "eventing.knative.dev/v1", Kind: "Trigger"}}
		o.Name, o.Namespace, o.Spec.Broker, o.Spec.Subscriber.URI = name, "default", "b", url
		o.Status.SubscriberURI = url
		o.Status.Conditions = []duckv1.Condition{
			{Type: "BrokerReady", Status: "True", LastTransitionTime: at(second)},
			{Type: "Ready", Status: ready, Reason: "Because", Message: "of " + name[:1], LastTransitionTime: at(second)},
		}
		return o
	}
	read := typed(kindTrigger, newAlike())
	seen := func(o *eventingv1.Trigger) *eventingv1.Trigger {
		t.Helper()
		object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err != nil {
			t.Fatal(err)
		}
		out, err := read(&unstructured.Unstructured{Object: object})
		if err != nil {
			t.Fatal(err)
		}
		got := out.(*heldTrigger).Trigger
		if d := cmp.Diff(o, got); d != "" {
			t.Errorf("%s: %s", o.Name, d)
		}
		return got
	}
	one, two := seen(made("a1", "http://x/", 7, "True")), seen(made("a2", "http://x/", 7, "True"))
	if &one.Status.Conditions[0] != &two.Status.Conditions[0] {
		t.Error("the same conditions are there twice")
	}
	later := seen(made("a3", "http://x/", 8, "True"))
	failing := seen(made("a4", "http://y/", 8, "False"))
	seen(made("b5", "http://y/", 8, "False"))
	for what, pair := range map[string][2]string{
		"URL":       {one.Status.SubscriberURI, later.Spec.Subscriber.URI},
		"namespace": {one.Namespace, failing.Namespace},
		"type":      {one.Status.Conditions[1].Type, failing.Status.Conditions[1].Type},
		"message":   {one.Status.Conditions[1].Message, later.Status.Conditions[1].Message},
	} {
		if unsafe.StringData(pair[0]) != unsafe.StringData(pair[1]) {
			t.Errorf("the same %s is there twice", what)
		}
	}
	marked := func(name, value string) *eventingv1.Trigger {
		o := made(name, "http://x/", 9, "True")
		o.Labels, o.Annotations = map[string]string{"l": value, "k": ""}, map[string]string{"a": value}
		return seen(o)
	}
	first, again := marked("a7", "x"), marked("a8", "x")
	for what, pair := range map[string][2]map[string]string{"labels": {first.Labels, again.Labels}, "annotations": {first.Annotations, again.Annotations}} {
		if reflect.ValueOf(pair[0]).UnsafePointer() != reflect.ValueOf(pair[1]).UnsafePointer() {
			t.Errorf("the same %s are there twice", what)
		}
	}
	for i := range 3 * alikePairs {
		marked("a9", fmt.Sprint(i))
	}
	for i := range 3 * alikeTexts { // more than is kept
		seen(made("a6", fmt.Sprintf("http://%d/", i), int64(i), "True"))
	}
}
