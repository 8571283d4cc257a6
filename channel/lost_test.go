package channel

import (
	"context"
	"testing"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/raftlog"
)

// TestLost: rows are named by the channel, merged where they follow each other;
// what nobody can ask for any more is left out.
func TestLost(t *testing.T) {
	w := newWorld(t)
	one, gone := w.channel("one", 1), w.channel("gone", 1)
	w.fill(one, 10)
	w.fill(gone, 10)
	w.set(one, 1, sub("s"))
	p := one.Partitions()[0].(*raftPartition)
	w.ok(p.Commit(context.Background(), Commit{
		Outcomes:    []Outcome{{UID: "s", Kind: Kept, Offset: 1, Span: 1, Count: 1}},
		DeadLetters: []DeadLetter{{UID: "s", Offset: 1, Event: &event.Event{ID: "x", Source: "/x", Type: "x"}}},
	}))
	rows := w.group.rows
	if got := w.log.Lost(nil); len(got) != 0 {
		t.Errorf("of nothing: %v", got)
	}
	want := []Lost{
		{Channel: one.ID(), Kind: LostDeadLetters, UID: "s", Range: Range{0, 1}},
		{Channel: one.ID(), Kind: LostEvents, Range: Range{0, 10}},
		{Channel: one.ID(), Kind: LostOutcomes, Range: Range{0, 1}},
	}
	w.ok(w.log.Drop(context.Background(), gone.ID().UID))
	w.equal("all rows", w.log.Lost(rows), want)
	p.floor.Store(4)
	of := func(base uint64, count uint32) raftlog.Row {
		return raftlog.Row{Key: p.key, Kind: rowEvents, Base: base, Count: count}
	}
	w.equal("apart, and below the floor", w.log.Lost([]raftlog.Row{of(8, 1), of(0, 4), of(3, 2), of(5, 1)}), []Lost{
		{Channel: one.ID(), Kind: LostEvents, Range: Range{4, 6}}, {Channel: one.ID(), Kind: LostEvents, Range: Range{8, 9}},
	})
}
