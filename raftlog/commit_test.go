package raftlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
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
	if early < len(want)-1 {
		t.Errorf("%d of %d entries were applied before raft's own loops came to them, want all but the first", early, len(want))
	}
	closeGroup(t, g)
	g, w = openWatched(t, dir)
	defer closeGroup(t, g)
	if !slices.Equal(w.commands, want) {
		t.Errorf("after a restart there are %d commands: %q", len(w.commands), w.commands)
	}
}

func TestOwnWriteIsNoAnswerWhereAnotherVoterMustHaveIt(t *testing.T) {
	g, w := openWatched(t, t.TempDir())
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
