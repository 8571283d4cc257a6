package apiserver

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clientcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// family makes config maps that own one another.
type family struct {
	t *testing.T
	c clientcorev1.ConfigMapInterface
}

func (f family) make(name string, owners ...metav1.OwnerReference) metav1.OwnerReference {
	f.t.Helper()
	m, err := f.c.Create(f.t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: owners}}, metav1.CreateOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	return metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: name, UID: m.UID}
}

// blocking is a reference that holds up the owner's foreground deletion.
func blocking(r metav1.OwnerReference) metav1.OwnerReference {
	yes := true
	r.BlockOwnerDeletion = &yes
	return r
}

func (f family) delete(name string, p metav1.DeletionPropagation) {
	f.t.Helper()
	if err := f.c.Delete(f.t.Context(), name, metav1.DeleteOptions{PropagationPolicy: &p}); err != nil {
		f.t.Fatal(err)
	}
}

func (f family) gone(names ...string) {
	f.t.Helper()
	for _, name := range names {
		gone(f.t, func() error {
			_, err := f.c.Get(f.t.Context(), name, metav1.GetOptions{})
			return err
		})
	}
}

func (f family) get(name string) *corev1.ConfigMap {
	f.t.Helper()
	m, err := f.c.Get(f.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	return m
}

// settled makes a dependent of an owner that never was, and waits until it is
// gone: what came before it has been looked at.
func (f family) settled() {
	f.t.Helper()
	f.make("probe", metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "never", UID: "never"})
	f.gone("probe")
}

func newFamily(t *testing.T, s *running) family {
	return family{t, s.client().CoreV1().ConfigMaps("default")}
}

func TestGarbageInTheBackground(t *testing.T) {
	s := start(t, options(t))
	f := newFamily(t, s)
	a := f.make("a")
	b := f.make("b", a)
	f.make("c", b)
	other := f.make("other")
	f.make("shared", a, other)
	u := object(t, triggerManifest)
	u.SetOwnerReferences([]metav1.OwnerReference{a})
	if _, err := s.triggers().Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	f.delete("a", metav1.DeletePropagationBackground)
	f.gone("a", "b", "c")
	gone(t, func() error {
		_, err := s.triggers().Get(t.Context(), "t1", metav1.GetOptions{})
		return err
	})
	settles(t, func() string {
		if refs := f.get("shared").OwnerReferences; len(refs) != 1 || refs[0].UID != other.UID {
			return fmt.Sprint("owners of what is shared: ", refs)
		}
		return ""
	})
	f.get("other")
}

// TestGarbageInTheForeground: an owner stays until the dependents that block
// it are gone, and they until theirs are.
func TestGarbageInTheForeground(t *testing.T) {
	s := start(t, options(t))
	f := newFamily(t, s)
	a := f.make("a")
	b := f.make("b", blocking(a))
	f.make("c", blocking(b))
	held := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "held", Finalizers: []string{"example.com/f"}, OwnerReferences: []metav1.OwnerReference{blocking(a)}}}
	if _, err := f.c.Create(t.Context(), held, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	loose := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "loose", Finalizers: []string{"example.com/f"}, OwnerReferences: []metav1.OwnerReference{a}}}
	if _, err := f.c.Create(t.Context(), loose, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	f.delete("a", metav1.DeletePropagationForeground)
	f.gone("b", "c")
	f.settled()
	if m := f.get("a"); m.DeletionTimestamp == nil || !slices.Equal(m.Finalizers, []string{metav1.FinalizerDeleteDependents}) {
		t.Errorf("the owner, while a dependent is left: %+v", m.ObjectMeta)
	}
	free := []byte(`{"metadata":{"finalizers":null}}`)
	if _, err := f.c.Patch(t.Context(), "held", types.MergePatchType, free, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	f.gone("held", "a")
	if m := f.get("loose"); m.DeletionTimestamp == nil {
		t.Error("what does not block its owner was not deleted with it")
	}
}

// TestGarbageInACircle: two that wait for one another do not wait for ever.
func TestGarbageInACircle(t *testing.T) {
	s := start(t, options(t))
	f := newFamily(t, s)
	a := f.make("a")
	b := f.make("b", blocking(a))
	m := f.get("a")
	m.OwnerReferences = []metav1.OwnerReference{blocking(b)}
	if _, err := f.c.Update(t.Context(), m, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	f.settled()
	f.delete("a", metav1.DeletePropagationForeground)
	f.gone("a", "b")
}

func TestGarbageOrphans(t *testing.T) {
	s := start(t, options(t))
	f := newFamily(t, s)
	a := f.make("a")
	other := f.make("other")
	f.make("b", a)
	f.make("shared", other, blocking(a))
	f.delete("a", metav1.DeletePropagationOrphan)
	f.gone("a")
	if m := f.get("b"); len(m.OwnerReferences) != 0 {
		t.Errorf("owners of the orphan: %v", m.OwnerReferences)
	}
	if m := f.get("shared"); len(m.OwnerReferences) != 1 || m.OwnerReferences[0].UID != other.UID {
		t.Errorf("owners of what was shared: %v", m.OwnerReferences)
	}
}

// TestGarbageOfAbsentOwners: an owner is where the reference says, or nowhere.
func TestGarbageOfAbsentOwners(t *testing.T) {
	s := start(t, options(t))
	s.namespace("n")
	f := newFamily(t, s)
	there := family{t, s.client().CoreV1().ConfigMaps("n")}
	a := f.make("a")

	there.make("elsewhere", a) // its owner is in another namespace
	there.gone("elsewhere")
	replaced := a
	replaced.UID = "another"
	f.make("replaced", replaced)
	f.gone("replaced")
	unknown := metav1.OwnerReference{APIVersion: "example.com/v1", Kind: "Widget", Name: "w", UID: "w"}
	f.make("unknown", unknown)
	ns, err := s.client().CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f.make("of-cluster", metav1.OwnerReference{APIVersion: "v1", Kind: "Namespace", Name: "default", UID: ns.UID})
	if _, err := s.client().CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "outside", OwnerReferences: []metav1.OwnerReference{a}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	f.settled()
	f.get("unknown")
	f.get("of-cluster")
	if _, err := s.client().CoreV1().Nodes().Get(t.Context(), "outside", metav1.GetOptions{}); err != nil {
		t.Errorf("what lives in no namespace cannot be owned from within one: %v", err)
	}
}

// TestGarbageOverARestart: what was left undone is done by the next start.
func TestGarbageOverARestart(t *testing.T) {
	o := options(t)
	s := start(t, o)
	f := newFamily(t, s)
	a := f.make("a")
	held := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "held", Finalizers: []string{"example.com/f"}, OwnerReferences: []metav1.OwnerReference{blocking(a)}}}
	if _, err := f.c.Create(t.Context(), held, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	f.delete("a", metav1.DeletePropagationForeground)
	b := f.make("b")
	f.make("c", b)
	s.end()
	// Its owner goes while nobody looks.
	key := storagePrefix + "/core/configmaps/default/b"
	if r, err := o.KV.Delete(t.Context(), key, mustGet(t, o, key)); err != nil || !r.OK {
		t.Fatal(r, err)
	}

	o.Listener = listen(t)
	s = start(t, o)
	f = newFamily(t, s)
	f.gone("c")
	if _, err := f.c.Patch(t.Context(), "held", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	f.gone("held", "a")
}

func mustGet(t *testing.T, o Options, key string) uint64 {
	t.Helper()
	kv, _, err := o.KV.Get(key)
	if err != nil || kv == nil {
		t.Fatal(kv, err)
	}
	return kv.ModRev
}

// TestGarbageOfSecrets: their owners are read though they are encrypted.
func TestGarbageOfSecrets(t *testing.T) {
	s := start(t, options(t))
	f := newFamily(t, s)
	c := s.client().CoreV1().Secrets("default")
	a := f.make("a")
	owner, err := c.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s", OwnerReferences: []metav1.OwnerReference{a}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f.make("b", metav1.OwnerReference{APIVersion: "v1", Kind: "Secret", Name: "s", UID: owner.UID})
	f.delete("a", metav1.DeletePropagationBackground)
	f.gone("a", "b")
	if _, err := c.Get(t.Context(), "s", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the secret: %v", err)
	}
}
