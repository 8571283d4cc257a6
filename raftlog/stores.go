package raftlog

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/segment"
)

// Names in a group's directory.
const (
	logDir       = "log"
	stableFile   = "stable"
	snapshotsDir = "snapshots"
)

func (g *Group) openStores() error {
	fs, dir := g.o.FS, g.o.Dir
	if err := fs.MkdirAll(dir); err != nil {
		return err
	}
	var once sync.Once
	report := func(err error) {
		once.Do(func() {
			g.failed = err
			close(g.broken) // first: nothing is taken once that is told
			g.o.Fatal(fmt.Errorf("group %s: %w", g.o.Name, err))
		})
	}
	store, err := segment.Open(segment.Options{
		FS: fs, Dir: filepath.Join(dir, logDir), SegmentBytes: g.o.SegmentBytes, DirectBytes: g.o.DirectBytes, Logger: g.o.Logger, Failed: report,
	})
	if err != nil {
		return err
	}
	g.commits = newCommitter(g)
	g.log = &logStore{Store: store, fatal: report, synced: g.o.Hooks.Synced, limit: g.o.SnapshotBytes, due: make(chan struct{}, 1)}
	for _, cut := range store.Recovered() {
		g.o.Logger.Warn("an interrupted write was cut off the log", "group", g.o.Name, "file", cut.File, "offset", cut.Offset, "entry", cut.Index)
	}
	stable, err := segment.OpenStable(fs, filepath.Join(dir, stableFile))
	if err != nil {
		return errors.Join(err, g.closeStores())
	}
	g.stable = &stableStore{StableStore: stable, fatal: report, running: &g.running}
	snapshots, err := segment.OpenSnapshots(fs, filepath.Join(dir, snapshotsDir), g.o.Snapshots)
	if err != nil {
		return errors.Join(err, g.closeStores())
	}
	g.snapshots = &snapshotStore{SnapshotStore: snapshots}
	if err := g.checkPieces(); err != nil {
		return errors.Join(err, g.closeStores())
	}
	g.stall = newStallWatch(g.o.StallAfter, g.o.Logger.With("group", g.o.Name))
	g.space = newSpace(fs, dir, g.o, store.Ready)
	g.coalescer = newCoalescer(g.o.MaxEntryBytes, g.o.MaxPendingBytes, g.o.Clock.Now, g.space.check, g.commits.commit)
	g.coalescer.reused = g.o.Hooks.Reused
	g.coalescer.reuse = g.o.Reuse && g.o.Transport == nil
	if g.coalescer.reuse {
		g.coalescer.dataAt = store.DataAt
	}
	g.coalescer.entry, g.coalescer.proposed, g.coalescer.name = g.o.Hooks.Entry, g.o.Hooks.Proposed, g.o.Name
	g.fsm = &fsm{machine: g.o.Machine, store: store, observe: g.coalescer.observeTime, fatal: report, saw: g.commits.sees}
	return nil
}

func (g *Group) closeStores() error {
	err := g.log.Store.Close()
	if g.stable != nil {
		err = errors.Join(err, g.stable.Close())
	}
	return err
}

// missing is the error for a part of the group that is not there.
func (g *Group) missing(name, reason string) error {
	return &segment.DamagedError{File: filepath.Join(g.o.Dir, name), Reason: reason}
}

// checkPieces refuses a group of which a part is missing: raft would go on
// without it, having forgotten entries or a vote.
func (g *Group) checkPieces() error {
	first, err := g.log.FirstIndex()
	if err != nil {
		return err
	}
	newest, snapshot := g.snapshots.Newest()
	switch {
	case g.log.Created() && (!g.stable.Created() || snapshot):
		return g.missing(logDir, "the log is missing, but the group's other files are there")
	case g.stable.Created() && (first > 0 || snapshot):
		return g.missing(stableFile, "the file with term and vote is missing, but the log is there")
	case first > 1 && !snapshot:
		return g.missing(snapshotsDir, fmt.Sprintf("the log begins with entry %d, but there is no snapshot of what was before", first))
	case first > newest+1:
		return g.missing(snapshotsDir, fmt.Sprintf("the log begins with entry %d, but the newest snapshot is of entry %d", first, newest))
	}
	return nil
}

// logStore counts what is written, and reports a failed write once and for
// good: raft would only step down and try again.
type logStore struct {
	*segment.Store
	fatal  func(error)
	synced func(time.Duration) // nil: nobody asks

	written atomic.Int64 // bytes since the last snapshot
	limit   int64
	due     chan struct{} // holds a token when written has passed limit
}

func (s *logStore) count(n int64) {
	if s.written.Add(n) < s.limit {
		return
	}
	select {
	case s.due <- struct{}{}:
	default:
	}
}

// StoreLog implements raft.LogStore.
func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (s *logStore) StoreLogs(logs []*raft.Log) error {
	return s.stored(logs, func() error { return s.Store.StoreLogs(logs) })
}

// StoreSummed is segment.Store's.
func (s *logStore) StoreSummed(l *raft.Log, parts []segment.Sum) error {
	return s.stored([]*raft.Log{l}, func() error { return s.Store.StoreSummed(l, parts) })
}

func (s *logStore) stored(logs []*raft.Log, store func() error) error {
	began := time.Now()
	if err := store(); err != nil {
		if !errors.Is(err, segment.ErrFull) { // which passes, and has written nothing
			s.fatal(fmt.Errorf("write the log: %w", err))
		}
		return err
	}
	if s.synced != nil {
		s.synced(time.Since(began))
	}
	var n int64
	for _, l := range logs {
		n += int64(len(l.Data))
	}
	s.count(n)
	return nil
}

// raftLogger hands raft's warnings and errors to slog.
func raftLogger(l *slog.Logger) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Name: "raft", Level: hclog.Warn, DisableTime: true,
		Output: lineWriter(func(line string) { l.Warn(line) }),
	})
}

type lineWriter func(line string)

var _ io.Writer = lineWriter(nil)

// Write takes one line.
func (w lineWriter) Write(p []byte) (int, error) {
	w(strings.TrimSpace(string(p)))
	return len(p), nil
}

// stableStore ends the group where term or vote cannot be kept: raft would
// panic, or vote twice.
type stableStore struct {
	*segment.StableStore
	fatal   func(error)
	running *atomic.Bool
}

// Set implements raft.StableStore.
func (s *stableStore) Set(key, value []byte) error {
	return s.check(s.StableStore.Set(key, value))
}

// SetUint64 implements raft.StableStore.
func (s *stableStore) SetUint64(key []byte, value uint64) error {
	return s.check(s.StableStore.SetUint64(key, value))
}

func (s *stableStore) check(err error) error {
	if err != nil {
		s.fatal(fmt.Errorf("keep raft's term and vote: %w", err))
		leaveRaft(s.running)
	}
	return err
}

// leaveRaft ends raft's goroutine, which alone changes term and vote once raft
// runs: it would answer the error with a panic, and take away the process's
// orderly end. Raft's own bookkeeping sees to it that its shutdown finds the
// goroutine ended.
func leaveRaft(running *atomic.Bool) {
	if running.Load() {
		runtime.Goexit()
	}
}

// raftLog is the log as raft sees it. A sole voter's raft applies at its start
// what was committed before, and answers an error of a read of that with a panic.
// Whatever else it reads, as the age of the oldest entry for its statistics, may
// be gone or damaged.
type raftLog struct {
	*logStore
	sole             bool
	running, applied *atomic.Bool // raft runs; it has applied what was committed
	// position is how far raft has applied, which may be behind what the machine
	// has: a snapshot holds what was applied early.
	position func() uint64
	commits  *committer
}

// StoreLog implements raft.LogStore.
func (s *raftLog) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (s *raftLog) StoreLogs(logs []*raft.Log) error {
	c := s.commits
	if !c.ahead.Load() {
		return s.logStore.StoreLogs(logs)
	}
	for _, l := range logs {
		if l.Type != raft.LogCommand || l.Term != c.term || l.Index > c.stored.Load() {
			err := fmt.Errorf("raft writes an entry of its own, %d of term %d, beside those of the log, which has %d of term %d", l.Index, l.Term, c.stored.Load(), c.term)
			s.fatal(err)
			return err
		}
	}
	return nil
}

// GetLog implements raft.LogStore.
func (s *raftLog) GetLog(index uint64, l *raft.Log) error {
	err := s.logStore.GetLog(index, l)
	if err != nil && s.sole && s.running.Load() && !s.applied.Load() && index > s.position() {
		s.fatal(fmt.Errorf("read entry %d to apply it: %w", index, err))
		leaveRaft(s.running)
	}
	return err
}

// snapshotStore keeps why a snapshot could not be opened when raft starts: raft
// goes on with an older one, and at last says only that there is none.
type snapshotStore struct {
	*segment.SnapshotStore
	started atomic.Bool
	failed  error
}

// Open implements raft.SnapshotStore.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, r, err := s.SnapshotStore.Open(id)
	if err != nil && !s.started.Load() {
		s.failed = errors.Join(s.failed, err)
	}
	return meta, r, err
}
