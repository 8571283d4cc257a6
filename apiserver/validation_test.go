package apiserver

import (
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// warned collects the warnings of the API.
type warned struct{ texts []string }

func (w *warned) HandleWarningHeader(_ int, _, text string) { w.texts = append(w.texts, text) }

// TestFieldValidation: what the server would not understand is refused, warned
// of, or dropped, as the client wants it.
func TestFieldValidation(t *testing.T) {
	s := start(t, options(t))
	seen := &warned{}
	c := rest.CopyConfig(s.config)
	c.WarningHandler = seen
	client := clientOf(t, c)
	const trigger, configMap = "/apis/eventing.knative.dev/v1/namespaces/default/triggers", "/api/v1/namespaces/default/configmaps"
	for _, x := range []struct{ path, body, want string }{
		{trigger, `{"apiVersion":"eventing.knative.dev/v1","kind":"Trigger","metadata":{"name":"NAME"},"spec":{"broker":"b","subscribr":{},"subscriber":{"uri":"http://x"}}}`, `unknown field "spec.subscribr"`},
		{trigger, `{"apiVersion":"eventing.knative.dev/v1","kind":"Trigger","metadata":{"name":"NAME"},"spec":{"broker":"a","broker":"b","subscriber":{"uri":"http://x"}}}`, `duplicate field "spec.broker"`},
		{trigger, `{"apiVersion":"eventing.knative.dev/v1","kind":"Trigger","metadata":{"name":"NAME","anotations":{}},"spec":{"broker":"b","subscriber":{"uri":"http://x"}}}`, `unknown field "metadata.anotations"`},
		{configMap, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"NAME"},"date":{}}`, `unknown field "date"`},
		{configMap, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"NAME"},"data":{"a":"1","a":"2"}}`, `duplicate field "data.a"`},
	} {
		for mode, wants := range map[string]struct{ refused, warned bool }{"Strict": {true, false}, "Warn": {false, true}, "Ignore": {false, false}, "": {false, true}} {
			seen.texts = nil
			req := client.CoreV1().RESTClient().Post().AbsPath(x.path).Param("dryRun", "All").Body([]byte(strings.ReplaceAll(x.body, "NAME", "n"))).SetHeader("Content-Type", "application/json")
			if mode != "" {
				req = req.Param("fieldValidation", mode)
			}
			err := req.Do(t.Context()).Error()
			if wants.refused != (err != nil) || err != nil && (!apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), x.want)) {
				t.Errorf("%q of %s: %v, want %q: %v", mode, x.body, err, x.want, wants.refused)
			}
			if got := strings.Join(seen.texts, "\n"); strings.Contains(got, x.want) != wants.warned {
				t.Errorf("%q of %s warns %q, want %q: %v", mode, x.body, got, x.want, wants.warned)
			}
		}
	}
	// Types are checked whatever the mode.
	_, err := s.triggers().Create(t.Context(), object(t, strings.Replace(triggerManifest, "broker: default", "broker: 5", 1)), metav1.CreateOptions{FieldValidation: "Ignore"})
	if !apierrors.IsInvalid(err) || causes(err) != "spec.broker" {
		t.Errorf("a number for a name: %v", err)
	}
}

// TestKindAdmission: defaults and refusals of package api/admission reach the
// clients of both sorts of kinds, with the field and what would be right.
func TestKindAdmission(t *testing.T) {
	s := start(t, options(t))
	seen := &warned{}
	c := rest.CopyConfig(s.config)
	c.WarningHandler = seen
	d, err := dynamic.NewForConfig(c)
	if err != nil {
		t.Fatal(err)
	}
	brokers := d.Resource(brokerResource).Namespace("default")
	b, err := brokers.Create(t.Context(), object(t, `{apiVersion: eventing.knative.dev/v1, kind: Broker, metadata: {name: b, annotations: {eventing.knative.dev/broker.class: MTChannelBasedBroker}}}`), metav1.CreateOptions{})
	if err != nil || text(t, b, "spec", "delivery", "retry") != "10" {
		t.Fatalf("the default: %v, %v", b, err)
	}
	if got := strings.Join(seen.texts, "\n"); !strings.Contains(got, "class MTChannelBasedBroker is served as class Leat") {
		t.Errorf("warned of %q", got)
	}
	b.SetAnnotations(map[string]string{"eventing.knative.dev/broker.class": "Kafka", "leat.dev/none": "x"})
	if _, err := brokers.Update(t.Context(), b, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) ||
		causes(err) != "metadata.annotations[leat.dev/none] metadata.annotations[eventing.knative.dev/broker.class]" || !strings.Contains(err.Error(), "cannot be changed") {
		t.Errorf("a change of the class: %v, fields %s", err, causes(err))
	}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s", Annotations: map[string]string{"leat.dev/url": "orders:80"}}, Spec: corev1.ServiceSpec{ClusterIP: "None"}}
	if _, err := s.client().CoreV1().Services("default").Create(t.Context(), svc, metav1.CreateOptions{}); !apierrors.IsInvalid(err) || causes(err) != "metadata.annotations[leat.dev/url]" {
		t.Errorf("a malformed address of a Service: %v", err)
	}
	_, err = s.resource("eventing.knative.dev", "v1", "triggers").Create(t.Context(), object(t, `{apiVersion: eventing.knative.dev/v1, kind: Trigger, metadata: {name: t}, spec: {broker: b}}`), metav1.CreateOptions{})
	if !apierrors.IsInvalid(err) || causes(err) != "spec.subscriber" || !strings.Contains(err.Error(), "needs a ref to an object with an address, or an absolute uri") {
		t.Errorf("a Trigger without a subscriber: %v", err)
	}
}

// TestCoreKindsAreValidated names the fields that are wrong.
func TestCoreKindsAreValidated(t *testing.T) {
	s := start(t, options(t))
	for _, c := range []struct{ name, version, plural, manifest, want string }{
		{"name", "v1", "configmaps", `{kind: ConfigMap, metadata: {name: A_b}}`, "metadata.name"},
		{"generated name", "v1", "configmaps", `{kind: ConfigMap, metadata: {}}`, "metadata.name"},
		{"label", "v1", "configmaps", `{kind: ConfigMap, metadata: {name: a, labels: {"a b": x, c: "-"}}}`, "metadata.labels metadata.labels"},
		{"annotation", "v1", "secrets", `{kind: Secret, metadata: {name: a, annotations: {"a/b/c": x}}}`, "metadata.annotations"},
		{"key of a ConfigMap", "v1", "configmaps", `{kind: ConfigMap, metadata: {name: a}, data: {"x/y": z, w: a}, binaryData: {w: YQ==}}`, "data[w] data[x/y]"},
		{"key of a Secret", "v1", "secrets", `{kind: Secret, metadata: {name: a}, stringData: {"x/y": z}}`, "data[x/y]"},
		{"a TLS Secret", "v1", "secrets", `{kind: Secret, metadata: {name: a}, type: kubernetes.io/tls, stringData: {tls.crt: x}}`, "data[tls.key]"},
		{"a registry's Secret", "v1", "secrets", `{kind: Secret, metadata: {name: a}, type: kubernetes.io/dockerconfigjson, stringData: {.dockerconfigjson: "{"}}`, "data[.dockerconfigjson]"},
		{"a ServiceAccount", "v1", "serviceaccounts", `{kind: ServiceAccount, metadata: {name: A}}`, "metadata.name"},
		{"a Service without ports", "v1", "services", `{kind: Service, metadata: {name: a}}`, "spec.ports"},
		{"a Service's name", "v1", "services", `{kind: Service, metadata: {name: 1a}, spec: {ports: [{port: 1}]}}`, "metadata.name"},
		{"a Service", "v1", "services", `{kind: Service, metadata: {name: a}, spec: {type: None, clusterIP: x, sessionAffinity: odd, externalIPs: [z], selector: {"a b": c}, ports: [{port: 0}, {name: p, port: 70000, protocol: X}]}}`,
			"spec.type spec.clusterIP spec.externalIPs[0] spec.sessionAffinity spec.selector spec.ports[0].name spec.ports[0].port spec.ports[0].targetPort spec.ports[1].protocol spec.ports[1].port spec.ports[1].targetPort"},
		{"an ExternalName", "v1", "services", `{kind: Service, metadata: {name: a}, spec: {type: ExternalName, externalName: "a b"}}`, "spec.externalName"},
		{"an Event elsewhere", "v1", "events", `{kind: Event, metadata: {name: a}, involvedObject: {namespace: other}, type: Odd}`, "involvedObject.namespace type"},
	} {
		u := object(t, c.manifest)
		u.SetAPIVersion(c.version)
		_, err := s.resource("", c.version, c.plural).Create(t.Context(), u, metav1.CreateOptions{})
		if !apierrors.IsInvalid(err) || unordered(causes(err)) != unordered(c.want) {
			t.Errorf("%s: %v: fields %q, want %q", c.name, err, causes(err), c.want)
		}
	}
	lease := object(t, `{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: a}, spec: {leaseDurationSeconds: 0, leaseTransitions: -1}}`)
	if _, err := s.resource("coordination.k8s.io", "v1", "leases").Create(t.Context(), lease, metav1.CreateOptions{}); !apierrors.IsInvalid(err) || causes(err) != "spec.leaseDurationSeconds spec.leaseTransitions" {
		t.Errorf("a Lease: %v", err)
	}
	for _, name := range []string{"A", "a.b", strings.Repeat("a", 64)} {
		if _, err := s.client().CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); !apierrors.IsInvalid(err) || !strings.HasPrefix(causes(err), "metadata.name") {
			t.Errorf("namespace %q: %v", name, err)
		}
	}
	if _, err := s.client().CoreV1().ConfigMaps("none").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.CreateOptions{}); !apierrors.IsNotFound(err) || !strings.Contains(err.Error(), `namespaces "none"`) {
		t.Errorf("in no namespace: %v", err)
	}
}

// TestImmutableFields: what cannot change is refused by name.
func TestImmutableFields(t *testing.T) {
	s := start(t, options(t))
	yes := true
	configs, secrets := s.client().CoreV1().ConfigMaps("default"), s.client().CoreV1().Secrets("default")
	c, err := configs.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Data: map[string]string{"a": "1"}, Immutable: &yes}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	changed := c.DeepCopy()
	changed.Data, changed.BinaryData, changed.Immutable = map[string]string{"a": "2"}, map[string][]byte{"b": nil}, nil
	if _, err := configs.Update(t.Context(), changed, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) || unordered(causes(err)) != unordered("immutable data binaryData") {
		t.Errorf("an immutable ConfigMap: %v", err)
	}
	c.Labels = map[string]string{"a": "b"}
	if c, err = configs.Update(t.Context(), c, metav1.UpdateOptions{}); err != nil {
		t.Errorf("a label of an immutable ConfigMap: %v", err)
	}
	renamed := c.DeepCopy()
	renamed.UID = "other"
	if _, err := configs.Update(t.Context(), renamed, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("another UID: %v", err)
	}
	secret, err := secrets.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, StringData: map[string]string{"a": "1"}, Immutable: &yes}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	secret.StringData, secret.Type = map[string]string{"a": "2"}, corev1.SecretTypeBasicAuth
	if _, err := secrets.Update(t.Context(), secret, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(causes(err), "type") || !strings.Contains(causes(err), "data") {
		t.Errorf("an immutable Secret: %v", err)
	}
}

// TestTooLarge: the answer says so, and that it is the client's to change.
func TestTooLarge(t *testing.T) {
	o := options(t)
	o.MaxRequestBytes = 1 << 20
	s := start(t, o)
	big := func(n int) *unstructured.Unstructured {
		u := object(t, triggerManifest)
		u.SetAnnotations(map[string]string{"x": strings.Repeat("x", 200<<10)})
		u.Object["spec"].(map[string]any)["filter"] = map[string]any{"attributes": map[string]any{"type": strings.Repeat("x", n)}}
		return u
	}
	for what, n := range map[string]int{"a value that is too large to be stored": 830 << 10, "a body over the limit": 2 << 20} {
		_, err := s.triggers().Create(t.Context(), big(n), metav1.CreateOptions{})
		if status, ok := err.(apierrors.APIStatus); !ok || status.Status().Code != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %v, want 413", what, err)
		}
	}
	config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c"}, BinaryData: map[string][]byte{"a": make([]byte, 760<<10)}}
	if _, err := s.client().CoreV1().ConfigMaps("default").Create(t.Context(), config, metav1.CreateOptions{}); err == nil || apierrors.ReasonForError(err) != metav1.StatusReasonRequestEntityTooLarge {
		t.Errorf("a ConfigMap that is too large to be stored: %v", err)
	}
	if _, err := s.triggers().Create(t.Context(), big(500<<10), metav1.CreateOptions{}); err != nil {
		t.Errorf("within the limits: %v", err)
	}
}

// TestDryRun: everything is checked and shown, and nothing is written.
func TestDryRun(t *testing.T) {
	o := options(t)
	s := start(t, o)
	triggers, configs, namespaces := s.triggers(), s.client().CoreV1().ConfigMaps("default"), s.client().CoreV1().Namespaces()
	u, err := triggers.Create(t.Context(), object(t, triggerManifest), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := configs.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := namespaces.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	event := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "e"}, InvolvedObject: corev1.ObjectReference{Namespace: "n"}}
	if _, err := s.client().CoreV1().Events("n").Create(t.Context(), event, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the namespace gets its ServiceAccount", func() bool { // which is a write
		_, err := s.client().CoreV1().ServiceAccounts("n").Get(t.Context(), "default", metav1.GetOptions{})
		return err == nil
	})
	before := o.KV.Rev()
	dry := []string{metav1.DryRunAll}
	u.SetLabels(map[string]string{"a": "b"})
	if got, err := triggers.Update(t.Context(), u, metav1.UpdateOptions{DryRun: dry}); err != nil || got.GetLabels()["a"] != "b" {
		t.Errorf("update: %v, %v", got, err)
	}
	c.Data = map[string]string{"a": "b"}
	if got, err := configs.Update(t.Context(), c, metav1.UpdateOptions{DryRun: dry}); err != nil || got.Data["a"] != "b" {
		t.Errorf("update of a core kind: %v, %v", got, err)
	}
	other := object(t, triggerManifest)
	other.SetName("t2")
	if got, err := triggers.Create(t.Context(), other, metav1.CreateOptions{DryRun: dry}); err != nil || got.GetLabels()["eventing.knative.dev/broker"] != "default" || got.GetUID() == "" {
		t.Errorf("create: %v, %v", got, err)
	}
	if _, err := triggers.Create(t.Context(), object(t, triggerManifest), metav1.CreateOptions{DryRun: dry}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("create of what is there: %v", err)
	}
	if _, err := triggers.Apply(t.Context(), "t3", func() *unstructured.Unstructured { o := object(t, triggerManifest); o.SetName("t3"); return o }(), metav1.ApplyOptions{FieldManager: "a", DryRun: dry}); err != nil {
		t.Errorf("apply: %v", err)
	}
	for what, err := range map[string]error{
		"delete":                triggers.Delete(t.Context(), "t1", metav1.DeleteOptions{DryRun: dry}),
		"delete of a core kind": configs.Delete(t.Context(), "c", metav1.DeleteOptions{DryRun: dry}),
		"delete of a namespace": namespaces.Delete(t.Context(), "n", metav1.DeleteOptions{DryRun: dry}),
		"deletecollection":      triggers.DeleteCollection(t.Context(), metav1.DeleteOptions{DryRun: dry}, metav1.ListOptions{}),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if after := o.KV.Rev(); after != before {
		t.Errorf("%d writes were made", after-before)
	}
}
