package raftlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/segment"
)

// Group is one raft group of which this node is a member. Its methods are safe
// for concurrent use.
type Group struct {
	o         Options
	raft      *raft.Raft
	log       *logStore
	snapshots *snapshotStore
	stable    *stableStore
	fsm       *fsm
	coalescer *coalescer
	commits   *committer
	space     *space
	stall     *stallWatch

	// broken is closed, and failed says why, when the group cannot go on.
	broken chan struct{}
	failed error
	// running: raft has started, and only its own goroutine changes its state.
	// caught: all that was committed before is applied.
	running, caught atomic.Bool

	ending  sync.Once
	ended   raft.Future
	raftEnd chan struct{} // closed when raft has been told to end

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
	g := &Group{o: o, broken: make(chan struct{}), raftEnd: make(chan struct{})}
	if err := g.openStores(); err != nil {
		return nil, fmt.Errorf("open group %s in %s: %w", o.Name, o.Dir, err)
	}
	if err := g.startRaft(ctx); err != nil {
		return nil, fmt.Errorf("start group %s in %s: %w", o.Name, o.Dir, errors.Join(err, g.closeStores()))
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	g.stop = stop
	g.wg.Go(func() { g.space.run(run) })
	g.wg.Go(func() { g.coalescer.run(run) })
	g.wg.Go(func() { g.commits.run(run) })
	go g.endIfBroken() // until raft ends
	g.wg.Go(func() { g.snapshotByBytes(run) })
	return g, nil
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
	if g.o.Transport == nil {
		// A sole voter leads at once (startRaft) and for good: an error of its log,
		// which alone could end that, ends the group. Raft would still look twice a
		// second whether it has a majority.
		c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = soleLook, soleLook, soleLook
	}
	return c
}

// soleLook is how often a sole voter looks whether it still has itself.
const soleLook = time.Minute

func (g *Group) startRaft(ctx context.Context) error {
	transport, sole := g.o.Transport, g.o.Transport == nil
	var loop *raft.InmemTransport
	if sole {
		_, loop = raft.NewInmemTransport(raft.ServerAddress(g.o.NodeID))
		loop.Connect(loop.LocalAddr(), loop)
		transport = loop
	}
	c := g.config()
	self := raft.Server{ID: c.LocalID, Address: transport.LocalAddr()}
	if sole {
		if err := g.bootstrap(self); err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
	}
	if sole {
		g.fsm.end = g.log.LastIndex
		// A snapshot's name may be an entry of raft's own, behind those it has.
		newest, _ := g.snapshots.Newest()
		if err := g.fsm.reaches(newest); err != nil {
			return err
		}
	}
	var err error
	if g.raft, err = g.newRaft(c, transport); err != nil {
		return errors.Join(err, g.snapshots.failed, g.fsm.failed)
	}
	// Raft goes on with an older snapshot, and would give the places of what is
	// lost to other entries, which the newer one would hide at the next start.
	if g.fsm.ahead != nil {
		return errors.Join(g.fsm.ahead, g.raft.Shutdown().Error())
	}
	g.fsm.end = nil
	g.running.Store(true)
	g.snapshots.started.Store(true)
	// From here on raft asks for snapshots only to bring another member up.
	g.snapshots.OldestFirst()
	if sole {
		if err := g.isSoleVoter(self); err != nil {
			return errors.Join(err, g.raft.Shutdown().Error())
		}
		// A sole voter has nobody to wait for.
		now := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: c.ProtocolVersion, ID: []byte(c.LocalID), Addr: []byte(loop.LocalAddr())}}
		if err := loop.TimeoutNow(c.LocalID, loop.LocalAddr(), now, &raft.TimeoutNowResponse{}); err != nil {
			return errors.Join(fmt.Errorf("take the lead: %w", err), g.raft.Shutdown().Error())
		}
	}
	if err := g.caughtUp(ctx); err != nil {
		return errors.Join(err, g.raft.Shutdown().Error())
	}
	g.caught.Store(true)
	if sole {
		if err := g.commits.goAhead(); err != nil {
			return errors.Join(err, g.raft.Shutdown().Error())
		}
	}
	return nil
}

// bootstrap makes a node the sole voter of a group that has no state yet. Unlike
// raft's own it goes on where a crash interrupted it.
func (g *Group) bootstrap(self raft.Server) error {
	_, snapshot := g.snapshots.Newest()
	if last, err := g.log.LastIndex(); err != nil || last > 0 || snapshot {
		return err
	}
	if term, err := g.stable.GetUint64([]byte("CurrentTerm")); err == nil && term > 1 {
		return g.missing(logDir, fmt.Sprintf("the group has reached term %d, but there are no entries", term))
	}
	if err := g.stable.SetUint64([]byte("CurrentTerm"), 1); err != nil {
		return err
	}
	servers := raft.Configuration{Servers: []raft.Server{self}}
	return g.log.StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(servers)})
}

// newRaft starts raft, which reads all entries since the snapshot, and panics
// with the error of one that does not read back.
func (g *Group) newRaft(c *raft.Config, transport raft.Transport) (r *raft.Raft, err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case runtime.Error:
			panic(p)
		case error:
			err = p
		default:
			panic(p)
		}
	}()
	log := &raftLog{logStore: g.log, sole: g.o.Transport == nil, running: &g.running, applied: &g.caught, position: func() uint64 { return g.raft.AppliedIndex() }, commits: g.commits}
	return raft.NewRaft(c, g.fsm, log, g.stable, g.snapshots, transport)
}

// isSoleVoter refuses a log that another node was the voter of: this one would
// wait for it for ever.
func (g *Group) isSoleVoter(self raft.Server) error {
	f := g.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	servers := f.Configuration().Servers
	if len(servers) != 1 || servers[0].ID != self.ID {
		return fmt.Errorf("the group's members are %v, not %s alone; has the node's name changed?", servers, self.ID)
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
		case <-g.broken:
			return g.failed
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
	case <-g.broken:
		return g.failed
	case <-ctx.Done():
		return fmt.Errorf("apply what is committed: %w", context.Cause(ctx))
	}
}

// Propose makes cmd durable and applies it, and returns what Machine.Apply
// gave for it. cmd is copied. An error that is ErrUnknownOutcome (also when ctx
// ends first) leaves open whether the command is applied; any other means that
// nothing was written.
func (g *Group) Propose(ctx context.Context, class Class, cmd []byte) (any, error) {
	return g.ProposeWith(ctx, class, cmd, nil)
}

// ProposeWith is Propose for a command that is cmd with data behind it, which so
// need not be put together before.
func (g *Group) ProposeWith(ctx context.Context, class Class, cmd, data []byte) (any, error) {
	began := time.Now()
	r, err := g.propose(ctx, class, cmd, data)
	if h := g.o.Hooks.Proposed; h != nil {
		h(class, time.Since(began), err)
	}
	if err != nil {
		return nil, fmt.Errorf("log %s: %w", g.o.Name, err)
	}
	return r, nil
}

// fits refuses a command that is too large for the log.
func (g *Group) fits(cmd [][]byte) error {
	if most := g.log.MaxEntry() - entryHeaderSize - binary.MaxVarintLen32; int64(sizeOf(cmd)) > most {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, sizeOf(cmd), most)
	}
	return nil
}

// propose refuses events during a stall. Control commands wait on: there are few
// of them, who makes them would only try again, and their bytes are bounded.
func (g *Group) propose(ctx context.Context, class Class, cmd ...[]byte) (any, error) {
	if err := g.fits(cmd); err != nil {
		return nil, err
	}
	if d := g.stall.lasts(); d > 0 && class == Events {
		return nil, stalledFor(d)
	}
	return g.coalescer.propose(ctx, class, cmd...)
}

// ReadEntry reads one entry, checking its sums. The error for a damaged record
// is a *segment.DamagedError; for one that is not in the log raft.ErrLogNotFound.
// An entry of raft's own has no commands.
func (g *Group) ReadEntry(index uint64) (*Entry, error) {
	return g.ReadEntryInto(index, func(size int) []byte { return make([]byte, size) })
}

// ReadEntryInto reads one entry into memory of the caller's, of so many bytes, which
// its commands lie in. Where it has to read more than once, it asks for memory anew,
// and has no more to do with what it was given before.
func (g *Group) ReadEntryInto(index uint64, room func(size int) []byte) (*Entry, error) {
	var l raft.Log
	if err := g.log.ReadLog(index, &l, room); err != nil {
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

// Name is the group's.
func (g *Group) Name() string { return g.o.Name }

// Segments describes the log's segments, oldest first.
func (g *Group) Segments() []segment.Info { return g.log.Segments() }

// Applied is the index of the last command entry that the machine has applied.
func (g *Group) Applied() uint64 { return g.fsm.applied.Load() }

// Size is how many segments the log has, and their bytes on disk.
func (g *Group) Size() (segments int, bytes int64) { return g.log.Size() }

// Free is the space, in bytes, that is left on the log's file system. Where the
// disk does not tell within Options.StallAfter the error is ErrStalled, and the
// space that was left when it last did.
func (g *Group) Free() (uint64, error) {
	return g.space.current(context.Background())
}

// Trim drops the oldest segments for as long as keep returns false. It is not
// asked about one whose index is damaged, which goes with the next. Segments
// that the newest snapshot does not cover are always kept; snapshots older than
// what remains of the log go with it.
func (g *Group) Trim(keep func(segment.Info) bool) error {
	newest, ok := g.snapshots.Newest()
	if !ok {
		return nil
	}
	var last uint64
	for _, s := range g.log.Segments() {
		if s.Damaged && s.Sealed && s.Last <= newest {
			continue // what it holds is not known: it goes with one that follows
		}
		if !s.Sealed || s.Last > newest || keep(s) {
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
	g.commits.settle()
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
		if written < g.o.SnapshotBytes {
			continue // it was due while the last one was being made
		}
		began := time.Now()
		err := g.Snapshot()
		if h := g.o.Hooks.Snapshot; h != nil {
			h(time.Since(began), err)
		}
		if err != nil {
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
		done <- errors.Join(g.endRaft().Error(), g.closeStores())
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		g.endRaft() // ends what still waits for an answer of raft's
		return fmt.Errorf("close group %s: %w", g.o.Name, context.Cause(ctx))
	}
}

// endIfBroken ends raft where the group cannot go on, so that nobody waits for it.
func (g *Group) endIfBroken() {
	select {
	case <-g.broken:
		_ = g.endRaft()
	case <-g.raftEnd:
	}
}

// endRaft tells raft to end. What it returns waits for raft's goroutines, whoever
// was first to end it; of what raft returns only the first does.
func (g *Group) endRaft() raft.Future {
	g.ending.Do(func() {
		g.ended = g.raft.Shutdown()
		close(g.raftEnd)
	})
	return g.ended
}
