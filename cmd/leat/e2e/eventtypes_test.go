package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func eventTypes(t *testing.T, s *server, version, namespace string) []unstructured.Unstructured {
	t.Helper()
	list, err := s.client().Resource(schema.GroupVersionResource{Group: "eventing.knative.dev", Version: version, Resource: "eventtypes"}).
		Namespace(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// TestTypesAreRecorded: from what is sent, once, also over a kill; from the
// system broker too; bounded; and not where it is turned off.
func TestTypesAreRecorded(t *testing.T) {
	s := startServer(t, "--max-event-types", "4")
	s.apply(broker)
	send := func(id, kind string) {
		t.Helper()
		if status, body, err := post(t.Context(), s.url("/default/default"), id, kind, nil, "{}"); err != nil || status != 202 {
			t.Fatalf("%d %s %v", status, body, err)
		}
	}
	show := func() string {
		var all []string
		for _, u := range eventTypes(t, s, "v1beta2", "default") {
			spec, _, _ := unstructured.NestedMap(u.Object, "spec")
			conditions := fmt.Sprint(u.Object["status"])
			all = append(all, fmt.Sprintf("%v of %v ready=%v", spec["type"], spec["source"], strings.Contains(conditions, "status:True type:Ready")))
		}
		return strings.Join(all, ", ")
	}
	for i := range 20 {
		send(fmt.Sprint(i), "order.placed")
		send(fmt.Sprint(i), "order.paid")
	}
	want := func(what string, all ...string) {
		t.Helper()
		eventually(t, 15*time.Second, what, func() bool {
			got := show()
			for _, w := range all {
				if !strings.Contains(got, w) {
					return false
				}
			}
			return strings.Count(got, " of ") == len(all)
		})
	}
	want("both types are recorded", "order.placed of /e2e ready=true", "order.paid of /e2e ready=true")
	s.kill()
	s.start()
	before := eventTypes(t, s, "v1beta3", "default")
	for i := range 10 {
		send(fmt.Sprint("again", i), "order.placed")
		send(fmt.Sprint("again", i), "order.paid")
		send(fmt.Sprint("more", i), fmt.Sprint("more", i))
	}
	eventually(t, 15*time.Second, "the bound is reached", func() bool { return len(eventTypes(t, s, "v1beta3", "default")) == 4 })
	for _, u := range eventTypes(t, s, "v1beta3", "default") {
		for _, b := range before {
			if u.GetName() == b.GetName() && u.GetUID() != b.GetUID() {
				t.Errorf("%s was made anew", u.GetName())
			}
		}
	}
	eventually(t, 15*time.Second, "the system broker's are recorded", func() bool {
		for _, u := range eventTypes(t, s, "v1beta2", "leat-system") {
			if kind, _, _ := unstructured.NestedString(u.Object, "spec", "type"); kind == "dev.knative.apiserver.resource.add" {
				return true
			}
		}
		return false
	})
	// They go with their broker.
	if err := s.client().Resource(schema.GroupVersionResource{Group: "eventing.knative.dev", Version: "v1", Resource: "brokers"}).
		Namespace("default").Delete(t.Context(), "default", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	want("none is left")
}

func TestRecordingCanBeTurnedOff(t *testing.T) {
	s := startServer(t, "--record-event-types=false")
	s.apply(broker)
	if status, body, err := post(t.Context(), s.url("/default/default"), "1", "x", nil, "{}"); err != nil || status != 202 {
		t.Fatalf("%d %s %v", status, body, err)
	}
	// What it would have written before this appears before it on the system broker.
	s.apply("apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: last}")
	eventually(t, 10*time.Second, "the last write appears", func() bool {
		for _, e := range s.systemEvents(t) {
			if e.Kind == "EventType" {
				t.Fatalf("recorded: %s", e.Data)
			}
			if e.Name == "last" {
				return true
			}
		}
		return false
	})
}

// TestKnEventTypes: kn itself, where it is installed; what it asks of the API
// is tested beside the API.
func TestKnEventTypes(t *testing.T) {
	kn, err := exec.LookPath("kn")
	if err != nil {
		t.Skip("kn is not installed here")
	}
	s := startServer(t)
	s.apply(broker)
	for _, c := range []struct{ args, want string }{
		{"eventtype create placed --type order.placed --source /orders --broker default", "created"},
		{"eventtype list", "order.placed"},
		{"eventtype describe placed", "/orders"},
		{"eventtype delete placed", "deleted"},
	} {
		out, err := exec.CommandContext(t.Context(), kn, append(strings.Fields(c.args), "--kubeconfig", s.Kubeconfig)...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("kn %s: %v\n%s", c.args, err, out)
		}
	}
}
