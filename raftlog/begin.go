package raftlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	w := waiter{class: class, began: time.Now(), by: by, done: done}
	err := g.begin(cmd, w)
	if err == nil || errors.Is(err, ErrWouldWait) {
		return err
	}
	if h := g.o.Hooks.Proposed; h != nil {
		h(class, time.Since(w.began), err)
	}
	return fmt.Errorf("log %s: %w", g.o.Name, err)
}

func (g *Group) begin(cmd []byte, w waiter) error {
	if err := g.fits(cmd); err != nil {
		return err
	}
	if d := g.stall.lasts(); d > 0 && w.class == Events {
		return stalledFor(d)
	}
	if err := g.space.checkNow(w.class); err != nil {
		return err
	}
	return g.coalescer.begin(cmd, w)
}

// Flush has what has begun on its way, at once where nothing else is.
func (g *Group) Flush() { g.coalescer.flush() }

// waiter is who began a command, and does not wait for it.
type waiter struct {
	i         int // of the command in its batch
	class     Class
	began, by time.Time
	done      func(error)
}

// begin is propose for who does not wait; flush must follow.
func (c *coalescer) begin(cmd []byte, w waiter) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, err := c.pack(w.class, cmd)
	if err != nil {
		return err
	}
	w.i = b.n - 1
	if c.late == nil {
		c.late = time.AfterFunc(time.Until(w.by), c.giveUp)
	}
	b.waiters = append(b.waiters, w)
	return nil
}

// flush has what has begun on its way, where nothing is in flight.
func (c *coalescer) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flying == nil && len(c.queue) > 0 {
		c.wake()
	}
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
	defer c.telling.Done()
	if len(waiters) == 1 {
		c.tell(waiters, b.results, b.err)
		return
	}
	for some := range slices.Chunk(waiters, mostTold) {
		c.telling.Go(func() { c.tell(some, b.results, b.err) }) // run waits for its end
	}
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
			outcome, _ = results[w.i].(error)
		}
		if c.proposed != nil {
			c.proposed(w.class, now.Sub(w.began), err)
		}
		w.done(outcome)
	}
}
