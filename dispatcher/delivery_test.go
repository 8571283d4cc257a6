package dispatcher

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestOnlyMatchingEventsAreDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		r.subscribe(byType("a", "order"), byType("b", "invoice"), byType("all", ""))
		for _, uid := range []string{"a", "b", "all"} {
			r.target(uid)
		}
		r.publish("order", 3)
		r.publish("invoice", 2)
		synctest.Wait()
		for uid, want := range map[string]int{"a": 3, "b": 2, "all": 5} {
			if got := once(t, r.f.to("http://"+uid)); len(got) != want {
				t.Errorf("%s got %v, want %d events", uid, got, want)
			}
		}
		time.Sleep(time.Second)
		if r.Scan() != 5 || len(r.Cursors()) != 0 {
			t.Errorf("committed: scan %d, cursors %v; want 5 and none", r.Scan(), r.Cursors())
		}
	})
}

// TestWhatASenderKeepsIsItsOwn: requests and contexts are used again, but not
// those that a sender may still look at.
func TestWhatASenderKeepsIsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		r.subscribe(byType("a", ""))
		r.target("a")
		var mu sync.Mutex
		kept := make(map[*Request]string)
		contexts := make(map[context.Context]bool)
		r.f.on("http://a", func(ctx context.Context, q *Request) (Response, error) {
			mu.Lock()
			defer mu.Unlock()
			kept[q], contexts[ctx] = q.Event.ID, true
			return Response{Status: 200}, nil
		})
		for range 20 {
			r.publish("x", 10)
			time.Sleep(time.Second)
		}
		mu.Lock()
		defer mu.Unlock()
		if len(kept) != 200 || len(contexts) != 200 {
			t.Errorf("%d requests and %d contexts for 200 deliveries", len(kept), len(contexts))
		}
		for q, id := range kept {
			if q.Event == nil || q.Event.ID != id {
				t.Errorf("the request for %s became another: %+v", id, q)
			}
		}
	})
}

func TestBackoffSchedule(t *testing.T) {
	ms := func(n ...int) (out []time.Duration) {
		for _, x := range n {
			out = append(out, time.Duration(x)*time.Millisecond)
		}
		return out
	}
	hour := time.Hour
	zero := time.Duration(0)
	after := func(code int, v string) handler {
		h := status(code)
		return func(ctx context.Context, r *Request) (Response, error) {
			res, err := h(ctx, r)
			res.RetryAfter = v
			return res, err
		}
	}
	for _, c := range []struct {
		name   string
		p      Policy
		answer handler
		want   []time.Duration
	}{
		{"exponential", Policy{Retry: 4, Delay: 100 * time.Millisecond}, status(500), ms(0, 100, 300, 700, 1500)},
		{"linear", Policy{Retry: 4, Backoff: Linear, Delay: 100 * time.Millisecond}, status(500), ms(0, 100, 300, 600, 1000)},
		{"capped", Policy{Retry: 4, Delay: 100 * time.Millisecond, MaxDelay: 250 * time.Millisecond}, status(500), ms(0, 100, 300, 550, 800)},
		{"no answer", Policy{Retry: 2, Delay: time.Second}, unreachable, ms(0, 1000, 3000)},
		{"timeout", Policy{Retry: 1, Delay: time.Second, Timeout: 2 * time.Second}, hang, ms(0, 3000)},
		{"default timeout", Policy{Retry: 1, Delay: time.Second}, hang, ms(0, 61000)},
		{"default delay", Policy{Retry: 1}, status(503), ms(0, 200)},
		{"Retry-After in seconds", Policy{Retry: 1, Delay: time.Second}, after(503, "7"), ms(0, 7000)},
		{"Retry-After of 429", Policy{Retry: 1, Delay: time.Second}, after(429, "7"), ms(0, 7000)},
		{"Retry-After of 500 is ignored", Policy{Retry: 1, Delay: time.Second}, after(500, "7"), ms(0, 1000)},
		{"Retry-After shorter than the backoff", Policy{Retry: 1, Delay: 9 * time.Second}, after(503, "7"), ms(0, 9000)},
		{"Retry-After capped by backoffMax", Policy{Retry: 1, Delay: time.Second, MaxDelay: 5 * time.Second}, after(503, "7"), ms(0, 5000)},
		{"Retry-After capped by retryAfterMax", Policy{Retry: 1, Delay: time.Second, RetryAfterMax: &hour}, after(503, "99999"), ms(0, 3600_000)},
		{"Retry-After refused", Policy{Retry: 1, Delay: time.Second, RetryAfterMax: &zero}, after(503, "7"), ms(0, 1000)},
		// synctest's clock begins at midnight UTC 2000-01-01, a Saturday.
		{"Retry-After as a date", Policy{Retry: 1, Delay: time.Second}, after(503, "Sat, 01 Jan 2000 00:01:00 GMT"), ms(0, 60_000)},
		{"Retry-After malformed", Policy{Retry: 1, Delay: time.Second}, after(503, "soon"), ms(0, 1000)},
		{"not retried", Policy{Retry: 5}, status(400), ms(0)},
		{"redirect not retried", Policy{Retry: 5}, status(302), ms(0)},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Options{})
				defer r.end()
				r.subscribe(byType("a", ""))
				r.target("a", func(t *Target) { t.Delivery = c.p })
				r.f.on("http://a", c.answer)
				r.publish("x", 1)
				time.Sleep(3 * time.Hour)
				synctest.Wait()
				if diff := cmp.Diff(c.want, r.f.times("http://a")); diff != "" {
					t.Errorf("attempts (-want +got):\n%s", diff)
				}
				if l := len(r.kept()); l != 1 {
					t.Errorf("%d dead letters, want 1", l)
				}
			})
		})
	}
}

func TestJitterStaysBelowTheBackoff(t *testing.T) {
	p := Policy{Delay: time.Second, Jitter: true}
	var longest time.Duration
	for range 1000 {
		d := p.wait(2)
		if d < 0 || d > 4*time.Second {
			t.Fatalf("wait is %v, want at most 4 s", d)
		}
		longest = max(longest, d)
	}
	if longest < 2*time.Second {
		t.Errorf("longest of 1,000 waits is %v, want it spread up to 4 s", longest)
	}
}

func TestWaitNeverOverflows(t *testing.T) {
	for _, b := range []Backoff{Exponential, Linear} {
		for _, n := range []int{0, 1, 31, 61, 62, 63, 64, 1 << 30, 1 << 62} {
			d := Policy{Backoff: b, Delay: 300 * time.Hour, MaxDelay: 1000 * time.Hour}.wait(n)
			if d <= 0 || d > 1000*time.Hour {
				t.Errorf("%s wait %d is %v", b, n, d)
			}
		}
	}
}

func TestManyEventsInOrderOfArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		r.commitLag = time.Millisecond
		r.subscribe(byType("a", ""), byType("b", ""))
		r.target("a")
		r.target("b")
		r.f.on("http://a", takes(3*time.Millisecond))
		for range 100 {
			r.publish("x", 50)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		for _, u := range []string{"a", "b"} {
			if got := len(once(t, r.f.to("http://"+u))); got != 5000 {
				t.Errorf("%s got %d events, want 5000", u, got)
			}
		}
		if p := r.f.peak("http://a"); p > 100 {
			t.Errorf("%d requests were out at once", p)
		}
		if st := r.status("a"); st.Lag != 0 || st.Detached || st.Paused || st.InFlight+st.Uncommitted+st.Waiting != 0 {
			t.Errorf("status %+v, want nothing open", st)
		}
		if fmt.Sprint(r.Cursors()) != "map[]" || r.Scan() != 5000 {
			t.Errorf("scan %d, cursors %v", r.Scan(), r.Cursors())
		}
	})
}
