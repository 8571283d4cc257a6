package broker

import (
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
)

// TestTTL: 255 where there is none that is valid; otherwise counted down, then
// checked. In structured mode it may be an integer.
func TestTTL(t *testing.T) {
	w := newWorld(t)
	for ttl, want := range map[string]int32{
		"": 255, "255": 254, "2": 1, "256": 255, "1000": 255, "99999999999999999999": 255, "+3": 2,
		"ten": 255, "1.5": 255, "0x10": 255, "5 ": 255,
		"1": 0, "0": 0, "-1": 0, strconv.Itoa(math.MinInt): 0,
	} {
		requests := []func() answer{
			func() answer {
				return w.post(brokerPath, "", binary("Ce-Knativebrokerttl", strings.ReplaceAll(ttl, " ", "%20"))...)
			},
			func() answer {
				return w.post(brokerPath, structured(`"knativebrokerttl":"`+ttl+`"`), structuredMode()...)
			},
			func() answer {
				return w.post(brokerPath, "["+structured(`"knativebrokerttl":"`+ttl+`"`)+"]", batchMode()...)
			},
		}
		if n, err := strconv.Atoi(ttl); err == nil && int(int32(n)) == n && ttl[0] != '+' {
			requests = append(requests, func() answer { return w.post(brokerPath, structured(`"knativebrokerttl":`+ttl), structuredMode()...) })
		}
		for _, request := range requests {
			a := request()
			if want == 0 {
				w.refused(a, http.StatusBadRequest, ttlExtension, "loop")
				continue
			}
			if a.status != http.StatusAccepted {
				t.Fatalf("TTL %q: %d %s", ttl, a.status, a.body)
			}
			if v, _ := w.broker.take()[0][0].Attribute(ttlExtension); v != event.IntegerValue(want) {
				t.Errorf("TTL %q became %+v, want %d", ttl, v, want)
			}
		}
	}
	// A channel is no broker: it does not count.
	if v, ok := w.accepted(channelPath, "", binary()...)[0].Attribute(ttlExtension); ok {
		t.Errorf("a channel set the TTL %s", v.Str)
	}
	if v, _ := w.accepted(channelPath, "", binary("Ce-Knativebrokerttl", "1")...)[0].Attribute(ttlExtension); v.Str != "1" {
		t.Errorf("a channel made the TTL 1 %s", v.Str)
	}
}

// TestArrivalTime: it is the ingress's own, whatever the event says.
func TestArrivalTime(t *testing.T) {
	w := newWorld(t)
	for _, path := range targets {
		for _, e := range append(w.accepted(path, "", binary("Ce-Knativearrivaltime", "2001-01-01T00:00:00Z")...),
			w.accepted(path, "["+structured()+","+structured()+"]", batchMode()...)...) {
			if v, _ := e.Attribute(arrivalExtension); v.Str != nowText || v.Kind != event.String {
				t.Errorf("%s: %+v, want %s", path, v, nowText)
			}
		}
	}
}

// TestAdmit: an event of this process gets what one of a request gets, where it
// goes to a broker or channel.
func TestAdmit(t *testing.T) {
	i := NewIngress(IngressOptions{Now: func() time.Time { return now }, Limits: event.Limits{MaxDataBytes: 4}})
	for kind, want := range map[string][]string{
		"Broker": {arrivalExtension, ttlExtension, event.Traceparent}, "Channel": {arrivalExtension, event.Traceparent}, "PingSource": {event.Traceparent},
	} {
		e := &event.Event{ID: "1", Source: "/s", Type: "t"}
		if err := i.Admit(channel.ID{Kind: kind}, e); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, x := range e.Extensions {
			names = append(names, x.Name)
		}
		if !slices.Equal(names, want) {
			t.Errorf("%s: %v, want %v", kind, names, want)
		}
	}
	for _, bad := range []*event.Event{
		{Source: "/s", Type: "t"}, {ID: "1", Source: "/s", Type: "t", Data: []byte("12345")},
		{ID: "1", Source: "/s", Type: "t", Extensions: []event.Extension{{Name: ttlExtension, Value: event.Value{Str: "1"}}}},
	} {
		var f *event.FormatError
		if err := i.Admit(channel.ID{Kind: "Broker"}, bad); !errors.As(err, &f) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestTrace(t *testing.T) {
	const (
		began = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		hop   = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-00"
	)
	w := newWorld(t)
	for _, path := range targets {
		// Nothing came with it: it begins a trace, and each of a batch its own.
		events := w.accepted(path, "["+structured()+","+structured()+"]", batchMode()...)
		a, ok1 := events[0].Trace()
		b, ok2 := events[1].Trace()
		if !ok1 || !ok2 || a.TraceID == b.TraceID {
			t.Errorf("traces of a batch: %s, %s", a, b)
		}
		// The request has one: the event belongs to it.
		e := w.accepted(path, "", append(binary("Traceparent", hop, "Tracestate", "a=1"), "Tracestate", "b=2")...)[0]
		if v, _ := e.Attribute(event.Traceparent); v.Str != hop {
			t.Errorf("traceparent %q, want the request's", v.Str)
		}
		if v, _ := e.Attribute(event.Tracestate); v.Str != "a=1,b=2" {
			t.Errorf("tracestate %q", v.Str)
		}
		// Both: where it began is kept, and the request is the hop before.
		e = w.accepted(path, "", binary("Ce-Traceparent", began, "Traceparent", hop)...)[0]
		if v, _ := e.Attribute(event.Traceparent); v.Str != began {
			t.Errorf("traceparent %q, want where it began", v.Str)
		}
		if trace, _ := e.Trace(); trace.String() != hop {
			t.Errorf("trace %s, want %s", trace, hop)
		}
		// Neither is any good.
		e = w.accepted(path, "", binary("Ce-Traceparent", "x", "Traceparent", "y")...)[0]
		if _, ok := e.Trace(); !ok {
			t.Errorf("no trace: %s", attributes(e))
		}
	}
}
