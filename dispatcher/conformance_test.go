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
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
)

// received is a request that a real server got.
type received struct {
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
		e.got = append(e.got, received{r.Header.Clone(), string(body), r.URL.Path})
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
				if got := len(w.letters) == 1; got != want.kept {
					t.Errorf("kept: %v, want %v", got, want.kept)
				} else if got && int(w.letters[0].Code) != n {
					t.Errorf("the dead letter says %d", w.letters[0].Code)
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
			if len(w.letters) != 1 || w.letters[0].Code != -1 {
				t.Errorf("dead letters %+v, want one with code -1", w.letters)
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
		if len(w.letters) != 1 || w.letters[0].Code != -1 || w.letters[0].Attempts != 3 {
			t.Errorf("dead letters %+v, want one after 3 attempts", w.letters)
		}
	})
}

func TestOutgoingMessage(t *testing.T) {
	e := newEndpoint(t, answers(200, ""))
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
	trace := got.header.Get("Traceparent")
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
			w.deliver(func(_ int, ev *event.Event) { ev.SetExtension("knativebrokerttl", event.IntegerValue(7)) })
			got := dls.requests()
			if len(got) != 1 || w.outcome() != channel.DeadLettered || len(w.letters) != 0 {
				t.Fatalf("%d requests to the sink, outcome %v, %d kept", len(got), w.outcome(), len(w.letters))
			}
			h := got[0].header
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
				if len(w.letters) != 0 {
					t.Errorf("dead letters %+v", w.letters)
				}
				return
			}
			if len(w.letters) != 1 || !w.letters[0].Reply || !strings.Contains(w.letters[0].Reason, c.kept) || w.outcome() != channel.ReplyKept {
				t.Errorf("dead letters %+v, outcome %v", w.letters, w.outcome())
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
	if len(e.requests()) != 1 || len(w.letters) != 1 {
		t.Fatalf("%d attempts, %d dead letters; want one each", len(e.requests()), len(w.letters))
	}
	if l := w.letters[0]; !l.Reply || l.Event.ID != "r1" || l.Code != 400 || l.Offset != 0 || !strings.Contains(l.Reason, "time to live") {
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
	if len(e.requests()) != 1 || tries.Load() != 3 || len(w.letters) != 0 {
		t.Errorf("%d requests, %d tries to reply, %d dead letters; want 1, 3, none", len(e.requests()), tries.Load(), len(w.letters))
	}
	tries.Store(-100)
	w.deliver()
	if len(w.letters) != 1 || w.letters[0].Reply || !strings.Contains(w.letters[0].Reason, "no quorum") || tries.Load() != -97 {
		t.Errorf("dead letters %+v after %d tries; want the original", w.letters, tries.Load()+100)
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

func TestDeniedDestination(t *testing.T) {
	e := newEndpoint(t, answers(200, ""))
	own := netip.MustParseAddrPort(strings.TrimPrefix(e.URL, "http://"))
	_, port, _ := net.SplitHostPort(own.String())
	for _, to := range []string{
		"http://169.254.169.254/latest/meta-data", "http://[fe80::1]/", "http://[fd00:ec2::254]/", "http://0.0.0.0:1/", "http://[::]:1/",
		"http://[::ffff:169.254.169.254]/", "http://224.0.0.1/", "http://100.100.100.200/", e.URL, "http://api.localhost:" + port,
	} {
		t.Run(to, func(t *testing.T) {
			t.Parallel()
			w := newWire(t, HTTPOptions{DeniedAddrs: []netip.AddrPort{own}}, func(t *Target) { t.URL = to })
			w.deliver()
			if w.outcome() != channel.Denied || len(w.letters) != 1 || w.letters[0].Attempts != 1 {
				t.Errorf("outcome %v, dead letters %+v; want denied, after one attempt", w.outcome(), w.letters)
			}
		})
	}
	if n := len(e.requests()); n != 0 {
		t.Errorf("%d requests came through", n)
	}
}

func TestLocalhostNames(t *testing.T) {
	e := newEndpoint(t, answers(200, ""))
	u, err := url.Parse(e.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"localhost", "orders.default.localhost", "ORDERS.default.LOCALHOST."} {
		w := newWire(t, HTTPOptions{}, func(t *Target) { t.URL = "http://" + host + ":" + u.Port() })
		w.deliver()
		if len(w.letters) != 0 {
			t.Errorf("%s: %+v", host, w.letters)
		}
	}
}

func TestAddressRule(t *testing.T) {
	api := netip.MustParseAddrPort("0.0.0.0:6443")
	mine := func() ([]net.Addr, error) {
		return []net.Addr{&net.IPNet{IP: net.ParseIP("192.0.2.7"), Mask: net.CIDRMask(24, 32)}}, nil
	}
	strict := &addressRule{denied: []netip.AddrPort{api}, local: mine}
	open := &addressRule{denied: []netip.AddrPort{api}, local: mine, allowLinkLocal: true, allowed: []netip.Prefix{netip.MustParsePrefix("224.0.0.0/4")}}
	got := make(map[string][2]bool)
	want := map[string][2]bool{
		"127.0.0.1:80": {true, true}, "192.0.2.8:6443": {true, true}, "192.0.2.7:80": {true, true},
		"192.0.2.7:6443": {}, "127.0.0.1:6443": {}, "[::1]:6443": {}, "0.0.0.0:6443": {}, "[::ffff:127.0.0.1]:6443": {},
		"169.254.169.254:80": {false, true}, "[64:ff9b::a9fe:a9fe]:80": {false, true}, "[fe80::1%eth0]:80": {false, true},
		"168.63.129.16:80": {false, true}, "[fd20:ce::254]:80": {false, true}, "224.0.0.1:80": {false, true}, "[ff02::1]:80": {}, "0.0.0.0:80": {},
		"10.0.0.1:80": {true, true}, "[2001:db8::1]:443": {true, true},
	}
	for addr := range want {
		to := netip.MustParseAddrPort(addr)
		got[addr] = [2]bool{strict.check(to) == "", open.check(to) == ""}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("allowed strictly, and with settings (-want +got):\n%s", diff)
	}
}

func TestMalformedURLShowsNoCredentials(t *testing.T) {
	for _, raw := range []string{"http://user:secret@", "http://user:secret@host:port/", "ftp://user:secret@host/", "http://user:sec ret@host/", "user:secret@host"} {
		_, err := NewHTTPSender(HTTPOptions{}).Send(t.Context(), &Request{URL: raw, Event: &event.Event{}})
		if err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "sec ret") {
			t.Errorf("%s: %v", raw, err)
		}
	}
}
