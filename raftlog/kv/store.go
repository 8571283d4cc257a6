package kv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/leat-dev/leat/raftlog"
)

// Store is the state machine and its readers. Apply, Snapshot and Restore are
// called by the raft group; all else is safe for concurrent use.
type Store struct {
	o    Options
	path string

	// dbMu is held for reading while the database is in use, for writing while
	// it is replaced or closed. It is taken before mu.
	dbMu sync.RWMutex
	db   *badger.DB

	mu       sync.Mutex
	meta     meta // what is applied; written by the applying goroutine only
	recent   ring
	watchers registry
	advanced chan struct{}  // closed, and replaced, when the revision advances
	pins     map[uint64]int // floors that running snapshots still need
	due      int64          // no key expires before this log time; 0: unknown
	armed    int64          // when the maintenance will next look; microseconds
	failed   error
	closed   bool

	tables tables

	proposer Proposer
	kick     chan struct{} // wakes the maintenance
	stop     context.CancelFunc
	wg       sync.WaitGroup
}

var _ raftlog.Machine = (*Store)(nil)

// Open opens the state, or begins an empty one where the directory holds none
// that can be trusted: raft then restores its snapshot and applies its log.
func Open(o Options) (*Store, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{
		o: o, path: filepath.Join(o.Dir, dbDir),
		recent:   ring{maxEvents: o.RecentEvents, maxBytes: o.RecentBytes},
		watchers: newRegistry(),
		advanced: make(chan struct{}),
		pins:     map[uint64]int{},
		kick:     make(chan struct{}, 1),
		tables:   tables{word: make(chan struct{}, 1)},
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open key-value store: %w", err)
	}
	if err := s.room(); err != nil {
		return nil, fmt.Errorf("open key-value store: %w", err)
	}
	if err := s.openOrWipe(); err != nil {
		return nil, fmt.Errorf("open key-value store in %s: %w", o.Dir, err)
	}
	return s, nil
}

// openOrWipe opens what the last process left, if it can be trusted to be
// whole, and else starts from nothing.
func (s *Store) openOrWipe() error {
	m, err := readMark(s.o.Dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		s.o.Logger.Warn("rebuilding resources: the mark of the last run cannot be read", "dir", s.o.Dir, "error", err)
	case m.Files == nil && (m.Boot == "" || m.Boot != s.o.BootID):
		s.o.Logger.Warn("rebuilding resources: the machine went down without closing them", "dir", s.o.Dir)
	default:
		// From here on the database may change, so the mark must not say closed.
		if err := writeMark(s.o.Dir, mark{Boot: s.o.BootID}); err != nil {
			return err
		}
		err := s.openExisting(m.Files)
		if err == nil {
			return nil
		}
		s.o.Logger.Warn("rebuilding resources: the database is damaged", "dir", s.o.Dir, "error", err)
	}
	if err := s.wipe(); err != nil {
		return err
	}
	return writeMark(s.o.Dir, mark{Boot: s.o.BootID})
}

// openExisting opens a database whose files should be those of a closed one,
// or, with no sums, whole in the page cache.
func (s *Store) openExisting(sums fileSums) (err error) {
	o := badgerOptions(s.path, s.o.Logger)
	if sums != nil {
		err = sums.compare(s.path)
	} else {
		err = checkTables(s.path, o)
	}
	if err != nil {
		return err
	}
	// What is not checked above may still make badger panic; the database is
	// then as good as absent.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("open: %v", p)
		}
	}()
	db, err := badger.OpenManaged(o)
	if err != nil {
		return err
	}
	s.db = db
	m, err := s.readMeta()
	if err == nil && sums == nil {
		err = s.verify(m)
	}
	if err != nil {
		s.db = nil
		return errors.Join(err, db.Close())
	}
	s.meta = m
	db.SetDiscardTs(m.floor)
	s.recent.reset(m.rev)
	return nil
}

// wipe removes the database and begins an empty one.
func (s *Store) wipe() error {
	if s.db != nil {
		err := s.db.Close()
		s.db = nil
		if err != nil {
			s.o.Logger.Debug("closing a database that is wiped", "error", err)
		}
	}
	if err := os.RemoveAll(s.path); err != nil {
		return err
	}
	db, err := badger.OpenManaged(badgerOptions(s.path, s.o.Logger))
	if err != nil {
		return err
	}
	s.db, s.tables.compacted = db, false
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meta = meta{rev: firstRev, floor: firstRev}
	s.recent.reset(firstRev)
	s.due = 0
	return nil
}

func badgerOptions(dir string, logger *slog.Logger) badger.Options {
	o := badger.DefaultOptions(dir)
	o.Logger = badgerLogger{logger}
	// What is lost with the machine is rebuilt, so nothing is synced per write.
	o.SyncWrites = false
	// Versions above the discard timestamp, the floor, are always kept, and the
	// newest one at or below it.
	o.NumVersionsToKeep = 1
	o.DetectConflicts = false // there is one writer
	mergedByUs(&o)
	o.NumMemtables = 2
	o.Compression = options.None
	o.BlockCacheSize = 0
	o.MetricsEnabled = false
	o.ValueLogFileSize = 1 << 20 // unused; its file is allocated anyway
	// Tables are checked before they are opened, and values carry a checksum.
	o.ChecksumVerificationMode = options.NoVerification
	return o
}

func (s *Store) readMeta() (meta, error) {
	txn := s.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	item, err := txn.Get(metaKey())
	if err != nil {
		return meta{}, fmt.Errorf("read the state's record: %w", err)
	}
	var m meta
	err = item.Value(func(b []byte) error {
		m, err = decodeMeta(b)
		return err
	})
	return m, err
}

// Bind gives the store the log to propose to and starts its maintenance:
// expiry, compaction, and the merging of the database's tables. It is called
// once, before the first write.
func (s *Store) Bind(p Proposer) {
	ctx, stop := context.WithCancel(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.proposer != nil {
		stop()
		return
	}
	s.proposer, s.stop = p, stop
	begun := s.o.Clock.Now()
	s.wg.Go(func() { s.maintain(ctx, p, begun) })
	s.wg.Go(func() { s.mergeTables(ctx) })
}

// Close ends all watches, waits for readers and closes the database. The group
// must be closed before.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	stop := s.stop
	s.watchers.closeAll(ErrClosed)
	s.wakeWaiters()
	s.mu.Unlock()
	if stop != nil {
		stop()
	}
	s.wg.Wait()

	s.dbMu.Lock()
	defer s.dbMu.Unlock()
	if s.db == nil {
		return nil
	}
	if err := s.room(); err != nil {
		// To close it is to write it. It stays as a kill would leave it.
		s.db = nil
		return fmt.Errorf("close key-value store in %s: %w", s.o.Dir, err)
	}
	var err error
	if s.failed == nil {
		err = s.writeMeta(s.meta)
	}
	err = errors.Join(err, s.db.Close())
	s.db = nil
	if err == nil && s.failed == nil {
		err = s.markClosed()
	}
	if err != nil {
		return fmt.Errorf("close key-value store in %s: %w", s.o.Dir, err)
	}
	return nil
}

func (s *Store) markClosed() error {
	sums, err := sumFiles(s.path)
	if err != nil {
		return err
	}
	return writeMark(s.o.Dir, mark{Boot: s.o.BootID, Files: sums})
}

// writeMeta records how far the state has come.
func (s *Store) writeMeta(m meta) error {
	txn := s.db.NewTransactionAt(m.rev, true)
	defer txn.Discard()
	if err := txn.Set(metaKey(), m.encode()); err != nil {
		return err
	}
	return txn.CommitAt(m.rev, nil)
}

// fail ends the store's use: its database is not the log's state any more.
func (s *Store) fail(err error) {
	s.mu.Lock()
	first := s.failed == nil
	if first {
		s.failed = err
		s.watchers.closeAll(err)
		s.wakeWaiters()
	}
	s.mu.Unlock()
	if first {
		s.o.Fatal(fmt.Errorf("key-value store in %s: %w", s.o.Dir, err))
	}
}

// Rev is the revision of the present state.
func (s *Store) Rev() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.meta.rev
}

// CompactRev is the oldest revision that can be read or followed.
func (s *Store) CompactRev() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.meta.floor
}

// Applied is the index of the last log entry that the state holds.
func (s *Store) Applied() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.meta.applied
}

// Hash is a sum over the live keys and values, the same on every member at the
// same applied index.
func (s *Store) Hash() (applied, hash uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.meta.applied, s.meta.hash
}

// Beyond gives a channel that is closed when the state is at a later revision than
// rev, or is not there any more.
func (s *Store) Beyond(rev uint64) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.meta.rev > rev || s.usable() != nil {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	return s.advanced
}

// WaitRev waits until the state has reached a revision.
func (s *Store) WaitRev(ctx context.Context, rev uint64) error {
	for {
		s.mu.Lock()
		reached, advanced, err := s.meta.rev >= rev, s.advanced, s.usable()
		s.mu.Unlock()
		if err != nil || reached {
			return err
		}
		select {
		case <-advanced:
		case <-ctx.Done():
			return fmt.Errorf("wait for revision %d: %w", rev, context.Cause(ctx))
		}
	}
}

// usable tells whether the store can be read. The caller holds mu.
func (s *Store) usable() error {
	if s.failed != nil {
		return s.failed
	}
	if s.closed {
		return ErrClosed
	}
	return nil
}

// wakeWaiters wakes everyone in WaitRev. The caller holds mu.
func (s *Store) wakeWaiters() {
	close(s.advanced)
	s.advanced = make(chan struct{})
}

// badgerLogger passes on what matters of badger's log.
type badgerLogger struct{ l *slog.Logger }

func (b badgerLogger) Errorf(f string, a ...any)   { b.l.Error("badger: " + fmt.Sprintf(f, a...)) }
func (b badgerLogger) Warningf(f string, a ...any) { b.l.Warn("badger: " + fmt.Sprintf(f, a...)) }
func (b badgerLogger) Infof(string, ...any)        {}
func (b badgerLogger) Debugf(string, ...any)       {}
