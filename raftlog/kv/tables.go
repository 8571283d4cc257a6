package kv

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// What is written gathers in memory, and goes to disk as a table of level 0, all
// of which a read asks. Badger's own compactors merge them, but each of them looks
// twenty times a second whether there is anything to merge, for as long as the
// database is open: two thirds of what an idle server did. So it is opened without
// them, and tables are merged when there are some and the writes have paused. Such
// a merge goes on for as long as new tables come, so it is of no use where the
// writes do not pause: then, when there are many tables, the database is opened
// again with compactors, until the writes pause.
const (
	memTableBytes = 8 << 20
	severalTables = 5
	pauseOfWrites = 2 * time.Second
	// writtenStep is how many bytes are written between two words about it.
	writtenStep = 1 << 20
)

// mergedByUs has badger leave its tables to mergeTables. Level 0 may grow beyond
// what is merged: whoever writes must not wait for a merge, which may fail.
func mergedByUs(o *badger.Options) {
	o.MemTableSize = memTableBytes
	o.NumCompactors = 0
	o.NumLevelZeroTables = severalTables - 1 // a merge leaves as many alone
	o.NumLevelZeroTablesStall = math.MaxInt32
}

// compactors are as many as badger needs at least, where it has any.
const compactors = 2

// tables are the database's, as far as they have to be merged.
type tables struct {
	// merging is held while tables are merged and while the database is replaced.
	// It is taken before dbMu.
	merging sync.Mutex
	// compacted: badger merges by itself. Guarded by merging.
	compacted bool
	word      chan struct{} // holds one: something was written
	some      int           // bytes written since the last word
}

// wrote is told of all that is written, by the one who writes.
func (t *tables) wrote(n int) {
	if t.some += n; t.some < writtenStep {
		return
	}
	t.some = 0
	t.tell()
}

func (t *tables) tell() {
	select {
	case t.word <- struct{}{}:
	default:
	}
}

// mergeTables merges until ctx ends, beginning with what the last run has left.
// It does nothing where nothing is written.
func (s *Store) mergeTables(ctx context.Context) {
	s.tables.tell()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.tables.word:
		}
		for s.writing(ctx) {
			if s.levelZero() >= s.o.manyTables {
				s.compacted(true)
			}
		}
		if ctx.Err() != nil {
			return
		}
		if !s.compacted(false) {
			s.tables.tell() // it is tried again after another pause
		} else if s.levelZero() >= severalTables {
			s.merge()
		}
	}
}

// compacted has badger merge by itself, or not any more, as soon as it has nothing
// left to merge. It says no where that has to be tried again: nobody waits for the
// end of a merge, nor for a reader that takes long, as a snapshot does.
func (s *Store) compacted(byItself bool) bool {
	s.tables.merging.Lock()
	defer s.tables.merging.Unlock()
	if s.tables.compacted == byItself {
		return true
	}
	if !s.dbMu.TryLock() {
		return false
	}
	defer s.dbMu.Unlock()
	if s.db == nil || s.room() != nil {
		return true // it is closed, or must not be written
	}
	if s.tables.compacted && slices.ContainsFunc(s.db.Levels(), func(l badger.LevelInfo) bool { return l.Score >= 1 }) {
		return false
	}
	o := badgerOptions(s.path, s.o.Logger)
	if byItself {
		o.NumCompactors = compactors
	}
	err := s.db.Close()
	s.db = nil
	if err == nil {
		s.db, err = badger.OpenManaged(o)
	}
	if err != nil {
		s.fail(fmt.Errorf("open the database again: %w", err))
		return true
	}
	s.tables.compacted = byItself
	s.mu.Lock()
	defer s.mu.Unlock()
	s.discard()
	return true
}

// writing waits for a word, and says whether it came before a pause.
func (s *Store) writing(ctx context.Context) bool {
	select {
	case <-s.tables.word:
		return true
	case <-s.o.Clock.After(pauseOfWrites):
	case <-ctx.Done():
	}
	return false
}

// levelZero is how many tables are not merged.
func (s *Store) levelZero() int {
	s.dbMu.RLock()
	defer s.dbMu.RUnlock()
	if s.db == nil {
		return 0
	}
	return s.db.Levels()[0].NumTables
}

// merge merges all tables into one level. Readers and writers go on meanwhile.
func (s *Store) merge() {
	s.tables.merging.Lock()
	defer s.tables.merging.Unlock()
	s.dbMu.RLock()
	db := s.db
	s.dbMu.RUnlock()
	if db == nil {
		return
	}
	// What is merged is deleted only when it has been written again. The first step
	// is the largest: level 0 into the one below it.
	needed := uint64(roomNeeded)
	for _, l := range db.Levels() {
		if l.Level == 0 || l.IsBaseLevel {
			needed += uint64(l.Size)
		}
	}
	err := s.roomFor(needed)
	if err == nil {
		err = db.Flatten(1)
	}
	if err != nil {
		s.o.Logger.Warn("tables of the resources are not merged yet; it is tried again when more was written", "dir", s.o.Dir, "error", err)
	}
}
