package http1

import (
	"sync"
	"time"
)

// patience is how long the goroutine of a loop may wait for a disk until another one
// takes the loop over. Most disks are faster, and one that is not costs a goroutine.
const patience = 20 * time.Millisecond

// heir has another goroutine go on with something where the one that does it waits
// for long. It looks at it while there are waits only.
type heir struct {
	takeOver func() // what the other goroutine does

	mu      sync.Mutex
	timer   *time.Timer // looks; nil: nobody does
	waits   uint64      // that have begun
	looked  uint64      // waits when it was looked last
	began   time.Time   // the wait; zero: none
	stopped bool
}

// wait calls f, which may wait. It says no where another goroutine has gone on
// meanwhile: then the caller must not.
func (h *heir) wait(f func()) bool {
	h.mu.Lock()
	h.waits++
	n := h.waits
	h.began = time.Now()
	if h.timer == nil && !h.stopped {
		h.timer = time.AfterFunc(patience, h.look)
	}
	h.mu.Unlock()
	f()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waits != n || h.began.IsZero() {
		return false
	}
	h.began = time.Time{}
	return true
}

// look has another goroutine take over from one that has waited for too long.
func (h *heir) look() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timer = nil
	left := patience
	if !h.began.IsZero() {
		if left = patience - time.Since(h.began); left <= 0 {
			h.began = time.Time{}
			go h.takeOver() // ends as the one does that it takes over from
			left = patience
		}
	} else if h.looked == h.waits {
		return
	}
	h.looked = h.waits
	if !h.stopped {
		h.timer = time.AfterFunc(left, h.look)
	}
}

// end has it look no more.
func (h *heir) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped = true
	if h.timer != nil {
		h.timer.Stop()
		h.timer = nil
	}
}
