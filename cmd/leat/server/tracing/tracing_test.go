package tracing

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/leat-dev/leat/api/event"
)

// counts are what became of spans.
type counts struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *counts) add(result string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[result] += n
}

func (c *counts) get(result string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[result]
}

func start(t *testing.T, endpoint string, queue int, ratio float64) (*Exporter, *counts, *bytes.Buffer) {
	t.Helper()
	c, log := &counts{n: map[string]int{}}, &bytes.Buffer{}
	e, err := Start(t.Context(), Options{
		Endpoint: endpoint, Queue: queue, Ratio: ratio, Counted: c.add, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return e, c, log
}

func sampled() event.Span {
	s := event.Span{Context: event.NewTrace(), Name: "x", Start: time.Now(), End: time.Now()}
	s.Context.Flags = 1
	return s
}

// TestCollectorThatHangs: nobody waits for it, the queue does not grow, what
// does not fit is counted, and Close breaks the upload off.
func TestCollectorThatHangs(t *testing.T) {
	arrived, release := make(chan struct{}, 10), make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	}))
	defer hanging.Close()
	defer close(release)
	const queue = 100
	e, c, _ := start(t, hanging.URL, queue, 1)
	for range batchSteps { // one upload
		for len(e.queue) == queue { // the loop takes them
			<-time.After(time.Millisecond)
		}
		e.Record(sampled())
	}
	<-arrived
	const more = 10_000
	began := time.Now()
	for range more {
		e.Record(sampled())
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("%s to record what nobody takes", took)
	}
	if got := c.get("dropped"); got != more-queue {
		t.Errorf("%d dropped, want %d", got, more-queue)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Close(ctx); err != nil {
		t.Error(err)
	}
	if got := c.get("failed"); got != batchSteps+queue {
		t.Errorf("%d failed, want %d", got, batchSteps+queue)
	}
}

// TestCollectorThatRefuses is told of once, and what it takes later is sent.
func TestCollectorThatRefuses(t *testing.T) {
	var mu sync.Mutex
	status := http.StatusBadRequest
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.WriteHeader(status)
	}))
	defer refusing.Close()
	e, c, log := start(t, refusing.URL, 10, 1)
	for n := range 2 {
		e.Record(sampled())
		until(t, func() bool { return c.get("failed") == n+1 })
	}
	mu.Lock()
	status = http.StatusOK
	mu.Unlock()
	e.Record(sampled())
	until(t, func() bool { return c.get("exported") == 1 })
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "does not take traces"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log)
	}
	if !strings.Contains(log.String(), "takes traces again") {
		t.Errorf("its return is not logged:\n%s", log)
	}
}

// TestCloseSendsWhatIsLeft, also what has not waited for its batch.
func TestCloseSendsWhatIsLeft(t *testing.T) {
	taking := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer taking.Close()
	e, c, _ := start(t, taking.URL, 2000, 1)
	const n = 1500
	for range n {
		e.Record(sampled())
	}
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if got := c.get("exported"); got != n {
		t.Errorf("%d exported, want %d", got, n)
	}
}

// TestWhatIsRecorded: what is sampled, and what went wrong.
func TestWhatIsRecorded(t *testing.T) {
	e := &Exporter{queue: make(chan event.Span, 10), o: Options{Counted: func(string, int) {}}}
	plain := event.Span{Context: event.NewTrace()}
	failed := plain
	failed.Error = "x"
	for _, s := range []event.Span{plain, failed, sampled()} {
		e.Record(s)
	}
	if len(e.queue) != 2 {
		t.Errorf("%d recorded, want 2", len(e.queue))
	}
}

func TestRatio(t *testing.T) {
	for ratio, want := range map[float64][2]int{0: {0, 0}, 1: {10_000, 10_000}, 0.25: {2200, 2800}} {
		e := &Exporter{bound: bound(ratio)}
		n := 0
		for range 10_000 {
			if e.Samples(event.NewTrace().TraceID) {
				n++
			}
		}
		if n < want[0] || n > want[1] {
			t.Errorf("ratio %v sampled %d of 10000", ratio, n)
		}
	}
}

func TestEndpoint(t *testing.T) {
	for in, want := range map[string]string{
		"http://h:4318": "http://h:4318/v1/traces", "https://h/": "https://h/v1/traces", "http://h/x/traces": "http://h/x/traces",
		"h:4318": "", "": "", "ftp://h": "", "http://u:p@h": "", "http://h?k=v": "",
	} {
		u, err := Endpoint(in)
		if (err == nil) != (want != "") || err == nil && u.String() != want {
			t.Errorf("%q: %v, %v; want %q", in, u, err, want)
		}
	}
}

func until(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not happen")
		}
	}
}
