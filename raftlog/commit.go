package raftlog

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/segment"
)

// committer hands entries to raft and says what became of each.
//
// Where this node leads as the sole voter, an entry of its term is committed as
// soon as its own write is synced: nothing can undo it. It is applied and
// answered right there, on the goroutine that wrote it, and raft passes over it
// when its own loops have come round to it. In all other cases the answer is
// raft's.
type committer struct {
	g *Group

	mu      sync.Mutex
	current *flight // handed to raft, not yet answered

	// lastCommand is the index of the command entry that was stored last. What
	// was before the start is not known, so the first one goes raft's way. Only
	// raft's own goroutine, which stores, uses it.
	lastCommand uint64
	// early: the last command entry was answered here.
	early atomic.Bool

	// handing is held by who hands an entry to raft, until it is among the futures.
	handing sync.Mutex
	futures chan *flight // in the order they were handed to raft
}

// flight is an entry on its way.
type flight struct {
	data   []byte
	future raft.ApplyFuture
	finish func(results []any, err error)
}

// futuresBound is how many answered entries raft may still be busy with.
const futuresBound = 16

func newCommitter(g *Group) *committer {
	return &committer{g: g, lastCommand: math.MaxUint64, futures: make(chan *flight, futuresBound)}
}

// direct is the coalescer's: whether commit would wait neither for room nor for
// raft to come round to what is answered already. Nor must it wait for raft to be
// done with something else, which no context ends: a sole voter that leads has
// nothing but the entries that it is given.
func (c *committer) direct(bytes int) bool {
	return c.early.Load() && c.g.raft.State() == raft.Leader &&
		c.g.log.Room() >= int64(bytes)+raftMargin && len(c.futures) < cap(c.futures)
}

// commit is the coalescer's: it hands one entry to raft.
func (c *committer) commit(data []byte, finish func([]any, error)) {
	c.g.stall.begin()
	if c.g.log.Room() < int64(len(data))+raftMargin {
		if err := c.g.log.Reserve(); err != nil {
			c.g.stall.end()
			finish(nil, refusal(err))
			return
		}
	}
	f := &flight{data: data, finish: finish}
	c.handing.Lock()
	defer c.handing.Unlock()
	c.mu.Lock()
	c.current = f
	c.mu.Unlock()
	f.future = c.g.raft.Apply(data, 0)
	c.futures <- f
}

// end says that nothing more is handed to raft.
func (c *committer) end() {
	c.handing.Lock() // whoever was answered early may not have come round to it
	defer c.handing.Unlock()
	close(c.futures)
}

// run gives raft's answers, where they are awaited still, and ends raft where
// the group cannot go on, so that nobody waits for it.
func (c *committer) run() {
	for {
		select {
		case f, ok := <-c.futures:
			if !ok {
				return
			}
			c.await(f)
			continue
		default:
		}
		// What raft has been given before is answered by it, but for what is on the
		// way to the machine when it is shut down: so that is waited for first.
		select {
		case f, ok := <-c.futures:
			if !ok {
				return
			}
			c.await(f)
		case <-c.g.broken:
			_ = c.g.endRaft().Error() // is always nil
			c.unanswered()
			return
		}
	}
}

// unanswered gives the answers once raft has ended: what was on its way to the
// machine just then gets none of raft's.
func (c *committer) unanswered() {
	for f := range c.futures {
		if c.take(f.data) != nil {
			c.answer(f, nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, raft.ErrRaftShutdown))
		}
	}
}

func (c *committer) await(f *flight) {
	results, err := answerOf(f.future)
	if c.take(f.data) != nil {
		c.answer(f, results, err)
	}
}

// take returns the entry with this data, if it waits for its answer, which the
// caller gives it.
func (c *committer) take(data []byte) *flight {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.current
	if f == nil || unsafe.SliceData(f.data) != unsafe.SliceData(data) {
		return nil
	}
	c.current = nil
	return f
}

// answer ends a flight; the next one may begin before it returns.
func (c *committer) answer(f *flight, results []any, err error) {
	c.g.stall.end()
	f.finish(results, err)
}

// stored is told of entries that have just been written and synced, by the
// goroutine of raft that wrote them.
func (c *committer) stored(logs []*raft.Log) {
	for _, l := range logs {
		if l.Type != raft.LogCommand {
			continue
		}
		c.early.Store(c.alone() && c.applyEarly(l))
		c.lastCommand = l.Index
	}
}

// alone says whether what this node writes is committed by that. A node that
// takes entries from another one is a follower while it stores them. Raft's
// goroutine, which is the caller, takes a new configuration into use before it
// stores anything after it.
func (c *committer) alone() bool {
	g := c.g
	if !g.running.Load() || g.raft.State() != raft.Leader {
		return false
	}
	voters := 0
	for _, s := range g.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		if voters++; s.ID != raft.ServerID(g.o.NodeID) {
			return false
		}
	}
	return voters == 1
}

// applyEarly applies an entry that is committed, and answers it, if all command
// entries before it are applied; it says whether they are.
func (c *committer) applyEarly(l *raft.Log) bool {
	result, ok := c.g.fsm.applyNext(l, c.lastCommand)
	if !ok {
		return false
	}
	if f := c.take(l.Data); f != nil {
		results, err := resultsOf(result)
		c.answer(f, results, err)
		if len(results) == 1 {
			// Nobody waits for what raft does next, which takes about as long as
			// the way of an answer from here to its connection.
			runtime.Gosched()
		}
	}
	return true
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
