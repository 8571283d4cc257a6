package raftlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// ErrWouldWait is what Begin gives where it cannot be told at once whether there
// is room: nothing has begun, and Propose waits until it is known.
var ErrWouldWait = errors.New("it would have to be waited for")

// Begin is Propose for who does not wait: done is called once, when cmd is
// applied or it is known that it will not be, or when by has passed, which
// leaves that open (ErrUnknownOutcome). It is given an error where Propose would
// give one, and where Apply gives one for the command. It is called on a
// goroutine that the log needs, so it must not wait. After an error of Begin it
// is not called. What has begun is on its way after the next Flush. cmd is copied.
func (g *Group) Begin(class Class, cmd []byte, by time.Time, done func(error)) error {
	err := g.begin(waiter{class: class, by: by, done: done}, cmd)
	if err == nil || errors.Is(err, ErrWouldWait) {
		return err
	}
	if h := g.o.Hooks.Proposed; h != nil {
		h(class, 0, err) // it has not waited for anything
	}
	return fmt.Errorf("log %s: %w", g.o.Name, err)
}

func (g *Group) begin(w waiter, cmd ...[]byte) error {
	if err := g.fits(cmd); err != nil {
		return err
	}
	if d := g.stall.lasts(); d > 0 && w.class == Events {
		return stalledFor(d)
	}
	if err := g.space.checkNow(w.class); err != nil {
		return err
	}
	return g.coalescer.begin(w, cmd...)
}

// Flush has what has begun on its way, at once where nothing else is.
func (g *Group) Flush() { g.coalescer.flush() }

// Commit is Flush for who may wait for the disk: where nothing else is on its way,
// the caller's own goroutine makes what has begun durable, and calls each done,
// before Commit returns. No other goroutine has to be woken for it, nor by it.
func (g *Group) Commit() { g.coalescer.commitHere() }

// waiter is who began a command, and does not wait for it.
type waiter struct {
	i         int // of the command in its batch
	class     Class
	began, by time.Time
	done      func(error)
}

// begin is propose for who does not wait; flush must follow.
func (c *coalescer) begin(w waiter, cmd ...[]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, room, err := c.reserve(w.class, sizeOf(cmd))
	if err != nil {
		return err
	}
	put(room, cmd)
	// One time will do for all that begin together: to ask for it takes longer than
	// to pack a small command.
	if c.beginning.IsZero() {
		c.beginning = time.Now()
	}
	w.i, w.began = b.n-1, c.beginning
	if c.late == nil {
		c.late = time.AfterFunc(time.Until(w.by), c.giveUp)
	}
	if b.waiters == nil {
		b.waiters = c.waiting()
	}
	b.waiters = append(b.waiters, w)
	return nil
}

// What is kept for later batches, of their own and of the room for waiters: so much as
// several take that are being told while others fill.
const (
	mostSpare     = 4
	mostSpareRoom = 2048
)

// emptyBatch is one that takes commands; mu is held.
func (c *coalescer) emptyBatch() *batch {
	n := len(c.unused)
	if n == 0 {
		return new(batch)
	}
	b := c.unused[n-1]
	c.unused = c.unused[:n-1]
	return b
}

// waiting is room for those who wait for a batch; mu is held.
func (c *coalescer) waiting() (room []waiter) {
	if n := len(c.spare); n > 0 {
		room, c.spare = c.spare[n-1], c.spare[:n-1]
	}
	return room
}

// keep takes back a batch, unless somebody waits on it, and the room of its waiters,
// who have all been told.
func (c *coalescer) keep(b *batch, waiters []waiter) {
	clear(waiters)
	unused := b.done == nil
	if unused {
		*b = batch{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if unused && len(c.unused) < mostSpare {
		c.unused = append(c.unused, b)
	}
	if cap(waiters) <= mostSpareRoom && len(c.spare) < mostSpare {
		c.spare = append(c.spare, waiters[:0])
	}
}

// flush has what has begun on its way, where nothing is in flight.
func (c *coalescer) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beginning = time.Time{}
	if c.flying == nil && len(c.queue) > 0 {
		c.wake()
	}
}

// commitHere is flush that commits, where nothing is in flight.
func (c *coalescer) commitHere() {
	c.mu.Lock()
	c.beginning = time.Time{}
	b := c.cut()
	if b != nil {
		c.telling.Add(1) // run waits for its end
	}
	c.mu.Unlock()
	if b == nil {
		return // whoever commits now has run woken for what waits
	}
	defer c.telling.Done()
	c.told(b, c.complete(b))
}

// giveUp tells those whose time has passed, and has it looked again when the
// next one's will have.
func (c *coalescer) giveUp() {
	var late []waiter
	var next time.Time
	c.mu.Lock()
	now := time.Now()
	for _, b := range append([]*batch{c.flying}, c.queue...) {
		if b == nil {
			continue
		}
		b.waiters = slices.DeleteFunc(b.waiters, func(w waiter) bool {
			if !w.by.After(now) {
				late = append(late, w)
				return true
			}
			if next.IsZero() || w.by.Before(next) {
				next = w.by
			}
			return false
		})
	}
	c.late = nil
	if !next.IsZero() {
		c.late = time.AfterFunc(next.Sub(now), c.giveUp)
	}
	c.mu.Unlock()
	c.tell(late, nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, context.DeadlineExceeded))
}

// takeWaiters takes who waits for a batch; mu is held. answer must follow.
func (c *coalescer) takeWaiters(b *batch) []waiter {
	w := b.waiters
	if b.waiters = nil; len(w) > 0 {
		c.telling.Add(1)
	}
	return w
}

// mostTold is how many waiters are told by one goroutine: each has an answer to
// write.
const mostTold = 256

// answer tells who waited for a batch: one on this goroutine, as none is woken
// sooner, several on others, which the log need not wait for.
func (c *coalescer) answer(b *batch, waiters []waiter) {
	if len(waiters) == 0 {
		return
	}
	if len(waiters) == 1 {
		c.told(b, waiters)
		return
	}
	defer c.telling.Done()
	var left atomic.Int64 // who have not been told
	left.Store(int64(len(waiters)))
	for some := range slices.Chunk(waiters, mostTold) {
		c.telling.Go(func() { // run waits for its end
			c.tell(some, b.results, b.err)
			if left.Add(-int64(len(some))) == 0 {
				c.keep(b, waiters)
			}
		})
	}
}

// told tells who waited for a batch, on this goroutine.
func (c *coalescer) told(b *batch, waiters []waiter) {
	if len(waiters) == 0 {
		return
	}
	defer c.telling.Done()
	c.tell(waiters, b.results, b.err)
	c.keep(b, waiters)
}

func (c *coalescer) tell(waiters []waiter, results []any, err error) {
	if err != nil {
		err = fmt.Errorf("log %s: %w", c.name, err)
	}
	now := time.Now()
	for i := range waiters {
		w := &waiters[i]
		outcome := err
		if outcome == nil {
			outcome, _ = resultOf(results, w.i).(error)
		}
		if c.proposed != nil {
			c.proposed(w.class, now.Sub(w.began), err)
		}
		w.done(outcome)
	}
}
