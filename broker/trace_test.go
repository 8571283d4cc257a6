package broker

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/dispatcher"
	"github.com/leat-dev/leat/raftlog"
)

// notebook keeps the spans it is offered; of the traces that begin here it
// samples all or none.
type notebook struct {
	samples bool

	mu    sync.Mutex
	spans []event.Span
}

func (n *notebook) Samples([16]byte) bool { return n.samples }

func (n *notebook) Record(s event.Span) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.spans = append(n.spans, s)
}

func (n *notebook) take() []event.Span {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := n.spans
	n.spans = nil
	return out
}

const (
	publisherTrace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	originTrace    = "00-1af7651916cd43dd8448eb211c80319c-c7ad6b7169203331-00"
)

func parentOf(t *testing.T, traceparent string) event.TraceContext {
	t.Helper()
	c, err := event.ParseTraceparent(traceparent)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// serve has an ingress of its own serve one request, without a network.
func serve(t *testing.T, n *notebook, f *fakes, body string, header ...string) int {
	t.Helper()
	i := NewIngress(IngressOptions{Resolver: f, Spans: n})
	r := httptest.NewRequest(http.MethodPost, brokerPath, strings.NewReader(body))
	for k := 0; k < len(header); k += 2 {
		r.Header.Set(header[k], header[k+1])
	}
	w := httptest.NewRecorder()
	i.ServeHTTP(w, r)
	return w.Code
}

const (
	batchType = "application/cloudevents-batch+json"
	oneType   = "application/cloudevents+json"
	plain     = `{"specversion":"1.0","id":"1","source":"/s","type":"t"}`
	withTrace = `{"specversion":"1.0","id":"2","source":"/s","type":"t","traceparent":"` + originTrace + `"}`
)

// TestWhatFollowsIsPartOfTheReception: the events go on in the step in which
// they were received, which is part of what they came with.
func TestWhatFollowsIsPartOfTheReception(t *testing.T) {
	n, f := &notebook{samples: true}, newFakes()
	for _, c := range []struct {
		name, body, contentType, header string
		spans                           int
	}{
		{"the request's trace", plain, oneType, publisherTrace, 2},
		{"a batch in the request's trace", "[" + plain + "," + withTrace + "]", batchType, publisherTrace, 2},
		{"the event's own", withTrace, oneType, "", 2},
		{"none", plain, oneType, "", 2},
		{"a batch, each its own", "[" + plain + "," + withTrace + "]", batchType, "", 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			header := []string{"Content-Type", c.contentType}
			if c.header != "" {
				header = append(header, "Traceparent", c.header)
			}
			if status := serve(t, n, f, c.body, header...); status != http.StatusAccepted {
				t.Fatal(status)
			}
			spans := n.take()
			if len(spans) != c.spans {
				t.Fatalf("%d spans, want %d: %+v", len(spans), c.spans, spans)
			}
			for k, e := range f.broker.take()[0] {
				receive := spans[min(2*k, len(spans)-2)]
				if got, _ := e.Trace(); got != receive.Context {
					t.Errorf("event %d goes on in %s, want %s", k, got, receive.Context)
				}
				want := event.TraceContext{}
				switch {
				case c.header != "":
					want = parentOf(t, c.header)
				case e.ID == "2":
					want = parentOf(t, originTrace)
				default:
					want.TraceID, want.Flags = receive.Context.TraceID, 1
				}
				if receive.Name != "receive" || receive.Parent != want.SpanID || receive.Context.TraceID != want.TraceID || receive.Context.Flags != want.Flags {
					t.Errorf("event %d: %+v, want it part of %s", k, receive, want)
				}
				within := spans[min(2*k, len(spans)-2)+1]
				if within.Name != "append" || within.Parent != receive.Context.SpanID || within.Start.Before(receive.Start) || within.End.After(receive.End) {
					t.Errorf("event %d: %+v, want it part of %+v", k, within, receive)
				}
			}
		})
	}
}

// TestARefusalOfOursIsAnError, and one of the sender's is not.
func TestARefusalOfOursIsAnError(t *testing.T) {
	n, f := &notebook{}, newFakes()
	f.broker.failing(func(context.Context) error { return raftlog.ErrDiskFull })
	if status := serve(t, n, f, plain, "Content-Type", oneType); status != http.StatusServiceUnavailable {
		t.Fatal(status)
	}
	spans := n.take()
	if len(spans) != 2 || spans[0].Error == "" || spans[0].Context.Sampled() {
		t.Errorf("a 503: %+v", spans)
	}
	if status := serve(t, n, f, "nonsense", "Content-Type", oneType, "Traceparent", publisherTrace); status != http.StatusBadRequest {
		t.Fatal(status)
	}
	if spans := n.take(); len(spans) != 1 || spans[0].Error != "" || spans[0].Parent != parentOf(t, publisherTrace).SpanID {
		t.Errorf("a 400: %+v", spans)
	}
	if serve(t, n, f, "nonsense", "Content-Type", oneType); len(n.take()) != 0 {
		t.Error("a 400 that nobody traces is recorded")
	}
}

// TestRepliesGoOnInTheirDelivery: a reply is received within the step that the
// dispatcher has put it in, also where it fails.
func TestRepliesGoOnInTheirDelivery(t *testing.T) {
	n, f := &notebook{}, newFakes()
	i := NewIngress(IngressOptions{Resolver: f, Spans: n})
	delivery := parentOf(t, publisherTrace)
	reply := &event.Event{ID: "r", Source: "/s", Type: "t"}
	reply.SetTrace(delivery)
	original := &dispatcher.Original{Stored: channel.Stored{Event: &event.Event{ID: "o", Source: "/s", Type: "t"}}}
	if err := i.AcceptReply(t.Context(), f.broker, original, reply); err != nil {
		t.Fatal(err)
	}
	spans := n.take()
	if len(spans) != 2 || spans[0].Parent != delivery.SpanID || spans[1].Parent != spans[0].Context.SpanID {
		t.Fatalf("%+v", spans)
	}
	if got, _ := f.broker.take()[0][0].Trace(); got != spans[0].Context {
		t.Errorf("it goes on in %s, want %s", got, spans[0].Context)
	}
	f.broker.failing(func(context.Context) error { return raftlog.ErrOverloaded })
	if err := i.AcceptReply(t.Context(), f.broker, original, reply); err == nil {
		t.Fatal("accepted")
	}
	if spans := n.take(); len(spans) != 2 || spans[0].Error == "" {
		t.Errorf("a failure: %+v", spans)
	}
}

// TestShortages: each 503 says what was short.
func TestShortages(t *testing.T) {
	for want, fail := range map[string]error{
		ShortageDisk: raftlog.ErrDiskFull, ShortageStall: raftlog.ErrStalled, ShortageQueue: raftlog.ErrOverloaded, ShortageLeader: raftlog.ErrNotLeader,
		ShortageTime: context.DeadlineExceeded, ShortageOther: http.ErrAbortHandler,
	} {
		f := newFakes()
		f.broker.failing(func(context.Context) error { return fail })
		var got Served
		i := NewIngress(IngressOptions{Resolver: f, Counted: func(s Served) { got = s }})
		r := httptest.NewRequest(http.MethodPost, brokerPath, strings.NewReader(plain))
		r.Header.Set("Content-Type", oneType)
		i.ServeHTTP(httptest.NewRecorder(), r)
		if got.Shortage != want || got.Status != http.StatusServiceUnavailable || got.Kind != "Broker" || got.Bytes != len(plain) || got.Events != 0 || got.Took <= 0 {
			t.Errorf("%v: %+v, want %s", fail, got, want)
		}
	}
}
