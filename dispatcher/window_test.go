package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
)

func TestAHangingSubscriberSlowsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		r.subscribe(byType("hangs", ""), byType("well", ""))
		r.target("hangs")
		r.target("well")
		r.f.on("http://hangs", hang)
		for range 50 {
			r.publish("x", 100)
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		if got := len(once(t, r.f.to("http://well"))); got != 5000 {
			t.Errorf("the other subscriber has %d events after 50 ms, want 5000", got)
		}
		if got := r.f.peak("http://hangs"); got != 100 {
			t.Errorf("%d requests hang, want a window of 100", got)
		}
		if st := r.status("hangs"); st.Detached {
			t.Errorf("detached after 50 ms: %+v", st)
		}
		time.Sleep(time.Second)
		if st := r.status("hangs"); !st.Detached || st.Lag != 4900 || st.InFlight != 100 {
			t.Errorf("status after a second %+v, want detached, 4900 behind, 100 in flight", st)
		}
		// It recovers, drains what it missed, and is attached again.
		r.f.on("http://hangs", status(200))
		time.Sleep(10 * time.Minute)
		if got := slices.Compact(slices.Sorted(slices.Values(r.f.to("http://hangs")))); len(got) != 5000 {
			t.Errorf("it got %d of 5000 events", len(got))
		}
		if st := r.status("hangs"); st.Detached || st.Lag != 0 {
			t.Errorf("status at the end %+v, want attached", st)
		}
		if len(r.Cursors()) != 0 {
			t.Errorf("cursors at the end: %v", r.Cursors())
		}
	})
}

// TestWindowCountsWhatIsNotCommitted: what is out and what is acknowledged but
// not committed never exceed the window together.
func TestWindowCountsWhatIsNotCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		r.commitErr = func() error { return errors.New("no space") }
		r.subscribe(byType("a", ""))
		r.target("a", func(t *Target) { t.MaxInFlight = 10 })
		r.publish("x", 500)
		time.Sleep(time.Minute)
		if got := len(r.f.to("http://a")); got != 10 {
			t.Errorf("%d events went out while nothing could be committed, want 10", got)
		}
		st := r.status("a")
		if st.Uncommitted != 10 || !st.Paused || st.Reason != ReasonCommitFailed {
			t.Errorf("status %+v, want paused because commits fail", st)
		}
		r.mu.Lock()
		r.commitErr = nil
		r.mu.Unlock()
		time.Sleep(time.Minute)
		if got := len(once(t, r.f.to("http://a"))); got != 500 {
			t.Errorf("%d events were delivered, want 500", got)
		}
	})
}

func TestWaitingEventsHoldNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		r.subscribe(byType("a", ""))
		r.target("a", func(t *Target) {
			t.MaxInFlight, t.MaxWaiting = 10, 25
			t.Delivery = Policy{Retry: 3, Delay: time.Hour, MaxDelay: time.Hour}
		})
		r.f.on("http://a", func(_ context.Context, q *Request) (Response, error) {
			if q.Event.Type == "bad" {
				return Response{Status: 500}, nil
			}
			return Response{Status: 200}, nil
		})
		r.publish("bad", 15)
		r.publish("good", 20)
		time.Sleep(time.Second)
		if got := len(r.f.to("http://a")); got != 35 {
			t.Errorf("%d attempts, want 35: waiting events hold no place in the window", got)
		}
		r.publish("bad", 15)
		r.publish("good", 20)
		time.Sleep(time.Second)
		st := r.status("a")
		// Those that were out when the 25th began to wait keep their place.
		if st.Waiting < 25 || st.Waiting > 35 || !st.Paused || st.Reason != ReasonMaxWaiting {
			t.Errorf("status %+v, want 25 waiting, at most a window more, and paused", st)
		}
		if got := len(r.f.to("http://a")); got >= 70 {
			t.Errorf("%d attempts, want fewer than 70: the scan stops at 25 waiting", got)
		}
		r.f.on("http://a", status(200))
		time.Sleep(2 * time.Hour)
		if st := r.status("a"); st.Paused || st.Waiting != 0 || st.Lag != 0 {
			t.Errorf("status after it recovered %+v", st)
		}
		if got := len(slices.Compact(slices.Sorted(slices.Values(r.f.to("http://a"))))); got != 70 {
			t.Errorf("%d events were delivered, want 70", got)
		}
	})
}

// TestCursorHoldsAtMostMaxRanges: every other event fails, so each success is
// a range of its own. The store checks the cursors.
func TestCursorHoldsAtMostMaxRanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		r.subscribe(byType("a", ""))
		r.target("a", func(t *Target) { t.Delivery = Policy{Retry: 100, Delay: time.Minute, Backoff: Linear} })
		r.f.on("http://a", func(_ context.Context, q *Request) (Response, error) {
			if q.Event.Type == "bad" {
				return Response{Status: 500}, nil
			}
			return Response{Status: 200}, nil
		})
		for range 600 {
			r.publish("bad", 1)
			r.publish("good", 1)
		}
		time.Sleep(30 * time.Second)
		st := r.status("a")
		if !st.Paused || st.Reason != ReasonCursorFull {
			t.Errorf("status %+v, want paused because the cursor is full", st)
		}
		if c := r.Cursors()["a"]; len(c.Done) < 200 || len(c.Done) > 256 {
			t.Errorf("the cursor has %d ranges, want some 256", len(c.Done))
		}
		r.f.on("http://a", status(200))
		time.Sleep(3 * time.Hour)
		if st := r.status("a"); st.Paused || st.Lag != 0 || len(r.Cursors()) != 0 {
			t.Errorf("status %+v, cursors %v, want all done", st, r.Cursors())
		}
	})
}

func TestOrderByKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		sub := byType("a", "")
		sub.Ordered = true
		r.subscribe(sub)
		r.target("a", func(t *Target) { t.Delivery = Policy{Retry: 5, Delay: time.Minute, MaxDelay: time.Minute} })
		r.f.on("http://a", func(ctx context.Context, q *Request) (Response, error) {
			if q.Event.PartitionKey() == "k1" && time.Since(r.f.began) < 30*time.Second {
				return Response{Status: 503}, nil
			}
			return takes(5*time.Millisecond)(ctx, q)
		})
		r.publish("x", 30, keyed(3))
		time.Sleep(10 * time.Second)
		var got []string
		for _, id := range r.f.to("http://a") {
			got = append(got, id)
		}
		byKey := func(ids []string) map[int][]string {
			out := make(map[int][]string)
			for _, id := range ids {
				var n int
				_, _ = fmt.Sscan(id, &n)
				out[n%3] = append(out[n%3], id)
			}
			return out
		}
		keys := byKey(got)
		if len(keys[0]) != 10 || len(keys[2]) != 10 || len(keys[1]) != 1 {
			t.Errorf("after 10 s: %v; want keys 0 and 2 done, and one attempt of key 1", keys)
		}
		if st := r.status("a"); st.Waiting != 1 || st.Blocked != 9 {
			t.Errorf("status %+v, want 1 waiting and 9 blocked", st)
		}
		time.Sleep(2 * time.Minute)
		keys = byKey(r.f.to("http://a"))
		for k, ids := range keys {
			first := slices.Compact(slices.Clone(ids))
			want := make([]string, 10)
			for i := range want {
				want[i] = fmt.Sprint(3*i + k)
			}
			if diff := cmp.Diff(want, first); diff != "" {
				t.Errorf("key %d (-want +got):\n%s", k, diff)
			}
		}
	})
}

// TestOrderHoldsBehindADeadLetter: an event of a key goes out only when it is
// durable that the one before has failed for good, or after a crash that one
// might still succeed, later.
func TestOrderHoldsBehindADeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		sub := byType("a", "")
		sub.Ordered = true
		r.subscribe(sub)
		r.target("a", func(t *Target) { t.DeadLetterURL = "http://dls" })
		r.commitErr = func() error { return errors.New("no space") }
		r.f.on("http://a", func(_ context.Context, q *Request) (Response, error) {
			if q.Event.ID == "0" {
				return Response{Status: 400}, nil
			}
			return Response{Status: 200}, nil
		})
		r.publish("x", 2)
		time.Sleep(time.Minute)
		if got := r.f.to("http://a"); !slices.Equal(got, []string{"0"}) {
			t.Errorf("attempts %v, want only the first: its end is not durable", got)
		}
		if got := r.f.to("http://dls"); !slices.Equal(got, []string{"0"}) {
			t.Errorf("dead letters %v, want the first", got)
		}
		r.mu.Lock()
		r.commitErr = nil
		r.mu.Unlock()
		time.Sleep(time.Minute)
		if got := r.f.to("http://a"); !slices.Equal(got, []string{"0", "1"}) {
			t.Errorf("attempts %v, want the second too", got)
		}
	})
}

func TestUnresolvedWaitsAndSpendsNoAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		r.subscribe(byType("a", ""), byType("never", ""))
		r.target("a", func(t *Target) { t.URL = "" })
		r.publish("x", 300)
		time.Sleep(24 * time.Hour)
		st := r.status("a")
		if !st.Paused || st.Reason != ReasonUnresolved || st.Lag != 300 {
			t.Errorf("status %+v, want paused, unresolved, 300 behind", st)
		}
		if n := len(r.kept()) + len(r.kinds("a")); n != 0 {
			t.Errorf("%d dead letters and outcomes", n)
		}
		r.target("a")
		time.Sleep(time.Second)
		if got := len(once(t, r.f.to("http://a"))); got != 300 {
			t.Errorf("%d events were delivered, want 300", got)
		}
		// While an event waits for its next attempt, the address goes away.
		r.f.on("http://a", status(500))
		r.target("a", func(t *Target) { t.Delivery.Retry = 1 })
		r.publish("x", 1)
		synctest.Wait()
		r.target("a", func(t *Target) { t.URL = "" })
		time.Sleep(time.Hour)
		if got := len(r.f.to("http://a")); got != 301 {
			t.Errorf("%d attempts, want 301: none without an address", got)
		}
		r.f.on("http://b", status(200))
		r.target("a", func(t *Target) { t.URL, t.Delivery.Retry = "http://b", 1 })
		synctest.Wait()
		if got := r.f.to("http://b"); len(got) != 1 {
			t.Errorf("the new address got %v, want the waiting event", got)
		}
	})
}

func TestIdleWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		r.subscribe(byType("a", "order"), byType("b", "never"))
		r.target("a")
		r.target("b")
		time.Sleep(24 * time.Hour)
		if n := len(r.committed()); n != 0 {
			t.Errorf("%d commits without an event", n)
		}
		r.publish("order", 1)
		time.Sleep(24 * time.Hour)
		commits := r.committed()
		if len(commits) != 1 || commits[0].Scan != 1 || len(commits[0].Cursors) != 0 {
			t.Errorf("commits %+v; want one, that moves only the scan's position", commits)
		}
		// Events that match nobody move it seldom.
		for range 100 {
			r.publish("nobody", 10)
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(r.committed()); n != 1 {
			t.Errorf("%d commits for events that match nobody, within 10 s", n-1)
		}
		time.Sleep(24 * time.Hour)
		if n := len(r.committed()); n != 2 || r.Scan() != 1001 {
			t.Errorf("%d commits in a day, scan at %d; want one, to 1001", n-1, r.Scan())
		}
	})
}

// TestNobodyIsWokenForNobody: where there is no subscription, the scan follows
// the log only now and then; whoever comes gets what comes from then on, or what
// is asked for.
func TestNobodyIsWokenForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{ScanEvents: 100})
		defer r.end()
		waits := func() int {
			synctest.Wait()
			r.store.mu.Lock()
			defer r.store.mu.Unlock()
			return r.store.waits
		}
		before := waits()
		for range 100 {
			r.publish("x", 1)
		}
		if n := waits() - before; n != 0 {
			t.Errorf("the scan was woken %d times for what is nobody's", n)
		}
		r.publish("x", 1)
		if n := waits() - before; n != 1 {
			t.Errorf("the scan was woken %d times when there is enough to pass over, want once", n)
		}
		r.publish("x", 10)
		all := byType("all", "")
		all.Start.At = "beginning"
		r.subscribe(byType("new", ""), all)
		for _, uid := range []string{"new", "all"} {
			r.target(uid)
		}
		r.publish("x", 2)
		time.Sleep(time.Second)
		r.publish("x", 1) // and each wakes the scan now
		time.Sleep(time.Second)
		for uid, want := range map[string]int{"new": 3, "all": 114} {
			if n := len(once(t, r.f.to("http://"+uid))); n != want {
				t.Errorf("%s: %d events, want %d", uid, n, want)
			}
		}
	})
}

func TestCommitCadence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		r.subscribe(byType("a", ""))
		r.target("a")
		began := time.Now()
		r.publish("x", 1)
		for len(r.committed()) == 0 {
			time.Sleep(time.Millisecond)
		}
		if d := time.Since(began); d < 95*time.Millisecond || d > 105*time.Millisecond {
			t.Errorf("one change was committed after %v, want 100 ms", d)
		}
		began = time.Now()
		r.publish("x", 50)
		synctest.Wait()
		if n := len(r.committed()); n != 2 || time.Since(began) > 0 {
			t.Errorf("%d commits %v after half a window, want one at once", n-1, time.Since(began))
		}
		// What changes later goes along with a commit that is due, and makes one
		// due when there is none.
		for range 3 {
			n := len(r.committed())
			for range 9 {
				r.publish("x", 1)
				time.Sleep(10 * time.Millisecond)
			}
			if got := len(r.committed()) - n; got != 0 {
				t.Errorf("%d commits of nine changes after 90 ms, want none", got)
			}
			time.Sleep(15 * time.Millisecond)
			if got := len(r.committed()) - n; got != 1 {
				t.Errorf("%d commits of nine changes after 105 ms, want one", got)
			}
			if st := r.status("a"); st.Uncommitted != 0 {
				t.Errorf("%d deliveries are not committed", st.Uncommitted)
			}
		}
	})
}

// TestACommitOnItsWayAsksForNoOther: another one follows at once where half a
// window has ended beside what the first one covers, and otherwise in its time.
func TestACommitOnItsWayAsksForNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		r.commitLag = 10 * time.Millisecond
		r.subscribe(byType("a", ""))
		r.target("a")
		r.publish("x", 50)
		time.Sleep(5 * time.Millisecond)
		r.publish("x", 40)
		time.Sleep(30 * time.Millisecond)
		if n, st := len(r.committed()), r.status("a"); n != 1 || st.Uncommitted != 40 {
			t.Errorf("%d commits, and %d deliveries wait for one; want one commit of 50", n, st.Uncommitted)
		}
		r.publish("x", 10)
		time.Sleep(5 * time.Millisecond)
		r.publish("x", 100) // of which half have room
		time.Sleep(25 * time.Millisecond)
		if n := len(once(t, r.f.to("http://a"))); n != 200 {
			t.Errorf("%d of 200 events were delivered within the time of three commits", n)
		}
	})
}

// TestDeadLetterAndCursorAreOneCommit also holds that no cursor passes an
// event before its dead letter is stored.
func TestDeadLetterAndCursorAreOneCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{CommitBytes: 3000})
		defer r.end()
		r.subscribe(byType("a", ""))
		r.target("a")
		r.f.on("http://a", func(context.Context, *Request) (Response, error) {
			return Response{Status: 422, Body: []byte("no")}, nil
		})
		r.publish("x", 20, func(_ int, e *event.Event) { e.Data = make([]byte, 1000) })
		time.Sleep(time.Minute)
		kept := make(map[uint64]bool)
		for i, c := range r.committed() {
			size := 0
			for _, l := range c.DeadLetters {
				kept[l.Offset] = true
				size += len(l.Event.Data)
			}
			if size > 3000 {
				t.Errorf("commit %d has %d bytes of dead letters", i, size)
			}
			low := c.Scan
			if cur, ok := c.Cursors["a"]; ok {
				low = cur.Low
				for _, d := range cur.Done {
					for o := d.From; o < d.To; o++ {
						if !kept[o] {
							t.Errorf("commit %d has offset %d done, which is not kept", i, o)
						}
					}
				}
			}
			for o := range low {
				if !kept[o] {
					t.Errorf("commit %d moves past offset %d, which is not kept", i, o)
				}
			}
		}
		if len(kept) != 20 || len(r.kept()) != 20 {
			t.Errorf("%d events kept in %d dead letters, want 20", len(kept), len(r.kept()))
		}
		l := r.kept()[0]
		if l.Attempts != 1 || l.Code != 422 || string(l.Answer) != "no" || !strings.Contains(l.Reason, "422") || l.Reply {
			t.Errorf("dead letter %+v", l)
		}
		if ks := r.kinds("a"); len(ks) != 20 || ks[0] != channel.Kept {
			t.Errorf("outcomes %v, want 20 times kept", ks)
		}
	})
}

func TestDeadLetterSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		r.subscribe(byType("a", ""))
		r.target("a", func(t *Target) {
			t.DeadLetterURL = "http://dls"
			t.Delivery = Policy{Retry: 2, Delay: time.Second, Backoff: Linear}
		})
		r.f.on("http://a", status(500))
		r.f.on("http://dls", failsFirst(1, status(503)))
		r.publish("x", 1)
		time.Sleep(time.Hour)
		// By the same policy: 0, 1, 3 s at the subscriber, at once at the sink.
		want := []time.Duration{3 * time.Second, 4 * time.Second}
		if diff := cmp.Diff(want, r.f.times("http://dls")); diff != "" {
			t.Errorf("attempts at the sink (-want +got):\n%s", diff)
		}
		if ks := r.kinds("a"); !slices.Equal(ks, []channel.OutcomeKind{channel.DeadLettered}) || len(r.kept()) != 0 {
			t.Errorf("outcomes %v, %d dead letters kept", ks, len(r.kept()))
		}
		// A sink that fails for good: the event stays in the log.
		r.f.on("http://dls", status(400))
		r.publish("x", 1)
		time.Sleep(time.Hour)
		if len(r.kept()) != 1 || !strings.Contains(r.kept()[0].Reason, "dead-letter http://dls answered 400") || r.kept()[0].Code != 500 {
			t.Errorf("dead letters %+v", r.kept())
		}
	})
}
