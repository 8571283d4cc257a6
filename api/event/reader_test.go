package event

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var plainMessage = HeaderList{
	{"Content-Type", "application/json"}, {"Ce-Specversion", "1.0"}, {"Ce-Id", "1"}, {"Ce-Source", "/s"}, {"Ce-Type", "t"},
	{"Ce-Partitionkey", "k"}, {"Knative-X", "y"}, {"Content-Length", "2"},
}

// TestReaderKnowsNothingOfTheMessageBefore: whatever it was, and whatever was done
// with its events.
func TestReaderKnowsNothingOfTheMessageBefore(t *testing.T) {
	structured, batch := HeaderList{{"Content-Type", StructuredType}}, HeaderList{{"Content-Type", BatchType}, {"Knative-Z", "z"}}
	object := func(id int) string {
		return fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/s%d","type":"t","datacontenttype":"a/b","subject":"s","x%d":"y","data":"d"}`, id, id/2, id)
	}
	many := make([]string, 3*mostKept)
	for i := range many {
		many[i] = object(i)
	}
	bad := slices.Clone(many)
	bad[7] = "{}"
	messages := []struct {
		h    HeaderList
		body string
	}{
		{plainMessage, "{}"}, {HeaderList{{"Ce-Specversion", "1.0"}, {"Ce-Id", "2"}, {"Ce-Source", "/"}, {"Ce-Type", "u"}}, ""},
		{structured, object(3)}, {structured, `{"specversion":"1.0","id":"4","source":"/","type":"t"}`}, {structured, "{}"}, {plainMessage[1:3], ""},
		{batch, "[]"}, {batch, "[" + strings.Join(many, ",") + "]"}, {batch, "[" + strings.Join(bad, ",") + "]"}, {batch, "[" + object(1) + "," + object(2) + "]"},
	}
	r := NewReader(Limits{})
	for i := range 20 * len(messages) {
		m := messages[i*7%len(messages)]
		got, mode, err := r.Read(m.h, []byte(m.body))
		want, wantMode, wantErr := FromMessage(m.h, []byte(m.body), Limits{})
		if mode != wantMode || fmt.Sprint(err) != fmt.Sprint(wantErr) || len(got) != len(want) {
			t.Fatalf("%v %.80s: got %d events, %v; want %d, %v", m.h, m.body, len(got), err, len(want), wantErr)
		}
		for n, e := range got {
			if diff := cmp.Diff(want[n], e); diff != "" {
				t.Fatalf("%v %.80s, event %d: %s", m.h, m.body, n, diff)
			}
			e.SetTrace(NewTrace())
			e.SetTrace(NewTrace()) // also as a header that is passed through
			e.SetExtension("knativebrokerttl", IntegerValue(7))
		}
		if len(r.known) > 3*mostKept {
			t.Fatalf("%d events are kept", len(r.known))
		}
	}
	if r.Forget(); len(r.known) > mostKept {
		t.Errorf("%d events are kept", len(r.known))
	}
}

// TestReaderTakesNoMemory for a plain message, nor for what is stamped with it.
func TestReaderTakesNoMemory(t *testing.T) {
	r, body, ttl := NewReader(Limits{}), []byte("{}"), IntegerValue(254)
	if n := testing.AllocsPerRun(100, func() {
		events, _, err := r.Read(plainMessage, body)
		if err != nil || len(events) != 1 {
			t.Fatal(err)
		}
		events[0].SetExtension("knativebrokerttl", ttl)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestTracesOfAReader are each event's own, and stay what they are when others come;
// an event that has one keeps it.
func TestTracesOfAReader(t *testing.T) {
	r, kept := NewReader(Limits{}), map[string]string{}
	for range 3*tracesAtOnce + 1 {
		events, _, err := r.Read(plainMessage, nil)
		if err != nil {
			t.Fatal(err)
		}
		e := events[0]
		r.EnsureTrace(e)
		began, ok := e.Trace()
		parent, _ := e.Attribute(Traceparent)
		if !ok || parent.Str != began.String() {
			t.Fatalf("the event is part of %v (%v), and says %q", began, ok, parent.Str)
		}
		r.EnsureTrace(e)
		if again, _ := e.Trace(); again != began {
			t.Errorf("it was part of %v, and is of %v", began, again)
		}
		kept[parent.Str] = began.String()
	}
	if len(kept) != 3*tracesAtOnce+1 {
		t.Errorf("%d events have %d traces", 3*tracesAtOnce+1, len(kept))
	}
	for text, was := range kept {
		if text != was {
			t.Errorf("%q has become %q", was, text)
		}
	}
}

// TestEventsOfABatchHaveHopsOfTheirOwn, though they share what is passed through.
func TestEventsOfABatchHaveHopsOfTheirOwn(t *testing.T) {
	const origin = `"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"`
	object := `{"specversion":"1.0","id":"1","source":"/s","type":"t",` + origin + `}`
	h := HeaderList{{"Content-Type", BatchType}, {"Knative-X", "x"}, {"X-Request-Id", "1"}, {"Knative-Y", "y"}}
	events, _, err := NewReader(Limits{}).Read(h, []byte("["+object+","+object+"]"))
	if err != nil {
		t.Fatal(err)
	}
	hops := []TraceContext{NewTrace(), NewTrace()}
	for i, e := range events {
		e.SetTrace(hops[i])
	}
	for i, e := range events {
		if got, _ := e.Trace(); got != hops[i] || len(e.PassThrough) != 4 {
			t.Errorf("event %d is at %v of %v: %v", i, got, hops, e.PassThrough)
		}
	}
}

// BenchmarkBatch reads a batch of 64 events of 1 KiB.
func BenchmarkBatch(b *testing.B) {
	events := make([]*Event, 64)
	for i := range events {
		data := fmt.Sprintf(`{"order":%d,"note":"%s"}`, i, strings.Repeat("x", 1000))
		events[i] = &Event{ID: fmt.Sprint(i), Source: "/shop", Type: "order.created", DataContentType: "application/json", Data: []byte(data)}
	}
	body, h, r := AppendBatch(nil, events), HeaderList{{"Content-Type", BatchType}}, NewReader(Limits{})
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if got, _, err := r.Read(h, body); err != nil || len(got) != len(events) {
			b.Fatal(len(got), err)
		}
	}
}

// BenchmarkBinary is what most requests are: one event in binary mode, which
// begins a trace.
func BenchmarkBinary(b *testing.B) {
	h := HeaderList{
		{"Content-Type", "application/json"}, {"Ce-Specversion", "1.0"}, {"Ce-Id", "000000000001"}, {"Ce-Source", "/bench"},
		{"Ce-Type", "bench.event"}, {"Ce-Subject", "17"}, {"Content-Length", "2"},
	}
	body := []byte("{}")
	r := NewReader(Limits{})
	b.ReportAllocs()
	for b.Loop() {
		events, _, err := r.Read(h, body)
		if err != nil {
			b.Fatal(err)
		}
		r.EnsureTrace(events[0])
	}
}
