package e2e

import (
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector is an OpenTelemetry collector that keeps what it is sent.
type collector struct {
	*httptest.Server

	mu      sync.Mutex
	headers http.Header
	spans   map[string]*tracepb.Span // by ID
}

func newCollector(t *testing.T) *collector {
	c := &collector{spans: map[string]*tracepb.Span{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.take(r); err != nil {
			t.Error(err)
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) take(r *http.Request) error {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			return err
		}
		body = z
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	var m collectorpb.ExportTraceServiceRequest
	if err := proto.Unmarshal(b, &m); err != nil || r.URL.Path != "/v1/traces" {
		return fmt.Errorf("%s: %w", r.URL, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.headers = r.Header
	for _, resource := range m.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			for _, s := range scope.Spans {
				c.spans[hex.EncodeToString(s.SpanId)] = s
			}
		}
	}
	return nil
}

// of are the spans of a trace, by the time they began.
func (c *collector) of(trace string) []*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*tracepb.Span
	for _, s := range c.spans {
		if hex.EncodeToString(s.TraceId) == trace {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b *tracepb.Span) int { return int(int64(a.StartTimeUnixNano) - int64(b.StartTimeUnixNano)) })
	return out
}

func attribute(s *tracepb.Span, name string) string {
	for _, a := range s.Attributes {
		if a.Key == name {
			if t := a.Value.GetStringValue(); t != "" {
				return t
			}
			return fmt.Sprint(a.Value.GetIntValue())
		}
	}
	return ""
}

// tree draws a trace: each span under its parent, with what is to be seen of it.
func tree(spans []*tracepb.Span, root string) string {
	children := map[string][]*tracepb.Span{}
	for _, s := range spans {
		p := hex.EncodeToString(s.ParentSpanId)
		children[p] = append(children[p], s)
	}
	var b strings.Builder
	var draw func(id, indent string)
	draw = func(id, indent string) {
		lines := map[string]string{}
		for _, s := range children[id] {
			line := indent + s.Name
			for _, name := range []string{"leat.subscription.name", "leat.attempt", "http.response.status_code", "cloudevents.event_id", "leat.matches"} {
				if v := attribute(s, name); v != "" {
					line += " " + name[strings.LastIndex(name, ".")+1:] + "=" + v
				}
			}
			if s.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR {
				line += " ERROR " + s.Status.Message
			}
			lines[line] = hex.EncodeToString(s.SpanId)
		}
		for _, line := range slices.Sorted(maps.Keys(lines)) {
			b.WriteString(line + "\n")
			draw(lines[line], indent+"  ")
		}
	}
	draw(root, "")
	return b.String()
}

const traced = broker + `
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: orders}
spec:
  broker: default
  filters: [{exact: {type: order}}]
  subscriber: {uri: "http://user:secret@%[1]s/orders?token=secret"}
  delivery: {retry: 3, backoffDelay: PT0.01S}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: receipts}
spec:
  broker: default
  filters: [{exact: {type: receipt}}]
  subscriber: {uri: "http://%[1]s/receipts"}
  delivery: {retry: 1, backoffDelay: PT0.01S, deadLetterSink: {uri: "http://%[1]s/dead"}}`

// TestOneTraceFromPublisherToDeadLetter: an event whose subscriber fails twice
// and then replies, and a reply that nobody takes, are one trace.
func TestOneTraceFromPublisherToDeadLetter(t *testing.T) {
	c := newCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=blue")
	s := startServer(t, "--otlp-endpoint", c.URL, "--trace-sample-ratio", "0")
	var mu sync.Mutex
	calls, seen := 0, map[string]bool{}
	subscriber := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen[strings.Split(r.Header.Get("Traceparent"), "-")[2]] = true
		switch r.URL.Path {
		case "/orders":
			if calls++; calls <= 2 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			for k, v := range map[string]string{"Specversion": "1.0", "Id": "r1", "Type": "receipt", "Source": "/shop"} {
				w.Header().Set("Ce-"+k, v)
			}
		case "/receipts":
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer subscriber.Close()
	s.apply(fmt.Sprintf(traced, subscriber.Listener.Addr()))

	const trace, publisher = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	send := func(id, trace, flags string) {
		t.Helper()
		h := map[string]string{"Traceparent": "00-" + trace + "-" + publisher + "-" + flags}
		if status, body, err := post(t.Context(), s.url("/default/default"), id, "order", h, "{}"); err != nil || status != 202 {
			t.Fatalf("%d %s %v", status, body, err)
		}
	}
	called := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		calls = n
	}
	send("o1", trace, "01")
	want := `receive status_code=202 event_id=o1
  append
  deliver name=default/orders attempt=1 status_code=503 event_id=o1 ERROR 503 Service Unavailable
  deliver name=default/orders attempt=2 status_code=503 event_id=o1 ERROR 503 Service Unavailable
  deliver name=default/orders attempt=3 status_code=200 event_id=o1
    receive event_id=r1
      append
      dead letter name=default/receipts attempt=1 status_code=200 event_id=r1
      deliver name=default/receipts attempt=1 status_code=500 event_id=r1 ERROR 500 Internal Server Error
      deliver name=default/receipts attempt=2 status_code=500 event_id=r1 ERROR 500 Internal Server Error
      match matches=1
  match matches=1
`
	eventually(t, 20*time.Second, "the whole trace is there", func() bool { return len(c.of(trace)) >= strings.Count(want, "\n") })
	if got := tree(c.of(trace), publisher); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, span := range c.of(trace) {
		if strings.Contains(span.String(), "secret") {
			t.Errorf("a secret in %s", span)
		}
		if id := hex.EncodeToString(span.SpanId); span.Kind == tracepb.Span_SPAN_KIND_CLIENT && !seen[id] {
			t.Errorf("no subscriber was told of span %s", id)
		}
	}
	c.mu.Lock()
	if got := c.headers.Get("X-Team"); got != "blue" {
		t.Errorf("header %q", got)
	}
	c.mu.Unlock()

	// One that its publisher does not sample is not recorded, but for what fails.
	const other = "1af7651916cd43dd8448eb211c80319c"
	called(1)
	send("o2", other, "00")
	eventually(t, 20*time.Second, "what failed is there", func() bool { return len(c.of(other)) >= 3 })
	for _, span := range c.of(other) {
		if span.Status.GetCode() != tracepb.Status_STATUS_CODE_ERROR {
			t.Errorf("recorded without being sampled: %s", span)
		}
	}

	// Without a collector events are taken and delivered as ever.
	c.CloseClientConnections()
	c.Close()
	called(-1000)
	for n := range 200 {
		send(fmt.Sprint("x", n), fmt.Sprintf("%032x", n+1), "01")
	}
	eventually(t, 20*time.Second, "all were delivered or are being tried", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return calls >= -800
	})
	if status := s.stop(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}
