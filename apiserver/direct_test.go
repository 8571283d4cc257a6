package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
)

func condition(kind, status string, more ...string) map[string]any {
	c := map[string]any{"type": kind, "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"}
	for i := 0; i < len(more); i += 2 {
		c[more[i]] = more[i+1]
	}
	return c
}

// statuses are written one after the other: fields come, change and go.
func statuses() []map[string]any {
	return []map[string]any{
		{"observedGeneration": int64(1), "conditions": []any{condition("Ready", "Unknown", "reason", "Waiting", "message", "for <a> & b")}},
		{"observedGeneration": int64(1), "conditions": []any{condition("BrokerReady", "True"), condition("Ready", "True")}, "subscriberUri": "http://x", "annotations": map[string]any{"a": "b"}},
		{"observedGeneration": int64(2), "conditions": []any{condition("Ready", "False", "reason", "No")}},
		{"observedGeneration": int64(2), "conditions": []any{condition("Ready", "False", "reason", "No")}},
	}
}

// alike is an object without what differs between two that are made alike.
func alike(t *testing.T, u *unstructured.Unstructured) map[string]any {
	t.Helper()
	b, err := json.Marshal(u.Object)
	var object map[string]any
	if err == nil {
		err = json.Unmarshal(b, &object)
	}
	if err != nil {
		t.Fatal(err)
	}
	metadata := object["metadata"].(map[string]any)
	for _, name := range []string{"name", "uid", "creationTimestamp", "resourceVersion"} {
		delete(metadata, name)
	}
	for _, e := range metadata["managedFields"].([]any) {
		delete(e.(map[string]any), "time")
	}
	return object
}

func directTriggers(t *testing.T, s *running) dynamic.ResourceInterface {
	t.Helper()
	c, err := s.Direct()
	if err != nil {
		t.Fatal(err)
	}
	return c.Resource(schema.GroupVersionResource{Group: "eventing.knative.dev", Version: "v1", Resource: "triggers"}).Namespace("default")
}

// loopbackTriggers sends requests, by the name that Direct's writes have.
func loopbackTriggers(t *testing.T, s *running) dynamic.ResourceInterface {
	t.Helper()
	c, err := dynamic.NewForConfig(s.LoopbackConfig())
	if err != nil {
		t.Fatal(err)
	}
	return c.Resource(schema.GroupVersionResource{Group: "eventing.knative.dev", Version: "v1", Resource: "triggers"}).Namespace("default")
}

// TestDirectStatusIsLikeAnother: an object whose status was written directly is
// like one whose status was written by requests, managedFields and all.
func TestDirectStatusIsLikeAnother(t *testing.T) {
	s := start(t, options(t))
	writers := map[string]dynamic.ResourceInterface{"t-direct": directTriggers(t, s), "t-request": loopbackTriggers(t, s)}
	for name := range writers {
		u := object(t, triggerManifest)
		u.SetName(name)
		if _, err := s.triggers().Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for i, status := range statuses() {
		got := map[string]map[string]any{}
		for name, c := range writers {
			u, err := s.triggers().Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			before := u.GetResourceVersion()
			u.Object["status"] = status
			written, err := c.UpdateStatus(t.Context(), u, metav1.UpdateOptions{})
			if err != nil {
				t.Fatalf("status %d of %s: %v", i, name, err)
			}
			u, err = s.triggers().Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if changed := i < len(statuses())-1; u.GetResourceVersion() != written.GetResourceVersion() || (u.GetResourceVersion() != before) != changed {
				t.Errorf("status %d of %s: version %s, was %s, the writer was told %s", i, name, u.GetResourceVersion(), before, written.GetResourceVersion())
			}
			got[name] = alike(t, u)
			// What is stored is in the form that requests compare with.
			again, err := s.triggers().Update(t.Context(), u, metav1.UpdateOptions{FieldManager: "leat"})
			if err != nil || again.GetResourceVersion() != u.GetResourceVersion() {
				t.Errorf("status %d of %s: an update without a change made version %s of %s: %v", i, name, again.GetResourceVersion(), u.GetResourceVersion(), err)
			}
		}
		if !reflect.DeepEqual(got["t-direct"], got["t-request"]) {
			direct, _ := json.MarshalIndent(got["t-direct"], "", " ")
			request, _ := json.MarshalIndent(got["t-request"], "", " ")
			t.Fatalf("status %d: directly\n%s\nby request\n%s", i, direct, request)
		}
	}
}

// TestDirectStatusOfOthers: a stale one is refused as ever; where somebody else
// has a part of the status, it is settled as ever who has what.
func TestDirectStatusOfOthers(t *testing.T) {
	s := start(t, options(t))
	c := directTriggers(t, s)
	old, err := s.triggers().Create(t.Context(), object(t, triggerManifest), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	patch := []byte(`{"status":{"subscriberUri":"http://somebody"}}`)
	if _, err := s.triggers().Patch(t.Context(), old.GetName(), types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "somebody"}, "status"); err != nil {
		t.Fatal(err)
	}
	old.Object["status"] = statuses()[1]
	if _, err := c.UpdateStatus(t.Context(), old, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("a stale status: %v", err)
	}
	u, err := s.triggers().Get(t.Context(), old.GetName(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	u.Object["status"] = statuses()[1]
	if u, err = c.UpdateStatus(t.Context(), u, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, e := range u.GetManagedFields() {
		if e.Manager == "somebody" && strings.Contains(string(e.FieldsV1.Raw), "subscriberUri") {
			t.Errorf("somebody still has %s", e.FieldsV1.Raw)
		}
	}
	label := []byte(`{"metadata":{"labels":{"changed":"since"}}}`)
	if _, err := s.triggers().Patch(t.Context(), u.GetName(), types.MergePatchType, label, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	late := u.DeepCopy()
	late.Object["status"] = statuses()[0]
	if _, err := c.UpdateStatus(t.Context(), late, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("a stale status of what is the writer's alone: %v", err)
	}
	gone := u.DeepCopy()
	gone.SetName("gone")
	gone.Object["status"] = statuses()[2]
	if _, err := c.UpdateStatus(t.Context(), gone, metav1.UpdateOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a status of what is not there: %v", err)
	}
}

// TestDirectWatch: it delivers what others see, and ends, to be begun again, when
// the kind is served in another way.
func TestDirectWatch(t *testing.T) {
	s := start(t, options(t))
	c, err := s.Direct()
	if err != nil {
		t.Fatal(err)
	}
	all := c.Resource(schema.GroupVersionResource{Group: "eventing.knative.dev", Version: "v1", Resource: "triggers"})
	list, err := all.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := all.Watch(t.Context(), metav1.ListOptions{ResourceVersion: list.GetResourceVersion(), AllowWatchBookmarks: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	made, err := s.triggers().Create(t.Context(), object(t, triggerManifest), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e := next(t, w)
	if u, ok := e.Object.(*unstructured.Unstructured); !ok || !reflect.DeepEqual(u.Object, made.Object) {
		t.Errorf("%s %v, want %v", e.Type, e.Object, made)
	}
	patch := []byte(`{"spec":{"names":{"shortNames":["trg"]}}}`)
	base, err := dynamic.NewForConfig(s.config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := base.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}).
		Patch(t.Context(), "triggers.eventing.knative.dev", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(20 * time.Second)
	for {
		select {
		case _, open := <-w.ResultChan():
			if !open {
				return
			}
		case <-deadline:
			t.Fatal("the watch goes on though its storage is gone")
		}
	}
}

// TestDirectWatchThatIsStopped leaves nothing behind, whatever it had not been
// read of.
func TestDirectWatchThatIsStopped(t *testing.T) {
	s := start(t, options(t))
	c, err := s.Direct()
	if err != nil {
		t.Fatal(err)
	}
	all := c.Resource(schema.GroupVersionResource{Group: "eventing.knative.dev", Version: "v1", Resource: "triggers"})
	made, err := s.triggers().Create(t.Context(), object(t, triggerManifest), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"a", "b", "c"} {
		label := fmt.Appendf(nil, `{"metadata":{"labels":{"x":%q}}}`, value)
		if _, err := s.triggers().Patch(t.Context(), made.GetName(), types.MergePatchType, label, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	const watches = 100
	before := runtime.NumGoroutine()
	for range watches {
		w, err := all.Watch(t.Context(), metav1.ListOptions{ResourceVersion: made.GetResourceVersion()})
		if err != nil {
			t.Fatal(err)
		}
		next(t, w)
		w.Stop()
	}
	gone := func(context.Context) (bool, error) { return runtime.NumGoroutine() < before+watches/4, nil }
	if err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, 20*time.Second, true, gone); err != nil {
		t.Fatalf("%d goroutines, %d before: %v", runtime.NumGoroutine(), before, err)
	}
}
