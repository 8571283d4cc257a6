package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const counted = broker + `
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: text}
spec:
  broker: default
  filters: [{exact: {type: order}}]
  subscriber: {uri: "http://%[1]s/text"}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: failing}
spec:
  broker: default
  filters: [{exact: {type: order}}]
  subscriber: {uri: "http://%[1]s/failing"}
  delivery: {retry: 1, backoffDelay: PT0.01S}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: confused}
spec:
  broker: default
  filters: [{expr: "data.total > 100"}]
  subscriber: {uri: "http://%[1]s/text"}`

const denied = `apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: denied}
spec:
  broker: default
  filters: [{exact: {type: order}}]
  subscriber: {uri: "http://169.254.169.254/"}`

// TestWhatIsCounted: a scrape of a real server tells what became of an event,
// for each of its triggers, and tells of a trigger for as long as there is one.
func TestWhatIsCounted(t *testing.T) {
	subscriber := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/failing" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "thank you") // no event: dropped
	}))
	defer subscriber.Close()
	s := startServer(t)
	s.apply(fmt.Sprintf(counted, subscriber.Listener.Addr()))
	s.put(denied)
	eventually(t, 20*time.Second, "the log knows the trigger that is denied", func() bool {
		return s.condition(parse(t, denied)[0], "SubscriptionReady") == "True"
	})
	if status, body, err := post(t.Context(), s.url("/default/default"), "o1", "order", nil, `{"total":"many"}`); err != nil || status != 202 {
		t.Fatalf("%d %s %v", status, body, err)
	}
	if status, _, err := post(t.Context(), s.url("/default/missing"), "o1", "order", nil, `{}`); err != nil || status != 404 {
		t.Fatalf("%d %v", status, err)
	}
	of := func(name, trigger string, more ...string) string {
		labels := map[string]string{"namespace": "default", "broker": "default", "channel": "", "subscription": "", "trigger": trigger}
		return series(name, labels, more...)
	}
	var page string
	await := func(lines ...string) {
		t.Helper()
		var missing string
		for deadline := time.Now().Add(20 * time.Second); ; <-time.After(20 * time.Millisecond) {
			page, missing = scrape(t, s), ""
			for _, line := range lines {
				if !strings.Contains(page, "\n"+line+"\n") {
					missing = line
				}
			}
			if missing == "" {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("there is no %s in\n%s", missing, page)
			}
		}
	}
	await(
		of("leat_delivery_events_total", "text", "result", "delivered")+" 1",
		of("leat_delivery_replies_total", "text", "result", "dropped")+" 1",
		of("leat_delivery_events_total", "failing", "result", "kept")+" 1",
		of("leat_delivery_retries_total", "failing", "to", "subscriber")+" 1",
		of("leat_subscription_dead_letters", "failing")+" 1",
		of("leat_filter_errors_total", "confused")+" 1",
		of("leat_delivery_denied_total", "denied", "to", "subscriber")+" 1",
		of("leat_subscription_lag_events", "text")+" 0",
		`leat_ingress_requests_total{broker="default",channel="",code="202",namespace="default"} 1`,
		`leat_ingress_requests_total{broker="",channel="",code="404",namespace=""} 1`,
		`leat_matcher_filters{broker="default",channel="",namespace="default"} 4`,
	)
	problems, err := promlint.New(strings.NewReader(page)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}

	u := parse(t, strings.Split(counted, "\n---\n")[2])[0]
	if err := resource(s.client(), u).Delete(t.Context(), "failing", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "nothing tells of the trigger", func() bool { return !strings.Contains(scrape(t, s), `trigger="failing"`) })
	if !strings.Contains(scrape(t, s), `trigger="text"`) {
		t.Error("nothing tells of the other one")
	}

	config, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	b, err := kubernetes.NewForConfigOrDie(config).RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil || !strings.Contains(string(b), "apiserver_request_total") {
		t.Errorf("the API's own metrics: %v", err)
	}
}

// series is a metric with its labels, as a page has them: sorted.
func series(name string, labels map[string]string, more ...string) string {
	all := map[string]string{}
	for k, v := range labels {
		all[k] = v
	}
	for i := 0; i < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	var parts []string
	for _, k := range []string{"broker", "channel", "code", "namespace", "reason", "result", "subscription", "to", "trigger"} {
		if v, ok := all[k]; ok {
			parts = append(parts, fmt.Sprintf("%s=%q", k, v))
		}
	}
	return name + "{" + strings.Join(parts, ",") + "}"
}

func scrape(t *testing.T, s *server) string {
	t.Helper()
	resp, err := http.Get(s.url("/metrics"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	return string(b)
}
