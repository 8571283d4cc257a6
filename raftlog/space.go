package raftlog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/leat-dev/leat/raftlog/segment"
	"github.com/leat-dev/leat/raftlog/vfs"
)

// spaceAge is how old a reading of the free space may be. What can be written
// in that time is far below the distance of floor and reserve.
const spaceAge = 50 * time.Millisecond

// space guards the disk: raft must never meet a full one, for it cannot take a
// write back. One goroutine reads what is free, when it is asked to: where the
// disk does not answer, that alone hangs, and those who asked wait with a context.
type space struct {
	fs             vfs.FS
	dir            string
	clock          Clock
	floor, reserve uint64
	stallAfter     time.Duration
	ready          func() error // whether the log's next segment exists

	free atomic.Uint64
	read atomic.Int64 // when free was read, ns

	asked chan struct{} // holds a token when a reading is wanted
	ended chan struct{} // closed when nobody reads any more
	mu    sync.Mutex
	next  chan struct{} // closed when the next reading is there
	began time.Time     // of the reading at hand; zero: there is none
	err   error         // of the last reading
}

func newSpace(fs vfs.FS, dir string, o Options, ready func() error) *space {
	return &space{
		fs: fs, dir: dir, clock: o.Clock, floor: o.DiskFloor, reserve: o.DiskReserve, stallAfter: o.StallAfter, ready: ready,
		asked: make(chan struct{}, 1), ended: make(chan struct{}), next: make(chan struct{}),
	}
}

// run reads what is free whenever that is asked for.
func (s *space) run(ctx context.Context) {
	defer close(s.ended)
	for {
		select {
		case <-s.asked:
			s.look()
		case <-ctx.Done():
			return
		}
	}
}

func (s *space) look() {
	s.mu.Lock()
	s.began = time.Now()
	s.mu.Unlock()
	now := s.clock.Now().UnixNano()
	free, _, err := s.fs.Free(s.dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.began, s.err = (time.Time{}), err; err == nil {
		s.free.Store(free)
		s.read.Store(now)
	}
	close(s.next)
	s.next = make(chan struct{})
}

// check refuses a command that must not be written now: with ErrDiskFull, or
// with ErrStalled where the disk does not tell what is free.
func (s *space) check(ctx context.Context, class Class) error {
	free, err := s.current(ctx)
	switch {
	case errors.Is(err, ErrStalled), errors.Is(err, ErrClosed):
		return err
	case err != nil:
		return fmt.Errorf("%w: cannot tell what is free: %w", ErrDiskFull, err)
	}
	return s.judge(class, free)
}

// checkNow is check for who does not wait: where the reading is old it asks for
// another one, and where it is twice as old as it may be it gives ErrWouldWait.
func (s *space) checkNow(class Class) error {
	age := s.clock.Now().UnixNano() - s.read.Load()
	if age < 0 || age >= 2*int64(spaceAge) {
		return ErrWouldWait
	}
	if age >= int64(spaceAge) {
		s.mu.Lock()
		s.ask()
		s.mu.Unlock()
	}
	return s.judge(class, s.free.Load())
}

// ask wants a reading, if none is at hand; mu is held.
func (s *space) ask() {
	if !s.began.IsZero() {
		return
	}
	select {
	case s.asked <- struct{}{}:
	default:
	}
}

// judge refuses a command for what is free.
func (s *space) judge(class Class, free uint64) error {
	floor := s.reserve
	if class == Events {
		floor = s.floor
	}
	if free < floor {
		return fmt.Errorf("%w: %d MiB free in %s, %d needed", ErrDiskFull, free>>20, s.dir, floor>>20)
	}
	if class == Events {
		if err := s.ready(); err != nil {
			return refusal(err)
		}
	}
	return nil
}

// current is what is free, read at most spaceAge ago.
func (s *space) current(ctx context.Context) (uint64, error) {
	now := s.clock.Now().UnixNano()
	// A clock that was set back must not make a reading last.
	if age := now - s.read.Load(); age >= 0 && age < int64(spaceAge) {
		return s.free.Load(), nil
	}
	if d := s.stalled(); d > 0 {
		return s.free.Load(), stalledFor(d)
	}
	s.mu.Lock()
	next := s.next
	s.ask()
	s.mu.Unlock()
	late := time.NewTimer(s.stallAfter)
	defer late.Stop()
	select {
	case <-next:
	case <-late.C:
		return s.free.Load(), stalledFor(s.stallAfter)
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: what is free in %s was not told in time: %w", ErrStalled, s.dir, context.Cause(ctx))
	case <-s.ended:
		return 0, ErrClosed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free.Load(), s.err
}

// stalled is how long the reading at hand has been, where that is too long; else 0.
func (s *space) stalled() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.began.IsZero() {
		return 0
	}
	if d := time.Since(s.began); d >= s.stallAfter {
		return d
	}
	return 0
}

// raftMargin is kept in the existing segments for raft's own entries.
const raftMargin = 64 << 10

// refusal gives what the log refuses before writing the error that callers look
// for.
func refusal(err error) error {
	switch {
	case errors.Is(err, segment.ErrFull):
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	case errors.Is(err, segment.ErrClosed):
		return ErrClosed
	}
	return err
}
