package dispatcher

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
)

// received is a request that a real server got.
type received struct {
	at     time.Time
	header http.Header
	body   string
	path   string
}

// endpoint is a subscriber over real HTTP.
type endpoint struct {
	*httptest.Server
	mu       sync.Mutex
	got      []received
	opened   atomic.Int32 // connections
	answerer http.HandlerFunc
}

func newEndpoint(t *testing.T, answer http.HandlerFunc) *endpoint {
	e := &endpoint{answerer: answer}
	e.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e.mu.Lock()
		e.got = append(e.got, received{time.Now(), r.Header.Clone(), string(body), r.URL.Path})
		e.mu.Unlock()
		answer(w, r)
	}))
	e.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			e.opened.Add(1)
		}
	}
	e.Start()
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) requests() []received {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.got)
}

func answers(code int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// wire is a dispatcher over real HTTP, with one subscription.
type wire struct {
	*store
	d       *Dispatcher
	dropped atomic.Int32
}

func newWire(t *testing.T, o HTTPOptions, edit func(*Target)) *wire {
	w := &wire{store: newStore(t)}
	w.d = New(Options{HTTP: o, CommitInterval: time.Millisecond, Hooks: Hooks{Reply: func(_ *Target, result string) {
		if result == "dropped" {
			w.dropped.Add(1)
		}
	}}})
	w.subscribe(byType("a", ""))
	target := Target{
		UID: "a", Namespace: "shop", Name: "a",
		Delivery: Policy{Retry: 2, Delay: time.Millisecond, Timeout: 5 * time.Second},
	}
	edit(&target)
	w.d.SetTarget(target)
	w.d.Attach(w.open())
	t.Cleanup(func() {
		if err := w.d.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return w
}

// deliver publishes one event and waits until it is done.
func (w *wire) deliver(edit ...func(int, *event.Event)) {
	w.t.Helper()
	w.publish("t", 1, edit...)
	end := w.end()
	w.await("the event is done", func() bool { return w.scan == end && len(w.cursors) == 0 })
}

func (w *wire) outcome() channel.OutcomeKind {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.outcomes) == 0 {
		return 0
	}
	return w.outcomes[len(w.outcomes)-1].Kind
}

// TestDeliveryStatusTable: attempts and end for each status.
func TestDeliveryStatusTable(t *testing.T) {
	for codes, want := range map[string]struct {
		attempts int
		kept     bool
	}{
		"200 201 202 203 204 205 206 299":                 {1, false},
		"404 408 409 429 500 501 502 503 504 507 599":     {3, true},
		"300 301 302 303 304 307 308":                     {1, true},
		"400 401 402 403 405 406 410 411 412 413 415 418": {1, true},
		"421 422 425 426 428 431 451 499":                 {1, true},
	} {
		for code := range strings.FieldsSeq(codes) {
			t.Run(code, func(t *testing.T) {
				t.Parallel()
				var n int
				_, _ = fmt.Sscan(code, &n)
				e := newEndpoint(t, answers(n, "", "Location", "http://localhost:1/elsewhere"))
				w := newWire(t, HTTPOptions{}, func(t *Target) { t.URL = e.URL })
				w.deliver()
				if got := len(e.requests()); got != want.attempts {
					t.Errorf("%d attempts, want %d", got, want.attempts)
				}
				if got := len(w.kept()) == 1; got != want.kept {
					t.Errorf("kept: %v, want %v", got, want.kept)
				} else if got && int(w.kept()[0].Code) != n {
					t.Errorf("the dead letter says %d", w.kept()[0].Code)
				}
			})
		}
	}
}

func TestNoAnswerIsRetried(t *testing.T) {
	closes := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}
	garbage := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = io.WriteString(conn, "SMTP ready\r\n\r\n")
			_ = conn.Close()
		}
	}
	slow := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, h := range map[string]http.HandlerFunc{"connection closed": closes, "no HTTP": garbage, "timeout": slow} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEndpoint(t, h)
			w := newWire(t, HTTPOptions{}, func(t *Target) {
				t.URL, t.Delivery.Timeout = e.URL, 200*time.Millisecond
			})
			w.deliver()
			if got := len(e.requests()); got != 3 {
				t.Errorf("%d attempts, want 3", got)
			}
			if len(w.kept()) != 1 || w.kept()[0].Code != -1 {
				t.Errorf("dead letters %+v, want one with code -1", w.kept())
			}
		})
	}
	t.Run("connection refused", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		w := newWire(t, HTTPOptions{}, func(t *Target) { t.URL = "http://" + l.Addr().String() })
		w.deliver()
		if len(w.kept()) != 1 || w.kept()[0].Code != -1 || w.kept()[0].Attempts != 3 {
			t.Errorf("dead letters %+v, want one after 3 attempts", w.kept())
		}
	})
}

// TestWaitsBetweenAttempts: that waits are as long as they have to be, over
// real HTTP; TestBackoffSchedule holds that they are no longer.
func TestWaitsBetweenAttempts(t *testing.T) {
	const ms, hour = time.Millisecond, time.Hour
	after := func(v string) []string { return []string{"Retry-After", v} }
	capped, none := 30*ms, time.Duration(0)
	for _, c := range []struct {
		name   string
		code   int
		header []string
		p      Policy
		want   []time.Duration // at least
	}{
		{"no retry", 500, nil, Policy{Delay: hour}, nil},
		{"exponential, without jitter", 500, nil, Policy{Retry: 3, Backoff: Exponential, Delay: 30 * ms}, []time.Duration{30 * ms, 60 * ms, 120 * ms}},
		{"linear, without jitter", 500, nil, Policy{Retry: 3, Backoff: Linear, Delay: 30 * ms}, []time.Duration{30 * ms, 60 * ms, 90 * ms}},
		{"capped by backoffMax", 500, nil, Policy{Retry: 2, Delay: hour, MaxDelay: capped}, []time.Duration{capped, capped}},
		{"Retry-After of 429", 429, after("1"), Policy{Retry: 1, Delay: ms}, []time.Duration{time.Second}},
		{"Retry-After of 503", 503, after("1"), Policy{Retry: 1, Delay: ms}, []time.Duration{time.Second}},
		{"Retry-After of 500 is ignored", 500, after("3600"), Policy{Retry: 1, Delay: ms}, []time.Duration{ms}},
		{"Retry-After capped by backoffMax", 503, after("3600"), Policy{Retry: 1, Delay: ms, MaxDelay: capped}, []time.Duration{capped}},
		{"Retry-After capped by retryAfterMax", 429, after("3600"), Policy{Retry: 1, Delay: ms, RetryAfterMax: &capped}, []time.Duration{capped}},
		{"Retry-After as a date", 503, after("Fri, 31 Dec 2999 23:59:59 GMT"), Policy{Retry: 1, Delay: ms, RetryAfterMax: &capped}, []time.Duration{capped}},
		{"Retry-After refused", 503, after("3600"), Policy{Retry: 1, Delay: ms, RetryAfterMax: &none}, []time.Duration{ms}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := newEndpoint(t, answers(c.code, "", c.header...))
			w := newWire(t, HTTPOptions{}, func(t *Target) { t.URL, t.Delivery = e.URL, c.p })
			w.deliver()
			got := e.requests()
			if len(got) != len(c.want)+1 {
				t.Fatalf("%d attempts, want %d", len(got), len(c.want)+1)
			}
			for i, want := range c.want {
				if d := got[i+1].at.Sub(got[i].at); d < want {
					t.Errorf("wait %d was %v, want at least %v", i, d, want)
				}
			}
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	for _, code := range []int{301, 302, 303, 307, 308} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			elsewhere, dls := newEndpoint(t, answers(200, "")), newEndpoint(t, answers(200, ""))
			e := newEndpoint(t, answers(code, "", "Location", elsewhere.URL))
			w := newWire(t, HTTPOptions{}, func(t *Target) { t.URL, t.DeadLetterURL = e.URL, dls.URL })
			w.deliver()
			if n := len(elsewhere.requests()); n != 0 || len(e.requests()) != 1 {
				t.Errorf("%d attempts, %d of them elsewhere; want one and none", len(e.requests()), n)
			}
			if got := dls.requests(); len(got) != 1 || got[0].header.Get("Ce-Knativeerrorcode") != fmt.Sprint(code) {
				t.Errorf("dead letters %+v, want the event, with code %d", got, code)
			}
		})
	}
}

func TestOutgoingMessage(t *testing.T) {
	var tries atomic.Int32
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		if tries.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	w := newWire(t, HTTPOptions{}, func(t *Target) { t.URL = e.URL + "/in?x=1" })
	w.deliver(func(_ int, ev *event.Event) {
		*ev = event.Event{
			ID: "1", Source: "/s", Type: "t", Subject: "päckchen", Time: "2024-01-01T12:00:00.5+02:00",
			DataContentType: "text/plain", Data: []byte("hello"),
			PassThrough: []event.Header{{Name: "X-Request-Id", Value: "r1"}, {Name: "Knative-Foo", Value: "f"}, {Name: "X-B3-Traceid", Value: "b"}},
		}
		ev.SetExtension("knativebrokerttl", event.IntegerValue(7))
		ev.SetExtension("color", event.Value{Str: "red"})
		ev.SetExtension("traceparent", event.Value{Str: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
		ev.SetExtension("tracestate", event.Value{Str: "vendor=1"})
	})
	got := e.requests()[0]
	want := map[string]string{
		"Ce-Specversion": "1.0", "Ce-Id": "1", "Ce-Source": "/s", "Ce-Type": "t", "Ce-Subject": "p%C3%A4ckchen",
		"Ce-Time": "2024-01-01T12:00:00.5+02:00", "Content-Type": "text/plain", "Ce-Color": "red",
		"Prefer": "reply", "Kn-Namespace": "shop", "X-Request-Id": "r1", "Knative-Foo": "f", "X-B3-Traceid": "b",
		"Tracestate": "vendor=1", "Ce-Knativebrokerttl": "", "Cookie": "", "Accept-Encoding": "",
	}
	for k, v := range want {
		if got.header.Get(k) != v {
			t.Errorf("%s is %q, want %q", k, got.header.Get(k), v)
		}
	}
	again := e.requests()[1]
	for k, v := range want {
		if again.header.Get(k) != v {
			t.Errorf("at the second attempt %s is %q, want %q", k, again.header.Get(k), v)
		}
	}
	trace := got.header.Get("Traceparent")
	if second := again.header.Get("Traceparent"); second == trace || second[:35] != trace[:35] {
		t.Errorf("traceparent is %q, then %q; want a span of its own for each attempt", trace, second)
	}
	if !strings.HasPrefix(trace, "00-0af7651916cd43dd8448eb211c80319c-") || strings.Contains(trace, "b7ad6b7169203331") {
		t.Errorf("traceparent is %q, want a new span of the same trace", trace)
	}
	if got.body != "hello" || got.path != "/in" {
		t.Errorf("body %q at %q", got.body, got.path)
	}
}

func TestDeadLetterMessage(t *testing.T) {
	for _, size := range []int{0, 10, 767, 768, 769, 5000, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			e := newEndpoint(t, answers(400, strings.Repeat("x", size)))
			// What a dead letter sink replies is ignored.
			dls := newEndpoint(t, answers(200, "{}", "Ce-Specversion", "1.0", "Ce-Id", "r", "Ce-Source", "/r", "Ce-Type", "r"))
			w := newWire(t, HTTPOptions{}, func(t *Target) {
				t.URL = strings.Replace(e.URL, "http://", "http://user:secret@", 1) + "/x"
				t.DeadLetterURL = dls.URL
				t.Reply = func(context.Context, *Original, *event.Event) error { return errors.New("no reply was wanted") }
			})
			w.deliver(func(_ int, ev *event.Event) {
				ev.PassThrough = []event.Header{{Name: "X-Request-Id", Value: "r1"}}
				ev.SetExtension("knativebrokerttl", event.IntegerValue(7))
			})
			got := dls.requests()
			if len(got) != 1 || w.outcome() != channel.DeadLettered || len(w.kept()) != 0 {
				t.Fatalf("%d requests to the sink, outcome %v, %d kept", len(got), w.outcome(), len(w.kept()))
			}
			h := got[0].header
			if h.Get("Kn-Namespace") != "shop" || h.Get("Prefer") != "" || h.Get("Ce-Id") != "0" || h.Get("X-Request-Id") != "r1" {
				t.Errorf("headers %v; want the event, its namespace, what is passed through, and no wish for a reply", h)
			}
			if h.Get("Ce-Knativeerrorcode") != "400" || h.Get("Ce-Knativeerrordest") != e.URL+"/x" || h.Get("Ce-Knativebrokerttl") != "" {
				t.Errorf("headers %v", h)
			}
			data := h.Get("Ce-Knativeerrordata")
			body, err := base64.StdEncoding.DecodeString(data)
			if err != nil || len(data) > 1024 || string(body) != strings.Repeat("x", min(size, 768)) {
				t.Errorf("knativeerrordata has %d characters, %d bytes decoded: %v", len(data), len(body), err)
			}
			if user, pass, ok := (&http.Request{Header: e.requests()[0].header}).BasicAuth(); !ok || user != "user" || pass != "secret" {
				t.Errorf("basic auth was %q, %q", user, pass)
			}
			if st, _ := w.d.Status("a"); strings.Contains(st.LastError, "secret") {
				t.Errorf("the status shows the password: %s", st.LastError)
			}
		})
	}
	t.Run("no answer", func(t *testing.T) {
		dls := newEndpoint(t, answers(200, ""))
		w := newWire(t, HTTPOptions{}, func(t *Target) { t.URL, t.DeadLetterURL = "http://127.0.0.1:1/", dls.URL })
		w.deliver()
		if h := dls.requests()[0].header; h.Get("Ce-Knativeerrorcode") != "-1" || h["Ce-Knativeerrordata"] != nil {
			t.Errorf("headers %v", h)
		}
	})
}

// TestDeadLetterSinkFails: the sink is tried by the subscriber's policy; where
// it fails, the event stays in the dead letter log, with both reasons.
func TestDeadLetterSinkFails(t *testing.T) {
	for _, c := range []struct {
		name     string
		answer   http.HandlerFunc
		attempts int
	}{
		{"refuses", answers(400, ""), 1},
		{"redirects", answers(302, "", "Location", "http://127.0.0.1:1/"), 1},
		{"is down", answers(503, ""), 3},
		{"is gone", nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := newEndpoint(t, answers(422, "no"))
			dls := newEndpoint(t, c.answer)
			if c.answer == nil {
				dls.Close()
			}
			w := newWire(t, HTTPOptions{}, func(t *Target) { t.URL, t.DeadLetterURL = e.URL, dls.URL })
			w.deliver()
			if len(e.requests()) != 1 || len(dls.requests()) != c.attempts {
				t.Errorf("%d attempts and %d at the sink, want 1 and %d", len(e.requests()), len(dls.requests()), c.attempts)
			}
			if len(w.kept()) != 1 || w.outcome() != channel.Kept {
				t.Fatalf("%d dead letters, outcome %v", len(w.kept()), w.outcome())
			}
			l := w.kept()[0]
			if l.Event.ID != "0" || l.Code != 422 || string(l.Answer) != "no" || !strings.Contains(l.Reason, "422") || !strings.Contains(l.Reason, "dead-letter "+dls.URL) {
				t.Errorf("dead letter %+v", l)
			}
		})
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"success": answers(200, "thanks"), "reply": reply(200), "long error": answers(400, strings.Repeat("x", 20_000)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEndpoint(t, answer)
			w := newWire(t, HTTPOptions{}, func(t *Target) { t.URL, t.MaxInFlight = e.URL, 1 })
			for range 20 {
				w.deliver()
			}
			if n := e.opened.Load(); n != 1 {
				t.Errorf("%d connections for 20 deliveries, one after another", n)
			}
		})
	}
}
