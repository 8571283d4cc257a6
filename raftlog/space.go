package raftlog

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/leat-dev/leat/raftlog/segment"
	"github.com/leat-dev/leat/raftlog/vfs"
)

// spaceAge is how old a reading of the free space may be. What can be written
// in that time is far below the distance of floor and reserve.
const spaceAge = 50 * time.Millisecond

// space guards the disk: raft must never meet a full one, for it cannot take a
// write back.
type space struct {
	fs             vfs.FS
	dir            string
	clock          Clock
	floor, reserve uint64
	ready          func() error // whether the log's next segment exists

	free atomic.Uint64
	read atomic.Int64 // when free was read, ns
}

// check refuses a command that must not be written now, with ErrDiskFull.
func (s *space) check(class Class) error {
	floor := s.reserve
	if class == Events {
		floor = s.floor
	}
	free, err := s.current()
	if err != nil {
		return fmt.Errorf("%w: cannot tell what is free: %w", ErrDiskFull, err)
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

func (s *space) current() (uint64, error) {
	now := s.clock.Now().UnixNano()
	// A clock that was set back must not make a reading last.
	if age := now - s.read.Load(); age >= 0 && age < int64(spaceAge) {
		return s.free.Load(), nil
	}
	free, _, err := s.fs.Free(s.dir)
	if err != nil {
		return 0, err
	}
	s.free.Store(free)
	s.read.Store(now)
	return free, nil
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
