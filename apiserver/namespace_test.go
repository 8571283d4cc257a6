package apiserver

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/client-go/dynamic"
)

// namespace makes one.
func (r *running) namespace(name string) {
	r.tb.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := r.client().CoreV1().Namespaces().Create(r.tb.Context(), ns, metav1.CreateOptions{}); err != nil {
		r.tb.Fatal(err)
	}
}

// settles waits until a question has no answer left, and fails with the last.
func settles(tb testing.TB, ask func() string) {
	tb.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		answer := ask()
		if answer == "" {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("after 30 s: %s", answer)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-tb.Context().Done():
			tb.Fatal(answer)
		}
	}
}

// gone waits until an object is not found.
func gone(tb testing.TB, get func() error) {
	tb.Helper()
	settles(tb, func() string {
		if err := get(); !apierrors.IsNotFound(err) {
			return fmt.Sprint("it is still there: ", err)
		}
		return ""
	})
}

func (r *running) namespaceGone(name string) {
	r.tb.Helper()
	gone(r.tb, func() error {
		_, err := r.client().CoreV1().Namespaces().Get(r.tb.Context(), name, metav1.GetOptions{})
		return err
	})
}

// TestNamespaceContent: what a namespace holds goes with it, of every kind, and
// nothing elsewhere does.
func TestNamespaceContent(t *testing.T) {
	s := start(t, options(t))
	c := s.client()
	for _, ns := range []string{"n", "n2"} {
		s.namespace(ns)
		for _, manifest := range []string{triggerManifest, "{apiVersion: eventing.knative.dev/v1, kind: Broker, metadata: {name: b}}"} {
			u := object(t, manifest)
			resource := "triggers"
			if u.GetKind() == "Broker" {
				resource = "brokers"
			}
			if _, err := s.dynamic().Resource(brokerResource.GroupResource().WithVersion("v1").GroupVersion().WithResource(resource)).Namespace(ns).Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.CoreV1().ConfigMaps(ns).Create(t.Context(), configMap("c", nil), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.CoreV1().Secrets(ns).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.CoreV1().Events(ns).Create(t.Context(), &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "e"}, InvolvedObject: corev1.ObjectReference{Namespace: ns}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// Five that were made here, and the ServiceAccount that each namespace gets.
	eventually(t, "the namespace has its six objects", func() bool { return len(s.keys("/n2/")) == 6 })
	before := s.keys("/n2/")
	if err := c.CoreV1().Namespaces().Delete(t.Context(), "n", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.namespaceGone("n")
	if left := s.keys("/n/"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if after := s.keys("/n2/"); strings.Join(before, " ") != strings.Join(after, " ") {
		t.Errorf("in the other namespace: %q, want %q", after, before)
	}
	s.namespace("n") // and it can be made again
}

// keys are those in the store that have a part.
func (r *running) keys(part string) []string {
	r.tb.Helper()
	p, err := r.o.KV.List(storagePrefix, "", 0, 0)
	if err != nil {
		r.tb.Fatal(err)
	}
	var keys []string
	for _, o := range p.KVs {
		if strings.Contains(o.Key, part) {
			keys = append(keys, o.Key)
		}
	}
	return keys
}

func (r *running) dynamic() dynamic.Interface {
	r.tb.Helper()
	c, err := dynamic.NewForConfig(r.config)
	if err != nil {
		r.tb.Fatal(err)
	}
	return c
}

// TestNamespaceWaitsForFinalizers: an object that has one is waited for, and
// the namespace says so; also over a restart.
func TestNamespaceWaitsForFinalizers(t *testing.T) {
	o := options(t)
	s := start(t, o)
	s.namespace("n")
	held := configMap("held", nil)
	held.Finalizers = []string{"example.com/f"}
	c := s.client()
	for _, m := range []*corev1.ConfigMap{held, configMap("free", nil)} {
		if _, err := c.CoreV1().ConfigMaps("n").Create(t.Context(), m, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.CoreV1().Namespaces().Delete(t.Context(), "n", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	told := func(s *running) func() string {
		return func() string {
			ns, err := s.client().CoreV1().Namespaces().Get(t.Context(), "n", metav1.GetOptions{})
			if err != nil {
				return err.Error()
			}
			got := string(ns.Status.Phase)
			for _, c := range ns.Status.Conditions {
				if c.Status == corev1.ConditionTrue {
					got += fmt.Sprintf(" %s: %s.", c.Type, c.Message)
				}
			}
			want := "Terminating NamespaceContentRemaining: Some resources are remaining: configmaps. has 1 resource instances." +
				" NamespaceFinalizersRemaining: Some content in the namespace has finalizers remaining: example.com/f in 1 resource instances."
			if got != want {
				return got
			}
			return ""
		}
	}
	settles(t, told(s))
	_, err := c.CoreV1().ConfigMaps("n").Create(t.Context(), configMap("late", nil), metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) || !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		t.Errorf("creation in a namespace that is Terminating: %v", err)
	}
	if err := c.CoreV1().Namespaces().Delete(t.Context(), "n", metav1.DeleteOptions{}); err != nil {
		t.Errorf("deletion once more: %v", err)
	}
	s.end()

	o.Listener = listen(t)
	s = start(t, o)
	settles(t, told(s))
	patch := []byte(`{"metadata":{"finalizers":null}}`)
	if _, err := s.client().CoreV1().ConfigMaps("n").Patch(t.Context(), "held", "application/merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	s.namespaceGone("n")
}

// TestNamespaceFinalize: whoever has a finalizer in the spec ends it by the
// subresource; nothing else changes it.
func TestNamespaceFinalize(t *testing.T) {
	s := start(t, options(t))
	c := s.client().CoreV1().Namespaces()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{"example.com/f"}}}
	ns, err := c.Create(t.Context(), ns, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ns.Spec.Finalizers = nil
	if ns, err = c.Update(t.Context(), ns, metav1.UpdateOptions{}); err != nil || len(ns.Spec.Finalizers) != 2 {
		t.Fatalf("an update changes the finalizers: %v, %v", ns, err)
	}
	if err := c.Delete(t.Context(), "n", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	settles(t, func() string {
		if ns, err = c.Get(t.Context(), "n", metav1.GetOptions{}); err != nil || len(ns.Spec.Finalizers) != 1 {
			return fmt.Sprint(ns, err)
		}
		return ""
	})
	ns.Spec.Finalizers[0] = "nodomain"
	if _, err := c.Finalize(t.Context(), ns, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("a finalizer without a domain: %v", err)
	}
	ns.Spec.Finalizers = nil
	if _, err := c.Finalize(t.Context(), ns, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.namespaceGone("n")
}

// TestCreationIsCountedBeforeItsNamespaceIsRead: or the namespace could end
// between the two, and leave behind what is created.
func TestCreationIsCountedBeforeItsNamespaceIsRead(t *testing.T) {
	p := newNamespacePlugin(nil)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	counted, looks, revision := true, 0, uint64(7)
	p.revision = func(string) uint64 {
		counted = counted && p.busy("n")
		return revision
	}
	p.get = func(context.Context, string) (*corev1.Namespace, error) {
		counted = counted && p.busy("n")
		looks++
		return ns, nil
	}
	admit := func(ctx context.Context) error {
		return p.Admit(ctx, admission.NewAttributesRecord(configMap("a", nil), nil, corev1.SchemeGroupVersion.WithKind("ConfigMap"), "n", "a",
			corev1.SchemeGroupVersion.WithResource("configmaps"), "", admission.Create, &metav1.CreateOptions{}, false, nil), nil)
	}
	ctx, end := context.WithCancel(t.Context())
	if err := admit(ctx); err != nil || !counted || !p.busy("n") {
		t.Fatalf("counted at the look: %v, while it is written: %v, %v", counted, p.busy("n"), err)
	}
	end()
	eventually(t, "it is counted no more when the request has ended", func() bool { return !p.busy("n") })
	ctx, end = context.WithCancel(t.Context())
	if err := admit(ctx); err != nil || !counted || !p.busy("n") || looks != 1 {
		t.Fatalf("a second one: counted at the look: %v, while it is written: %v, looked %d times, %v", counted, p.busy("n"), looks, err)
	}
	end()
	eventually(t, "that is counted no more", func() bool { return !p.busy("n") })
	now := metav1.Now()
	ns.DeletionTimestamp = &now
	revision++ // as each write of it makes another
	if err := admit(t.Context()); !apierrors.IsForbidden(err) || p.busy("n") {
		t.Errorf("%v, busy %v", err, p.busy("n"))
	}
}

// TestNamespaceRace: nothing that was created while the namespace was deleted
// is left in it.
func TestNamespaceRace(t *testing.T) {
	s := start(t, options(t))
	c := s.client().CoreV1()
	for round := range 5 {
		name := fmt.Sprint("n", round)
		s.namespace(name)
		var writers errgroup.Group
		begun := make(chan struct{}, 8)
		for w := range 8 {
			writers.Go(func() error {
				for i := 0; ; i++ {
					_, err := c.ConfigMaps(name).Create(t.Context(), configMap(fmt.Sprintf("c-%d-%d", w, i), nil), metav1.CreateOptions{})
					if i == 0 {
						begun <- struct{}{}
					}
					if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) {
						return nil
					}
					if err != nil {
						return err
					}
				}
			})
		}
		for range 8 {
			<-begun
		}
		if err := c.Namespaces().Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := writers.Wait(); err != nil {
			t.Fatal(err)
		}
		s.namespaceGone(name)
		if left := s.keys("/" + name + "/"); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
}
