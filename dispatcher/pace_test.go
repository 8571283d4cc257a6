package dispatcher

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leat-dev/leat/channel"
)

// crowd has deliveries at the head wait for so long, until it is stopped.
func (r *rig) crowd(wait time.Duration) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	head := new(sub)
	go func() {
		defer close(ended)
		for tick := time.NewTicker(time.Millisecond); ; {
			select {
			case <-tick.C:
				r.d.pacer.started(head, r.d.now()-int64(wait))
			case <-end:
				tick.Stop()
				return
			}
		}
	}()
	return func() { close(end); <-ended }
}

// behind is a rig with subscriptions that have n events to catch up with.
func behind(t *testing.T, n int, uids ...string) *rig {
	r := newRig(t, Options{})
	r.publish("x", n)
	time.Sleep(time.Second)
	var subs []channel.Subscription
	for _, uid := range uids {
		s := byType(uid, "")
		s.Start.At = "beginning"
		subs = append(subs, s)
		r.target(uid)
	}
	r.subscribe(subs...)
	return r
}

// TestWhatCatchesUpGivesWay: as long as deliveries at the head wait, few of the
// others go on at a time; otherwise they have their windows.
func TestWhatCatchesUpGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := behind(t, 50_000)
		defer r.end()
		r.f.on("http://late", takes(20*time.Millisecond))
		s := byType("late", "")
		s.Start.At = "beginning"
		r.target("late")
		r.subscribe(s)
		second := func() int {
			before := len(r.f.to("http://late"))
			time.Sleep(time.Second)
			return len(r.f.to("http://late")) - before
		}
		alone := second()
		if alone < 2500 {
			t.Fatalf("%d requests in a second with nobody else there, want windows of 100 each 20 ms", alone)
		}
		stop := r.crowd(10 * time.Millisecond)
		time.Sleep(time.Second)
		if n := r.f.now("http://late"); n > 6 {
			t.Errorf("%d requests are out while the head waits, want few", n)
		}
		if n := second(); n < 100 || n > 300 {
			t.Errorf("%d requests in a second while the head waits, want some 200", n)
		}
		stop()
		time.Sleep(time.Second)
		if n := second(); n < alone*9/10 {
			t.Errorf("%d requests in a second when the head waits no more, want %d", n, alone)
		}
		// A wait that lasts when nothing else goes on is not theirs.
		defer r.crowd(200 * time.Microsecond)()
		time.Sleep(3 * time.Second)
		if n := second(); n < alone/2 {
			t.Errorf("%d requests in a second while the head waits whatever they do, want more than half of %d", n, alone)
		}
	})
}

// TestLittleGoesOnBesideACrowdedHead: to a subscriber that answers at once one
// after another would be many. They begin with few where somebody is at the head,
// and a pause there does not make them more.
func TestLittleGoesOnBesideACrowdedHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := behind(t, 50_000)
		defer r.end()
		r.f.on("http://late", takes(100*time.Microsecond))
		within := func(d time.Duration) int {
			before := len(r.f.to("http://late"))
			time.Sleep(d)
			return len(r.f.to("http://late")) - before
		}
		stop := r.crowd(10 * time.Millisecond)
		time.Sleep(time.Second)
		s := byType("late", "")
		s.Start.At = "beginning"
		r.target("late")
		r.subscribe(s)
		if n := within(20 * time.Millisecond); n == 0 || n > 150 {
			t.Errorf("%d requests in the first 20 ms while the head waits, want less than two windows", n)
		}
		time.Sleep(time.Second)
		if n := within(time.Second); n < 500 || n > 1500 {
			t.Errorf("%d requests in a second while the head waits, want a thousand", n)
		}
		stop()
		if n := within(headPatience / 2); n > 100 {
			t.Errorf("%d requests in a short pause of the head, want no more than before", n)
		}
		time.Sleep(time.Second)
		if n := len(once(t, r.f.to("http://late"))); n != 50_000 {
			t.Errorf("%d of 50000 events were delivered a second after the head came to rest, want windows", n)
		}
	})
}

// TestLateOnesThatHang: whoever hangs while it catches up holds up nobody who
// catches up as well, even where the head waits.
func TestLateOnesThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := behind(t, 3000, "hangs", "well")
		r.f.on("http://hangs", hang)
		r.f.on("http://well", takes(10*time.Millisecond))
		stop := r.crowd(10 * time.Millisecond)
		time.Sleep(15 * time.Second)
		stop()
		if n := len(once(t, r.f.to("http://well"))); n != 3000 {
			t.Errorf("%d of 3000 events have come in 15 s", n)
		}
		r.kill()
	})
}

// TestCloseDropsWhatIsHeld: what has not begun is not begun any more.
func TestCloseDropsWhatIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := behind(t, 5000, "late")
		r.f.on("http://late", takes(time.Second))
		stop := r.crowd(10 * time.Millisecond)
		time.Sleep(3 * time.Second)
		stop()
		n := len(r.f.to("http://late"))
		began := time.Now()
		r.end()
		if took := time.Since(began); took > time.Second {
			t.Errorf("close took %v, want no more than the second that a request takes", took)
		}
		if more := len(r.f.to("http://late")) - n; more != 0 {
			t.Errorf("%d requests were begun by the end", more)
		}
		if held, late := r.d.pacer.held.len(), r.d.pacer.late.Load(); held != 0 || late != 0 {
			t.Errorf("%d are held, %d counted as late after the end", held, late)
		}
		// They are delivered in the next life.
		r.f.on("http://late", status(200))
		r.begin(Options{})
		r.target("late")
		time.Sleep(time.Minute)
		r.end()
		if got := len(slices.Compact(slices.Sorted(slices.Values(r.f.to("http://late"))))); got != 5000 {
			t.Errorf("%d of 5000 events were delivered", got)
		}
	})
}

func TestFIFO(t *testing.T) {
	var f fifo[int]
	next, want := 0, 0
	for round := range 1000 {
		for range round % 7 {
			f.push(next)
			next++
		}
		for range round % 6 {
			if got, ok := f.pop(); ok {
				if got != want {
					t.Fatalf("got %d, want %d", got, want)
				}
				want++
			} else if want != next {
				t.Fatalf("empty with %d in it", next-want)
			}
		}
		if f.len() != next-want {
			t.Fatalf("%d in it, want %d", f.len(), next-want)
		}
	}
	if len(f.items) > 3*f.len()+64 {
		t.Errorf("%d places are kept for %d", len(f.items), f.len())
	}
}
