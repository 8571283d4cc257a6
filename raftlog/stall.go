package raftlog

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// stallWatch notices that an entry on its way to disk does not come back. A disk
// that hangs reports nothing: what waits for it would fill the queue, be given up
// by its callers one after another, and be written all the same when the disk is
// back. So after a while events are refused before they are taken in.
type stallWatch struct {
	after  time.Duration
	logger *slog.Logger

	mu     sync.Mutex
	timer  *time.Timer // runs while an entry is on its way
	since  time.Time   // when it went; zero: none is
	told   bool        // that it takes too long
	opened time.Time
	// stalled is when the entry went that takes too long, in ns after opened; 0:
	// none does.
	stalled atomic.Int64
}

func newStallWatch(after time.Duration, logger *slog.Logger) *stallWatch {
	w := &stallWatch{after: after, logger: logger, opened: time.Now()}
	w.timer = time.AfterFunc(after, w.late)
	w.timer.Stop()
	return w
}

// begin and end are called around what must come back.
func (w *stallWatch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since = time.Now()
	w.timer.Reset(w.after)
}

func (w *stallWatch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
	if w.told {
		w.logger.Info("the disk answers again", "after", time.Since(w.since))
	}
	w.since, w.told = time.Time{}, false
	w.stalled.Store(0)
}

// late runs when the timer fires, which may be after the end of what it was set
// for.
func (w *stallWatch) late() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since.IsZero() || time.Since(w.since) < w.after {
		return
	}
	w.told = true
	w.stalled.Store(max(1, int64(w.since.Sub(w.opened))))
	w.logger.Error("the disk does not answer; events are refused until it does", "for", time.Since(w.since))
}

// lasts is how long the entry on its way has been, where that is too long; else 0.
func (w *stallWatch) lasts() time.Duration {
	at := w.stalled.Load()
	if at == 0 {
		return 0
	}
	return time.Since(w.opened) - time.Duration(at)
}

// stalledFor is the error for an event that comes during a stall.
func stalledFor(d time.Duration) error {
	return fmt.Errorf("%w for %s", ErrStalled, d.Round(time.Second))
}

// Stalled is how long the disk has not answered, where that is longer than
// Options.StallAfter; else 0.
func (g *Group) Stalled() time.Duration {
	return max(g.stall.lasts(), g.space.stalled())
}
