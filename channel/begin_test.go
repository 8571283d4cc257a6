package channel

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

// openGroup is a shard on a group of its own, in memory, with one channel.
func openGroup(t *testing.T, o Options, g raftlog.Options) (*Log, *raftlog.Group, Channel) {
	t.Helper()
	shard := NewShard(o)
	g.Dir, g.Name, g.NodeID, g.Machine, g.FS = "/s", "s0", "n", shard, memfs.New(0)
	g.SegmentBytes, g.DiskFloor, g.DiskReserve = 1<<20, 1, 1
	g.Fatal = func(err error) { t.Error(err) }
	group, err := raftlog.Open(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := group.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	shard.Bind(group)
	log := NewLog(shard)
	ch, err := log.Ensure(t.Context(), ID{Kind: "Broker", Namespace: "n", Name: "b", UID: "u"}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	return log, group, ch
}

// TestBegunEventsAreAppended in the order in which they were begun, and read
// when done has been called; a channel that is gone takes none.
func TestBegunEventsAreAppended(t *testing.T) {
	log, group, ch := openGroup(t, Options{}, raftlog.Options{})
	b, done := ch.(Beginner), make(chan error)
	begin := func(events ...*event.Event) error {
		for {
			err := b.Begin(events, time.Now().Add(time.Minute), func(err error) { done <- err })
			if !errors.Is(err, raftlog.ErrWouldWait) {
				return err
			}
			// What waits learns what is free.
			if _, err := group.Propose(t.Context(), raftlog.Control, encodeDrop(1<<30)); err != nil {
				t.Fatal(err)
			}
		}
	}
	var want []string
	for i := range 50 {
		e := anEvent(fmt.Sprint(i))
		if err := begin(e); err != nil {
			t.Fatal(err)
		}
		want = append(want, e.ID)
		e.ID = "changed since"
	}
	b.Flush()
	for range want {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	stored, err := ch.Partitions()[0].Read(t.Context(), 0, 100, 1<<20)
	if err != nil || len(stored) != len(want) {
		t.Fatalf("%d events, %v", len(stored), err)
	}
	for i, s := range stored {
		if s.Event.ID != want[i] {
			t.Errorf("event %d is %s", i, s.Event.ID)
		}
	}
	if err := log.Drop(t.Context(), "u"); err != nil {
		t.Fatal(err)
	}
	if err := begin(anEvent("late")); !errors.Is(err, ErrNotFound) {
		t.Errorf("begun on a channel that is gone: %v", err)
	}
}

// TestBeginOnAGroupThatOnlyWaits begins nothing.
func TestBeginOnAGroupThatOnlyWaits(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1).(Beginner)
	if err := ch.Begin([]*event.Event{anEvent("e")}, time.Now(), func(error) { t.Error("done") }); !errors.Is(err, raftlog.ErrWouldWait) {
		t.Error(err)
	}
}
