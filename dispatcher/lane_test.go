package dispatcher

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
)

// TestNoMoreThanTheHostTakes: what there is no connection for waits, and spends
// no attempt, however long that takes.
func TestNoMoreThanTheHostTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHost(t, 10)
		defer r.end()
		var subs []channel.Subscription
		for i := range 3 {
			uid := fmt.Sprint("s", i)
			subs = append(subs, byType(uid, ""))
			r.target(uid, func(t *Target) { t.Delivery.Timeout = 15 * time.Millisecond })
			r.f.on("http://"+uid, takes(10*time.Millisecond))
		}
		r.subscribe(subs...)
		r.publish("x", 500)
		time.Sleep(time.Second)
		for _, s := range subs {
			if n := len(once(t, r.f.to("http://"+s.UID))); n < 250 || n > 400 {
				t.Errorf("%s got %d events in a second of the 1000 that went out, want a third", s.UID, n)
			}
		}
		time.Sleep(time.Second)
		for _, s := range subs {
			if n := len(once(t, r.f.to("http://"+s.UID))); n != 500 {
				t.Errorf("%s got %d of 500 events", s.UID, n)
			}
		}
		if r.f.high != 10 {
			t.Errorf("%d requests were out at a time, want 10", r.f.high)
		}
		if n := len(r.d.lanes.byHost); n != 1 {
			t.Errorf("%d lanes", n)
		}
		for _, s := range subs {
			r.d.RemoveTarget(s.UID)
		}
		if n := len(r.d.lanes.byHost); n != 0 {
			t.Errorf("%d lanes without a target", n)
		}
	})
}

// TestTheHeadOverThoseThatCatchUp: who catches up does not take the connections
// of others, and gets its share of them.
func TestTheHeadOverThoseThatCatchUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHost(t, 8)
		defer r.end()
		r.publish("x", 20_000)
		time.Sleep(time.Second)
		late, head := byType("late", ""), byType("head", "")
		late.Start.At = "beginning"
		r.subscribe(late, head)
		for _, uid := range []string{"late", "head"} {
			r.target(uid)
			r.f.on("http://"+uid, takes(10*time.Millisecond))
		}
		time.Sleep(time.Second)
		for range 10 {
			n := len(r.f.to("http://head"))
			r.publish("x", 8)
			time.Sleep(25 * time.Millisecond)
			if got := len(r.f.to("http://head")) - n; got != 8 {
				t.Errorf("%d of 8 new events were sent within two requests' time", got)
			}
			time.Sleep(100 * time.Millisecond)
		}
		r.publish("x", 1000) // more than the host takes in a second
		n := len(r.f.to("http://late"))
		time.Sleep(500 * time.Millisecond)
		if got := len(r.f.to("http://late")) - n; got < 30 || got > 100 {
			t.Errorf("who catches up had %d of 400 requests, want an eighth", got)
		}
	})
}

// TestPlaces: a host that answers at once needs few, one that takes its time has
// as many as there may be, and so has one of whose answers some never come.
func TestPlaces(t *testing.T) {
	for name, c := range map[string]struct {
		takes     time.Duration // an answer
		cores     int           // that many answers at a time, the others wait
		low, high int
	}{
		"at once":       {takes: 50 * time.Microsecond, cores: 2, low: 32, high: 48},
		"in a while":    {takes: 5 * time.Millisecond, cores: 1 << 20, low: 256, high: 512},
		"slow":          {takes: time.Second, cores: 1 << 20, low: 512, high: 512},
		"nothing comes": {takes: 10 * time.Hour, cores: 1 << 20, low: 512, high: 512},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlaces(512)
			var now int64
			var most, sum, rounds int
			for range 500 {
				now += int64(placesInterval)
				each := c.takes * time.Duration(max(1, p.n/c.cores)) // of a round of n
				p.done += int(placesInterval) * p.n / int(each)
				p.waited = p.done
				p.look(now, 100)
				if now > int64(2*time.Second) {
					most, sum, rounds = max(most, p.n), sum+p.n, rounds+1
				}
			}
			if most > 512 || sum/rounds < c.low || sum/rounds > c.high {
				t.Errorf("%d places at most and %d on average, want %d to %d", most, sum/rounds, c.low, c.high)
			}
		})
	}
}

// TestWhoHangsLeavesPlaces: one subscriber that hangs does not hold up another
// one at the same host.
func TestWhoHangsLeavesPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHost(t, 512)
		r.subscribe(byType("hangs", ""), byType("well", ""))
		r.target("hangs")
		r.target("well")
		r.f.on("http://hangs", hang)
		r.publish("x", 1000)
		time.Sleep(time.Second)
		if got := len(once(t, r.f.to("http://well"))); got != 1000 {
			t.Errorf("the other subscriber has %d of 1000 events after a second", got)
		}
		if got := r.f.peak("http://hangs"); got != 100 {
			t.Errorf("%d requests hang, want a window of 100", got)
		}
		r.kill()
	})
}

// TestCloseDropsWhatHasNoConnection: the end waits for those that are out, and
// begins none of those that wait.
func TestCloseDropsWhatHasNoConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHost(t, 10)
		r.subscribe(byType("a", ""))
		r.target("a")
		r.f.on("http://a", takes(5*time.Second))
		r.publish("x", 250)
		synctest.Wait()
		began := time.Now()
		r.end()
		if d := time.Since(began); d != 5*time.Second || len(r.f.to("http://a")) != 10 {
			t.Errorf("close took %v, and %d requests were made; want the 5 s of the 10 that were out", d, len(r.f.to("http://a")))
		}
		r.breaksOff(250)
		r.end()
	})
}

// TestDetachWaitsForNoOther: what waits of one channel is let go, whatever those
// of another one at the same host do.
func TestDetachWaitsForNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHost(t, 10)
		other := newStore(t)
		other.id.UID = "channel-2"
		other.subscribe(byType("hangs", ""))
		r.target("hangs")
		r.f.on("http://hangs", hang)
		r.d.Attach(other.open())
		other.publish("x", 100)
		synctest.Wait()
		r.subscribe(byType("a", ""))
		r.target("a")
		r.publish("x", 100)
		time.Sleep(time.Second)
		began := time.Now()
		if err := r.d.Detach(t.Context(), r.id.UID); err != nil || time.Since(began) != 0 {
			t.Errorf("detach: %v after %v, want it at once", err, time.Since(began))
		}
		if n := len(r.f.to("http://a")); n != 0 {
			t.Errorf("%d requests were made", n)
		}
		r.kill()
	})
}

// TestDetachPassesItsTurnOn: where late deliveries are let go, late ones of
// another channel take their turn.
func TestDetachPassesItsTurnOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHosts(t, 10)
		late := func(st *store, uid string, h handler) {
			s := byType(uid, "")
			s.Start.At = "beginning"
			r.target(uid)
			r.f.on("http://"+uid, h)
			st.publish("x", 3000)
			time.Sleep(time.Second)
			st.subscribe(s)
			synctest.Wait()
		}
		late(r.store, "hangs", hang)
		stop := r.crowd(10 * time.Millisecond)
		other := newStore(t)
		other.id.UID = "channel-2"
		r.d.Attach(other.open())
		late(other, "well", takes(10*time.Millisecond))
		time.Sleep(50 * time.Millisecond)
		stop()
		p := r.d.pacer
		p.mu.Lock()
		p.limit, p.looked = 50, r.d.now() // some of those that are let go make room
		held := p.held.len()
		p.mu.Unlock()
		if held == 0 {
			t.Fatal("nothing is held")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.d.Detach(ctx, r.id.UID); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if n := len(once(t, r.f.to("http://well"))); n != 3000 {
			t.Fatalf("%d of 3000 events have come", n)
		}
		r.end()
	})
}

// TestSlowHostHoldsNoLateOnes: what waits for a slow host at the head of the log
// is not the fault of those that catch up at another.
func TestSlowHostHoldsNoLateOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHosts(t, 100)
		defer r.end()
		r.publish("x", 50_000)
		time.Sleep(time.Second)
		late, slow := byType("late", "x"), byType("slow", "y")
		late.Start.At = "beginning"
		r.target("late")
		r.f.on("http://late", takes(20*time.Millisecond))
		r.target("slow", func(t *Target) { t.MaxInFlight = 1000 })
		var n atomic.Int64
		r.f.on("http://slow", func(ctx context.Context, q *Request) (Response, error) {
			return takes(500*time.Millisecond+time.Duration(n.Add(1)%200)*5*time.Millisecond)(ctx, q)
		})
		r.subscribe(late, slow)
		synctest.Wait()
		r.publish("y", 1000)
		time.Sleep(time.Second)
		before := len(r.f.to("http://late"))
		time.Sleep(time.Second)
		if got := len(r.f.to("http://late")) - before; got < 2500 {
			t.Errorf("%d requests in a second, want windows of 100 each 20 ms", got)
		}
	})
}

// TestWhatWaitsMovesToANewAddress: where a subscriber is elsewhere from now on,
// what waits for the host where it was waits there no more.
func TestWhatWaitsMovesToANewAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHosts(t, 10)
		r.f.on("http://a", hang)
		r.subscribe(byType("a", ""))
		r.target("a")
		r.publish("x", 100)
		synctest.Wait()
		r.target("a", func(t *Target) { t.URL = "http://b" })
		time.Sleep(time.Second)
		if n := len(once(t, r.f.to("http://b"))); n != 90 {
			t.Errorf("%d requests at the new address, want the 90 that were not out", n)
		}
		if n := len(r.d.lanes.byHost); n != 2 {
			t.Errorf("%d lanes, want that of the new address, and of the old one as long as requests are out", n)
		}
		r.kill()
	})
}

// TestSinksTakeNoPlaces: what goes to a dead letter sink or on to a reply's takes
// no place from those at the subscriber's host.
func TestSinksTakeNoPlaces(t *testing.T) {
	answers := map[string]handler{
		"dead letters": status(400),
		"replies": func(context.Context, *Request) (Response, error) {
			return Response{Status: 200, Replies: []*event.Event{{ID: "r", Source: "/r", Type: "r"}}}, nil
		},
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newHost(t, 10)
				for _, uid := range []string{"a", "well"} {
					r.target(uid, func(t *Target) { t.DeadLetterURL, t.ReplyURL = "http://sink", "http://sink" })
				}
				r.f.on("http://a", answer)
				r.f.on("http://sink", hang)
				r.subscribe(byType("a", ""), byType("well", ""))
				r.publish("x", 100)
				time.Sleep(time.Second)
				if n := len(once(t, r.f.to("http://well"))); n != 100 {
					t.Errorf("the other subscriber has %d of 100 events after a second", n)
				}
				if n := r.f.now("http://sink"); n != 100 {
					t.Errorf("%d requests hang at the sink, want a window of 100", n)
				}
				r.kill()
			})
		})
	}
}

// newHosts is a rig in which each URL is a host with so many connections.
func newHosts(t *testing.T, most int) *rig {
	r := &rig{T: t, store: newStore(t), f: newFakeSender()}
	r.f.most, r.f.apart = most, true
	r.begin(Options{ScanEvents: 1000})
	return r
}
