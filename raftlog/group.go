package raftlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/segment"
)

// Group is one raft group of which this node is a member. Its methods are safe
// for concurrent use.
type Group struct {
	o         Options
	raft      *raft.Raft
	log       *logStore
	snapshots *segment.SnapshotStore
	stable    *segment.StableStore
	fsm       *fsm
	coalescer *coalescer
	space     *space

	stop context.CancelFunc
	wg   sync.WaitGroup
}

// Open starts a group, makes this node its sole voter where the group is new,
// and returns when the group has a leader (this node, where it is the sole
// voter) and everything that was committed is applied to the machine.
func Open(ctx context.Context, o Options) (*Group, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	g := &Group{o: o}
	if err := g.openStores(); err != nil {
		return nil, fmt.Errorf("open group %s in %s: %w", o.Name, o.Dir, err)
	}
	if err := g.startRaft(ctx); err != nil {
		return nil, fmt.Errorf("start group %s in %s: %w", o.Name, o.Dir, errors.Join(err, g.closeStores()))
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	g.stop = stop
	g.wg.Go(func() { g.coalescer.run(run) })
	g.wg.Go(func() { g.snapshotByBytes(run) })
	return g, nil
}

func (g *Group) openStores() error {
	fs, dir := g.o.FS, g.o.Dir
	if err := fs.MkdirAll(dir); err != nil {
		return err
	}
	store, err := segment.Open(segment.Options{FS: fs, Dir: filepath.Join(dir, "log"), SegmentBytes: g.o.SegmentBytes, Logger: g.o.Logger})
	if err != nil {
		return err
	}
	var once sync.Once
	report := func(err error) {
		once.Do(func() { g.o.Fatal(fmt.Errorf("group %s: %w", g.o.Name, err)) })
	}
	g.log = &logStore{Store: store, fatal: report, limit: g.o.SnapshotBytes, due: make(chan struct{}, 1)}
	if g.stable, err = segment.OpenStable(fs, filepath.Join(dir, "stable")); err != nil {
		return errors.Join(err, store.Close())
	}
	if g.snapshots, err = segment.OpenSnapshots(fs, filepath.Join(dir, "snapshots"), g.o.Snapshots); err != nil {
		return errors.Join(err, g.closeStores())
	}
	g.space = &space{fs: fs, dir: dir, clock: g.o.Clock, floor: g.o.DiskFloor, reserve: g.o.DiskReserve, ready: store.Ready}
	g.coalescer = newCoalescer(g.o.MaxEntryBytes, g.o.MaxPendingBytes, g.o.Clock.Now, g.space.check, g.commit)
	g.fsm = &fsm{machine: g.o.Machine, store: store, observe: g.coalescer.observeTime, fatal: report}
	return nil
}

func (g *Group) closeStores() error {
	err := g.log.Store.Close()
	if g.stable != nil {
		err = errors.Join(err, g.stable.Close())
	}
	return err
}

func (g *Group) config() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(g.o.NodeID)
	c.Logger = raftLogger(g.o.Logger.With("group", g.o.Name))
	c.NoLegacyTelemetry = true
	// Retention deletes, by floors in the log; raft's own compaction never does.
	c.TrailingLogs = math.MaxUint64
	// Entries differ in size by a factor of thousands, so snapshots go by bytes
	// (snapshotByBytes), never by raft's count of entries.
	c.SnapshotThreshold = math.MaxUint64
	c.SnapshotInterval = 24 * time.Hour
	// Entries are packed already; this bounds one append in bytes.
	c.MaxAppendEntries = 16
	c.ShutdownOnRemove = false
	return c
}

func (g *Group) startRaft(ctx context.Context) error {
	transport, sole := g.o.Transport, g.o.Transport == nil
	var loop *raft.InmemTransport
	if sole {
		_, loop = raft.NewInmemTransport(raft.ServerAddress(g.o.NodeID))
		loop.Connect(loop.LocalAddr(), loop)
		transport = loop
	}
	c := g.config()
	known, err := raft.HasExistingState(g.log, g.stable, g.snapshots)
	if err != nil {
		return err
	}
	if !known && sole {
		servers := raft.Configuration{Servers: []raft.Server{{ID: c.LocalID, Address: transport.LocalAddr()}}}
		if err := raft.BootstrapCluster(c, g.log, g.stable, g.snapshots, transport, servers); err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
	}
	if g.raft, err = raft.NewRaft(c, g.fsm, g.log, g.stable, g.snapshots, transport); err != nil {
		return err
	}
	// From here on raft asks for snapshots only to bring another member up.
	g.snapshots.OldestFirst()
	if sole {
		// A sole voter has nobody to wait for.
		now := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: c.ProtocolVersion, ID: []byte(c.LocalID), Addr: []byte(loop.LocalAddr())}}
		if err := loop.TimeoutNow(c.LocalID, loop.LocalAddr(), now, &raft.TimeoutNowResponse{}); err != nil {
			return errors.Join(fmt.Errorf("take the lead: %w", err), g.raft.Shutdown().Error())
		}
	}
	if err := g.caughtUp(ctx); err != nil {
		return errors.Join(err, g.raft.Shutdown().Error())
	}
	return nil
}

// caughtUp waits until the group has a leader and, where that is this node, all
// that was committed is applied.
func (g *Group) caughtUp(ctx context.Context) error {
	for {
		if _, id := g.raft.LeaderWithID(); id != "" {
			break
		}
		select {
		case <-g.o.Clock.After(time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("wait for a leader: %w", context.Cause(ctx))
		}
	}
	if g.raft.State() != raft.Leader {
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- g.raft.Barrier(0).Error() }() // ends with raft's shutdown at the latest
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("apply what is committed: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("apply what is committed: %w", context.Cause(ctx))
	}
}

// Propose makes cmd durable and applies it, and returns what Machine.Apply
// gave for it. cmd is copied. An error that is ErrUnknownOutcome (also when ctx
// ends first) leaves open whether the command is applied; any other means that
// nothing was written.
func (g *Group) Propose(ctx context.Context, class Class, cmd []byte) (any, error) {
	r, err := g.coalescer.propose(ctx, class, cmd)
	if err != nil {
		return nil, fmt.Errorf("log %s: %w", g.o.Name, err)
	}
	return r, nil
}

// commit hands one entry to raft and waits until it is applied.
func (g *Group) commit(data []byte) ([]any, error) {
	if err := g.space.fits(g.log.Room(), len(data)); err != nil {
		return nil, err
	}
	f := g.raft.Apply(data, 0)
	switch err := f.Error(); {
	case err == nil:
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return nil, ErrNotLeader
	default:
		return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	switch r := f.Response().(type) {
	case []any:
		return r, nil
	case error:
		return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, r)
	default:
		return nil, fmt.Errorf("%w: apply answered %T", ErrUnknownOutcome, r)
	}
}

// ReadEntry reads one entry, checking its sums. The error for a damaged record
// is a *segment.DamagedError; for one that is not in the log raft.ErrLogNotFound.
// An entry of raft's own has no commands.
func (g *Group) ReadEntry(index uint64) (*Entry, error) {
	var l raft.Log
	if err := g.log.GetLog(index, &l); err != nil {
		return nil, fmt.Errorf("log %s: read entry %d: %w", g.o.Name, index, err)
	}
	if l.Type != raft.LogCommand {
		return &Entry{Index: l.Index, Term: l.Term}, nil
	}
	t, commands, err := decodeEntry(l.Data)
	if err != nil {
		return nil, fmt.Errorf("log %s: read entry %d: %w", g.o.Name, index, err)
	}
	return &Entry{Index: l.Index, Term: l.Term, Time: t, Commands: commands}, nil
}

// Find returns the row that covers an offset, or else the first row after it.
func (g *Group) Find(key uint32, kind uint8, offset uint64) (Row, bool, error) {
	return g.log.Find(key, kind, offset)
}

// FindTime returns the first row whose entry's log time is t or later.
func (g *Group) FindTime(key uint32, kind uint8, t int64) (Row, bool, error) {
	return g.log.FindTime(key, kind, t)
}

// Segments describes the log's segments, oldest first.
func (g *Group) Segments() []segment.Info { return g.log.Segments() }

// Applied is the index of the last command entry that the machine has applied.
func (g *Group) Applied() uint64 { return g.fsm.applied.Load() }

// Free is the space, in bytes, that is left on the log's file system.
func (g *Group) Free() (uint64, error) {
	free, _, err := g.o.FS.Free(g.o.Dir)
	return free, err
}

// Trim drops the oldest segments for as long as keep returns false. Segments
// that the newest snapshot does not cover are always kept; snapshots older than
// what remains of the log go with it.
func (g *Group) Trim(keep func(segment.Info) bool) error {
	newest, ok := g.snapshots.Newest()
	if !ok {
		return nil
	}
	var last uint64
	for _, s := range g.log.Segments() {
		if !s.Sealed || s.Last > newest || s.Last > g.log.Indexed() || keep(s) {
			break
		}
		last = s.Last
	}
	if last == 0 {
		return nil
	}
	// The snapshots first: one without the log that follows it is of no use.
	if err := g.snapshots.Prune(last + 1); err != nil {
		return fmt.Errorf("log %s: remove old snapshots: %w", g.o.Name, err)
	}
	if err := g.log.DropBefore(last + 1); err != nil {
		return fmt.Errorf("log %s: drop entries up to %d: %w", g.o.Name, last, err)
	}
	return nil
}

// Snapshot writes a snapshot of the machine now.
func (g *Group) Snapshot() error {
	err := g.raft.Snapshot().Error()
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return nil
	}
	return err
}

// snapshotByBytes takes a snapshot whenever so many bytes of log have been
// written since the last one.
func (g *Group) snapshotByBytes(ctx context.Context) {
	newest, _ := g.snapshots.Newest()
	for _, s := range g.log.Segments() {
		if s.Last > newest {
			g.log.count(s.Bytes)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.log.due:
		}
		written := g.log.written.Load()
		if err := g.Snapshot(); err != nil {
			// Tried again once as much has been written: a failing disk is not
			// helped by haste, and the log stays whole meanwhile.
			g.o.Logger.Error("snapshot failed", "group", g.o.Name, "error", err)
		}
		g.log.written.Add(-written)
	}
}

// Close stops the group: commands that wait are refused, the one in flight is
// finished. The machine is not called any more when it returns.
func (g *Group) Close(ctx context.Context) error {
	g.stop()
	done := make(chan error, 1)
	go func() {
		g.wg.Wait()
		done <- errors.Join(g.raft.Shutdown().Error(), g.closeStores())
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("close group %s: %w", g.o.Name, context.Cause(ctx))
	}
}

// logStore counts what is written, and reports a failed write once and for
// good: raft would only step down and try again.
type logStore struct {
	*segment.Store
	fatal func(error)

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
	if err := s.Store.StoreLogs(logs); err != nil {
		s.fatal(fmt.Errorf("write the log: %w", err))
		return err
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
