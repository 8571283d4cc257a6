package http1

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestHeirTakesOver from who waits for too long, and from nobody else.
func TestHeirTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heirs atomic.Int64
		h := &heir{}
		h.takeOver = func() { heirs.Add(1) }
		wait := func(d time.Duration) bool { return h.wait(func() { time.Sleep(d) }) }
		for range 100 {
			if !wait(patience / 3) {
				t.Fatal("somebody takes over from one who waits for a moment")
			}
		}
		if wait(5*patience) || heirs.Load() != 1 {
			t.Errorf("%d take over from one who waits for long", heirs.Load())
		}
		// The heir waits for long itself, and for a moment while who was before it
		// still waits.
		late := make(chan bool)
		go func() { late <- wait(10 * patience) }()
		time.Sleep(3 * patience)
		if !wait(patience/3) || heirs.Load() != 2 {
			t.Errorf("the second heir cannot go on; %d have taken over", heirs.Load())
		}
		if wait(3*patience) || <-late || heirs.Load() != 3 {
			t.Errorf("%d have taken over, want 3", heirs.Load())
		}
		time.Sleep(time.Hour)
		if h.timer != nil {
			t.Error("it looks, though nobody waits")
		}
		if !wait(patience / 3) {
			t.Error("it cannot begin again")
		}
		h.end()
		if h.timer != nil {
			t.Error("it looks, though it has ended")
		}
	})
}
