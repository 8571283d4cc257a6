package dispatcher

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/dispatcher/http1"
)

// TestDataThatIsAnEventIsSentStructured: what a receiver reads is the event, and
// not the event that is its data.
func TestDataThatIsAnEventIsSentStructured(t *testing.T) {
	for _, kind := range []string{"application/cloudevents+json", "Application/CloudEvents-batch+json; charset=utf-8", "application/cloudevents+avro", "application/json"} {
		sent := &event.Event{
			ID: "outer", Source: "/s", Type: "t", DataContentType: kind, Data: []byte(`{"specversion":"1.0","id":"inner","source":"/i","type":"i"}`),
			PassThrough: []event.Header{{Name: "X-Request-Id", Value: "r1"}},
		}
		h := http.Header{}
		all, body := (&Request{Event: sent}).headers(nil)
		for _, x := range all {
			h.Add(x.Name, x.Value)
		}
		got, _, err := event.FromMessage(answerHeaders{h}, body, event.Limits{})
		if err != nil || len(got) != 1 {
			t.Errorf("%s: %d events, %v", kind, len(got), err)
			continue
		}
		if got[0].ID != "outer" || got[0].DataContentType != kind || !bytes.Equal(got[0].Data, sent.Data) || h.Get("X-Request-Id") != "r1" {
			t.Errorf("%s is read as %+v, with %v", kind, got[0], h)
		}
	}
}

// TestBothWaysSayTheSame: a request that is written at once has the headers that
// net/http is given otherwise, whatever is in the event, and no other.
func TestBothWaysSayTheSame(t *testing.T) {
	trace := event.TraceContext{TraceID: [16]byte{1}, SpanID: [8]byte{2}, Flags: 0xa1, State: "a=b"}
	for name, q := range map[string]Request{
		"little":   {Event: &event.Event{ID: "1", Source: "/s", Type: "t"}},
		"no data":  {Event: &event.Event{ID: "1", Source: "/s", Type: "t", DataContentType: "text/plain"}, WantReply: true},
		"injected": {Event: &event.Event{ID: "1\r\nHost: evil", Source: "/s\n\nx", Type: "t\x00\x7f", Subject: "\r\n\r\n", Extensions: []event.Extension{{Name: "x", Value: event.Value{Str: "\r\nCe-Id: 2"}}}}},
		"encoded":  {Event: &event.Event{ID: "a b\"c%d%20", Source: "/é/€/😀", Type: "\xff", Subject: " ", Time: "2020-01-01T00:00:00.5+02:00", DataSchema: "http://s/?a=b#c"}},
		"extensions": {Event: &event.Event{ID: "1", Source: "/s", Type: "t", Data: []byte("x\x00"), Extensions: []event.Extension{
			{Name: ttlExtension, Value: event.IntegerValue(3)}, {Name: "n", Value: event.IntegerValue(-7)}, {Name: "0a", Value: event.Value{Str: "v"}}, {Name: "traceparent", Value: event.Value{Str: "x"}},
		}}},
		"passed through": {Namespace: "ns", WantReply: true, Trace: trace, Event: &event.Event{ID: "1", Source: "/s", Type: "t", DataContentType: "application/json", Data: []byte("{}"), PassThrough: []event.Header{
			{Name: "x-request-id", Value: "r"}, {Name: "knative-a", Value: "b"}, {Name: "Kn-Namespace", Value: "other"}, {Name: "prefer", Value: "nothing"}, {Name: "traceparent", Value: "old"},
			{Name: "tracestate", Value: "old"}, {Name: "host", Value: "evil"}, {Name: "Connection", Value: "close"}, {Name: "content-length", Value: "1"}, {Name: "Transfer-Encoding", Value: "chunked"},
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			headers, body := q.headers(nil)
			want := http.Header{}
			for _, x := range headers {
				want.Add(x.Name, x.Value)
			}
			written, ok := q.plain([]byte("POST / HTTP/1.1\r\nHost: h\r\n"))
			if !ok {
				t.Fatal("it is left to net/http")
			}
			got, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(written)))
			if err != nil {
				t.Fatalf("%v in %q", err, written)
			}
			sent, err := io.ReadAll(got.Body)
			if err != nil || !bytes.Equal(sent, body) {
				t.Errorf("the body is %q (%v), want %q", sent, err, body)
			}
			got.Header.Del("Content-Length")
			if got.Host != "h" || !maps.EqualFunc(got.Header, want, slices.Equal) {
				t.Errorf("sent %q to %s, want %q", got.Header, got.Host, want)
			}
			if _, is := got.Header[http.CanonicalHeaderKey("Ce-"+ttlExtension)]; is {
				t.Error("the time to live is sent")
			}
		})
	}
	for name, q := range map[string]Request{
		"a value of two lines": {Event: &event.Event{ID: "1", PassThrough: []event.Header{{Name: "X-Request-Id", Value: "a\r\nb: c"}}}},
		"a name of two lines":  {Event: &event.Event{ID: "1", Extensions: []event.Extension{{Name: "a\r\nb", Value: event.Value{Str: "c"}}}}},
		"a type of two lines":  {Event: &event.Event{ID: "1", DataContentType: "a\r\nb: c"}},
		"a namespace of two":   {Namespace: "a\r\nb", Event: &event.Event{ID: "1"}},
		"a state of two":       {Trace: event.TraceContext{TraceID: [16]byte{1}, State: "a\r\nb"}, Event: &event.Event{ID: "1"}},
		"more than there is":   {Event: &event.Event{ID: strings.Repeat("x", http1.MaxRequest)}},
	} {
		if _, ok := q.plain(nil); ok {
			t.Errorf("%s: it is not left to net/http", name)
		}
	}
}
