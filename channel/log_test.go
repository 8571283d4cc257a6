package channel

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/segment"
)

func TestOffsetsAreDense(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	other := w.channel("b", 1)
	p := ch.Partitions()[0]
	w.append(ch, "e0")
	w.append(other, "x", "y")
	w.append(ch, "e1", "e2", "e3")
	parts := ch.Partitions()
	cmd := func(ids ...string) []byte {
		var events []*event.Event
		for _, id := range ids {
			events = append(events, anEvent(id))
		}
		return encodeAppend(nil, parts, events)
	}
	w.group.together(cmd("e4"), encodeAppend(nil, other.Partitions(), []*event.Event{anEvent("z")}), cmd("e5", "e6"))
	want := []string{"e0", "e1", "e2", "e3", "e4", "e5", "e6"}
	w.equal("from memory", w.read(p, 0, 100), want)
	w.equal("a part", w.read(p, 2, 3), want[2:5])
	w.equal("the end", len(w.read(p, 7, 10)), 0)
	_, next := p.Bounds()
	w.equal("next", next, 7)
	row, ok, _ := w.group.Find(p.(*raftPartition).key, rowEvents, 6)
	if !ok || row.Base != 4 || row.Count != 3 {
		t.Fatalf("an entry has one row for each partition, got %+v", row)
	}
	w.start() // nothing of the past is in the tail of a state restored whole
	w.equal("after a restart", w.read(w.log.List()[0].Partitions()[0], 0, 100), want)
}

func TestReadBehindTheTailIsCachedAndShared(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.TailBytes = 1 })
	ch := w.channel("a", 1)
	w.fill(ch, 50)
	p := ch.Partitions()[0]
	for range 3 {
		w.equal("first", w.read(p, 0, 50)[0], "e0")
	}
	if w.group.reads != 49 {
		t.Fatalf("49 entries are below the tail, the log was read %d times", w.group.reads)
	}
	a, err := p.Read(w.ctx, 3, 1, 1)
	w.ok(err)
	b, err := p.Read(w.ctx, 3, 1, 1)
	w.ok(err)
	if a[0].Event != b[0].Event {
		t.Fatal("an event was decoded twice")
	}
	w.shard.cache.limit = 1
	w.append(ch, "e50")
	w.read(p, 0, 50)
	if n := len(w.shard.cache.runs); n > 1 {
		t.Fatalf("the cache keeps %d runs beyond its bound", n)
	}
}

func TestReadKeepsItsBounds(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	for i := range 20 {
		w.ok(ch.Append(w.ctx, []*event.Event{{ID: fmt.Sprintf("e%d", i), Source: "s", Type: "t", Data: make([]byte, 1000)}}))
	}
	p := ch.Partitions()[0]
	stored, err := p.Read(w.ctx, 0, 100, 5000)
	w.ok(err)
	if len(stored) != 4 {
		t.Fatalf("%d events of 1,000 bytes and a little in 5,000", len(stored))
	}
	stored, err = p.Read(w.ctx, 5, 100, 1)
	w.ok(err)
	w.equal("at least one", len(stored), 1)
	stored, err = p.Read(w.ctx, 5, 3, 1<<20)
	w.ok(err)
	w.equal("at most max", len(stored), 3)
}

func TestTailHoldsNoMoreThanItsBound(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.TailBytes = 20_000 })
	ch := w.channel("a", 3)
	for i := range 1000 {
		w.ok(ch.Append(w.ctx, []*event.Event{{ID: fmt.Sprint(i), Source: fmt.Sprint(i % 7), Type: "t", Data: make([]byte, 100)}}))
		if w.shard.tail.bytes > 20_000 {
			t.Fatalf("%d bytes in the tail", w.shard.tail.bytes)
		}
	}
	runs := 0
	for _, p := range ch.Partitions() {
		runs += len(p.(*raftPartition).tail.load())
	}
	if live := len(w.shard.tail.entries) - w.shard.tail.first; runs != live || live > 40 {
		t.Fatalf("%d runs in partitions, %d entries in the tail", runs, live)
	}
}

func TestForgottenEventsAreReadFromTheLog(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	w.fill(ch, 50)
	p, full, room := ch.Partitions()[0], w.shard.tail.bytes, w.log.Room()
	freed := w.log.Forget()
	w.equal("room for others", w.log.Room(), room+freed)
	w.equal("entries left: the newest", len(w.shard.tail.entries), 1)
	w.equal("bytes", freed, full-w.shard.tail.bytes)
	w.equal("again", w.log.Forget(), 0)
	w.equal("reads", w.group.reads, 0)
	w.equal("all", len(w.read(p, 0, 100)), 50)
	w.equal("reads of what was forgotten", w.group.reads, 49)
	w.append(ch, "e50")
	w.equal("the newest two", w.read(p, 49, 10), []string{"e49", "e50"})
	w.equal("reads of what is in memory", w.group.reads, 49)
}

func TestForgettingBesideAppendsAndReads(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.TailBytes = 20_000 })
	ch := w.channel("a", 1)
	ctx, stop := context.WithCancel(w.ctx)
	var beside sync.WaitGroup
	beside.Go(func() {
		for ctx.Err() == nil {
			w.log.Forget()
			runtime.Gosched()
		}
	})
	p := ch.Partitions()[0]
	for i := range 500 {
		w.append(ch, fmt.Sprintf("e%d", i))
		from := max(0, i-3)
		got := w.read(p, uint64(from), 4)
		if n := i - from + 1; len(got) != n || got[0] != fmt.Sprintf("e%d", from) || got[n-1] != fmt.Sprintf("e%d", i) {
			t.Fatalf("from %d to %d there is %v", from, i, got)
		}
	}
	stop()
	beside.Wait()
}

func TestBatchIsWholeOrAbsent(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 4)
	parts := ch.Partitions()
	events := make([]*event.Event, 40)
	for i := range events {
		events[i] = anEvent(fmt.Sprint(i))
		events[i].Source = fmt.Sprint(i % 10)
	}
	b := encodeAppend(nil, parts, events)
	if _, err := splitRuns(nil, b[1:]); err != nil {
		t.Fatal(err)
	}
	// The last run goes to a partition that is not there.
	p := parts[3].(*raftPartition)
	foreign := &raftPartition{key: 999}
	bad := appendEvents(appendEvents([]byte{kindAppend}, p, events[:1]), foreign, events[1:2])
	results := w.group.together(bad, b)
	if err, _ := results[0].(error); !errors.Is(err, ErrNotFound) {
		t.Fatalf("got %v", results[0])
	}
	if results[1] != nil {
		t.Fatal(results[1])
	}
	total := uint64(0)
	bySource := make(map[string]int)
	for i, p := range parts {
		_, next := p.Bounds()
		total += next
		stored, err := p.Read(w.ctx, 0, 100, 1<<20)
		w.ok(err)
		for _, s := range stored {
			if at, ok := bySource[s.Event.Source]; ok && at != i {
				t.Fatalf("source %s is in partitions %d and %d", s.Event.Source, at, i)
			}
			bySource[s.Event.Source] = i
		}
	}
	w.equal("events", total, 40)
}

func TestPartitionOfIsFixed(t *testing.T) {
	// A change of these would move keys, and break their order.
	for key, want := range map[string]int{"": 2, "a": 5, "/orders": 0, "customer-17": 0} {
		if got := partitionOf(key, 8); got != want {
			t.Errorf("partitionOf(%q, 8) = %d, want %d", key, got, want)
		}
	}
	counts := make([]int, 8)
	for i := range 8000 {
		counts[partitionOf(fmt.Sprintf("key-%d", i), 8)]++
	}
	for i, n := range counts {
		if n < 800 || n > 1200 {
			t.Errorf("partition %d gets %d of 8,000 keys", i, n)
		}
	}
}

func TestEnsureWritesOnlyChanges(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 2)
	again := w.channel("a", 2)
	if ch != again || w.group.proposed[kindEnsure] != 1 {
		t.Fatalf("%d commands for a channel that is there", w.group.proposed[kindEnsure])
	}
	id := ch.ID()
	if _, err := w.log.Ensure(w.ctx, id, Config{Partitions: 1}); !errors.Is(err, errShrink) {
		t.Fatalf("shrinking: %v", err)
	}
	w.set(ch, 1, sub("s"))
	if _, err := w.log.Ensure(w.ctx, id, Config{Partitions: 3, RetentionAge: time.Hour}); err != nil {
		t.Fatal(err)
	}
	w.equal("terms in the new partition", spans(first(ch.Partitions()[2].Terms())), []string{"s[0,)"})
	w.set(ch, 2, sub("s", func(s *Subscription) { s.Ordered = true }))
	if _, err := w.log.Ensure(w.ctx, id, Config{Partitions: 4}); !errors.Is(err, errOrdered) {
		t.Fatalf("growing under order: %v", err)
	}
	for _, bad := range []Config{{Partitions: -1}, {Partitions: 65}, {RetentionAge: -1}, {RetentionBytes: -1}} {
		if _, err := w.log.Ensure(w.ctx, ID{Kind: "Broker", Name: "x", UID: "x"}, bad); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

func first[A, B any](a A, _ B) A { return a }

func TestDropAndNames(t *testing.T) {
	w := newWorld(t)
	old := w.channel("a", 1)
	w.append(old, "e0")
	fresh, err := w.log.Ensure(w.ctx, ID{Kind: "Broker", Namespace: "default", Name: "a", UID: "second"}, Config{})
	w.ok(err)
	if ch, _ := w.log.ByName("Broker", "default", "a"); ch != fresh {
		t.Fatal("the name means an older channel")
	}
	w.ok(w.log.Drop(w.ctx, old.ID().UID))
	w.ok(w.log.Drop(w.ctx, old.ID().UID))
	if ch, _ := w.log.ByName("Broker", "default", "a"); ch != fresh {
		t.Fatal("the name went with the older channel")
	}
	if _, ok := w.log.Get(old.ID().UID); ok {
		t.Fatal("the dropped channel is there")
	}
	if err := old.Append(w.ctx, []*event.Event{anEvent("x")}); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := old.Partitions()[0].Read(w.ctx, 0, 1, 1); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if err := old.Partitions()[0].Commit(w.ctx, Commit{Scan: 1}); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if err := old.SetSubscriptions(w.ctx, 9, nil); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	w.equal("channels", len(w.log.List()), 1)
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ch := w.channel("a", 1)
		p := ch.Partitions()[0]
		woken := make(chan error, 1)
		wait := func(offset, version uint64) {
			go func() { woken <- p.Wait(t.Context(), offset, version) }()
			synctest.Wait()
		}
		asleep := func() {
			t.Helper()
			synctest.Wait()
			select {
			case err := <-woken:
				t.Fatalf("woken: %v", err)
			default:
			}
		}
		wait(0, 1)
		asleep()
		w.append(ch, "e0")
		w.ok(<-woken)
		wait(1, 1)
		w.append(w.channel("other", 1), "x")
		asleep()
		w.set(ch, 1)
		asleep() // a version alone changes no terms
		w.set(ch, 2, sub("s"))
		w.ok(<-woken)
		later := make(chan error, 1)
		go func() { later <- p.Wait(t.Context(), 3, 2) }()
		for i := range 3 {
			_, end := p.Bounds()
			wait(end, 2) // beside one that waits for more
			w.append(ch, fmt.Sprint("later", i))
			w.ok(<-woken)
		}
		w.ok(<-later)
		wait(4, ^uint64(0))
		w.set(ch, 3)
		asleep()
		w.ok(w.log.Drop(w.ctx, ch.ID().UID))
		if err := <-woken; !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.channel("third", 1).Partitions()[0].Wait(ctx, 0, 1); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	})
}

func TestOffsetAt(t *testing.T) {
	for _, tailBytes := range []int64{1, 2000, 1 << 20} {
		w := newWorld(t, func(o *Options) { o.TailBytes = tailBytes })
		ch := w.channel("a", 1)
		p := ch.Partitions()[0]
		began := w.clock.Now()
		for range 20 {
			w.fill(ch, 2) // two events a second
			w.clock.advance(time.Second)
		}
		for i := range 20 {
			at, err := p.OffsetAt(w.ctx, began.Add(time.Duration(i)*time.Second))
			w.ok(err)
			w.equal("at the second", at, 2*i)
			if i > 0 {
				at, err = p.OffsetAt(w.ctx, began.Add(time.Duration(i)*time.Second-time.Microsecond))
				w.ok(err)
				w.equal("just before", at, 2*i)
			}
		}
		at, err := p.OffsetAt(w.ctx, began.Add(time.Hour))
		w.ok(err)
		w.equal("in the future", at, 40)
	}
}

func TestDamageIsNamedAndReadingGoesOnBehindIt(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.TailBytes = 1 })
	ch := w.channel("a", 1)
	w.append(ch, "e0")
	w.append(ch, "e1", "e2", "e3")
	w.append(ch, "e4")
	w.append(ch, "e5")
	p := ch.Partitions()[0]
	row, _, _ := w.group.Find(p.(*raftPartition).key, rowEvents, 2)
	w.group.damage[row.Index] = &segment.DamagedError{File: "log/7.seg", Offset: 4096, Reason: "checksum"}
	w.equal("before it", w.read(p, 0, 100), []string{"e0"})
	_, err := p.Read(w.ctx, 2, 100, 1<<20)
	d, ok := errors.AsType[*DamagedError](err)
	if !ok || d.Range != (Range{2, 4}) || d.File != "log/7.seg" || d.Position != 4096 {
		t.Fatalf("got %v", err)
	}
	w.equal("behind it", w.read(p, 4, 100), []string{"e4", "e5"})
	// A failure of another kind is no damage, and is not remembered.
	w.group.damage[row.Index] = errors.New("too many open files")
	if _, err = p.Read(w.ctx, 1, 1, 1); err == nil || errors.As(err, &d) {
		t.Fatalf("got %v", err)
	}
	delete(w.group.damage, row.Index)
	w.equal("healed", w.read(p, 1, 100), []string{"e1", "e2", "e3", "e4", "e5"})
}

// TestUndecodableRecordsAreDamage: whole entries may hold records that this
// version cannot decode; each is damage of one offset, and no more is lost.
func TestUndecodableRecordsAreDamage(t *testing.T) {
	for _, tailBytes := range []int64{1, 1 << 20} {
		w := newWorld(t, func(o *Options) { o.TailBytes = tailBytes })
		ch := w.channel("a", 1)
		p := ch.Partitions()[0].(*raftPartition)
		cmd := appendRun([]byte{kindAppend}, p.key, 5)
		for i := range 5 {
			if i == 1 || i == 3 {
				cmd = append(cmd, 3, 0, 0, 0, 255, 255, 255)
			} else {
				cmd = appendRecord(cmd, anEvent(fmt.Sprintf("e%d", i)))
			}
		}
		endRun(cmd, 1)
		w.equal("apply", w.group.together(cmd), []any{nil})
		w.append(ch, "e5")
		for at, want := range map[uint64][]string{0: {"e0"}, 2: {"e2"}, 4: {"e4", "e5"}} {
			w.equal("readable", w.read(p, at, 100), want)
		}
		for _, at := range []uint64{1, 3} {
			_, err := p.Read(w.ctx, at, 100, 1<<20)
			if d, ok := errors.AsType[*DamagedError](err); !ok || d.Range != (Range{at, at + 1}) {
				t.Errorf("offset %d: %v", at, err)
			}
		}
	}
}

func TestDiskFullRefusesEventsOnly(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	w.set(ch, 1, sub("s"))
	w.group.refuse = func(class raftlog.Class, _ []byte) error {
		if class == raftlog.Events {
			return raftlog.ErrDiskFull
		}
		return nil
	}
	if err := ch.Append(w.ctx, []*event.Event{anEvent("x")}); !errors.Is(err, raftlog.ErrDiskFull) {
		t.Fatal(err)
	}
	w.ok(ch.Partitions()[0].Commit(w.ctx, Commit{Cursors: map[string]Cursor{"s": {Detached: true}}}))
	w.set(ch, 2)
	_, err := w.log.Ensure(w.ctx, ch.ID(), Config{Partitions: 2})
	w.ok(err)
}

func TestUnknownCommandStopsTheShardWhereItStands(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	w.append(ch, "e0")
	w.group.together([]byte{200, 1, 2, 3})
	if err := ch.Append(w.ctx, []*event.Event{anEvent("x")}); err == nil {
		t.Fatal("an append was taken behind a command that is not known")
	}
	if _, err := w.shard.Snapshot(); err == nil {
		t.Fatal("a state that passed over a command was kept")
	}
	w.equal("what is there", w.read(ch.Partitions()[0], 0, 10), []string{"e0"})
}

func BenchmarkAppendEncode(b *testing.B) {
	w := newWorld(b)
	ch := w.channel("a", 1)
	e := anEvent("e")
	e.Data = make([]byte, 1024)
	events := []*event.Event{e}
	parts := ch.Partitions()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = encodeAppend(buf[:0], parts, events)
	}
}

// BenchmarkApply is of entries of 64 appends of one event.
func BenchmarkApply(b *testing.B) {
	w := newWorld(b)
	ch := w.channel("a", 1)
	e := anEvent("e")
	e.Data = make([]byte, 1024)
	cmd := encodeAppend(nil, ch.Partitions(), []*event.Event{e})
	entry := raftlog.Entry{Index: 1, Time: 1}
	for range 64 {
		entry.Commands = append(entry.Commands, cmd)
	}
	b.ReportAllocs()
	for b.Loop() {
		fresh := entry
		w.shard.Apply(&fresh)
		entry.Index++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/event")
}

// BenchmarkTailRead reads batches of 256 events that are decoded already.
func BenchmarkTailRead(b *testing.B) {
	w := newWorld(b)
	ch := w.channel("a", 1)
	for range 100 {
		events := make([]*event.Event, 64)
		for i := range events {
			events[i] = anEvent(fmt.Sprint(i))
			events[i].Data = make([]byte, 1024)
		}
		w.ok(ch.Append(w.ctx, events))
	}
	p := ch.Partitions()[0]
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		stored, err := p.Read(w.ctx, uint64(rand.IntN(6000)), 256, 1<<20)
		w.ok(err)
		n += len(stored)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
}
