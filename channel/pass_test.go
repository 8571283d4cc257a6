package channel

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/leat-dev/leat/raftlog/segment"
)

// TestDamageIsPassedByCommand: a damaged range is passed by a command that names
// it, which is recorded for each subscription that has not had it. All readers
// go on behind it, on each member, after a restart, and when the floor moves.
func TestDamageIsPassedByCommand(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.TailBytes = 1 })
	ch := w.channel("a", 1)
	w.set(ch, 1, sub("behind"), sub("done"))
	w.append(ch, "e0")
	w.append(ch, "e1", "e2", "e3")
	w.append(ch, "e4")
	p := ch.Partitions()[0].(*raftPartition)
	row, _, _ := w.group.Find(p.key, rowEvents, 2)
	w.group.damage[row.Index] = &segment.DamagedError{File: "log/7.seg", Offset: 4096, Reason: "checksum"}
	w.commit(p, Commit{Scan: 4, Cursors: map[string]Cursor{"behind": {Low: 1, Next: 1, Detached: true}}})
	there := Place{File: "7.seg", Position: 4096}

	for _, c := range []struct {
		offset uint64
		place  Place
	}{{1, Place{"8.seg", 4096}}, {1, Place{"7.seg", 8192}}, {1, Place{}}, {0, there}, {4, there}} {
		if _, err := p.Pass(w.ctx, c.offset, c.place); !errors.Is(err, ErrNotDamaged) {
			t.Errorf("offset %d at %v: %v, want that it is not the damage there", c.offset, c.place, err)
		}
	}
	passed, err := p.Pass(w.ctx, 1, there)
	w.ok(err)
	w.equal("passed", passed, Range{1, 4})
	out, _, err := p.Outcomes(w.ctx, 0, 10)
	w.ok(err)
	w.equal("outcomes", len(out), 1)
	w.equal("outcome", out[0].Kind, Damaged)
	w.equal("of", fmt.Sprint(out[0].UID, out[0].Offset, out[0].Span, out[0].Count), "behind1 3 3")
	w.equal("cursors move by commits only", p.Cursors()["behind"].Low, 1)

	isPassed := func(p Partition) {
		t.Helper()
		w.equal("before it", w.read(p, 0, 100), []string{"e0"})
		_, err := p.Read(w.ctx, 2, 100, 1<<20)
		if e, ok := errors.AsType[*PassedError](err); !ok || e.Range != (Range{1, 4}) {
			t.Fatalf("in it: %v", err)
		}
		w.equal("behind it", w.read(p, 4, 100), []string{"e4"})
	}
	isPassed(p)
	w.group.takeSnapshot(t)
	w.start()
	isPassed(w.log.List()[0].Partitions()[0])
	p = w.log.List()[0].Partitions()[0].(*raftPartition)
	if _, err := p.Pass(w.ctx, 1, there); err == nil {
		t.Error("it was passed twice")
	}
	w.ok(w.shard.applyFloor(&floorCommand{key: p.key, partition: p.key, floor: 4}))
	w.equal("forgotten with the floor", len(p.passedRanges()), 0)
}

// TestPassedRangesAreJoinedAndBounded: what touches is one, and there are at most
// so many.
func TestPassedRangesAreJoinedAndBounded(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	w.fill(ch, 20)
	p := ch.Partitions()[0].(*raftPartition)
	for _, r := range []Range{{10, 12}, {2, 4}, {4, 6}, {11, 15}, {19, 99}} {
		w.ok(w.shard.applyPass(&passCommand{partition: p.key, passed: r}))
	}
	w.equal("joined", p.passedRanges(), []Range{{2, 6}, {10, 15}, {19, 20}})
	full := make([]Range, maxPassed)
	for i := range full {
		full[i] = Range{uint64(2 * i), uint64(2*i) + 1}
	}
	p.next = 3 * maxPassed
	p.passed.Store(&full)
	if err := w.shard.applyPass(&passCommand{partition: p.key, passed: Range{2*maxPassed + 5, 2*maxPassed + 6}}); !errors.Is(err, errPassed) {
		t.Errorf("one more: %v", err)
	}
	if !slices.Equal(p.passedRanges(), full) {
		t.Error("a refused command changed something")
	}
}

// TestOutcomesBesideARefusedPass: the outcomes of a command that was refused are
// none, and those of its entry's other commands are read all the same.
func TestOutcomesBesideARefusedPass(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	w.set(ch, 1, sub("s"))
	w.fill(ch, 3*maxPassed)
	p := ch.Partitions()[0].(*raftPartition)
	full := make([]Range, maxPassed)
	for i := range full {
		full[i] = Range{uint64(2 * i), uint64(2*i) + 1}
	}
	p.passed.Store(&full)
	retried := func(offset uint64) []byte {
		return encodeCommit(p.key, &Commit{Outcomes: []Outcome{{UID: "s", Kind: Retried, Offset: offset, Span: 1, Count: 1}}})
	}
	pass := func(from uint64) []byte {
		c := passCommand{partition: p.key, passed: Range{from, from + 1}, outcomes: []Outcome{{UID: "s", Kind: Damaged, Offset: from, Span: 1, Count: 1}}}
		return c.encode()
	}
	for _, from := range []uint64{2*maxPassed + 5, 1} { // one range more, and one that joins two
		w.group.together(retried(1), pass(from), retried(2))
	}
	out, _, err := p.Outcomes(w.ctx, 0, 100)
	w.ok(err)
	var got []string
	for _, o := range out {
		got = append(got, fmt.Sprint(o.Kind, " ", o.Offset))
	}
	damaged := fmt.Sprint(Damaged, " 1")
	one, two := fmt.Sprint(Retried, " 1"), fmt.Sprint(Retried, " 2")
	w.equal("outcomes", got, []string{one, two, one, damaged, two})
}
