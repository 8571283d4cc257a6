package broker

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/dispatcher"
	"github.com/leat-dev/leat/raftlog"
)

const (
	began = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	other = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
)

func text(s string) event.Value { return event.Value{Str: s} }

func anEvent(extensions ...event.Extension) *event.Event {
	e := &event.Event{ID: "1", Source: "/s", Type: "t"}
	for _, x := range extensions {
		e.SetExtension(x.Name, x.Value)
	}
	return e
}

func anOriginal(extensions ...event.Extension) *dispatcher.Original {
	return &dispatcher.Original{
		Channel: channel.ID{Kind: "Broker", Namespace: "default", Name: "b", UID: "1"}, Partition: 3,
		Stored: channel.Stored{Offset: 42, Event: anEvent(extensions...)},
	}
}

// newReplyIngress is an ingress, and the channel that its replies go to.
func newReplyIngress(limits event.Limits) (*Ingress, *fakeChannel) {
	f := newFakes()
	return NewIngress(IngressOptions{Resolver: f, Limits: limits, Now: func() time.Time { return now }}), f.broker
}

func TestReplyIsStamped(t *testing.T) {
	i, ch := newReplyIngress(event.Limits{})
	original := anOriginal(event.Extension{Name: ttlExtension, Value: event.IntegerValue(10)}, event.Extension{Name: event.Traceparent, Value: text(began)},
		event.Extension{Name: depthExtension, Value: event.IntegerValue(7)})
	// Whatever the reply says of itself.
	reply := anEvent(event.Extension{Name: ttlExtension, Value: event.IntegerValue(255)}, event.Extension{Name: causeExtension, Value: text("forged")},
		event.Extension{Name: depthExtension, Value: event.IntegerValue(1)}, event.Extension{Name: arrivalExtension, Value: text("forged")})
	before := reply.Clone()
	if err := i.AcceptReply(t.Context(), ch, original, reply); err != nil {
		t.Fatal(err)
	}
	want := anEvent(event.Extension{Name: ttlExtension, Value: event.IntegerValue(9)}, event.Extension{Name: causeExtension, Value: text("default/b/3/42")},
		event.Extension{Name: depthExtension, Value: event.IntegerValue(8)}, event.Extension{Name: arrivalExtension, Value: text(nowText)},
		event.Extension{Name: event.Traceparent, Value: text(began)})
	if d := cmp.Diff(want, ch.take()[0][0]); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(before, reply); d != "" {
		t.Errorf("the reply was changed: %s", d)
	}
	// A trace of its own stays.
	reply.SetTrace(event.TraceContext{TraceID: [16]byte{1}, SpanID: [8]byte{1}})
	if err := i.AcceptReply(t.Context(), ch, original, reply); err != nil {
		t.Fatal(err)
	}
	if trace, _ := ch.take()[0][0].Trace(); trace.TraceID != [16]byte{1} {
		t.Errorf("trace %s", trace)
	}
}

// TestReplyCannotRaiseTheTTL: it has what is left of the original's.
func TestReplyCannotRaiseTheTTL(t *testing.T) {
	i, ch := newReplyIngress(event.Limits{})
	for _, c := range []struct {
		original string // "": none
		want     string // "": refused
	}{
		{"255", "254"}, {"2", "1"}, {"1", ""}, {"0", ""}, {"", "255"},
	} {
		original := anOriginal()
		if c.original != "" {
			original.Event.SetExtension(ttlExtension, text(c.original))
		}
		for _, own := range []string{"", "1", "100", "255", "1000"} {
			reply := anEvent()
			if own != "" {
				reply.SetExtension(ttlExtension, text(own))
			}
			err := i.AcceptReply(t.Context(), ch, original, reply)
			if c.want == "" {
				checkRefused(t, ch, err, http.StatusBadRequest, ttlExtension)
				continue
			}
			if err != nil {
				t.Fatalf("original %s, reply %s: %v", c.original, own, err)
			}
			if v, _ := ch.take()[0][0].Attribute(ttlExtension); v.Str != c.want {
				t.Errorf("original %q, reply %q: TTL %s, want %s", c.original, own, v.Str, c.want)
			}
		}
	}
}

func checkRefused(t *testing.T, ch *fakeChannel, err error, code int, reason string) {
	t.Helper()
	var refused *dispatcher.RefusedError
	if !errors.As(err, &refused) || refused.Code != code || !strings.Contains(refused.Reason, reason) {
		t.Errorf("got %v, want %d …%s…", err, code, reason)
	}
	if n := len(ch.take()); n > 0 {
		t.Errorf("%d appends, though refused", n)
	}
}

// TestLoopOfRepliesEnds, also where no TTL ends it.
func TestLoopOfRepliesEnds(t *testing.T) {
	i, ch := newReplyIngress(event.Limits{})
	original := anOriginal()
	for n := 1; n <= 1000; n++ {
		if err := i.AcceptReply(t.Context(), ch, original, anEvent()); err != nil {
			t.Fatalf("reply %d: %v", n, err)
		}
		e := ch.take()[0][0]
		e.DeleteExtension(ttlExtension) // as a channel between them would
		original.Event = e
	}
	checkRefused(t, ch, i.AcceptReply(t.Context(), ch, original, anEvent()), http.StatusBadRequest, depthExtension)
	for _, odd := range []string{"x", "-5", "99999999999"} {
		if err := i.AcceptReply(t.Context(), ch, anOriginal(event.Extension{Name: depthExtension, Value: text(odd)}), anEvent()); err != nil {
			t.Errorf("depth %q: %v", odd, err)
		}
		if v, _ := ch.take()[0][0].Attribute(depthExtension); v != event.IntegerValue(1) {
			t.Errorf("depth %q became %+v", odd, v)
		}
	}
}

func TestBadRepliesAreRefused(t *testing.T) {
	i, ch := newReplyIngress(event.Limits{MaxDataBytes: 10, MaxExtensions: 2})
	large := anEvent()
	large.Data = make([]byte, 11)
	checkRefused(t, ch, i.AcceptReply(t.Context(), ch, anOriginal(), large), http.StatusRequestEntityTooLarge, "limit of 10")
	checkRefused(t, ch, i.AcceptReply(t.Context(), ch, anOriginal(), &event.Event{ID: "1", Source: "s"}), http.StatusBadRequest, "type")
	checkRefused(t, ch, i.AcceptReply(t.Context(), ch, anOriginal(), anEvent(event.Extension{Name: "not_ok", Value: text("x")})), http.StatusBadRequest, "not_ok")
}

// TestReplyMayBeOfferedAgain: what fails for the moment is no refusal, and the
// stamps of the first offer do not count against the limits of the second.
func TestReplyMayBeOfferedAgain(t *testing.T) {
	i, ch := newReplyIngress(event.Limits{MaxExtensions: 2})
	reply := anEvent(event.Extension{Name: "a", Value: text("1")}, event.Extension{Name: "b", Value: text("2")})
	original := anOriginal(event.Extension{Name: event.Traceparent, Value: text(other)})
	for _, temporary := range []error{raftlog.ErrOverloaded, raftlog.ErrDiskFull, raftlog.ErrUnknownOutcome, raftlog.ErrNotLeader, channel.ErrNotFound} {
		ch.failing(func(context.Context) error { return temporary })
		var refused *dispatcher.RefusedError
		if err := i.AcceptReply(t.Context(), ch, original, reply); !errors.Is(err, temporary) || errors.As(err, &refused) {
			t.Errorf("got %v, want %v", err, temporary)
		}
	}
	ch.failing(nil)
	if err := i.AcceptReply(t.Context(), ch, original, reply); err != nil {
		t.Fatal(err)
	}
	if e := ch.take()[0][0]; len(e.Extensions) != 7 {
		t.Errorf("%+v", e.Extensions)
	}
}
