package channel

import (
	"context"
)

// Lender is what a Partition implements that has memory for events which is used
// again: most of what is read is of no use to anybody a moment later, and as garbage
// it would be most of what a server makes.
type Lender interface {
	// Lend reads as Read does. The events, their data and their lists are good
	// until the loan is returned, or for as long as somebody has a Hold on one;
	// their strings may be kept.
	Lend(ctx context.Context, offset uint64, max, maxBytes int, l *Loan) error
}

// Loan is what one reader has been lent by the last Lend; the next one returns it.
// The zero value is ready.
type Loan struct {
	Events []Stored
	of     []*runContent
	room   []Stored // for events of several runs
}

// Return ends the loan.
func (l *Loan) Return() {
	for i, c := range l.of {
		c.release()
		l.of[i] = nil
	}
	l.of = l.of[:0]
	clear(l.room)
	l.Events, l.room = nil, l.room[:0]
}

// Hold keeps an event that was lent as it is, beyond the loan. The zero value is
// that of an event that nobody has to give back.
type Hold struct{ c *runContent }

// Hold takes one. It is for who has the event on loan.
func (s *Stored) Hold() Hold {
	if s.in == nil || s.in.kept.Load() {
		return Hold{}
	}
	s.in.held.Add(1)
	return Hold{s.in}
}

// Release ends the hold: the event is not looked at any more.
func (h *Hold) Release() {
	if c := h.c; c != nil {
		h.c = nil
		c.release()
	}
}

// Keep ends the hold where somebody may look at the event for as long as he likes:
// its memory is not used again.
func (h *Hold) Keep() {
	if h.c != nil {
		h.c.kept.Store(true)
	}
	h.Release()
}

// acquire holds a run's content; it says no where nobody holds it any more.
func (c *runContent) acquire() bool {
	for {
		n := c.held.Load()
		if n == 0 {
			return false
		}
		if c.held.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release ends one hold. What the events lie in is free with the last one, unless
// somebody keeps them.
func (c *runContent) release() {
	switch n := c.held.Add(-1); {
	case n > 0:
	case n < 0:
		panic("channel: a run was released that nobody holds")
	case c.memory != nil && !c.kept.Load():
		m := c.memory
		c.memory, c.events, c.sizes = nil, nil, nil
		m.free()
	}
}
