package raftlog

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/segment"
	"github.com/leat-dev/leat/raftlog/vfs/errorfs"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

// Where neither the log nor term and vote can be written any more, raft steps
// down, stands for election, and would panic. The group ends instead: what it is
// asked is refused, and Close returns.
func TestLostVoteEndsTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := memfs.New(0)
		var failing atomic.Bool
		fsys := errorfs.Wrap(inner, func(op errorfs.Op, _ string) error {
			if failing.Load() && op == errorfs.Sync {
				return errDisk
			}
			return nil
		})
		var fatal []error
		g, err := tryOpen(fsys, func(o *Options) { o.Fatal = func(err error) { fatal = append(fatal, err) } })
		if err != nil {
			t.Fatal(err)
		}
		propose(t, g, command(0))
		failing.Store(true)
		if _, err := g.Propose(t.Context(), Events, []byte(command(1))); !errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("a write whose sync failed: %v", err)
		}
		time.Sleep(time.Minute) // raft stands for election
		if _, err := g.Propose(t.Context(), Events, []byte(command(2))); err == nil {
			t.Error("acknowledged after a failed sync")
		}
		if _, err := g.ReadEntry(g.Applied()); err != nil {
			t.Errorf("what was synced cannot be read: %v", err)
		}
		if err := g.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
		if len(fatal) != 1 || !errors.Is(fatal[0], errDisk) {
			t.Errorf("reported: %v", fatal)
		}
		reopen(t, inner, func(_ *Group, c *counter) {
			if n := len(c.commands); n < 1 || n > 2 || c.commands[0] != command(0) {
				t.Errorf("%d commands", n)
			}
		})
	})
}

// Raft reads the oldest entry now and then, for its statistics. That it cannot be
// read, or that retention has dropped it meanwhile, ends nothing.
func TestOldestEntryMayBeUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner, _ := filled(t)
		var failing atomic.Bool
		var reads atomic.Int64
		fsys := errorfs.Wrap(inner, func(op errorfs.Op, name string) error {
			if op == errorfs.Read && filepath.Ext(name) == ".seg" && failing.Load() {
				reads.Add(1)
				return errDisk
			}
			return nil
		})
		g, err := tryOpen(fsys, func(o *Options) { o.Fatal = func(err error) { t.Errorf("fatal: %v", err) } })
		if err != nil {
			t.Fatal(err)
		}
		failing.Store(true)
		time.Sleep(time.Minute)
		if reads.Load() == 0 {
			t.Error("nothing was read: too little is tested")
		}
		propose(t, g, command(120))
		closeGroup(t, g)
	})
}

// The n-th operation of a start fails, for each n: the group opens, or says why
// not, and opens the next time. Raft's own answer to some of these is a panic.
func TestEveryFailingOperationOfAStart(t *testing.T) {
	inner, _ := filled(t)
	for n := 1; ; n++ {
		left := inner.Clone()
		nth := errorfs.NewNth(n, errDisk)
		broken := make(chan struct{})
		g, err := tryOpen(errorfs.Wrap(left, nth.Hook), func(o *Options) { o.Fatal = func(error) { close(broken) } })
		if err == nil {
			_ = g.Close(context.Background()) // it may have met the failure
		} else if !named(err) {
			t.Errorf("operation %d: %v", n, err)
		}
		reopen(t, left, func(g *Group, c *counter) {
			if len(c.commands) != 120 {
				t.Errorf("operation %d: %d commands", n, len(c.commands))
			}
		})
		if !nth.Failed() {
			t.Logf("%d operations", n-1)
			return
		}
	}
}

// A process that dies between a rename and the sync of the directory leaves a
// name that the next process sees, and that a power cut takes away. What that
// process acknowledges must not hang on it.
func TestNamesThatWereNotSyncedBecomeDurable(t *testing.T) {
	for n := 1; ; n++ {
		inner := memfs.New(0)
		nth := errorfs.NewNth(n, errDisk, errorfs.Mutations()...)
		if g, err := tryOpen(errorfs.Wrap(inner, nth.Hook), nil); err == nil {
			_ = g.Snapshot()                  // it may have met the failure
			_ = g.Close(context.Background()) // or this
		}
		left := inner.Clone()
		g, _ := openGroup(t, "/g", func(o *Options) { o.FS = left })
		for i := range 60 {
			propose(t, g, command(i))
		}
		if err := g.Trim(func(segment.Info) bool { return false }); err != nil {
			t.Errorf("operation %d: %v", n, err)
		}
		cut := left.CrashClone(seeded(uint64(n)), 0)
		closeGroup(t, g)
		g, err := tryOpen(cut, nil)
		if err != nil {
			t.Errorf("operation %d: after a power cut: %v", n, err)
			continue
		}
		if g.Applied() < 60 {
			t.Errorf("operation %d: %d entries after a power cut", n, g.Applied())
		}
		closeGroup(t, g)
		if !nth.Failed() {
			t.Logf("%d operations", n-1)
			return
		}
	}
}

// named says whether an error tells what happened; raft keeps no more than the
// text of some.
func named(err error) bool {
	var damaged *segment.DamagedError
	return strings.Contains(err.Error(), errDisk.Error()) || errors.As(err, &damaged)
}

// A read that fails when raft applies what was committed, after it has read it
// without fault before, is an error of the start.
func TestFailedReadWhileApplying(t *testing.T) {
	inner, _ := filled(t)
	failures := 0
	for n := 1; ; n++ {
		left := inner.Clone()
		var reads atomic.Int64
		var failed atomic.Bool
		fsys := errorfs.Wrap(left, func(op errorfs.Op, name string) error {
			if op == errorfs.Read && filepath.Ext(name) == ".seg" && reads.Add(1) >= int64(n) {
				failed.Store(true)
				return errDisk
			}
			return nil
		})
		g, err := tryOpen(fsys, nil)
		switch {
		case err == nil:
			_ = g.Close(context.Background()) // it cannot read, but may have had nothing more to read
		case named(err):
			failures++
		default:
			t.Errorf("read %d: %v", n, err)
		}
		if !failed.Load() {
			break
		}
	}
	if failures < 10 {
		t.Errorf("only %d starts failed: too little is tested", failures)
	}
}

// held is a machine whose snapshots are written once they are let go.
type held struct {
	counter
	let chan struct{}
}

type heldSnapshot struct {
	Snapshot
	let chan struct{}
}

func (h *held) Snapshot() (Snapshot, error) {
	s, err := h.counter.Snapshot()
	return heldSnapshot{s, h.let}, err
}

func (h heldSnapshot) Write(w io.Writer) error {
	<-h.let
	return h.Snapshot.Write(w)
}

// noAnswer is what raft gives for an entry that was on its way to the machine when
// raft was told to end.
type noAnswer struct {
	raft.ApplyFuture
	over chan struct{}
}

func (f noAnswer) Error() error {
	<-f.over
	return nil
}

// A group that cannot go on has ended raft already when it is closed: Close waits
// for raft's goroutines, which use machine and files, all the same. Who has an
// entry on its way is answered, also where raft does not answer any more.
func TestCloseOfABrokenGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &held{let: make(chan struct{})}
		g, err := tryOpen(memfs.New(0), func(o *Options) { o.Machine = m })
		if err != nil {
			t.Fatal(err)
		}
		propose(t, g, command(0))
		snapshot := make(chan error, 1)
		go func() { snapshot <- g.Snapshot() }()
		synctest.Wait()
		g.log.fatal(errDisk)
		synctest.Wait()
		if g.raft.State() != raft.Shutdown {
			t.Fatal("raft goes on")
		}
		answer := make(chan error, 1)
		f := noAnswer{over: make(chan struct{})}
		defer close(f.over)
		go func() {
			_, err := g.commits.await(f)
			answer <- err
		}()

		closed := make(chan error, 2)
		go func() {
			err := g.Close(context.Background())
			select {
			case <-m.let:
			default:
				t.Error("closed while a snapshot of the machine is being written")
			}
			closed <- err
		}()
		synctest.Wait()
		close(m.let)
		for what, answer := range map[string]chan error{"entry": answer, "close": closed, "snapshot": snapshot} {
			select {
			case err := <-answer:
				if want := what == "entry"; errors.Is(err, ErrUnknownOutcome) != want || !want && err != nil {
					t.Errorf("%s: %v", what, err)
				}
			case <-time.After(time.Minute):
				t.Errorf("%s: no answer", what)
			}
		}
	})
}

// Close that is given up, because of a disk that hangs, leaves the files to raft's
// goroutines for as long as these use them, and closes them afterwards.
func TestCloseThatIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s stall
		m := &held{let: make(chan struct{})}
		g, err := tryOpen(errorfs.Wrap(memfs.New(0), s.hook), func(o *Options) { o.Machine = m })
		if err != nil {
			t.Fatal(err)
		}
		propose(t, g, command(0))
		snapshot := make(chan error, 1)
		go func() { snapshot <- g.Snapshot() }()
		synctest.Wait()
		s.begin(hangs(errorfs.Sync))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.Propose(ctx, Events, []byte(command(1))); !errors.Is(err, ErrUnknownOutcome) {
			t.Error(err)
		}
		if err := g.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close: %v", err)
		}
		s.end()
		synctest.Wait()
		closed := func() bool {
			_, err := g.ReadEntry(1)
			return err != nil
		}
		if closed() {
			t.Error("the files are closed while a snapshot of the machine is being written")
		}
		close(m.let)
		synctest.Wait()
		if err := <-snapshot; err != nil || !closed() {
			t.Errorf("snapshot: %v; are the files closed then: %v", err, closed())
		}
	})
}
