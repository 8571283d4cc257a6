package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// put applies objects and does not wait for them.
func (s *server) put(manifest string) {
	s.t.Helper()
	for _, u := range parse(s.t, manifest) {
		if _, err := resource(s.client(), u).Apply(s.t.Context(), u.GetName(), u, metav1.ApplyOptions{FieldManager: "e2e", Force: true}); err != nil {
			s.t.Fatalf("apply %s %s: %v", u.GetKind(), u.GetName(), err)
		}
	}
}

func (s *server) delete(manifest string) {
	s.t.Helper()
	for _, u := range parse(s.t, manifest) {
		if err := resource(s.client(), u).Delete(s.t.Context(), u.GetName(), metav1.DeleteOptions{}); err != nil {
			s.t.Fatalf("delete %s %s: %v", u.GetKind(), u.GetName(), err)
		}
	}
}

// summary is why an object is not ready, as "REASON message", or where a Trigger
// or Subscription that is ready delivers to. It is empty before the server has
// looked at the object's present generation.
func (s *server) summary(u *unstructured.Unstructured) string {
	got, err := resource(s.client(), u).Get(s.t.Context(), u.GetName(), metav1.GetOptions{})
	if err != nil {
		return err.Error()
	}
	if seen, _, err := unstructured.NestedInt64(got.Object, "status", "observedGeneration"); err != nil || seen != got.GetGeneration() {
		return ""
	}
	conditions, _, err := unstructured.NestedSlice(got.Object, "status", "conditions")
	if err != nil {
		return err.Error()
	}
	for _, c := range conditions {
		c, ok := c.(map[string]any)
		if !ok || c["type"] != "Ready" {
			continue
		}
		if c["status"] != "True" {
			return fmt.Sprintf("%v %v", c["reason"], c["message"])
		}
		for _, path := range [][]string{{"subscriberUri"}, {"physicalSubscription", "subscriberUri"}, {"address", "url"}} {
			if v, ok, err := unstructured.NestedString(got.Object, append([]string{"status"}, path...)...); ok && err == nil {
				return v
			}
		}
		return "ready"
	}
	return ""
}

// becomes waits until an object's summary is want.
func (s *server) becomes(manifest, want string) {
	s.t.Helper()
	u := parse(s.t, manifest)[0]
	deadline := time.Now().Add(20 * time.Second)
	got := ""
	for ; time.Now().Before(deadline); <-time.After(5 * time.Millisecond) {
		if got = s.summary(u); got == want {
			return
		}
	}
	s.t.Fatalf("%s %s: %q, want %q", u.GetKind(), u.GetName(), got, want)
}

// subscribed waits until the log knows a Trigger, be its subscriber there or not.
func (s *server) subscribed(manifest string) {
	s.t.Helper()
	u := parse(s.t, manifest)[0]
	eventually(s.t, 20*time.Second, "the log knows "+u.GetName(), func() bool { return s.condition(u, "SubscriptionReady") == "True" })
}

// sink is a subscriber in the test's own process.
type sink struct {
	*httptest.Server
	got chan string // path and id of each event
}

func newSink(t *testing.T) *sink {
	s := &sink{got: make(chan string, 100)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // the sender's loss
		s.got <- r.URL.RequestURI() + " " + r.Header.Get("Ce-Id")
	}))
	t.Cleanup(s.Close)
	return s
}

func (k *sink) expect(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-k.got:
		if got != want {
			t.Errorf("the subscriber got %q, want %q", got, want)
		}
	case <-time.After(20 * time.Second):
		t.Errorf("the subscriber did not get %q within 20 s", want)
	}
}

func (s *server) send(path, id string) {
	s.t.Helper()
	if status, body, err := post(s.t.Context(), s.url(path), id, "x", nil, "{}"); err != nil || status != http.StatusAccepted {
		s.t.Fatalf("send %s: %d %s %v", id, status, body, err)
	}
}

func triggerTo(destination string) string {
	return "apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: t}\nspec: {broker: default, subscriber: {" + destination + "}}"
}

// TestSubscriberThatIsMissing: the status says what is missing; the events that
// come meanwhile wait, and reach the subscriber once it is there.
func TestSubscriberThatIsMissing(t *testing.T) {
	s := startServer(t)
	k := newSink(t)
	const orders = "apiVersion: v1\nkind: Service\nmetadata: {name: orders"
	trigger := triggerTo("ref: {apiVersion: v1, kind: Service, name: orders}, uri: 'in?x=1'")
	s.put(trigger)
	s.becomes(trigger, "BrokerNotFound Broker default/default not found: create it, or delete this Trigger and name another")
	s.put(broker)
	s.becomes(trigger, "NotFound subscriber: Service default/orders not found")
	s.becomes(broker, s.url("/default/default"))
	s.subscribed(trigger) // from here on it is the log's to keep what comes
	s.send("/default/default", "early")

	s.put(orders + "}\nspec: {ports: [{port: 80}]}")
	s.becomes(trigger, "NoAddress subscriber: Service default/orders has no address: set its annotation leat.dev/url, or make it of type ExternalName")
	s.put(orders + ", annotations: {leat.dev/url: '" + k.URL + "/base/'}}\nspec: {ports: [{port: 80}]}")
	s.becomes(trigger, k.URL+"/base/in?x=1")
	k.expect(t, "/base/in?x=1 early")
	s.send("/default/default", "late")
	k.expect(t, "/base/in?x=1 late")

	s.delete(orders + "}")
	s.becomes(trigger, "NotFound subscriber: Service default/orders not found")
	s.delete(broker)
	s.becomes(trigger, "BrokerNotFound Broker default/default not found: create it, or delete this Trigger and name another")
	s.put(broker)
	s.put(orders + ", annotations: {leat.dev/url: '" + k.URL + "'}}\nspec: {ports: [{port: 80}]}")
	s.becomes(trigger, k.URL+"/in?x=1")
	s.send("/default/default", "anew")
	k.expect(t, "/in?x=1 anew")
}

// TestSubscribersByReference: each kind of reference, and a relative URI.
func TestSubscribersByReference(t *testing.T) {
	s := startServer(t)
	k := newSink(t)
	u, err := url.Parse(k.URL)
	if err != nil {
		t.Fatal(err)
	}
	s.apply(broker + `
---
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: second}
---
apiVersion: messaging.knative.dev/v1
kind: Channel
metadata: {name: c}
---
apiVersion: v1
kind: Service
metadata: {name: ext}
spec: {type: ExternalName, externalName: localhost, ports: [{port: ` + u.Port() + `}]}
---
apiVersion: messaging.knative.dev/v1
kind: Subscription
metadata: {name: s}
spec: {channel: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: c}, subscriber: {ref: {apiVersion: v1, kind: Service, name: ext}, uri: from-channel}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: of-second}
spec: {broker: second, subscriber: {uri: "` + k.URL + `/from-second"}}`)
	for i, c := range []struct{ destination, address, got string }{
		{"ref: {apiVersion: v1, kind: Service, name: ext}, uri: /path", "http://localhost:" + u.Port() + "/path", "/path"},
		{"ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: second}", s.url("/default/second"), "/from-second"},
		{"ref: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: c}", s.url("/channels/default/c"), "/from-channel"},
		{"ref: {apiVersion: messaging.knative.dev/v1, kind: Subscription, name: s}", s.url("/channels/default/c"), "/from-channel"},
		{"uri: '" + k.URL + "/direct'", k.URL + "/direct", "/direct"},
	} {
		id := fmt.Sprint("e", i)
		s.put(triggerTo(c.destination))
		s.becomes(triggerTo(c.destination), c.address)
		s.send("/default/default", id)
		k.expect(t, c.got+" "+id)
	}
	// References that are in vain say so.
	for destination, want := range map[string]string{
		"ref: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: none}": "NotFound subscriber: Channel default/none not found",
		"ref: {apiVersion: eventing.knative.dev/v1, kind: Trigger, name: t}":     "NoAddress subscriber: a Trigger has no address that takes events: refer to another object, or use uri",
		"ref: {apiVersion: v1, kind: ConfigMap, name: none}":                     "NotFound subscriber: ConfigMap default/none not found",
	} {
		s.put(triggerTo(destination))
		s.becomes(triggerTo(destination), want)
	}
}

// TestSubscriptionOfWhatIsMissing becomes ready when its channel and its
// reply's broker appear.
func TestSubscriptionOfWhatIsMissing(t *testing.T) {
	s := startServer(t)
	k := newSink(t)
	const channel = "apiVersion: messaging.knative.dev/v1\nkind: InMemoryChannel\nmetadata: {name: c}"
	subscription := `
apiVersion: messaging.knative.dev/v1
kind: Subscription
metadata: {name: s}
spec:
  channel: {apiVersion: messaging.knative.dev/v1, kind: InMemoryChannel, name: c}
  subscriber: {uri: "` + k.URL + `/s"}
  reply: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}`
	s.put(subscription)
	s.becomes(subscription, "ChannelNotFound InMemoryChannel default/c not found: create it, or delete this Subscription and name another")
	s.put(channel)
	s.becomes(subscription, "NotFound reply: Broker default/default not found")
	s.put(broker)
	s.becomes(subscription, k.URL+"/s")
	s.send("/channels/default/c", "one")
	k.expect(t, "/s one")
	other := strings.Replace(channel, "InMemoryChannel", "Channel", 1)
	s.put(other)
	s.becomes(other, "NameTaken the InMemoryChannel default/c has the address that this one would have: delete one of them, or choose another name")
}

// TestRefusals: what cannot work is refused when it is applied, with the
// field's path and what would be right.
func TestRefusals(t *testing.T) {
	s := startServer(t)
	filters := func(f string) string {
		return triggerTo("uri: 'http://x/'")[:len(triggerTo("uri: 'http://x/'"))-1] + ", filters: [" + f + "]}"
	}
	for what, c := range map[string]struct{ manifest, want string }{
		"no boolean":      {filters("{cesql: '1 + 1'}"), "spec.filters[0].cesql: Invalid value: \"1 + 1\\n^\": line 1, column 1: the expression is of type Integer: a filter must be Boolean"},
		"no expression":   {filters("{exact: {type: x}}, {all: [{cesql: 'type ='}]}"), "spec.filters[1].all[0].cesql"},
		"no expr":         {filters("{expr: 'type =='}"), "spec.filters[0].expr"},
		"no boolean expr": {filters("{expr: '1 + 1'}"), "spec.filters[0].expr"},
		"two dialects":    {filters("{exact: {type: x}, prefix: {type: z}}"), "spec.filters[0]: Forbidden: has exact and prefix: a filter has one dialect"},
		"unknown dialect": {filters("{jsonata: x}"), "spec.filters[0].jsonata: Forbidden: unknown dialect: use one of exact, prefix"},
		"an empty value":  {filters("{exact: {type: ''}}"), "spec.filters[0].exact[type]: Required value"},
		"an annotation":   {strings.Replace(triggerTo("uri: 'http://x/'"), "name: t", "name: t, annotations: {leat.dev/max-in-flight: lots}", 1), "metadata.annotations[leat.dev/max-in-flight]: Invalid value: \"lots\": must be a whole number from 1 to"},
		"a class":         {strings.Replace(broker, "name: default", "name: default, annotations: {eventing.knative.dev/broker.class: Rabbit}", 1), `metadata.annotations[eventing.knative.dev/broker.class]: Unsupported value: "Rabbit": supported values: "Leat", "MTChannelBasedBroker", "Kafka"`},
		"a delay":         {broker + "\nspec: {delivery: {backoffDelay: 5s}}", `spec.delivery.backoffDelay: Invalid value: "5s": "5s" is not an ISO 8601 duration`},
		"no subscriber":   {"apiVersion: messaging.knative.dev/v1\nkind: Subscription\nmetadata: {name: s}\nspec: {channel: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: c}}", "spec.subscriber: Required value"},
	} {
		if err := s.tryApply(c.manifest); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", what, err, c.want)
		}
	}
}

// TestSubscribableLabel: channels, and nothing else, tell clients that they can
// be subscribed to.
func TestSubscribableLabel(t *testing.T) {
	s := startServer(t)
	definitions := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	list, err := s.client().Resource(definitions).List(t.Context(), metav1.ListOptions{LabelSelector: "messaging.knative.dev/subscribable=true"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range list.Items {
		names = append(names, d.GetName())
	}
	if got := strings.Join(names, " "); got != "channels.messaging.knative.dev inmemorychannels.messaging.knative.dev" {
		t.Errorf("subscribable are %s", got)
	}
}
