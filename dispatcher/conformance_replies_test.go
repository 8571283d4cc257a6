package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
)

// reply answers with an event.
func reply(code int) http.HandlerFunc {
	return answers(code, `{"r":1}`, "Ce-Specversion", "1.0", "Ce-Id", "r1", "Ce-Source", "/r", "Ce-Type", "reply",
		"Ce-Knativebrokerttl", "255", "Content-Type", "application/json")
}

// TestSubscriberAnswers: what a 2xx answer holds, and what becomes of it.
func TestSubscriberAnswers(t *testing.T) {
	structured := `{"specversion":"1.0","id":"r1","source":"/r","type":"reply","data":{"r":1}}`
	for _, c := range []struct {
		name    string
		answer  http.HandlerFunc
		replies int
		dropped int
		kept    string // part of the reason of a reply that is kept
	}{
		{"nothing", answers(200, ""), 0, 0, ""},
		{"event in binary mode", reply(200), 1, 0, ""},
		{"event on 201", reply(201), 1, 0, ""},
		{"event on 299", reply(299), 1, 0, ""},
		{"event on 202", reply(202), 0, 1, ""},
		{"event in structured mode", answers(200, structured, "Content-Type", "application/cloudevents+json"), 1, 0, ""},
		{"batch", answers(200, "["+structured+","+structured+"]", "Content-Type", "application/cloudevents-batch+json"), 2, 0, ""},
		{"text", answers(200, "thanks", "Content-Type", "text/plain"), 0, 1, ""},
		{"JSON", answers(200, `{"ok":true}`, "Content-Type", "application/json"), 0, 1, ""},
		{"much text", answers(200, strings.Repeat("x", 1<<20)), 0, 1, ""},
		{"malformed event", answers(200, "{}", "Ce-Specversion", "1.0", "Ce-Id", "r1"), 0, 0, "malformed"},
		{"malformed JSON", answers(200, "{", "Content-Type", "application/cloudevents+json"), 0, 0, "malformed"},
		{"event over the limit", answers(200, strings.Repeat("x", 2000), "Ce-Specversion", "1.0", "Ce-Id", "r", "Ce-Source", "/r", "Ce-Type", "r"), 0, 0, "larger than 1000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := newEndpoint(t, c.answer)
			var mu sync.Mutex
			var replies []*event.Event
			w := newWire(t, HTTPOptions{MaxReplyBytes: 1000}, func(t *Target) {
				t.URL = e.URL
				t.Reply = func(_ context.Context, o *Original, r *event.Event) error {
					mu.Lock()
					defer mu.Unlock()
					if o.Offset != 0 || o.Channel.Name != "b" || o.Event.ID != "0" {
						return fmt.Errorf("wrong original %+v", o)
					}
					replies = append(replies, r)
					return nil
				}
			})
			w.deliver(func(_ int, ev *event.Event) { ev.SetExtension("knativebrokerttl", event.IntegerValue(7)) })
			if len(e.requests()) != 1 {
				t.Errorf("%d attempts, want 1", len(e.requests()))
			}
			if len(replies) != c.replies || int(w.dropped.Load()) != c.dropped {
				t.Errorf("%d replies, %d dropped; want %d and %d", len(replies), w.dropped.Load(), c.replies, c.dropped)
			}
			for _, r := range replies {
				ttl, _ := r.Attribute("knativebrokerttl")
				if r.Type != "reply" || string(r.Data) != `{"r":1}` || ttl.Str != "7" {
					t.Errorf("reply %+v, want it whole, with the original's time to live", r)
				}
			}
			if c.kept == "" {
				if len(w.kept()) != 0 {
					t.Errorf("dead letters %+v", w.kept())
				}
				return
			}
			if len(w.kept()) != 1 || !w.kept()[0].Reply || !strings.Contains(w.kept()[0].Reason, c.kept) || w.outcome() != channel.ReplyKept {
				t.Errorf("dead letters %+v, outcome %v", w.kept(), w.outcome())
			}
		})
	}
}

func TestReplyThatNobodyWants(t *testing.T) {
	e := newEndpoint(t, reply(200))
	w := newWire(t, HTTPOptions{}, func(t *Target) { t.URL = e.URL })
	w.deliver()
	if len(e.requests()) != 1 || w.dropped.Load() != 1 || len(w.kept()) != 0 {
		t.Errorf("%d attempts, %d replies dropped, %d dead letters; want 1, 1 and none", len(e.requests()), w.dropped.Load(), len(w.kept()))
	}
}

// TestReplyThatBreaksOff: half an event is no answer, so it is retried.
func TestReplyThatBreaksOff(t *testing.T) {
	var tries atomic.Int32
	whole := reply(200)
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		if tries.Add(1) == 1 {
			w.Header().Set("Content-Length", "1000")
		}
		whole(w, r)
	})
	var accepted atomic.Int32
	w := newWire(t, HTTPOptions{}, func(t *Target) {
		t.URL = e.URL
		t.Reply = func(context.Context, *Original, *event.Event) error { accepted.Add(1); return nil }
	})
	w.deliver()
	if len(e.requests()) != 2 || accepted.Load() != 1 || len(w.kept()) != 0 {
		t.Errorf("%d attempts, %d replies, %d dead letters; want 2, 1 and none", len(e.requests()), accepted.Load(), len(w.kept()))
	}
}

// TestRefusedReplyIsKeptBesideADeadLetter: of several replies one is refused,
// and a later one fails for good. Nothing of that is lost.
func TestRefusedReplyIsKeptBesideADeadLetter(t *testing.T) {
	one := func(id string) string { return `{"specversion":"1.0","id":"` + id + `","source":"/r","type":"r"}` }
	batch := answers(200, "["+one("refused")+","+one("fails")+"]", "Content-Type", "application/cloudevents-batch+json")
	for _, withSink := range []bool{false, true} {
		t.Run(fmt.Sprint("sink=", withSink), func(t *testing.T) {
			t.Parallel()
			e, dls := newEndpoint(t, batch), newEndpoint(t, answers(200, ""))
			w := newWire(t, HTTPOptions{}, func(t *Target) {
				t.URL = e.URL
				if withSink {
					t.DeadLetterURL = dls.URL
				}
				t.Reply = func(_ context.Context, _ *Original, r *event.Event) error {
					if r.ID == "refused" {
						return &RefusedError{Code: 400, Reason: "not like this"}
					}
					return errors.New("no quorum")
				}
			})
			w.deliver()
			var kept []string
			for _, l := range w.kept() {
				kept = append(kept, fmt.Sprint(l.Event.ID, " ", l.Reply))
			}
			want := []string{"refused true", "0 false"}
			if withSink {
				want = want[:1]
			}
			if !slices.Equal(kept, want) || len(e.requests()) != 1 || (len(dls.requests()) == 1) != withSink {
				t.Errorf("kept %q, %d at the sink; want %q", kept, len(dls.requests()), want)
			}
			if got := w.kinds("a"); len(got) != 2 || got[0] != channel.ReplyKept {
				t.Errorf("outcomes %v, want the reply's and the event's", got)
			}
		})
	}
}

func TestReplyOfOwnIngressRefused(t *testing.T) {
	e := newEndpoint(t, reply(200))
	w := newWire(t, HTTPOptions{}, func(t *Target) {
		t.URL, t.DeadLetterURL = e.URL, "http://127.0.0.1:1/"
		t.Reply = func(context.Context, *Original, *event.Event) error {
			return fmt.Errorf("ingress: %w", &RefusedError{Code: 400, Reason: "its time to live is used up"})
		}
	})
	w.deliver()
	if len(e.requests()) != 1 || len(w.kept()) != 1 {
		t.Fatalf("%d attempts, %d dead letters; want one each", len(e.requests()), len(w.kept()))
	}
	if l := w.kept()[0]; !l.Reply || l.Event.ID != "r1" || l.Code != 400 || l.Offset != 0 || !strings.Contains(l.Reason, "time to live") {
		t.Errorf("dead letter %+v", l)
	}
}

func TestReplyThatIngressCannotStore(t *testing.T) {
	e := newEndpoint(t, reply(200))
	var tries atomic.Int32
	w := newWire(t, HTTPOptions{}, func(t *Target) {
		t.URL = e.URL
		t.Reply = func(context.Context, *Original, *event.Event) error {
			if tries.Add(1) < 3 {
				return errors.New("no quorum")
			}
			return nil
		}
	})
	w.deliver()
	if len(e.requests()) != 1 || tries.Load() != 3 || len(w.kept()) != 0 {
		t.Errorf("%d requests, %d tries to reply, %d dead letters; want 1, 3, none", len(e.requests()), tries.Load(), len(w.kept()))
	}
	tries.Store(-100)
	w.deliver()
	if len(w.kept()) != 1 || w.kept()[0].Reply || !strings.Contains(w.kept()[0].Reason, "no quorum") || tries.Load() != -97 {
		t.Errorf("dead letters %+v after %d tries; want the original", w.kept(), tries.Load()+100)
	}
}

func TestReplyToASink(t *testing.T) {
	for _, c := range []struct {
		code, attempts int
		dead           bool
	}{{200, 1, false}, {202, 1, false}, {400, 1, true}, {302, 1, true}, {503, 3, true}} {
		t.Run(fmt.Sprint(c.code), func(t *testing.T) {
			t.Parallel()
			e := newEndpoint(t, reply(200))
			sink := newEndpoint(t, answers(c.code, ""))
			dls := newEndpoint(t, answers(200, ""))
			w := newWire(t, HTTPOptions{}, func(t *Target) { t.URL, t.ReplyURL, t.DeadLetterURL = e.URL, sink.URL, dls.URL })
			w.deliver()
			got := sink.requests()
			if len(got) != c.attempts || len(e.requests()) != 1 {
				t.Fatalf("%d replies and %d deliveries, want %d and 1", len(got), len(e.requests()), c.attempts)
			}
			if h := got[0].header; h.Get("Ce-Id") != "r1" || h.Get("Ce-Type") != "reply" || h.Get("Ce-Knativebrokerttl") != "" || got[0].body != `{"r":1}` {
				t.Errorf("the reply was %v %q", h, got[0].body)
			}
			dead := dls.requests()
			if (len(dead) == 1) != c.dead {
				t.Fatalf("%d dead letters", len(dead))
			}
			if c.dead && (dead[0].header.Get("Ce-Id") != "0" || dead[0].header.Get("Ce-Knativeerrordest") != sink.URL) {
				t.Errorf("the dead letter is %v, want the original, and the reply's sink as destination", dead[0].header)
			}
		})
	}
}
