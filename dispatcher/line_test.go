package dispatcher

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestLines: each subscription's deliveries wait in order, and the subscriptions
// in turns.
func TestLines(t *testing.T) {
	var l lines
	a, b, c := &sub{uid: "a"}, &sub{uid: "b"}, &sub{uid: "c"}
	push := func(s *sub, offsets ...uint64) {
		for _, off := range offsets {
			l.push(&item{sub: s, off: off})
		}
	}
	take := func(n int) (got []string) {
		for range n {
			it, ok := l.pop()
			if !ok {
				return append(got, "none")
			}
			got = append(got, it.sub.uid+string(rune('0'+it.off)))
		}
		return got
	}
	push(a, 1, 2, 3)
	push(b, 1)
	push(c, 1, 2)
	if got, want := take(4), []string{"a1", "b1", "c1", "a2"}; !slices.Equal(got, want) {
		t.Errorf("taken: %v, want %v", got, want)
	}
	push(b, 2, 3)
	if n := l.len(); n != 4 {
		t.Errorf("%d wait, want 4", n)
	}
	dropped := l.drop(func(it *item) bool { return it.sub == b && it.off == 2 || it.sub == c })
	if len(dropped) != 2 || l.len() != 2 {
		t.Errorf("%d are dropped and %d left, want 2 and 2", len(dropped), l.len())
	}
	if got, want := take(3), []string{"a3", "b3", "none"}; !slices.Equal(got, want) {
		t.Errorf("taken: %v, want %v", got, want)
	}
	if len(l.bySub) != 0 || l.len() != 0 {
		t.Errorf("%d lines of %d are kept by an empty one", len(l.bySub), l.len())
	}
	push(c, 3)
	if got := take(2); !slices.Equal(got, []string{"c3", "none"}) {
		t.Errorf("taken: %v", got)
	}
}

// TestSubscribersOfAHostInTurns: one with little to get at a host waits for no
// other's window.
func TestSubscribersOfAHostInTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHost(t, 1)
		defer r.end()
		r.subscribe(byType("much", "much"), byType("little", "little"))
		for _, uid := range []string{"much", "little"} {
			r.target(uid)
			r.f.on("http://"+uid, takes(time.Second))
		}
		r.publish("much", 90)
		time.Sleep(500 * time.Millisecond)
		r.publish("little", 5)
		time.Sleep(11 * time.Second)
		if n := len(r.f.to("http://little")); n != 5 {
			t.Errorf("%d of 5 were sent within the time of ten requests, beside one that has 90 to get", n)
		}
	})
}
