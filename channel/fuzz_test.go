package channel

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/raftlog"
)

// seeds are commands of each kind on a channel of one partition.
func seeds(w *world) [][]byte {
	ch := w.channel("a", 1)
	key := ch.Partitions()[0].(*raftPartition).key
	num := ch.(*raftChannel).num
	terms := termsCommand{channel: num, prevChanges: 1, version: 3, open: []openTerm{
		{sub: sub("s", filtered("f"), atOffset(1)), restart: true, from: []uint64{1}}, {sub: sub("t", from(Start{At: "end"})), restart: true, from: []uint64{toEnd}},
	}}
	ensure := ensureCommand{id: ID{Kind: "Broker", Name: "b", UID: "b"}, config: Config{Partitions: 2}, partitions: []newPartition{{0, []interval{{0, 0}}}, {1, []interval{{0, 0}}}}}
	floor := floorCommand{key: key, partition: key, floor: 1, outcomes: []Outcome{{UID: "s", Kind: Expired, Span: 1, Count: 1, Reason: "old"}}}
	return [][]byte{
		encodeAppend(nil, ch.Partitions(), []*event.Event{anEvent("e0"), anEvent("e1")}),
		terms.encode(), ensure.encode(), floor.encode(), encodeDrop(num),
		encodeCommit(key, &Commit{
			TermsVersion: 2, Scan: 2, Cursors: map[string]Cursor{"s": {Low: 1, Next: 9, Done: []Range{{3, 5}}}},
			Outcomes: []Outcome{{UID: "s", Kind: Kept, Offset: 1, Span: 1, Code: -1}}, DeadLetters: []DeadLetter{letter("s", 1)},
		}),
		produceCmd(ch, "p", 3, 2, "e2"),
	}
}

// FuzzApply: whatever is in an entry, applying it does not panic, offsets stay
// dense, and the state survives a snapshot byte by byte.
func FuzzApply(f *testing.F) {
	for _, b := range seeds(newWorld(f)) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, cmd []byte) {
		w := newWorld(t)
		known := seeds(w)
		// Between commands that are right, so that there is something to spoil.
		w.group.together(known[0], known[1], cmd, known[5])
		w.group.together(cmd, known[0])
		if w.shard.broken != nil {
			return // a kind that is not known
		}
		for _, ch := range w.log.List() {
			for _, p := range ch.Partitions() {
				floor, end := p.Bounds()
				for at := floor; at < end; {
					stored, err := p.Read(w.ctx, at, 10, 1<<20)
					if err != nil || len(stored) == 0 {
						at++ // what is in a record may be anything
						continue
					}
					w.equal("offset", stored[0].Offset, at)
					at += uint64(len(stored))
				}
			}
		}
		w.group.takeSnapshot(t)
		before := w.group.snapshot
		w.start()
		w.group.takeSnapshot(t)
		if !bytes.Equal(before, w.group.snapshot) {
			t.Errorf("a state restored is another:\n%x\n%x", before, w.group.snapshot)
		}
	})
}

// FuzzRestore: a snapshot that is not one is an error, and leaves the state as
// it was.
func FuzzRestore(f *testing.F) {
	w := newWorld(f)
	for _, cmd := range seeds(w) {
		if cmd[0] != kindDrop {
			w.group.together(cmd)
		}
	}
	w.group.takeSnapshot(f)
	f.Add(w.group.snapshot)
	f.Add(w.group.snapshot[:len(w.group.snapshot)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		s := NewShard(Options{})
		if err := s.Restore(bytes.NewReader(b)); err != nil {
			if len(s.channels)+len(s.parts)+len(s.letters) > 0 {
				t.Errorf("a failed restore left %d channels", len(s.channels))
			}
			return
		}
		s.Apply(&raftlog.Entry{Index: 1, Time: 1})
		if _, err := s.Snapshot(); err != nil {
			t.Error(err)
		}
	})
}

// TestEqualStatesAreEqualSnapshots: members that applied the same entries, one
// of them from a snapshot on, write the same bytes.
func TestEqualStatesAreEqualSnapshots(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 2)
	for i := range 5 {
		var subs []Subscription
		for n := range 20 {
			subs = append(subs, sub(fmt.Sprint("s", n), filtered(fmt.Sprint(i))))
		}
		w.set(ch, uint64(i+1), subs...)
		w.fill(ch, 3)
		w.commit(ch.Partitions()[0], Commit{DeadLetters: []DeadLetter{letter("s3", 0)}, Cursors: map[string]Cursor{"s4": {Low: 1, Next: 3}}})
		if i == 2 {
			w.group.takeSnapshot(t)
		}
	}
	other := NewShard(w.o)
	theirs := &fakeGroup{clock: w.clock, perSegment: 8, first: 1, entries: w.group.entries, snapshot: w.group.snapshot, at: w.group.at}
	theirs.restart(t, other)
	theirs.takeSnapshot(t)
	w.group.takeSnapshot(t)
	if !bytes.Equal(w.group.snapshot, theirs.snapshot) {
		t.Error("equal states, other bytes")
	}
}
