package kv

import (
	"context"
	"time"
)

// Gather says how a watch takes many writes together, for those whose work is the
// cheaper the more of it is done at once. A write comes at once, and so do several;
// only while many keep coming does the watch wait until some have gathered, and
// leaves the processors to those who write.
type Gather struct {
	// For is how long it waits at most; 0: it does not.
	For time.Duration
	// Rate is how many events a second are not many, on average; those of a tenth
	// of a second may come at once.
	Rate int
}

// gathering is a watch's state of it. It counts what may still come at once.
type gathering struct {
	Gather
	left float64
	at   time.Time // when events were delivered last, and left was right
}

// burst is how many events may come at once.
func (g Gather) burst() float64 { return max(float64(g.Rate)/10, 1) }

// delivered counts events that are handed over.
func (g *gathering) delivered(n int) {
	if g.For == 0 || n == 0 {
		return
	}
	now := time.Now()
	if g.at.IsZero() {
		g.left = g.burst()
	}
	g.left = min(g.left+now.Sub(g.at).Seconds()*float64(g.Rate), g.burst())
	// Not further below than it may be above: when fewer come it is noticed soon.
	g.left, g.at = max(g.left-float64(n), -g.burst()), now
}

// wait is how long the next events are to be waited for.
func (g *gathering) wait() time.Duration {
	if g.For == 0 || g.at.IsZero() {
		return 0
	}
	since := time.Since(g.at)
	if g.left+since.Seconds()*float64(g.Rate) >= 1 {
		return 0
	}
	return g.For - since
}

// gather waits until some events are together. It has no say when a marker is
// queued, or a batch is full, or the watch is over.
func (w *Watch) gather(ctx context.Context) error {
	d := w.gathering.wait()
	if d <= 0 || w.pressing() {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return nil
		case <-w.wake:
			if w.pressing() {
				return nil
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// pressing says whether what is queued is not to wait. Without anything queued
// there is no use in waiting for more.
func (w *Watch) pressing() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.queue)
	return w.err != nil || n == 0 || n >= min(batchEvents, w.s.o.WatchQueue/2) || w.queue[n-1].marker
}
