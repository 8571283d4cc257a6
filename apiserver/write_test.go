package apiserver

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
)

// text is a field of an object; "" where there is none.
func text(tb testing.TB, u *unstructured.Unstructured, path ...string) string {
	tb.Helper()
	v, _, err := unstructured.NestedFieldNoCopy(u.Object, path...)
	if err != nil {
		tb.Fatal(err)
	}
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// causes are the fields that an error names.
func causes(err error) string {
	status, ok := err.(apierrors.APIStatus)
	if !ok || status.Status().Details == nil {
		return fmt.Sprint(err)
	}
	var all []string
	for _, c := range status.Status().Details.Causes {
		all = append(all, c.Field)
	}
	return strings.Join(all, " ")
}

// TestApply: two managers do not overwrite each other's fields unless told to.
func TestApply(t *testing.T) {
	s := start(t, options(t))
	triggers := s.triggers()
	mine := object(t, triggerManifest)
	if _, err := triggers.Apply(t.Context(), "t1", mine, metav1.ApplyOptions{FieldManager: "a"}); err != nil {
		t.Fatal(err)
	}
	theirs := object(t, `
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: t1, labels: {team: b}}
spec: {broker: default, subscriber: {uri: "http://other.example"}}`)
	_, err := triggers.Apply(t.Context(), "t1", theirs, metav1.ApplyOptions{FieldManager: "b"})
	if !apierrors.IsConflict(err) || causes(err) != ".spec.subscriber.uri" || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("another's field: %v, causes %q; want a conflict that names the field and its manager", err, causes(err))
	}
	got, err := triggers.Get(t.Context(), "t1", metav1.GetOptions{})
	if err != nil || text(t, got, "spec", "subscriber", "uri") != "http://example.com" || got.GetLabels()["team"] != "" {
		t.Errorf("after a conflict: %v, %v", got, err)
	}
	got, err = triggers.Apply(t.Context(), "t1", theirs, metav1.ApplyOptions{FieldManager: "b", Force: true})
	if err != nil || text(t, got, "spec", "subscriber", "uri") != "http://other.example" {
		t.Fatalf("by force: %v, %v", got, err)
	}
	generation, version := got.GetGeneration(), got.GetResourceVersion()
	got, err = triggers.Apply(t.Context(), "t1", theirs, metav1.ApplyOptions{FieldManager: "b"})
	if err != nil || got.GetResourceVersion() != version || got.GetGeneration() != generation {
		t.Errorf("the same once more: version %s after %s, %v; want no write", got.GetResourceVersion(), version, err)
	}
	// What its only manager no longer asks for goes; what the first one still
	// owns, or the server has set, stays.
	delete(theirs.Object["metadata"].(map[string]any), "labels")
	got, err = triggers.Apply(t.Context(), "t1", theirs, metav1.ApplyOptions{FieldManager: "b"})
	if err != nil || got.GetLabels()["team"] != "" || got.GetLabels()["eventing.knative.dev/broker"] != "default" {
		t.Errorf("without the label: %v, %v", got.GetLabels(), err)
	}
	if _, err = triggers.Apply(t.Context(), "t1", mine, metav1.ApplyOptions{FieldManager: "a"}); !apierrors.IsConflict(err) {
		t.Errorf("the first manager, which lost the field: %v, want a conflict", err)
	}
}

func TestApplyOfCoreKinds(t *testing.T) {
	s := start(t, options(t))
	secrets := s.client().CoreV1().Secrets("default")
	apply := func(manager, key, value string) (*corev1.Secret, error) {
		return secrets.Apply(t.Context(), applycorev1.Secret("s", "default").WithStringData(map[string]string{key: value}), metav1.ApplyOptions{FieldManager: manager})
	}
	for _, value := range []string{"one", "two"} {
		if got, err := apply("a", "k", value); err != nil || string(got.Data["k"]) != value || len(got.StringData) > 0 {
			t.Fatalf("stringData %q: %v, %v", value, got, err)
		}
	}
	if got, err := apply("b", "other", "x"); err != nil || string(got.Data["k"]) != "two" || string(got.Data["other"]) != "x" {
		t.Errorf("another manager's key: %v, %v", got, err)
	}

	services := s.client().CoreV1().Services("default")
	service := applycorev1.Service("svc", "default").WithSpec(applycorev1.ServiceSpec().WithPorts(applycorev1.ServicePort().WithPort(80)))
	if _, err := services.Apply(t.Context(), service, metav1.ApplyOptions{FieldManager: "a"}); err != nil {
		t.Fatal(err)
	}
	other := applycorev1.Service("svc", "default").WithSpec(applycorev1.ServiceSpec().WithType(corev1.ServiceTypeExternalName).WithExternalName("x.example"))
	if _, err := services.Apply(t.Context(), other, metav1.ApplyOptions{FieldManager: "b"}); err != nil {
		t.Errorf("the type, which nobody but the default has set: %v", err)
	}
	service.Spec.WithType(corev1.ServiceTypeClusterIP)
	if _, err := services.Apply(t.Context(), service, metav1.ApplyOptions{FieldManager: "a"}); !apierrors.IsConflict(err) || causes(err) != ".spec.type" {
		t.Errorf("the type that another has set: %v", err)
	}

	// A status that is given with the object is not taken, so it is not owned.
	ingress := applycorev1.LoadBalancerIngress().WithIP("10.0.0.1")
	lie := applycorev1.Service("svc", "default").WithStatus(applycorev1.ServiceStatus().WithLoadBalancer(applycorev1.LoadBalancerStatus().WithIngress(ingress)))
	got, err := services.Apply(t.Context(), lie, metav1.ApplyOptions{FieldManager: "c"})
	if err != nil || len(got.Status.LoadBalancer.Ingress) > 0 {
		t.Fatalf("a status given with the object: %v, %v", got, err)
	}
	for _, m := range got.ManagedFields {
		if m.Manager == "c" && strings.Contains(string(m.FieldsV1.Raw), "f:status") {
			t.Errorf("c owns %s", m.FieldsV1.Raw)
		}
	}
}

// TestConditionsAreMergedByType: managers of different conditions do not
// disturb each other.
func TestConditionsAreMergedByType(t *testing.T) {
	s := start(t, options(t))
	triggers := s.triggers()
	if _, err := triggers.Create(t.Context(), object(t, triggerManifest), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"A", "B"} {
		status := object(t, `{apiVersion: eventing.knative.dev/v1, kind: Trigger, metadata: {name: t1}, status: {conditions: [{type: `+kind+`, status: "True"}]}}`)
		if _, err := triggers.ApplyStatus(t.Context(), "t1", status, metav1.ApplyOptions{FieldManager: kind}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := triggers.Get(t.Context(), "t1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if all, _, err := unstructured.NestedSlice(got.Object, "status", "conditions"); err != nil || len(all) != 2 {
		t.Errorf("conditions are %v, %v", all, err)
	}
}

func TestPatches(t *testing.T) {
	s := start(t, options(t))
	triggers, services := s.triggers(), s.client().CoreV1().Services("default")
	if _, err := triggers.Create(t.Context(), object(t, triggerManifest), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "svc"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "a", Port: 1}, {Name: "b", Port: 2}}}}
	if _, err := services.Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	got, err := triggers.Patch(t.Context(), "t1", types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"1"}},"spec":{"filter":null,"delivery":{"retry":3}}}`), metav1.PatchOptions{})
	if err != nil || got.GetLabels()["a"] != "1" || text(t, got, "spec", "delivery", "retry") != "3" || got.GetGeneration() != 2 {
		t.Errorf("merge patch: %v, %v", got, err)
	}
	got, err = triggers.Patch(t.Context(), "t1", types.JSONPatchType, []byte(`[{"op":"test","path":"/spec/delivery/retry","value":3},{"op":"replace","path":"/spec/delivery/retry","value":4},{"op":"remove","path":"/metadata/labels/a"}]`), metav1.PatchOptions{})
	if err != nil || got.GetLabels()["a"] != "" || text(t, got, "spec", "delivery", "retry") != "4" {
		t.Errorf("JSON patch: %v, %v", got, err)
	}
	for _, c := range []struct {
		kind  types.PatchType
		patch string
		ok    func(error) bool
	}{
		{types.JSONPatchType, `[{"op":"test","path":"/spec/delivery/retry","value":3}]`, apierrors.IsInvalid},
		{types.JSONPatchType, `[{"op":"remove","path":"/spec/none"}]`, apierrors.IsInvalid},
		{types.JSONPatchType, `nonsense`, apierrors.IsBadRequest},
		{types.MergePatchType, `{"spec":{"broker":"other"}}`, apierrors.IsInvalid},
		{types.MergePatchType, `{"metadata":{"name":"t2"}}`, apierrors.IsBadRequest},
		{types.MergePatchType, `{"metadata":{"resourceVersion":"1"},"spec":{"delivery":{"retry":9}}}`, apierrors.IsConflict},
		{types.StrategicMergePatchType, `{"spec":{"delivery":{"retry":9}}}`, apierrors.IsUnsupportedMediaType},
	} {
		if _, err := triggers.Patch(t.Context(), "t1", c.kind, []byte(c.patch), metav1.PatchOptions{}); err == nil || !c.ok(err) {
			t.Errorf("%s of %s: %v", c.kind, c.patch, err)
		}
	}

	// Lists of core kinds are merged by their keys.
	changed, err := services.Patch(t.Context(), "svc", types.StrategicMergePatchType, []byte(`{"spec":{"ports":[{"port":2,"name":"second"},{"port":1,"$patch":"delete"},{"port":3,"name":"c"}]}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ports := map[string]int32{}
	for _, p := range changed.Spec.Ports {
		ports[p.Name] = p.Port
	}
	if len(ports) != 2 || ports["second"] != 2 || ports["c"] != 3 {
		t.Errorf("strategic merge patch: %v", changed.Spec.Ports)
	}
	if changed, err = services.Patch(t.Context(), "svc", types.MergePatchType, []byte(`{"spec":{"ports":[{"port":7}]}}`), metav1.PatchOptions{}); err != nil || len(changed.Spec.Ports) != 1 {
		t.Errorf("merge patch of a list: %v, %v", changed, err)
	}
}

// TestStatusIsASubresource: a write of the object leaves its status alone, and
// the other way round; only what is asked for counts as a generation.
func TestStatusIsASubresource(t *testing.T) {
	s := start(t, options(t))
	triggers := s.triggers()
	u := object(t, triggerManifest)
	u.Object["status"] = map[string]any{"subscriberUri": "http://lie"}
	u, err := triggers.Create(t.Context(), u, metav1.CreateOptions{})
	if err != nil || text(t, u, "status", "subscriberUri") != "" || u.GetGeneration() != 1 {
		t.Fatalf("created with a status: %v, %v", u, err)
	}
	u.Object["status"] = map[string]any{"subscriberUri": "http://x"}
	u.SetLabels(map[string]string{"not": "taken"})
	u.Object["spec"].(map[string]any)["broker"] = "other"
	if u, err = triggers.UpdateStatus(t.Context(), u, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if text(t, u, "status", "subscriberUri") != "http://x" || text(t, u, "spec", "broker") != "default" || u.GetLabels()["not"] != "" || u.GetGeneration() != 1 {
		t.Errorf("after a write of the status: %v", u)
	}
	u.SetLabels(map[string]string{"a": "b"})
	if u, err = triggers.Update(t.Context(), u, metav1.UpdateOptions{}); err != nil || u.GetGeneration() != 1 || u.GetLabels()["a"] != "b" {
		t.Errorf("a label is no generation: %v, %v", u, err)
	}
	u.Object["spec"].(map[string]any)["delivery"] = map[string]any{"retry": int64(1)}
	u.Object["status"] = map[string]any{}
	if u, err = triggers.Update(t.Context(), u, metav1.UpdateOptions{}); err != nil || u.GetGeneration() != 2 || text(t, u, "status", "subscriberUri") != "http://x" {
		t.Errorf("after a write of the spec: %v, %v", u, err)
	}

	services := s.client().CoreV1().Services("default")
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "svc", Generation: 7}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 1}}}}
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "10.0.0.1"}}
	if svc, err = services.Create(t.Context(), svc, metav1.CreateOptions{}); err != nil || len(svc.Status.LoadBalancer.Ingress) > 0 || svc.Generation != 1 {
		t.Fatalf("a Service created with a status: %v, %v", svc, err)
	}
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "10.0.0.1"}}
	svc.Spec.Ports[0].Port = 2
	if svc, err = services.UpdateStatus(t.Context(), svc, metav1.UpdateOptions{}); err != nil || svc.Spec.Ports[0].Port != 1 || len(svc.Status.LoadBalancer.Ingress) != 1 {
		t.Errorf("after a write of a Service's status: %v, %v", svc, err)
	}
	svc.Status = corev1.ServiceStatus{}
	svc.Spec.Ports[0].Port = 2
	if svc, err = services.Update(t.Context(), svc, metav1.UpdateOptions{}); err != nil || svc.Generation != 2 || len(svc.Status.LoadBalancer.Ingress) != 1 {
		t.Errorf("after a write of a Service's spec: %v, %v", svc, err)
	}
}

// TestOptimisticWrites: a write of what has changed since is refused, and one
// that is tried again on each conflict gets through.
func TestOptimisticWrites(t *testing.T) {
	s := start(t, options(t))
	configs := s.client().CoreV1().ConfigMaps("default")
	old, err := configs.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "counter"}, Data: map[string]string{"n": "0"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const writers, each = 8, 10
	var all errgroup.Group
	for range writers {
		all.Go(func() error {
			for done := 0; done < each; {
				c, err := configs.Get(t.Context(), "counter", metav1.GetOptions{})
				if err != nil {
					return err
				}
				n, err := strconv.Atoi(c.Data["n"])
				if err != nil {
					return err
				}
				c.Data["n"] = strconv.Itoa(n + 1)
				if _, err = configs.Update(t.Context(), c, metav1.UpdateOptions{}); err == nil {
					done++
				} else if !apierrors.IsConflict(err) {
					return err
				}
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	got, err := configs.Get(t.Context(), "counter", metav1.GetOptions{})
	if err != nil || got.Data["n"] != strconv.Itoa(writers*each) {
		t.Errorf("%d writers, each %d times, counted to %s: %v", writers, each, got.Data["n"], err)
	}
	old.Data["n"] = "lost"
	if _, err := configs.Update(t.Context(), old, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("an update of an old version: %v, want a conflict", err)
	}
}
