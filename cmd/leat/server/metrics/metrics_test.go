package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/broker"
	"github.com/leat-dev/leat/broker/system"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/dispatcher"
	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

// TestSeriesAreBounded: what is beyond the bound is counted, and begins when
// there is room again.
func TestSeriesAreBounded(t *testing.T) {
	m := New(Options{MaxSeries: 2})
	for n := range 5 {
		m.Request(broker.Served{Kind: "Broker", Namespace: "n", Name: fmt.Sprint("b", n), Status: 202, Events: 1})
	}
	got := page(t, m)
	want(t, got,
		`leat_ingress_events_total{broker="b0",channel="",namespace="n"} 1`,
		`leat_ingress_events_total{broker="b1",channel="",namespace="n"} 1`,
		`leat_metrics_series_refused_total{metric="leat_ingress_events_total"} 3`,
		`leat_metrics_series_refused_total{metric="leat_ingress_request_duration_seconds"} 3`,
		`leat_metrics_series_refused_total{metric="leat_log_entries_total"} 0`)
	if strings.Contains(got, `broker="b2"`) {
		t.Error("a third series")
	}
	m.ingress.events.retain(func(v values) bool { return v[1] == "b1" })
	m.Request(broker.Served{Kind: "Broker", Namespace: "n", Name: "b4", Status: 202, Events: 7})
	got = page(t, m)
	want(t, got, `leat_ingress_events_total{broker="b4",channel="",namespace="n"} 7`)
	if strings.Contains(got, `leat_ingress_events_total{broker="b0"`) {
		t.Error("a series that was ended is still there")
	}
}

// rig is a log in memory, and deliveries out of it that end as answer says.
type rig struct {
	testing.TB
	m      *Metrics
	log    *channel.Log
	d      *dispatcher.Dispatcher
	broker channel.Channel
	answer atomic.Pointer[func(*dispatcher.Request) (dispatcher.Response, error)]
}

func (r *rig) Send(_ context.Context, q *dispatcher.Request) (dispatcher.Response, error) {
	return (*r.answer.Load())(q)
}

func (r *rig) Close() {}

func (r *rig) answers(f func(*dispatcher.Request) (dispatcher.Response, error)) { r.answer.Store(&f) }

func newRig(t testing.TB) *rig {
	r := &rig{TB: t, m: New(Options{MaxSeries: 20_000, Version: "v1"})}
	shard := channel.NewShard(channel.Options{Expired: r.m.Expired})
	group, err := raftlog.Open(t.Context(), raftlog.Options{
		Dir: "/s0", Name: "s0", NodeID: "a", Machine: shard, FS: memfs.New(0), SegmentBytes: 1 << 20, DiskFloor: 1, DiskReserve: 1,
		Hooks: r.m.Log("s0"), Fatal: func(err error) { t.Error(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	shard.Bind(group)
	r.log = channel.NewLog(shard)
	r.d = dispatcher.New(dispatcher.Options{Sender: r, CommitInterval: time.Millisecond, Hooks: r.m.Deliveries()})
	t.Cleanup(func() {
		if err := errors.Join(r.d.Close(context.Background()), group.Close(context.Background())); err != nil {
			t.Error(err)
		}
	})
	r.m.ObserveGroup("s0", group)
	r.m.ObserveLog(r.log)
	r.m.ObserveDispatcher(r.d)
	r.broker, err = r.log.Ensure(t.Context(), channel.ID{Kind: "Broker", Namespace: "ns", Name: "b", UID: "1"}, channel.Config{})
	if err != nil {
		t.Fatal(err)
	}
	r.d.Attach(r.broker)
	r.d.SetTarget(dispatcher.Target{
		UID: "t1", Kind: "Trigger", Namespace: "ns", Channel: "b", Name: "orders", URL: "http://subscriber",
		Delivery: dispatcher.Policy{Retry: 1, Delay: time.Millisecond},
	})
	r.subscribe(1, channel.Subscription{UID: "t1", Engine: 1, Filter: []byte(`{"filters":[{"exact":{"type":"order"}}]}`)})
	return r
}

func (r *rig) subscribe(version uint64, subs ...channel.Subscription) {
	r.Helper()
	if err := r.broker.SetSubscriptions(r.Context(), version, subs); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) append(kinds ...string) {
	r.Helper()
	for n, kind := range kinds {
		e := &event.Event{ID: fmt.Sprint(n), Source: "/s", Type: kind}
		if err := r.broker.Append(r.Context(), []*event.Event{e}); err != nil {
			r.Fatal(err)
		}
	}
}

// TestEverythingIsCounted takes events through each way that a delivery may
// end, and looks at what a scrape says of it.
func TestEverythingIsCounted(t *testing.T) {
	r := newRig(t)
	const trigger = `broker="b",channel="",namespace="ns",`
	r.answers(func(*dispatcher.Request) (dispatcher.Response, error) {
		return dispatcher.Response{Status: 204}, nil
	})
	r.append("order", "other")
	r.eventually(
		`leat_delivery_events_total{`+trigger+`result="delivered",subscription="",trigger="orders"} 1`,
		`leat_delivery_attempts_total{broker="b",channel="",code="204",namespace="ns",subscription="",to="subscriber",trigger="orders"} 1`,
		`leat_delivery_age_seconds_count{broker="b",channel="",namespace="ns"} 1`,
		`leat_matcher_filters{broker="b",channel="",namespace="ns"} 1`,
		`leat_matcher_unindexed_filters{broker="b",channel="",namespace="ns"} 0`,
		`leat_matcher_events_total{broker="b",channel="",namespace="ns"} 2`,
		`leat_matcher_candidates_total{broker="b",channel="",namespace="ns"} 1`,
		`leat_matcher_matches_total{broker="b",channel="",namespace="ns"} 1`,
		`leat_channel_kept_events{broker="b",channel="",namespace="ns"} 2`,
		`leat_log_append_duration_seconds_count{class="events",group="s0"} 2`,
		`leat_log_cache_reads_total{result="miss"} 0`,
	)
	r.answers(func(*dispatcher.Request) (dispatcher.Response, error) {
		return dispatcher.Response{Status: 503}, nil
	})
	r.append("order")
	r.eventually(
		`leat_delivery_events_total{`+trigger+`result="kept",subscription="",trigger="orders"} 1`,
		`leat_delivery_retries_total{`+trigger+`subscription="",to="subscriber",trigger="orders"} 1`,
		`leat_subscription_dead_letters{`+trigger+`subscription="",trigger="orders"} 1`,
		`leat_subscription_paused{`+trigger+`reason="",subscription="",trigger="orders"} 0`,
	)
	r.answers(func(*dispatcher.Request) (dispatcher.Response, error) {
		return dispatcher.Response{}, &dispatcher.DeniedError{Host: "h", Addr: "a", Reason: "x"}
	})
	r.append("order")
	r.eventually(
		`leat_delivery_denied_total{`+trigger+`subscription="",to="subscriber",trigger="orders"} 1`,
		`leat_delivery_attempts_total{broker="b",channel="",code="-1",namespace="ns",subscription="",to="subscriber",trigger="orders"} 1`,
	)
	r.answers(func(*dispatcher.Request) (dispatcher.Response, error) {
		return dispatcher.Response{Status: 200, NotEvent: true}, nil
	})
	r.append("order")
	r.m.Expired(r.broker.ID(), "t1", false, 3)
	r.m.Expired(r.broker.ID(), "t1", true, 2)
	r.m.Deliveries().FilterError("t1", r.d.Target("t1"))
	r.m.Request(broker.Served{Kind: "Broker", Namespace: "ns", Name: "b", Status: 503, Bytes: 10, Shortage: broker.ShortageDisk})
	r.m.Log("s0").Proposed(raftlog.Events, time.Second, fmt.Errorf("x: %w", raftlog.ErrDiskFull))
	r.m.Log("s0").Snapshot(time.Second, nil)
	r.m.Span("exported", 4)
	r.m.Published(r.broker.ID(), []*event.Event{{Type: system.TypeGap}, {Type: "x"}}, 7)
	r.eventually(
		`leat_delivery_replies_total{`+trigger+`result="dropped",subscription="",trigger="orders"} 1`,
		`leat_retention_expired_total{`+trigger+`subscription="",trigger="orders",what="events"} 3`,
		`leat_retention_expired_total{`+trigger+`subscription="",trigger="orders",what="dead_letters"} 2`,
		`leat_filter_errors_total{`+trigger+`subscription="",trigger="orders"} 1`,
		`leat_ingress_unavailable_total{reason="disk"} 1`,
		`leat_log_refused_total{class="events",group="s0",reason="disk"} 1`,
		`leat_subscription_lag_events{`+trigger+`subscription="",trigger="orders"} 0`,
		`leat_subscription_in_flight_events{`+trigger+`subscription="",trigger="orders"} 0`,
	)
	r.m.Request(broker.Served{Kind: "Broker", Namespace: "ns", Name: "b", Status: 202, Events: 1, Bytes: 10})
	got := page(t, r.m)
	lint(t, got)
	exposed := map[string]bool{}
	for _, d := range r.m.declarations {
		exposed[d.Name] = true
		if !strings.Contains(got, "\n# TYPE "+d.Name+" "+d.Type+"\n") {
			t.Errorf("%s is declared as a %s, and not exposed as one", d.Name, d.Type)
		}
	}
	for _, name := range regexp.MustCompile(`(?m)^# TYPE (leat_\S+)`).FindAllStringSubmatch(got, -1) {
		if !exposed[name[1]] {
			t.Errorf("%s is exposed and not declared", name[1])
		}
	}
}

// TestSeriesEndWithTheirObject: of a Trigger, then of its Broker.
func TestSeriesEndWithTheirObject(t *testing.T) {
	r := newRig(t)
	r.answers(func(*dispatcher.Request) (dispatcher.Response, error) {
		return dispatcher.Response{Status: 204}, nil
	})
	r.append("order")
	r.m.Request(broker.Served{Kind: "Broker", Namespace: "ns", Name: "b", Status: 202, Events: 1})
	r.m.Request(broker.Served{Status: 404})
	r.eventually(`trigger="orders"} 1`, `leat_ingress_events_total{broker="b",channel="",namespace="ns"} 1`)
	orders := r.d.Target("t1")
	r.subscribe(2)
	r.d.RemoveTarget("t1")
	r.never(`trigger="orders"`)
	r.d.SetTarget(*orders)
	hooks := r.m.Deliveries()
	hooks.Attempt(orders, dispatcher.Attempt{To: "subscriber", Number: 1, Code: 204})
	hooks.Delivered(orders, dispatcher.ResultDelivered, 1, time.Second)
	want(t, page(t, r.m),
		`leat_delivery_attempts_total{broker="b",channel="",code="204",namespace="ns",subscription="",to="subscriber",trigger="orders"} 1`,
		`leat_delivery_events_total{broker="b",channel="",namespace="ns",result="delivered",subscription="",trigger="orders"} 1`)
	r.d.RemoveTarget("t1")
	r.never(`trigger="orders"`)
	want(t, page(t, r.m), `leat_ingress_events_total{broker="b",channel="",namespace="ns"} 1`)
	if err := r.d.Detach(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	if err := r.log.Drop(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	r.never(`broker="b"`)
	// One of the same name begins anew, and is counted.
	if _, err := r.log.Ensure(t.Context(), channel.ID{Kind: "Broker", Namespace: "ns", Name: "b", UID: "2"}, channel.Config{}); err != nil {
		t.Fatal(err)
	}
	r.m.Request(broker.Served{Kind: "Broker", Namespace: "ns", Name: "b", Status: 202, Events: 2, Bytes: 3})
	want(t, page(t, r.m),
		`leat_ingress_requests_total{broker="b",channel="",code="202",namespace="ns"} 1`,
		`leat_ingress_events_total{broker="b",channel="",namespace="ns"} 2`,
		`leat_ingress_received_bytes_total{broker="b",channel="",namespace="ns"} 3`,
		`leat_ingress_request_duration_seconds_count{broker="b",channel="",namespace="ns"} 1`)
	want(t, page(t, r.m), `leat_ingress_requests_total{broker="",channel="",code="404",namespace=""} 1`)
}

func page(t testing.TB, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d, %v: %s", w.Code, err, body)
	}
	return string(body)
}

func missing(page string, lines ...string) (out []string) {
	for _, line := range lines {
		if !strings.Contains(page, line+"\n") {
			out = append(out, line)
		}
	}
	return out
}

func want(t *testing.T, page string, lines ...string) {
	t.Helper()
	for _, line := range missing(page, lines...) {
		t.Errorf("not in the page: %s", line)
	}
}

// until scrapes until ok.
func (r *rig) until(ok func(page string) bool) (last string, done bool) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-tick.C {
		if last = page(r.TB, r.m); ok(last) {
			return last, true
		}
	}
	return last, false
}

func (r *rig) eventually(lines ...string) {
	r.Helper()
	last, ok := r.until(func(page string) bool { return len(missing(page, lines...)) == 0 })
	if !ok {
		r.Fatalf("never in the page: %s\n%s", strings.Join(missing(last, lines...), "\n"), last)
	}
}

func (r *rig) never(text string) {
	r.Helper()
	if last, ok := r.until(func(page string) bool { return !strings.Contains(page, text) }); !ok {
		r.Fatalf("still in the page: %s\n%s", text, last)
	}
}

// lint is what `promtool check metrics` does, and that itself where it is
// installed.
func lint(t *testing.T, page string) {
	t.Helper()
	problems, err := promlint.New(strings.NewReader(page)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "leat_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Log("promtool is not installed here; the library it is made of has checked")
		return
	}
	c := exec.Command(promtool, "check", "metrics")
	c.Stdin = bytes.NewBufferString(page)
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
