package channel

import (
	"testing"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/filter"
	"github.com/leat-dev/leat/raftlog"
)

// TestNothingIsSeenBeforeItsEntryIsApplied: a reader between two commands of
// an entry sees nothing of it.
func TestNothingIsSeenBeforeItsEntryIsApplied(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	w.set(ch, 1, sub("s"))
	w.fill(ch, 3)
	p := ch.Partitions()[0]
	key := p.(*raftPartition).key
	e := &raftlog.Entry{Index: 99, Time: 1}
	for i, cmd := range [][]byte{
		encodeAppend(nil, ch.Partitions(), []*event.Event{anEvent("e3")}),
		encodeCommit(key, &Commit{Outcomes: []Outcome{{UID: "s", Kind: Retried, Offset: 1}}, DeadLetters: []DeadLetter{letter("s", 1)}}),
		encodeAppend(nil, ch.Partitions(), []*event.Event{anEvent("e4"), anEvent("e5")}),
	} {
		if _, err := w.shard.applyOne(e, i, cmd); err != nil {
			t.Fatal(err)
		}
		w.equal("end", second(p.Bounds()), 3)
		w.equal("what is read", w.read(p, 0, 100), []string{"e0", "e1", "e2"})
		w.equal("at the end", w.read(p, 3, 100), []string{})
		w.equal("outcomes", len(w.outcomes(p)), 0)
		w.equal("dead letters", second(p.(History).DeadLetterBounds("s")), 0)
	}
	e.TakeRows = func(index uint64, rows []raftlog.Row) {
		w.equal("what is indexed", []uint64{index, uint64(len(rows))}, []uint64{99, 3})
		w.equal("end, before there are rows", second(p.Bounds()), 3)
		w.equal("outcomes, before there are rows", len(w.outcomes(p)), 0)
		w.equal("dead letters, before there are rows", second(p.(History).DeadLetterBounds("s")), 0)
	}
	w.shard.publish(e)
	w.equal("the index was told", e.TakeRows == nil, true)
	w.equal("end", second(p.Bounds()), 6)
	w.equal("what is read", w.read(p, 2, 100), []string{"e2", "e3", "e4", "e5"})
	w.equal("dead letters", second(p.(History).DeadLetterBounds("s")), 1)
	w.equal("rows", len(e.Rows()), 3)
}

func second[A, B any](_ A, b B) B { return b }

// TestTermsBeginWithinTheirEntry: a term begins at the end of what precedes it
// in the log, also of what precedes it in its own entry.
func TestTermsBeginWithinTheirEntry(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	p := ch.Partitions()[0]
	c := ch.(*raftChannel)
	w.set(ch, 1, sub("old", filtered("A")))
	w.fill(ch, 2)
	appended := encodeAppend(nil, ch.Partitions(), []*event.Event{anEvent("x"), anEvent("y")})
	end := Start{At: "end"}
	change := func() []byte {
		cmd := termsCommand{channel: c.num, prevVersion: 1, prevChanges: c.changes.Load(), version: 2, open: []openTerm{
			{sub: sub("old", filtered("B"), from(end))}, {sub: sub("new", from(end)), restart: true, from: []uint64{toEnd}},
		}}
		return cmd.encode()
	}
	for i, r := range w.group.together(appended, change(), appended) {
		if r != nil {
			t.Fatalf("command %d: %v", i, r)
		}
	}
	w.equal("terms", w.terms(p), []string{"new[4,)", "oldA[0,4)", "oldB[4,)"})
	w.equal("epoch of 3", spans(p.(History).TermsAt(3)), []string{"oldA[0,4)"})
	w.equal("epoch of 4", spans(p.(History).TermsAt(4)), []string{"new[4,)", "oldB[4,)"})
	w.equal("nothing is out", p.Cursors(), map[string]Cursor{})
}

// TestAFilterThatFailsDoesNotMatch: what expires unseen is counted by the
// filters that delivery goes by.
func TestAFilterThatFailsDoesNotMatch(t *testing.T) {
	for _, c := range []struct {
		canonical []byte
		engine    int
		want      bool
		err       bool
	}{
		{nil, filter.Engine, true, false},
		{filter.Spec{Attributes: map[string]string{"type": "t"}}.Canonical(), filter.Engine, true, false},
		{filter.Spec{Attributes: map[string]string{"type": "u"}}.Canonical(), filter.Engine, false, false},
		{filter.Spec{Filters: []filter.Node{{CESQL: "1 / (LENGTH(id) - LENGTH(id)) = 1"}}}.Canonical(), filter.Engine, false, false},
		{filter.Spec{Filters: []filter.Node{{Not: &filter.Node{CESQL: "INT(id) = 1"}}}}.Canonical(), filter.Engine, false, false},
		{[]byte("{"), filter.Engine, false, true},
		{filter.Spec{Attributes: map[string]string{"type": "t"}}.Canonical(), filter.Engine + 1, false, true},
	} {
		match, err := compileFilter(c.canonical, c.engine)
		if (err != nil) != c.err {
			t.Errorf("%s: %v", c.canonical, err)
		}
		if err == nil && match(anEvent("e0")) != c.want {
			t.Errorf("%s matches: %v", c.canonical, !c.want)
		}
	}
}
