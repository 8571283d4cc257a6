package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// systemEvent is an event of the system broker.
type systemEvent struct {
	ID      string          `json:"id"`
	Type    string          `json:"type"`
	Subject string          `json:"subject"`
	Kind    string          `json:"kind"`
	Name    string          `json:"name"`
	Data    json.RawMessage `json:"data"`
}

// systemEvents is what the system broker has.
func (s *server) systemEvents(t *testing.T) []systemEvent {
	t.Helper()
	out, stderr, status := leat(t, s.env(), "", "tail", "default", "-n", "leat-system", "--since", "beginning", "--no-follow", "-o", "json")
	if status != 0 {
		t.Fatalf("tail: %s", stderr)
	}
	var all []systemEvent
	for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
		var line struct{ Event systemEvent }
		if err := d.Decode(&line); err != nil {
			t.Fatal(err)
		}
		all = append(all, line.Event)
	}
	return all
}

func configMaps(c dynamic.Interface) dynamic.ResourceInterface {
	return c.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace("default")
}

// writes are those that the API acknowledged: ids of events, and names whose
// deletion was.
type writes struct {
	mu      sync.Mutex
	ids     []string
	deleted []string
}

// write makes, changes and deletes objects until the server goes away.
func (w *writes) write(t *testing.T, c dynamic.ResourceInterface, prefix string, stop <-chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "data": map[string]any{"n": "0"}}}
		u.SetName(fmt.Sprintf("%s-%d", prefix, i))
		made, err := c.Create(t.Context(), u, metav1.CreateOptions{})
		if err != nil {
			return
		}
		w.acknowledged(made)
		if err := unstructured.SetNestedField(made.Object, "1", "data", "n"); err != nil {
			t.Error(err)
		}
		changed, err := c.Update(t.Context(), made, metav1.UpdateOptions{})
		if err != nil {
			return
		}
		w.acknowledged(changed)
		if i%2 == 0 {
			if err := c.Delete(t.Context(), u.GetName(), metav1.DeleteOptions{}); err != nil {
				return
			}
			w.mu.Lock()
			w.deleted = append(w.deleted, u.GetName())
			w.mu.Unlock()
		}
	}
}

func (w *writes) acknowledged(u *unstructured.Unstructured) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ids = append(w.ids, string(u.GetUID())+"/"+u.GetResourceVersion())
}

// TestEachWriteIsOnTheSystemBrokerOnce: the server is killed while it takes
// writes to the API. Each that was acknowledged appears once, none twice, and
// there is no gap.
func TestEachWriteIsOnTheSystemBrokerOnce(t *testing.T) {
	rounds := 8
	if testing.Short() {
		rounds = 2
	}
	s := startServer(t)
	var acked writes
	for round := range rounds {
		client := configMaps(s.client())
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for n := range 4 {
			wg.Go(func() { acked.write(t, client, fmt.Sprintf("r%d-w%d", round, n), stop) })
		}
		<-time.After(time.Duration(50+rand.IntN(200)) * time.Millisecond) // in mid-flow, at a point that nobody chose
		s.kill()
		close(stop)
		wg.Wait()
		s.start()
	}
	last := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap"}}
	last.SetName("last")
	if _, err := configMaps(s.client()).Create(t.Context(), last, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var events []systemEvent
	eventually(t, 30*time.Second, "the last write appears", func() bool {
		events = s.systemEvents(t)
		return slices.ContainsFunc(events, func(e systemEvent) bool { return e.Name == "last" })
	})
	times, deletions := map[string]int{}, map[string]int{}
	for _, e := range events {
		times[e.ID]++
		if e.Type == "dev.leat.apiserver.gap" {
			t.Errorf("a gap: %s", e.Data)
		}
		if e.Kind == "ConfigMap" && e.Type == "dev.knative.apiserver.resource.delete" {
			deletions[e.Name]++
		}
	}
	for id, n := range times {
		if n != 1 {
			t.Errorf("event %s is there %d times", id, n)
		}
	}
	for _, id := range acked.ids {
		if times[id] != 1 {
			t.Errorf("the acknowledged write %s is there %d times", id, times[id])
		}
	}
	for _, name := range acked.deleted {
		if deletions[name] != 1 {
			t.Errorf("the acknowledged deletion of %s is there %d times", name, deletions[name])
		}
	}
	t.Logf("%d rounds, %d writes acknowledged, %d deletions, %d events", rounds, len(acked.ids), len(acked.deleted), len(events))
}

// TestLargeObjectsOnTheSystemBroker are told by reference.
func TestLargeObjectsOnTheSystemBroker(t *testing.T) {
	s := startServer(t, "--system-max-data-bytes", "300")
	s.apply(broker)
	var large bool
	eventually(t, 10*time.Second, "a definition is told by reference", func() bool {
		for _, e := range s.systemEvents(t) {
			large = large || e.Kind == "CustomResourceDefinition" && e.Type == "dev.knative.apiserver.ref.add"
		}
		return large
	})
}

func TestSystemBrokerStays(t *testing.T) {
	s := startServer(t)
	c := s.client()
	brokers := c.Resource(schema.GroupVersionResource{Group: "eventing.knative.dev", Version: "v1", Resource: "brokers"}).Namespace("leat-system")
	err := brokers.Delete(t.Context(), "default", metav1.DeleteOptions{})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "system broker") {
		t.Errorf("delete: %v", err)
	}
	err = c.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Delete(t.Context(), "leat-system", metav1.DeleteOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("delete the namespace: %v", err)
	}
	// What its owner sets on it stays over a restart, and its events do.
	retention := []byte(`{"metadata":{"annotations":{"leat.dev/retention":"P30D"}}}`)
	if _, err := brokers.Patch(t.Context(), "default", types.MergePatchType, retention, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	before := s.systemEvents(t)
	if status := s.stop(); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	s.start()
	b, err := s.client().Resource(schema.GroupVersionResource{Group: "eventing.knative.dev", Version: "v1", Resource: "brokers"}).Namespace("leat-system").Get(t.Context(), "default", metav1.GetOptions{})
	if err != nil || b.GetAnnotations()["leat.dev/retention"] != "P30D" {
		t.Errorf("after a restart: %v %v", b, err)
	}
	if after := s.systemEvents(t); len(after) < len(before) || after[0].ID != before[0].ID {
		t.Errorf("%d events, %d before", len(after), len(before))
	}
}

// TestNoCredentialReachesTheSystemBroker: neither its events nor its segments
// hold one, nor a Secret's content.
func TestNoCredentialReachesTheSystemBroker(t *testing.T) {
	const word = "correct-horse-battery"
	s := startServer(t)
	c := s.client()
	for _, manifest := range []string{
		"apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: " + word + "}",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {url: \"postgres://u:" + word + "@h/db\", password: " + word + "}",
		"apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: t, annotations: {kubectl.kubernetes.io/last-applied-configuration: '{\"uri\":\"http://u:" + word +
			"@127.0.0.1:1/\"}'}}\nspec: {broker: none, subscriber: {uri: \"http://u:" + word + "@127.0.0.1:1/\"}}",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: last}",
	} {
		u := parse(t, manifest)[0]
		if _, err := resource(c, u).Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]string{}
	eventually(t, 10*time.Second, "the writes appear", func() bool {
		for _, e := range s.systemEvents(t) {
			seen[e.Kind+" "+e.Name] = e.Type
		}
		return seen["ConfigMap last"] != ""
	})
	if seen["Secret s"] != "dev.knative.apiserver.ref.add" || seen["ConfigMap c"] != "dev.knative.apiserver.resource.add" {
		t.Errorf("events: %v", seen)
	}
	s.stop()
	err := filepath.WalkDir(filepath.Join(s.dir, "groups", "s0"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, form := range []string{word, base64.StdEncoding.EncodeToString([]byte(word))} {
			if bytes.Contains(b, []byte(form)) {
				t.Errorf("%s holds %s", path, form)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestTriggersOnTheSystemBroker: in its namespace and in another, they get what
// they ask for; one that gets everything, and fails, does not feed itself.
func TestTriggersOnTheSystemBroker(t *testing.T) {
	s := startServer(t)
	c := s.client()
	ok := func(string) int { return http.StatusOK }
	near, far := subscriber(t, ok), subscriber(t, ok)
	failing := subscriber(t, func(string) int { return http.StatusServiceUnavailable })
	triggers := func(namespace string) dynamic.ResourceInterface {
		return c.Resource(schema.GroupVersionResource{Group: "eventing.knative.dev", Version: "v1", Resource: "triggers"}).Namespace(namespace)
	}
	for namespace, manifests := range map[string][]string{
		"leat-system": {
			"metadata: {name: near}\nspec: {broker: default, filters: [{exact: {type: dev.knative.apiserver.resource.add, kind: ConfigMap}}], subscriber: {uri: \"" + near.URL + "\"}}",
			"metadata: {name: failing, annotations: {leat.dev/max-waiting: \"1\", leat.dev/max-in-flight: \"1\"}}\nspec: {broker: default, delivery: {retry: 1000, backoffPolicy: linear, backoffDelay: PT30S}, subscriber: {uri: \"" + failing.URL + "\"}}",
		},
		"default": {
			"metadata: {name: far}\nspec: {brokerRef: {apiVersion: eventing.knative.dev/v1, kind: Broker, namespace: leat-system, name: default}, filters: [{expr: \"kind == 'ConfigMap' && data.data.n == '1'\"}], subscriber: {uri: \"" + far.URL + "\"}}",
		},
	} {
		for _, manifest := range manifests {
			u := parse(t, "apiVersion: eventing.knative.dev/v1\nkind: Trigger\n"+manifest)[0]
			if _, err := triggers(namespace).Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			eventually(t, 10*time.Second, u.GetName()+" is ready", func() bool {
				got, err := triggers(namespace).Get(t.Context(), u.GetName(), metav1.GetOptions{})
				return err == nil && strings.Contains(fmt.Sprint(got.Object["status"]), "status:True type:Ready")
			})
		}
	}
	want := map[string]bool{}
	for i := range 10 {
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "data": map[string]any{"n": "1"}}}
		u.SetName(fmt.Sprint("c", i))
		made, err := configMaps(c).Create(t.Context(), u, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want[string(made.GetUID())+"/"+made.GetResourceVersion()] = true
	}
	for name, r := range map[string]*received{"near": near, "far": far} {
		eventually(t, 10*time.Second, "the writes reach "+name, func() bool { return len(r.missing(want)) == 0 })
	}
	var paused []systemEvent
	eventually(t, 30*time.Second, "the failing one is shown as paused", func() bool {
		paused = paused[:0]
		for _, e := range s.systemEvents(t) {
			if e.Name == "failing" && strings.Contains(string(e.Data), `"Delivering"`) {
				paused = append(paused, e)
			}
		}
		return len(paused) > 0
	})
	if n := len(s.systemEvents(t)); n > 100 {
		t.Errorf("%d events: does it feed itself?", n)
	}
}
