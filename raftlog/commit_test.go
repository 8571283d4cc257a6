package raftlog

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/vfs/errorfs"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

// watched is a machine that notes of each entry whether raft had committed it by
// its own reckoning when it was applied.
type watched struct {
	counter
	group *Group

	noted sync.Mutex
	early map[uint64]bool
}

func (w *watched) Apply(e *Entry) []any {
	w.noted.Lock()
	w.early[e.Index] = w.group != nil && w.group.raft.CommitIndex() < e.Index
	w.noted.Unlock()
	return w.counter.Apply(e)
}

func openWatched(t *testing.T, dir string) (*Group, *watched) {
	w := &watched{early: make(map[uint64]bool)}
	g, _ := openGroup(t, dir, func(o *Options) { o.Machine = w })
	w.noted.Lock()
	w.group = g
	w.noted.Unlock()
	return g, w
}

func TestSoleVoterAnswersOnceItsWriteIsSynced(t *testing.T) {
	dir := t.TempDir()
	g, w := openWatched(t, dir)
	var want []string
	for i := range 50 {
		cmd := fmt.Sprint("command ", i)
		want = append(want, cmd)
		if got := propose(t, g, cmd); got != uint64(i) {
			t.Errorf("command %d has offset %d", i, got)
		}
		if i == 30 {
			// What was applied early is in the snapshot, whatever raft knows of it.
			if err := g.Snapshot(); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.noted.Lock()
	early := 0
	for _, yes := range w.early {
		if yes {
			early++
		}
	}
	w.noted.Unlock()
	if early < len(want) {
		t.Errorf("%d of %d entries were applied before raft's own loops came to them", early, len(want))
	}
	closeGroup(t, g)
	g, w = openWatched(t, dir)
	defer closeGroup(t, g)
	if !slices.Equal(w.commands, want) {
		t.Errorf("after a restart there are %d commands: %q", len(w.commands), w.commands)
	}
}

// A node that can be reached by others is not the sole voter for good.
func TestOwnWriteIsNoAnswerWhereAnotherVoterMustHaveIt(t *testing.T) {
	dir := t.TempDir()
	g, _ := openGroup(t, dir, nil)
	closeGroup(t, g)
	_, transport := raft.NewInmemTransport("n1")
	w := &watched{early: make(map[uint64]bool)}
	g, _ = openGroup(t, dir, func(o *Options) { o.Machine, o.Transport = w, transport })
	defer closeGroup(t, g)
	propose(t, g, "alone")
	propose(t, g, "alone still")
	// The configuration counts from its entry on; the other voter does not exist.
	g.raft.AddVoter("n2", raft.ServerAddress("nowhere"), 0, 0)
	for len(g.raft.GetConfiguration().Configuration().Servers) < 2 {
		select {
		case <-time.After(time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("the configuration was not taken into use")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if r, err := g.Propose(ctx, Events, []byte("not alone")); !errors.Is(err, ErrUnknownOutcome) && !errors.Is(err, ErrNotLeader) {
		t.Errorf("got %v, %v: the other voter has nothing of this", r, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.commands) != 2 {
		t.Errorf("applied: %q", w.commands)
	}
}

// Where this node is the sole voter for good its raft has nothing of its own to
// write once it leads. If it did, at a place that is taken, the group would end
// rather than lose what it has answered.
func TestRaftWritesNothingBesideTheSoleVoter(t *testing.T) {
	fsys := memfs.New(0)
	broken := make(chan error, 1)
	g, err := tryOpen(fsys, func(o *Options) { o.Fatal = func(err error) { broken <- err } })
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		propose(t, g, command(i))
	}
	g.raft.AddVoter("n2", raft.ServerAddress("nowhere"), 0, 0)
	select {
	case err := <-broken:
		if !strings.Contains(err.Error(), "an entry of its own") {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("raft's entry is taken for another")
	}
	if _, err := g.Propose(t.Context(), Events, []byte("late")); err == nil {
		t.Error("a group that has ended takes commands")
	}
	if err := g.Close(t.Context()); err != nil {
		t.Error(err)
	}
	reopen(t, fsys, func(_ *Group, c *counter) {
		if len(c.commands) != 3 {
			t.Errorf("%d commands", len(c.commands))
		}
	})
}

// Who proposes waits no longer than there is time, whatever raft is busy with:
// here with the term of another node, which its disk does not take.
func TestProposalEndsInTimeWhileRaftIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s stall
		fsys := errorfs.Wrap(memfs.New(0), s.hook)
		g, _ := openGroup(t, "/g", func(o *Options) { o.FS, o.SegmentBytes = fsys, 1<<20 })
		closeGroup(t, g)
		_, transport := raft.NewInmemTransport("n1")
		g, _ = openGroup(t, "/g", func(o *Options) { o.FS, o.Transport, o.SegmentBytes = fsys, transport, 1<<20 })
		for i := range 3 {
			propose(t, g, command(i))
		}
		s.begin(func(op errorfs.Op, name string) bool {
			return op == errorfs.Write && filepath.Base(name) == stableFile
		})
		_, other := raft.NewInmemTransport("n2")
		other.Connect("n1", transport)
		var answer raft.AppendEntriesResponse
		_ = other.AppendEntries("n1", "n1", &raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("n2"), Addr: []byte("n2")}, Term: 99,
		}, &answer) // answered, if at all, once the term is written
		if s.hung.Load() == 0 || g.log.Room() < raftMargin+100 {
			t.Fatal("nothing hangs, or there is no room: too little is tested")
		}
		done := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := g.Propose(ctx, Events, []byte("x"))
			done <- err
		}()
		select {
		case err := <-done:
			if !errors.Is(err, ErrUnknownOutcome) {
				t.Error(err)
			}
		case <-time.After(time.Minute):
			t.Error("it had a second, and waits after a minute")
		}
		s.end()
		closeGroup(t, g)
	})
}
