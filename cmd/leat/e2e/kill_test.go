package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// received is a subscriber that remembers what it got.
type received struct {
	*httptest.Server
	mu    sync.Mutex
	first map[string]bool
	order []string // ids in the order they first came
}

func subscriber(t *testing.T, answer func(id string) int) *received {
	r := &received{first: map[string]bool{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		id := req.Header.Get("Ce-Id")
		status := answer(id)
		if status < 300 {
			r.mu.Lock()
			if !r.first[id] {
				r.first[id] = true
				r.order = append(r.order, id)
			}
			r.mu.Unlock()
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *received) missing(want map[string]bool) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ids []string
	for id := range want {
		if !r.first[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

// TestNothingAcknowledgedIsLostByKill: writers, an unfiltered, a filtered, an
// ordered and a failing subscriber; the server is killed twenty times, in a soak
// two hundred. What was
// answered with 202 reaches each subscriber that it matches, in order per key
// where that is asked for, and what was applied to the API is there.
func TestNothingAcknowledgedIsLostByKill(t *testing.T) {
	ok := func(string) int { return http.StatusOK }
	all, odd, ordered := subscriber(t, ok), subscriber(t, ok), subscriber(t, ok)
	var n atomic.Int64
	flaky := subscriber(t, func(string) int {
		if n.Add(1)%3 == 0 {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	s := startServer(t)
	s.apply(killResources(all, odd, ordered, flaky))

	acked := &ledger{ids: map[string]bool{}, byWriter: map[string][]string{}}
	done := 0
	for round := range rounds(t, 20, 200, 0.3) {
		done++
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() { acked.write(ctx, t, s.url("/default/kill"), fmt.Sprintf("r%d-w%d", round, w)) })
		}
		<-time.After(time.Duration(50+rand.IntN(250)) * time.Millisecond) // in mid-flow, at a point that nobody chose
		s.kill()
		cancel()
		wg.Wait()
		s.start()
		if err := s.tryApply(trigger("kept-"+fmt.Sprint(round), "", all.URL, "")); err != nil {
			t.Fatalf("round %d: the API does not take a write: %v", round, err)
		}
	}
	odds := maps.Clone(acked.ids)
	maps.DeleteFunc(odds, func(id string, _ bool) bool { return !isOdd(id) })
	t.Logf("%d rounds, %d events acknowledged", done, len(acked.ids))
	for name, c := range map[string]struct {
		got  *received
		want map[string]bool
	}{"all": {all, acked.ids}, "odd": {odd, odds}, "ordered": {ordered, acked.ids}, "flaky": {flaky, acked.ids}} {
		eventually(t, time.Minute, "everything acknowledged reaches "+name, func() bool { return len(c.got.missing(c.want)) == 0 })
	}
	ordered.mu.Lock()
	defer ordered.mu.Unlock()
	position := map[string]int{}
	for i, id := range ordered.order {
		position[id] = i
	}
	for w, ids := range acked.byWriter {
		if !slices.IsSortedFunc(ids, func(a, b string) int { return position[a] - position[b] }) {
			t.Errorf("writer %s's events did not come in order", w)
		}
	}
	for round := range done {
		u := parse(t, trigger("kept-"+fmt.Sprint(round), "", all.URL, ""))[0]
		if got := s.condition(u, "Ready"); strings.Contains(got, "not found") {
			t.Errorf("an acknowledged write to the API is gone: %s", got)
		}
	}
}

func isOdd(id string) bool { return (id[len(id)-1]-'0')%2 == 1 }

// ledger is what was acknowledged.
type ledger struct {
	mu       sync.Mutex
	ids      map[string]bool
	byWriter map[string][]string
}

// write sends events one after another until the server goes away.
func (l *ledger) write(ctx context.Context, t *testing.T, url, writer string) {
	for i := 0; ; i++ {
		id := fmt.Sprintf("%s-%d", writer, i)
		kind := "even"
		if isOdd(id) {
			kind = "odd"
		}
		status, body, err := post(ctx, url, id, kind, map[string]string{"Ce-Partitionkey": writer}, `{"n":1}`)
		if err != nil {
			return // no answer: the outcome is unknown
		}
		switch status {
		case http.StatusAccepted:
			l.mu.Lock()
			l.ids[id] = true
			l.byWriter[writer] = append(l.byWriter[writer], id)
			l.mu.Unlock()
		case http.StatusNotFound, http.StatusServiceUnavailable: // starting, or overloaded
		default:
			t.Errorf("event %s was answered %d: %s", id, status, body)
			return
		}
	}
}

func killResources(all, odd, ordered, flaky *received) string {
	return strings.Join([]string{
		"apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: kill}\nspec: {delivery: {retry: 50, backoffPolicy: linear, backoffDelay: PT0.01S}}",
		trigger("all", "", all.URL, ""),
		trigger("odd", "filters: [{expr: \"type == 'odd'\"}]", odd.URL, ""),
		trigger("ordered", "", ordered.URL, "leat.dev/delivery-order: ordered"),
		trigger("flaky", "", flaky.URL, ""),
	}, "\n---\n")
}

func trigger(name, filter, url, annotation string) string {
	return fmt.Sprintf("apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata:\n  name: %s\n  annotations: {%s}\nspec:\n  broker: kill\n  subscriber: {uri: %q}\n  %s\n", name, annotation, url, filter)
}
