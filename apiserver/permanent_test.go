package apiserver

import (
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// TestPermanentObjectsStay: by name and with their collection, and only they.
func TestPermanentObjectsStay(t *testing.T) {
	o := options(t)
	o.Permanent = []Permanent{{
		GroupResource: schema.GroupResource{Group: "eventing.knative.dev", Resource: "triggers"}, Namespace: "default", Name: "t1", Reason: "it is dear to us",
	}}
	r := start(t, o)
	for _, name := range []string{"t1", "t2", "t3"} {
		u := object(t, triggerManifest)
		u.SetName(name)
		if _, err := r.triggers().Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(what string, err error) {
		t.Helper()
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "it is dear to us") {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("by name", r.triggers().Delete(t.Context(), "t1", metav1.DeleteOptions{}))
	if err := r.triggers().Delete(t.Context(), "t2", metav1.DeleteOptions{}); err != nil {
		t.Errorf("another: %v", err)
	}
	refused("with all", r.triggers().DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}))
	list, err := r.triggers().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || list.Items[0].GetName() != "t1" || list.Items[0].GetDeletionTimestamp() != nil {
		t.Errorf("left: %v %v", list, err)
	}
}
