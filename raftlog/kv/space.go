package kv

import (
	"fmt"

	"github.com/leat-dev/leat/raftlog/vfs"
)

// roomNeeded is what must be free for the database to be written, in bytes: what
// is in memory, the table it becomes, and the next log of writes. Badger writes
// through mapped files, and a page of such that has no room is a signal that ends
// the process. The group refuses writes long before (Options.DiskReserve), so
// this is met only where somebody else fills the disk in an instant.
const roomNeeded = 16 << 20

// room says why the database must not be written now.
func (s *Store) room() error { return s.roomFor(roomNeeded) }

// loading looks after the room while a snapshot is loaded, which is much at once:
// what is in memory is becoming tables while more comes in.
type loading struct {
	s    *Store
	some int // bytes since the last look
}

// loadStep is how many bytes are loaded between two looks.
const loadStep = 1 << 20

// take says why so many bytes more must not be loaded.
func (l *loading) take(n int) error {
	if l.some += n; l.some < loadStep {
		return nil
	}
	l.some = 0
	return l.s.roomFor(2 * roomNeeded)
}

func (s *Store) roomFor(needed uint64) error {
	free, _, err := vfs.OS{}.Free(s.o.Dir)
	if err != nil {
		return fmt.Errorf("cannot tell how much is free in %s: %w", s.o.Dir, err)
	}
	if free < needed {
		return fmt.Errorf("%d MiB are free in %s, and the database needs %d: make room, and start again", free>>20, s.o.Dir, needed>>20)
	}
	return nil
}
