package raftlog

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/segment"
)

// committer makes entries durable and applies them.
//
// Where this node is the sole voter for good, an entry of its term is committed
// as soon as it is written and synced: nothing can undo it. So the committer
// writes it at the place that raft would give it, applies it and has its result,
// and tells raft of it later: raft finds it stored when it comes to write it, and
// applied when it comes to apply it. In all other cases raft writes the entry, and
// the answer is raft's.
type committer struct {
	g *Group

	// stored is the index of the last entry in the log, and told that of the last
	// one that raft was told of, once ahead is set.
	ahead        atomic.Bool
	stored, told atomic.Uint64
	term         uint64
	writing      raft.Log // the entry that is in flight

	telling chan struct{} // a token: held by who tells raft
	late    chan struct{} // wakes run: raft has much to be told of
	passed  chan struct{} // a token: raft has come to an entry that is applied
	settler chan struct{} // a token: held by who waits for passed
}

// Raft is told of entries when there are so many, in one go, and has to have been
// told when there are maxUntold.
const (
	tellAt    = 64
	maxUntold = 1024
)

func newCommitter(g *Group) *committer {
	return &committer{g: g, telling: make(chan struct{}, 1), late: make(chan struct{}, 1), passed: make(chan struct{}, 1), settler: make(chan struct{}, 1)}
}

// goAhead has entries written before raft knows of them, from here on: raft leads,
// has nothing under way, and nobody asks it for more than entries and snapshots.
func (c *committer) goAhead() error {
	last, err := c.g.log.LastIndex()
	if err != nil {
		return err
	}
	c.term = c.g.raft.CurrentTerm()
	c.stored.Store(last)
	c.told.Store(last)
	c.g.fsm.seen.Store(last)
	c.ahead.Store(true)
	return nil
}

// commit is the coalescer's: it makes one entry durable and applies it.
func (c *committer) commit(data []byte, in *Buffer, sums []segment.Sum) ([]any, error) {
	c.g.stall.begin()
	defer c.g.stall.end()
	if c.g.log.Room() < int64(len(data))+raftMargin {
		if err := c.g.log.Reserve(); err != nil {
			return nil, refusal(err)
		}
	}
	if !c.ahead.Load() {
		return c.await(c.g.raft.Apply(data, 0))
	}
	return c.store(data, in, sums)
}

// store writes an entry, and applies it.
func (c *committer) store(data []byte, in *Buffer, sums []segment.Sum) ([]any, error) {
	select {
	case <-c.g.broken:
		return nil, ErrNotLeader // it is ending
	default:
	}
	if c.g.raft.State() != raft.Leader {
		return nil, ErrNotLeader
	}
	l := &c.writing
	*l = raft.Log{Index: c.stored.Load() + 1, Term: c.term, Type: raft.LogCommand, Data: data, AppendedAt: time.Now()}
	defer func() { l.Data = nil }() // it may be used again
	switch err := c.g.log.StoreSummed(l, sums); {
	case errors.Is(err, segment.ErrFull):
		return nil, refusal(err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	results, err := resultsOf(c.g.fsm.applyStored(l, in))
	if err != nil {
		return nil, err // the group ends
	}
	c.stored.Store(l.Index)
	switch untold := l.Index - c.told.Load(); {
	case untold >= maxUntold:
		c.tell()
	case untold >= tellAt:
		select {
		case c.late <- struct{}{}:
		default:
		}
	}
	return results, nil
}

// tell tells raft of what is stored, in order. Raft has no use for the data, which
// goes to no other member, and is applied.
func (c *committer) tell() {
	c.telling <- struct{}{} // tests in fake time tell who waits for raft by channels only
	defer func() { <-c.telling }()
	for c.told.Load() < c.stored.Load() {
		_ = c.g.raft.Apply(nil, 0) // it waits for raft, and not for its answer
		c.told.Add(1)
	}
}

// settle has raft come round to all that was stored before, unless raft ends.
func (c *committer) settle() {
	if !c.ahead.Load() {
		return
	}
	c.settler <- struct{}{}
	defer func() { <-c.settler }()
	to := c.stored.Load()
	c.tell()
	for c.g.fsm.seen.Load() < to {
		select {
		case <-c.passed:
		case <-c.g.raftEnd:
			return
		}
	}
}

// sees is told that raft has come to an entry that is applied.
func (c *committer) sees() {
	select {
	case c.passed <- struct{}{}:
	default:
	}
}

// run tells raft of entries when there are many.
func (c *committer) run(ctx context.Context) {
	for {
		select {
		case <-c.late:
			c.tell()
		case <-ctx.Done():
			return
		}
	}
}

// await waits for raft's answer, which it gives to all but what is on its way to the
// machine when it is told to end.
func (c *committer) await(f raft.ApplyFuture) ([]any, error) {
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		_ = f.Error()
	}()
	select {
	case <-answered:
		return answerOf(f)
	case <-c.g.raftEnd:
	}
	_ = c.g.endRaft().Error() // is always nil
	select {
	case <-answered:
		return answerOf(f)
	default:
		return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, raft.ErrRaftShutdown)
	}
}

func answerOf(f raft.ApplyFuture) ([]any, error) {
	switch err := f.Error(); {
	case err == nil:
		return resultsOf(f.Response())
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return nil, ErrNotLeader
	case errors.Is(err, segment.ErrFull):
		return nil, refusal(err)
	default:
		return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
}

// resultsOf reads what fsm.Apply returned.
func resultsOf(response any) ([]any, error) {
	switch r := response.(type) {
	case []any:
		return r, nil
	case error:
		return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, r)
	default:
		return nil, fmt.Errorf("%w: apply answered %T", ErrUnknownOutcome, r)
	}
}
