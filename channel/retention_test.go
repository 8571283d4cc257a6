package channel

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/segment"
)

func (w *world) retain() {
	w.Helper()
	w.ok(w.shard.retain(w.ctx))
}

func (w *world) floor(p Partition) uint64 { return first(p.Bounds()) }

func (w *world) outcomes(p Partition) []Outcome {
	w.Helper()
	out, _, err := p.(History).Outcomes(w.ctx, 0, 1000)
	w.ok(err)
	return out
}

// caughtUp moves the scan to the end.
func (w *world) caughtUp(p Partition) {
	w.Helper()
	_, end := p.Bounds()
	w.commit(p, Commit{Scan: end})
}

func TestRetentionByAge(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	short, err := w.log.Ensure(w.ctx, ID{Kind: "Broker", Name: "b", UID: "b"}, Config{RetentionAge: time.Hour})
	w.ok(err)
	p, q := ch.Partitions()[0], short.Partitions()[0]
	for range 10 {
		w.fill(ch, 1)
		w.fill(short, 1)
		w.clock.advance(24 * time.Hour)
	}
	w.group.takeSnapshot(t)
	w.retain()
	w.equal("7 days", w.floor(p), 3)
	w.equal("1 hour", w.floor(q), 10)
	if _, err := p.Read(w.ctx, 2, 1, 1); !errors.Is(err, ErrExpired) {
		t.Fatal(err)
	}
	w.equal("what is left", len(w.read(p, 3, 100)), 7)
	// Segments go as far as nothing in them is above a floor.
	if w.group.first != 9 {
		t.Fatalf("the log begins at %d", w.group.first)
	}
	w.equal("still", len(w.read(p, 3, 100)), 7)
	before := w.group.proposed[kindFloor]
	for range 5 {
		w.clock.advance(time.Minute)
		w.retain()
	}
	w.equal("nothing to do, nothing written", w.group.proposed[kindFloor]-before, 0)
}

// TestFloorsMoveByRecordsOnly: a member that did not run retention has the
// same floors.
func TestFloorsMoveByRecordsOnly(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	w.fill(ch, 10)
	w.group.takeSnapshot(t)
	w.clock.advance(30 * 24 * time.Hour)
	w.fill(ch, 1)
	w.equal("the clock moves nothing", w.floor(ch.Partitions()[0]), 0)
	w.retain()
	w.equal("a record does", w.floor(ch.Partitions()[0]), 10)
	w.start()
	p := w.log.List()[0].Partitions()[0]
	w.equal("another member", w.floor(p), 10)
	w.append(w.log.List()[0], "x")
	w.equal("offsets are not used again", w.read(p, 10, 9), []string{"e10", "x"})
	back := floorCommand{key: p.(*raftPartition).key, partition: p.(*raftPartition).key, floor: 3}
	_, err := w.group.Propose(w.ctx, raftlog.Control, back.encode())
	w.ok(err)
	w.equal("a record does not move it back", w.floor(p), 10)
}

func TestRetentionByBytes(t *testing.T) {
	w := newWorld(t)
	ch, err := w.log.Ensure(w.ctx, ID{Kind: "Broker", Name: "b", UID: "b"}, Config{Partitions: 1, RetentionBytes: 10_000})
	w.ok(err)
	p := ch.Partitions()[0]
	for i := range 100 {
		w.ok(ch.Append(w.ctx, []*event.Event{{ID: fmt.Sprint(i), Source: "s", Type: "t", Data: make([]byte, 1000)}}))
	}
	w.group.takeSnapshot(t)
	w.retain()
	if f := w.floor(p); f < 90 || f > 93 {
		t.Fatalf("the floor of 100 events of 1,000 bytes is %d where 10,000 bytes are kept", f)
	}
	if first := w.group.first; first < 80 {
		t.Fatalf("the log still begins at %d", first)
	}
}

// TestExpiryIsCounted: what a subscription has not seen is an outcome, written
// with the floor that passes it.
func TestExpiryIsCounted(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		o.RetentionStep = 16
		o.Compile = func(f []byte, _ int) (func(*event.Event) bool, error) {
			switch string(f) {
			case "even":
				return func(e *event.Event) bool { return (e.ID[len(e.ID)-1]-'0')%2 == 0 }, nil
			case "bad":
				return nil, errors.New("what is this?")
			}
			return func(*event.Event) bool { return true }, nil
		}
	})
	ch := w.channel("a", 1)
	p := ch.Partitions()[0]
	w.set(ch, 1, sub("idle"), sub("all"), sub("half", filtered("even")), sub("done"), sub("bad", filtered("bad")), sub("since", filtered("even")), sub("late", from(Start{At: "offset", Offset: 40})))
	w.fill(ch, 50)
	w.commit(p, Commit{Scan: 50, Cursors: map[string]Cursor{
		"all":  {Low: 0, Next: 50, Done: []Range{{10, 40}}},
		"half": {Low: 0, Next: 0, Detached: true},
		"done": {Low: 49, Next: 50},
		// Its lowest open event was stored, and more came as the scan went on.
		"since": {Low: 0, Next: 4, Done: []Range{{2, 3}}},
		"bad":   {Low: 30, Next: 30, Detached: true},
		"late":  {Low: 0, Next: 0, Detached: true},
	}})
	w.group.takeSnapshot(t)
	w.clock.advance(8 * 24 * time.Hour)
	w.fill(ch, 1)
	w.retain()
	w.equal("floor", w.floor(p), 50)
	w.equal("records", w.group.proposed[kindFloor], 4)
	counts := make(map[string]uint32)
	for _, o := range w.outcomes(p) {
		if o.Kind != Expired || o.Reason == "" {
			t.Fatalf("%+v", o)
		}
		counts[o.UID] += o.Count
	}
	w.equal("counts", counts, map[string]uint32{"all": 20, "half": 25, "done": 1, "bad": 20, "late": 10, "since": 24})
	at := Cursor{Low: 50, Next: 50, Detached: true}
	w.equal("cursors", p.Cursors(), map[string]Cursor{"half": at, "bad": at, "late": at, "since": at})
}

// TestFloorAndAStartInThePast: a subscription that is made to begin at the
// beginning, while what will expire is being counted, either is counted too or
// begins at the new floor.
func TestFloorAndAStartInThePast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var counting func()
		w := newWorld(t, func(o *Options) {
			o.Compile = func([]byte, int) (func(*event.Event) bool, error) {
				counting()
				return func(*event.Event) bool { return true }, nil
			}
		})
		ch := w.channel("a", 1)
		p := ch.Partitions()[0]
		slow := sub("slow")
		w.set(ch, 1, slow)
		w.fill(ch, 20)
		w.commit(p, Commit{Scan: 20, Cursors: map[string]Cursor{"slow": {Low: 0, Next: 0, Detached: true}}})
		var set error
		counting = sync.OnceFunc(func() {
			go func() { set = ch.SetSubscriptions(w.ctx, 2, []Subscription{slow, sub("late", beginning())}) }()
			synctest.Wait() // it has come as far as it can
		})
		w.clock.advance(8 * 24 * time.Hour)
		w.fill(ch, 1)
		w.retain()
		synctest.Wait()
		w.ok(set)
		lost, counted := 0, 0
		for offset := range w.floor(p) {
			for _, term := range p.(History).TermsAt(offset) {
				if term.Subscription.UID == "late" {
					lost++
				}
			}
		}
		for _, o := range w.outcomes(p) {
			if o.UID == "late" {
				counted += int(o.Count)
			}
		}
		terms, _ := p.Terms()
		if w.floor(p) != 20 || lost != counted || len(terms) != 2 {
			t.Errorf("floor %d, %d events are lost to who began late, %d counted, terms %v", w.floor(p), lost, counted, spans(terms))
		}
	})
}

// TestRetentionBesideAReader: what retention drops while it is being read is
// expired, not unreadable.
func TestRetentionBesideAReader(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.TailBytes = 1 })
	ch := w.channel("a", 1)
	p := ch.Partitions()[0]
	w.fill(ch, 40)
	w.group.takeSnapshot(t)
	w.clock.advance(8 * 24 * time.Hour)
	w.fill(ch, 1)
	w.group.onRead = sync.OnceFunc(w.retain)
	if _, err := p.Read(w.ctx, 0, 1, 1<<20); !errors.Is(err, ErrExpired) {
		t.Errorf("read of what is dropped meanwhile: %v", err)
	}
	w.equal("floor", w.floor(p), 40)
}

// TestFloorKeepsWhatCameSince: a subscription's lowest open event is stored; more
// came as the scan went on, which need not be. When a floor passes the former,
// the latter are still to be delivered.
func TestFloorKeepsWhatCameSince(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	p := ch.Partitions()[0]
	w.set(ch, 1, sub("all"), sub("merged"), sub("idle"))
	w.fill(ch, 50)
	w.commit(p, Commit{Scan: 50, Cursors: map[string]Cursor{
		"all":    {Low: 0, Next: 4, Done: []Range{{2, 3}}},
		"merged": {Low: 9, Next: 20, Done: []Range{{10, 20}}},
		"idle":   {Low: 50, Next: 50},
	}})
	key := p.(*raftPartition).key
	w.group.together((&floorCommand{key: key, partition: key, floor: 10}).encode())
	w.equal("cursors", p.Cursors(), map[string]Cursor{
		"all":    {Low: 10, Next: 10, Detached: true},
		"merged": {Low: 20, Next: 20, Detached: true},
	})
	w.start()
	w.equal("cursors after a restart", p.Cursors()["all"].Low, 10)
}

// TestFloorWaitsOncePassForTheScan: the dispatcher's position in memory is
// ahead of the committed one; it gets a pass to say so.
func TestFloorWaitsOnePassForTheScan(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	p := ch.Partitions()[0]
	w.set(ch, 1, sub("s"))
	w.fill(ch, 10)
	w.commit(p, Commit{Scan: 4})
	w.clock.advance(8 * 24 * time.Hour)
	w.retain()
	w.equal("as far as is known", w.floor(p), 4)
	w.commit(p, Commit{Scan: 7})
	w.retain()
	w.equal("and again", w.floor(p), 7)
	w.retain()
	w.equal("not for ever", w.floor(p), 10)
	w.equal("lost", w.outcomes(p)[0].Count, 3)
}

func TestExpiryOfDamagedEventsCounts(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.TailBytes = 1 })
	ch := w.channel("a", 1)
	p := ch.Partitions()[0]
	w.set(ch, 1, sub("s"))
	w.fill(ch, 10)
	w.commit(p, Commit{Scan: 10, Cursors: map[string]Cursor{"s": {Low: 0, Next: 0, Detached: true}}})
	row, _, _ := w.group.Find(p.(*raftPartition).key, rowEvents, 5)
	w.group.damage[row.Index] = &segment.DamagedError{File: "x", Reason: "checksum"}
	w.clock.advance(8 * 24 * time.Hour)
	w.retain()
	w.equal("lost", w.outcomes(p)[0].Count, 10)
}

func TestMaxDisk(t *testing.T) {
	fill := func(w *world) (big, small Partition) {
		a, b := w.channel("big", 1), w.channel("small", 1)
		for i := range 100 {
			w.ok(a.Append(w.ctx, []*event.Event{{ID: fmt.Sprint(i), Source: "s", Type: "t", Data: make([]byte, 1000)}}))
			if i%30 == 0 {
				w.fill(b, 1)
			}
		}
		w.group.takeSnapshot(t)
		return a.Partitions()[0], b.Partitions()[0]
	}
	bytes := func(w *world) (n int64) {
		for _, info := range w.group.Segments() {
			n += info.Bytes
		}
		return n
	}
	t.Run("expire", func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.MaxDisk = 50_000 })
		big, small := fill(w)
		w.retain()
		if n := bytes(w); n > 50_000 {
			t.Fatalf("%d bytes are left", n)
		}
		if w.floor(big) < 50 || w.floor(small) > 2 {
			t.Fatalf("floors: big %d, small %d", w.floor(big), w.floor(small))
		}
		w.read(big, w.floor(big), 100)
		w.read(small, w.floor(small), 100)
	})
	t.Run("refuse", func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.MaxDisk, o.RefuseOverMaxDisk = 50_000, true })
		big, _ := fill(w)
		w.retain()
		w.equal("floor", w.floor(big), 0)
		if err := w.log.List()[0].Append(w.ctx, []*event.Event{anEvent("x")}); !errors.Is(err, raftlog.ErrDiskFull) {
			t.Fatal(err)
		}
		w.commit(big, Commit{Scan: 50})
		w.equal("cursors are taken", big.Scan(), 50)
		w.clock.advance(8 * 24 * time.Hour)
		w.retain()
		w.retain()
		w.append(w.log.List()[0], "x")
	})
}

// TestOutcomesStayWithTheirEvents: the segment that holds an outcome is kept
// for as long as the event it speaks of.
func TestOutcomesStayWithTheirEvents(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	p := ch.Partitions()[0]
	w.set(ch, 1, sub("s"))
	for i := range uint64(30) {
		w.fill(ch, 1)
		w.commit(p, Commit{Scan: i + 1, Outcomes: []Outcome{{UID: "s", Kind: Retried, Offset: i, Span: 1, Count: 1}}})
		w.clock.advance(24 * time.Hour)
	}
	w.group.takeSnapshot(t)
	w.retain()
	floor, end := p.Bounds()
	if floor == 0 || w.group.first == 1 {
		t.Fatal("nothing expired")
	}
	known := make(map[uint64]bool)
	for _, o := range w.outcomes(p) {
		known[o.Offset] = true
	}
	for o := floor; o < end; o++ {
		if !known[o] {
			t.Errorf("the outcome of %d is gone, the floor is %d", o, floor)
		}
	}
}

func TestPastTermsGoWithTheirOffsets(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	p := ch.Partitions()[0]
	for i := range 20 {
		w.set(ch, uint64(i+1), sub("s", filtered(fmt.Sprint(i))))
		w.fill(ch, 1)
		w.caughtUp(p)
		w.clock.advance(24 * time.Hour)
	}
	w.equal("past terms", len(p.(*raftPartition).past), 19)
	w.retain()
	floor := w.floor(p)
	w.equal("past terms", len(p.(*raftPartition).past), 19-floor)
	w.equal("epoch of the floor", spans(p.(History).TermsAt(floor)), []string{fmt.Sprintf("s%d[%d,%d)", floor, floor, floor+1)})
}
