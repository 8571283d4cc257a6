package channel

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func letter(uid string, offset uint64) DeadLetter {
	return DeadLetter{
		UID: uid, Offset: offset, Event: anEvent(fmt.Sprintf("e%d", offset)), Attempts: 3, Code: 500,
		Reason: "it said no", Answer: []byte("no"),
	}
}

// TestDeadLetterAndCursorAreOneEntry: there is no state in which the cursor is
// past an event whose dead letter is not there.
func TestDeadLetterAndCursorAreOneEntry(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	p := ch.Partitions()[0]
	w.set(ch, 1, sub("s"), sub("t"))
	w.fill(ch, 5)
	entries := len(w.group.entries)
	reply := letter("s", 3)
	reply.Reply = true
	w.commit(p, Commit{
		Scan: 5, Cursors: map[string]Cursor{"s": {Low: 4, Next: 5}},
		Outcomes:    []Outcome{{UID: "s", Kind: Kept, Offset: 2, Span: 1, Count: 1, Attempts: 3, Code: -1, Reason: "it said no"}},
		DeadLetters: []DeadLetter{letter("s", 2), letter("t", 2), reply},
	})
	w.equal("entries", len(w.group.entries)-entries, 1)
	// Whatever is cut from the log's end, both are there or neither.
	for cut := 0; cut <= 1; cut++ {
		g := newFakeGroup(w.clock)
		g.entries = w.group.entries[:len(w.group.entries)-cut]
		s := NewShard(w.o)
		g.restart(t, s)
		q := NewLog(s).List()[0].Partitions()[0]
		letters, err := q.DeadLetters(w.ctx, "s", 0, 10)
		w.ok(err)
		if (len(letters) == 2) != (q.Scan() == 5) || (len(letters) == 2) != (q.Cursors()["s"].Low == 4) {
			t.Fatalf("%d dead letters, scan %d, cursors %v", len(letters), q.Scan(), q.Cursors())
		}
	}
	letters, err := p.DeadLetters(w.ctx, "s", 0, 10)
	w.ok(err)
	l := letters[0]
	if l.Event.ID != "e2" || l.Offset != 2 || l.Position != 0 || l.Time != w.clock.Now().UnixMicro() || l.Attempts != 3 || l.Code != 500 || l.Reason != "it said no" || string(l.Answer) != "no" || l.Reply || !letters[1].Reply || letters[1].Position != 1 {
		t.Fatalf("%+v", letters)
	}
	letters, err = p.DeadLetters(w.ctx, "t", 0, 10)
	w.ok(err)
	w.equal("another's", len(letters), 1)
	out, next, err := p.(History).Outcomes(w.ctx, 0, 10)
	w.ok(err)
	w.equal("outcomes", out, []Outcome{{UID: "s", Kind: Kept, Offset: 2, Span: 1, Count: 1, Attempts: 3, Code: -1, Reason: "it said no"}})
	w.equal("next", next, 1)
	if _, err := p.DeadLetters(w.ctx, "nobody", 0, 1); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if err := p.Commit(w.ctx, Commit{DeadLetters: []DeadLetter{{UID: "s"}}}); err == nil {
		t.Fatal("a dead letter without its event is accepted")
	}
}

func TestDeadLettersInOrderAndGoneWithTheirSubscription(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	p := ch.Partitions()[0]
	key := p.(*raftPartition).key
	w.set(ch, 1, sub("s"))
	w.fill(ch, 100)
	for i := uint64(0); i < 100; i += 4 {
		w.group.together(
			encodeCommit(key, &Commit{DeadLetters: []DeadLetter{letter("s", i), letter("s", i+1)}, Outcomes: []Outcome{{UID: "s", Offset: i}}}),
			encodeCommit(key, &Commit{DeadLetters: []DeadLetter{letter("s", i+2)}}),
			encodeCommit(key, &Commit{DeadLetters: []DeadLetter{letter("s", i+3)}, Outcomes: []Outcome{{UID: "s", Offset: i + 3}}}))
	}
	for range 2 {
		for at := uint64(0); at < 100; {
			letters, err := p.DeadLetters(w.ctx, "s", at, 7)
			w.ok(err)
			for _, l := range letters {
				if l.Position != at || l.Offset != at || l.Event.ID != fmt.Sprintf("e%d", at) {
					t.Fatalf("position %d: %+v", at, l)
				}
				at++
			}
		}
		out, _, err := p.(History).Outcomes(w.ctx, 11, 3)
		w.ok(err)
		w.equal("outcomes", []uint64{out[0].Offset, out[1].Offset, out[2].Offset}, []uint64{23, 24, 27})
		w.group.takeSnapshot(t)
		w.start()
		p = w.log.List()[0].Partitions()[0]
	}
	w.set(w.log.List()[0], 2)
	if _, err := p.DeadLetters(w.ctx, "s", 0, 1); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	w.set(w.log.List()[0], 3, sub("s"))
	letters, err := p.DeadLetters(w.ctx, "s", 0, 1)
	w.ok(err)
	w.equal("of a new life", len(letters), 0)
	w.equal("logs", len(w.shard.letters), 0)
}

func TestDeadLettersHaveARetentionOfTheirOwn(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.DeadLetterBytes = 2000 })
	ch := w.channel("a", 1)
	p := ch.Partitions()[0]
	w.set(ch, 1, sub("s"))
	w.fill(ch, 8)
	for i := range uint64(8) {
		w.commit(p, Commit{Scan: 8, DeadLetters: []DeadLetter{letter("s", i)}})
	}
	w.group.takeSnapshot(t)
	w.clock.advance(8 * 24 * time.Hour)
	w.ok(w.shard.retain(w.ctx))
	floor, end := p.Bounds()
	w.equal("events are gone", []uint64{floor, end}, []uint64{8, 8})
	letters, err := p.DeadLetters(w.ctx, "s", 0, 10)
	w.ok(err)
	w.equal("dead letters stay", len(letters), 8)
	if w.group.first > 10 {
		t.Fatal("a segment with live dead letters was dropped")
	}
	// Too many bytes.
	for i := range uint64(40) {
		w.commit(p, Commit{DeadLetters: []DeadLetter{letter("s", i%8)}})
	}
	w.ok(w.shard.retain(w.ctx))
	low, high := p.(History).DeadLetterBounds("s")
	letters, err = p.DeadLetters(w.ctx, "s", 0, 100)
	w.ok(err)
	if low == 0 || high != 48 || len(letters) != int(high-low) || letters[0].Position != low {
		t.Fatalf("positions %d to %d, %d read", low, high, len(letters))
	}
	out, _, err := p.(History).Outcomes(w.ctx, 0, 10)
	w.ok(err)
	if len(out) != 1 || out[0].Kind != Expired || out[0].Count != uint32(low) {
		t.Fatalf("%+v", out)
	}
	w.clock.advance(32 * 24 * time.Hour)
	w.ok(w.shard.retain(w.ctx))
	low, high = p.(History).DeadLetterBounds("s")
	w.equal("after 30 days", []uint64{low, high}, []uint64{48, 48})
}
