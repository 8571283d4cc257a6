package channel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/raftlog"
)

func (w *world) terms(p Partition) []string { return spans(first(p.Terms())) }

func (w *world) commit(p Partition, c Commit) {
	w.Helper()
	w.ok(p.Commit(w.ctx, c))
}

func TestTermsFollowChanges(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	p := ch.Partitions()[0]
	w.fill(ch, 10)
	w.set(ch, 5, sub("s", filtered("A")))
	w.equal("new at the end", w.terms(p), []string{"sA[10,)"})
	w.equal("nothing is out", p.Cursors(), map[string]Cursor{})
	w.equal("only the dispatcher moves the scan", p.Scan(), 0)
	w.fill(ch, 5)
	w.set(ch, 6, sub("s", filtered("B")))
	w.equal("a new filter", w.terms(p), []string{"sA[10,15)", "sB[15,)"})
	w.set(ch, 7, sub("s", filtered("C")))
	w.equal("a filter that covered nothing", w.terms(p), []string{"sA[10,15)", "sC[15,)"})
	w.fill(ch, 1)
	w.set(ch, 8, sub("s", filtered("C"), func(s *Subscription) { s.Ordered = true }))
	w.set(ch, 9, sub("s", filtered("C"), func(s *Subscription) { s.Ordered, s.Generation = true, 7 }))
	w.equal("the generation alone changes nothing", w.terms(p), []string{"sA[10,15)", "sC[15,16)", "sC[16,)"})
	w.commit(p, Commit{Scan: 15})
	w.set(ch, 10, sub("s", filtered("C"), func(s *Subscription) { s.Ordered = true }), sub("t"))
	w.equal("a delivered term is gone", w.terms(p), []string{"sC[15,16)", "sC[16,)", "t[16,)"})
	w.set(ch, 11)
	w.equal("deleted", w.terms(p), []string(nil))
	w.fill(ch, 1)
	h := p.(History)
	w.equal("epoch of 9", spans(h.TermsAt(9)), []string(nil))
	w.equal("epoch of 12", spans(h.TermsAt(12)), []string{"sA[10,15)"})
	w.equal("epoch of 15", spans(h.TermsAt(15)), []string{"sC[15,16)"})
	w.equal("epoch of 16", spans(h.TermsAt(16)), []string(nil))
	w.equal("version", p.Version(), 11)
}

func TestStartInThePast(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	p := ch.Partitions()[0]
	began := w.clock.Now()
	for range 10 {
		w.fill(ch, 1)
		w.clock.advance(time.Second)
	}
	w.set(ch, 1,
		sub("beginning", beginning()),
		sub("offset", atOffset(4)),
		sub("time", from(Start{At: "time", Time: began.Add(7 * time.Second)})),
		sub("end", from(Start{At: "end"})),
		sub("future", atOffset(20)))
	w.equal("terms", w.terms(p), []string{"beginning[0,)", "end[10,)", "future[20,)", "offset[4,)", "time[7,)"})
	at := func(o uint64) Cursor { return Cursor{Low: o, Next: o, Detached: true} }
	w.equal("cursors", p.Cursors(), map[string]Cursor{"beginning": at(0), "offset": at(4), "time": at(7)})

	// Another start begins anew; what was in flight does not undo that.
	_, known := p.Terms()
	w.set(ch, 2, sub("offset", atOffset(2)))
	w.commit(p, Commit{TermsVersion: known, Scan: 10, Cursors: map[string]Cursor{"offset": {Low: 9, Next: 9, Detached: true}}})
	terms, version := p.Terms()
	w.equal("terms", spans(terms), []string{"offset[2,)"})
	w.equal("started", terms[0].Started, version)
	w.equal("cursor", p.Cursors(), map[string]Cursor{"offset": at(2)})
	w.equal("both held", len(p.(History).TermsAt(5)), 3) // beginning, and offset twice
	w.set(ch, 3, sub("offset", from(Start{At: "end"})))
	w.commit(p, Commit{TermsVersion: version, Cursors: map[string]Cursor{"offset": {Low: 4, Next: 9}}})
	w.equal("nothing is left of an earlier life", p.Cursors(), map[string]Cursor{})
	if err := ch.SetSubscriptions(w.ctx, 4, []Subscription{sub("x", from(Start{At: "noon"}))}); err == nil {
		t.Fatal("an unknown start is accepted")
	}
}

// A commit whose author did not know of a term yet cannot move positions past
// its beginning, or a restart would skip what lies between.
func TestCommitDoesNotPassATermItDidNotKnow(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	p := ch.Partitions()[0]
	w.set(ch, 1, sub("idle"), sub("busy"), sub("other"))
	w.fill(ch, 10)
	_, known := p.Terms()
	w.set(ch, 2, sub("idle", filtered("2")), sub("busy", filtered("2")), sub("other"), sub("fresh"))
	w.fill(ch, 10)
	w.commit(p, Commit{TermsVersion: known, Scan: 20, Cursors: map[string]Cursor{
		"busy":  {Low: 4, Next: 20, Done: []Range{{6, 9}, {12, 18}}},
		"other": {Low: 3, Next: 20},
	}})
	want := map[string]Cursor{
		"idle":  {Low: 10, Next: 10, Detached: true},
		"busy":  {Low: 4, Next: 10, Done: []Range{{6, 9}}, Detached: true},
		"other": {Low: 3, Next: 20},
		"fresh": {Low: 10, Next: 10, Detached: true},
	}
	w.equal("cursors", p.Cursors(), want)
	w.equal("scan", p.Scan(), 20)
	_, known = p.Terms()
	w.commit(p, Commit{TermsVersion: known, Cursors: map[string]Cursor{
		"idle": {Low: 20, Next: 20}, "busy": {Low: 20, Next: 20}, "other": {Low: 20, Next: 20}, "fresh": {Low: 20, Next: 20},
	}})
	w.equal("all caught up", p.Cursors(), map[string]Cursor{})
}

// Of several terms that the author did not know, the first one counts.
func TestCommitStopsAtTheFirstTermItDidNotKnow(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	p := ch.Partitions()[0]
	w.set(ch, 1, sub("idle"), sub("busy"))
	w.fill(ch, 10)
	_, known := p.Terms()
	for i, f := range []string{"2", "3"} {
		w.set(ch, uint64(2+i), sub("idle", filtered(f)), sub("busy", filtered(f)))
		w.fill(ch, 10)
	}
	for range 2 { // the second time by a machine that began with a snapshot
		w.commit(p, Commit{TermsVersion: known, Scan: 30, Cursors: map[string]Cursor{"busy": {Low: 25, Next: 30}}})
		at := Cursor{Low: 10, Next: 10, Detached: true}
		w.equal("cursors", p.Cursors(), map[string]Cursor{"idle": at, "busy": at})
		w.equal("terms", w.terms(p), []string{"busy2[10,20)", "busy3[20,)", "idle2[10,20)", "idle3[20,)"})
		w.group.takeSnapshot(t)
		w.start()
		p = w.log.List()[0].Partitions()[0]
	}
}

func TestVersionIsCompareAndSet(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	p := ch.Partitions()[0]
	w.set(ch, 5, sub("s"))
	if err := ch.SetSubscriptions(w.ctx, 4, nil); !errors.Is(err, ErrStale) {
		t.Fatalf("an older set: %v", err)
	}
	w.set(ch, 5, sub("s"))
	w.equal("the same set again", w.group.proposed[kindTerms], 1)
	_, version := p.Terms()
	w.set(ch, 6, sub("s"))
	w.equal("version", p.Version(), 6)
	if _, again := p.Terms(); again != version {
		t.Fatal("a version alone changed the terms")
	}
	// A change that another author made from the same state is refused.
	c := ch.(*raftChannel)
	cmd := termsCommand{channel: c.num, prevVersion: 6, prevChanges: version, version: 7, close: []string{"s"}}
	results := w.group.together(cmd.encode(), cmd.encode())
	if results[0] != nil {
		t.Fatal(results[0])
	}
	if err, _ := results[1].(error); !errors.Is(err, ErrStale) {
		t.Fatalf("the second of two: %v", results[1])
	}
	// One that comes between the reading and the writing is taken into account.
	between := true
	w.group.refuse = nil
	interposed := &interposer{fakeGroup: w.group, before: func(cmd []byte) {
		if between && cmd[0] == kindTerms {
			between = false
			other := termsCommand{channel: c.num, prevVersion: 7, prevChanges: c.changes.Load(), version: 8, open: []openTerm{{sub: sub("other", from(Start{At: "end"})), restart: true, from: []uint64{toEnd}}}}
			w.group.together(other.encode())
		}
	}}
	w.shard.Bind(interposed)
	w.set(ch, 9, sub("mine"))
	w.equal("terms", w.terms(p), []string{"mine[0,)"})
	between = true
	if err := ch.SetSubscriptions(w.ctx, 7, nil); !errors.Is(err, ErrStale) {
		t.Fatal(err)
	}
	if err := ch.SetSubscriptions(w.ctx, 10, []Subscription{sub("x"), sub("x")}); err == nil {
		t.Fatal("a UID twice is accepted")
	}
}

// TestStaleTermsAreRefusedByApply: by each of the things they were made from.
func TestStaleTermsAreRefusedByApply(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	p := ch.Partitions()[0]
	w.set(ch, 5, sub("s"))
	w.set(ch, 6, sub("s")) // another version of the same set
	w.fill(ch, 3)
	c := ch.(*raftChannel)
	now := c.changes.Load()
	for _, x := range []struct {
		name string
		termsCommand
		stale bool
	}{
		{"of an earlier version", termsCommand{prevVersion: 5, prevChanges: now, version: 7}, true},
		{"of before a part of another change", termsCommand{prevVersion: 6, prevChanges: now - 1, version: 7}, true},
		{"of a state that is not there yet", termsCommand{prevVersion: 6, prevChanges: now + 1, version: 7}, true},
		{"to an earlier version", termsCommand{prevVersion: 6, prevChanges: now, version: 5}, true},
		{"a part, which moves no version", termsCommand{prevVersion: 6, prevChanges: now, version: 6}, false},
	} {
		x.channel, x.close = c.num, []string{"s"}
		err, _ := w.group.together(x.encode())[0].(error)
		if errors.Is(err, ErrStale) != x.stale || !x.stale && err != nil {
			t.Errorf("%s: %v", x.name, err)
		}
		if x.stale {
			w.equal(x.name, w.terms(p), []string{"s[0,)"})
			w.equal(x.name, []uint64{p.Version(), c.changes.Load()}, []uint64{6, now})
		}
	}
	w.equal("in the end", w.terms(p), []string(nil))
}

// TestConcurrentSetsOfSubscriptions: whatever the order, the latest version
// wins, and terms are disjoint per subscription.
func TestConcurrentSetsOfSubscriptions(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 2)
	done := make(chan error)
	const writers, rounds = 4, 50
	for i := range writers {
		go func() {
			for n := range rounds {
				version := uint64(n*writers + i + 1)
				err := ch.SetSubscriptions(w.ctx, version, []Subscription{sub("s", filtered(fmt.Sprint(version))), sub(fmt.Sprint("w", version))})
				if err != nil && !errors.Is(err, ErrStale) {
					done <- err
					return
				}
				if err := ch.Append(w.ctx, []*event.Event{anEvent("x")}); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range writers {
		w.ok(<-done)
	}
	w.equal("version", ch.Partitions()[0].Version(), writers*rounds)
	for _, p := range ch.Partitions() {
		_, end := p.Bounds()
		var last Term
		for _, term := range first(p.Terms()) {
			if term.Subscription.UID == "s" {
				if last.To > term.From {
					t.Fatalf("overlap: %v", spans(first(p.Terms())))
				}
				last = term
			}
		}
		w.equal("filter in force", string(last.Subscription.Filter), fmt.Sprint(writers*rounds))
		for o := range end {
			n := 0
			for _, term := range p.(History).TermsAt(o) {
				if term.Subscription.UID == "s" {
					n++
				}
			}
			if n > 1 {
				t.Fatalf("offset %d has %d terms of one subscription", o, n)
			}
		}
	}
}

type interposer struct {
	*fakeGroup
	before func(cmd []byte)
}

func (g *interposer) Propose(ctx context.Context, class raftlog.Class, cmd []byte) (any, error) {
	g.before(cmd)
	return g.fakeGroup.Propose(ctx, class, cmd)
}

func manySubs(n int) []Subscription {
	subs := make([]Subscription, n)
	for i := range subs {
		subs[i] = sub(fmt.Sprintf("00000000-0000-0000-0000-%012d", i), filtered(strings.Repeat("f", 100)))
	}
	return subs
}

func TestTenThousandSubscriptions(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	p := ch.Partitions()[0]
	subs := manySubs(10_000)
	w.fill(ch, 1)
	var versions []uint64
	interposed := &interposer{fakeGroup: w.group, before: func(cmd []byte) {
		if len(cmd) > w.shard.o.TermsBytes {
			t.Errorf("a record of terms has %d bytes", len(cmd))
		}
		versions = append(versions, p.Version())
	}}
	w.shard.Bind(interposed)
	began := time.Now()
	w.set(ch, 17, subs...)
	t.Logf("10,000 subscriptions set in %v, %d records", time.Since(began), w.group.proposed[kindTerms])
	if slices.Max(versions) != 0 {
		t.Fatal("the version moved before the last piece")
	}
	w.equal("version", p.Version(), 17)
	w.equal("terms", len(first(p.Terms())), 10_000)
	records := w.group.proposed[kindTerms]
	began = time.Now()
	for i := range 100 {
		subs[i].Filter = []byte("changed")
		w.set(ch, uint64(18+i), subs...)
	}
	t.Logf("100 changes of one among 10,000 in %v", time.Since(began))
	w.equal("one record for each change", w.group.proposed[kindTerms]-records, 100)
}

// TestIdleSubscriptionsWriteNothing: what moves is the scan's position alone,
// however many subscriptions there are.
func TestIdleSubscriptionsWriteNothing(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	p := ch.Partitions()[0]
	w.set(ch, 1, manySubs(10_000)...)
	w.group.takeSnapshot(t)
	before := len(w.group.snapshot)
	w.group.proposed = make(map[byte]int)
	for i := range uint64(10) {
		w.fill(ch, 100)
		_, known := p.Terms()
		w.commit(p, Commit{TermsVersion: known, Scan: 100 * (i + 1)})
	}
	w.equal("commands", w.group.proposed, map[byte]int{kindAppend: 1000, kindCommit: 10})
	w.group.takeSnapshot(t)
	if grown := len(w.group.snapshot) - before; grown > 20 {
		t.Fatalf("the state grew by %d bytes", grown)
	}
	w.equal("cursors", len(p.Cursors()), 0)
	// One that had something out leaves no cursor behind when it is done.
	uid := manySubs(1)[0].UID
	w.commit(p, Commit{Cursors: map[string]Cursor{uid: {Low: 999, Next: 1000}}})
	w.equal("cursors", p.Cursors(), map[string]Cursor{uid: {Low: 999, Next: 1000}})
	w.commit(p, Commit{Cursors: map[string]Cursor{uid: {Low: 1000, Next: 1000}}})
	w.equal("cursors", len(p.Cursors()), 0)
}

func TestCursorsStayWithinBounds(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	p := ch.Partitions()[0]
	w.set(ch, 1, sub("s"))
	w.fill(ch, 10)
	w.commit(p, Commit{Scan: 99, Cursors: map[string]Cursor{"s": {Low: 50, Next: 70, Done: []Range{{60, 65}}, Detached: true}, "nobody": {Low: 1, Next: 2}}})
	w.equal("scan", p.Scan(), 10)
	w.equal("cursors", p.Cursors(), map[string]Cursor{"s": {Low: 10, Next: 10, Detached: true}})
	w.commit(p, Commit{Scan: 3})
	w.equal("a scan never goes back", p.Scan(), 10)
	for _, bad := range []Cursor{{Low: 5, Next: 4}, {Low: 0, Next: 9, Done: []Range{{3, 3}}}, {Low: 0, Next: 9, Done: []Range{{3, 5}, {4, 6}}}} {
		if err := p.Commit(w.ctx, Commit{Cursors: map[string]Cursor{"s": bad}}); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
	many := Cursor{Low: 0, Next: 9000}
	for i := range uint64(300) {
		many.Done = append(many.Done, Range{2*i + 1, 2*i + 2})
	}
	w.fill(ch, 700)
	w.commit(p, Commit{Cursors: map[string]Cursor{"s": many}})
	w.equal("ranges", len(p.Cursors()["s"].Done), maxDone)
}
