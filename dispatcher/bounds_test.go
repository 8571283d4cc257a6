package dispatcher

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/filter"
)

// runner is the only partition's.
func (r *rig) runner() *runner {
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	return r.d.runners[r.id.UID][0]
}

// TestWhatWaitsHoldsNoPayload: events that wait for their next attempt or
// behind their key are offsets, however many they are.
func TestWhatWaitsHoldsNoPayload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		ordered := byType("ordered", "")
		ordered.Ordered = true
		r.subscribe(byType("plain", ""), ordered)
		for _, uid := range []string{"plain", "ordered"} {
			r.target(uid, func(t *Target) { t.Delivery = Policy{Retry: 9, Delay: time.Hour} })
			r.f.on("http://"+uid, status(500))
		}
		r.publish("x", 50, keyed(2))
		time.Sleep(time.Second)
		for _, s := range r.runner().subs {
			s.mu.Lock()
			n := 0
			for it := s.w.head; it != nil; it = it.next {
				n++
				if it.ev != nil {
					t.Errorf("%s: offset %d holds its event", s.uid, it.off)
				}
			}
			if n != 50 || s.slots != 0 {
				t.Errorf("%s: %d events open, %d in the window; want 50 that wait", s.uid, n, s.slots)
			}
			s.mu.Unlock()
		}
		if b := r.d.budget.bytes.Load(); b != 0 {
			t.Errorf("the budget counts %d bytes", b)
		}
	})
}

// TestAllSubscriptionsTogetherStayWithinTheBudget: each has at least one
// request out, and all together no more than the bound and one each.
func TestAllSubscriptionsTogetherStayWithinTheBudget(t *testing.T) {
	const payload = 1000
	for name, o := range map[string]Options{"requests": {MaxRequests: 40}, "bytes": {MaxRequestBytes: 40 * payload}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, o)
				uids := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
				var subs []channel.Subscription
				for _, uid := range uids {
					subs = append(subs, byType(uid, ""))
					r.target(uid)
					r.f.on("http://"+uid, hang)
				}
				r.subscribe(subs...)
				for range 100 {
					r.publish("x", 1, withData(payload))
					synctest.Wait()
				}
				total := 0
				for _, uid := range uids {
					n := r.f.peak("http://" + uid)
					if n == 0 {
						t.Errorf("%s has no request out", uid)
					}
					total += n
				}
				if total > 40+len(uids) || total < 20 {
					t.Errorf("%d requests are out, want some 40 at most", total)
				}
				for _, uid := range uids {
					r.f.on("http://"+uid, status(200))
				}
				time.Sleep(time.Hour)
				for _, uid := range uids {
					if st := r.status(uid); st.Lag+uint64(st.InFlight+st.Waiting) != 0 {
						t.Errorf("%s: %+v", uid, st)
					}
				}
				r.end()
			})
		})
	}
}

// TestAllThatWaitsTogetherIsBounded: beyond the bound what fails keeps its
// place in the window.
func TestAllThatWaitsTogetherIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{MaxWaiting: 30})
		defer r.end()
		ordered := byType("c", "")
		ordered.Ordered = true
		r.subscribe(byType("a", ""), byType("b", ""), ordered)
		for _, uid := range []string{"a", "b", "c"} {
			r.target(uid, func(t *Target) { t.MaxInFlight, t.Delivery = 10, Policy{Retry: 99, Delay: time.Hour} })
			r.f.on("http://"+uid, status(500))
		}
		for range 200 {
			r.publish("x", 1, keyed(1))
			synctest.Wait()
		}
		if n := r.d.budget.waiting.Load(); n < 20 || n > 30 {
			t.Errorf("%d events wait outside their windows, want 30 at most", n)
		}
		for _, uid := range []string{"a", "b", "c"} {
			r.f.on("http://"+uid, status(200))
		}
		time.Sleep(1000 * time.Hour)
		for _, uid := range []string{"a", "b", "c"} {
			if st := r.status(uid); st.Lag != 0 || st.Waiting+st.Blocked != 0 || len(r.kept()) != 0 {
				t.Errorf("%s: %+v", uid, st)
			}
		}
	})
}

// TestFilterThatFailsBehindTheScan: who reads from its own position is matched
// one by one, and an error matches there no more than in the scan.
func TestFilterThatFailsBehindTheScan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counted := make(chan string, 100)
		r := newRig(t, Options{Hooks: Hooks{FilterError: func(uid string, _ *Target) { counted <- uid }}})
		defer r.end()
		r.publish("x", 20)
		synctest.Wait() // the scan has passed them
		fails, well := byType("fails", ""), byType("well", "")
		fails.Filter = filter.Spec{Filters: []filter.Node{{CESQL: "1 / (INT(id) - INT(id)) = 1"}}}.Canonical()
		fails.Start.At, well.Start.At = "beginning", "beginning"
		r.subscribe(fails, well)
		r.target("fails")
		r.target("well")
		time.Sleep(time.Minute)
		if got, other := r.f.to("http://fails"), once(t, r.f.to("http://well")); len(got) != 0 || len(other) != 20 || len(counted) != 20 {
			t.Errorf("%d delivered, %d to the other, %d failures counted; want 0, 20, 20", len(got), len(other), len(counted))
		}
		if got := r.kinds("fails"); len(got) == 0 || got[0] != channel.FilterError {
			t.Errorf("outcomes %v", got)
		}
	})
}

// TestAMatcherThatPanics: each filter is asked by itself then.
func TestAMatcherThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		r.subscribe(byType("a", "x"), byType("b", "y"))
		r.target("a")
		r.target("b")
		synctest.Wait()
		run := r.runner()
		run.scanMu.Lock()
		run.view = nil // whatever is asked of it panics
		run.scanMu.Unlock()
		r.publish("x", 3)
		synctest.Wait()
		if got, other := r.f.to("http://a"), r.f.to("http://b"); len(got) != 3 || len(other) != 0 {
			t.Errorf("delivered %v and %v, want the three to a", got, other)
		}
	})
}
