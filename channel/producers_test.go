package channel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/raftlog"
)

func (w *world) produce(ch Channel, producer string, sequence uint64, ids ...string) {
	w.Helper()
	events := make([]*event.Event, len(ids))
	for i, id := range ids {
		events[i] = anEvent(id)
	}
	w.ok(ch.(Producers).AppendFrom(w.ctx, producer, sequence, events))
}

// produceCmd is the command that AppendFrom proposes.
func produceCmd(ch Channel, producer string, sequence uint64, keep int, ids ...string) []byte {
	cmd := produceCommand{channel: ch.(*raftChannel).num, producer: producer, sequence: sequence, keep: uint32(keep)}
	b := cmd.encode()
	if len(ids) == 0 {
		return b
	}
	events := make([]*event.Event, len(ids))
	for i, id := range ids {
		events[i] = anEvent(id)
	}
	return encodeRuns(b, ch.Partitions(), events)
}

func (w *world) named(n string) Channel {
	w.Helper()
	ch, ok := w.log.ByName("Broker", "default", n)
	if !ok {
		w.Fatalf("channel %s is gone", n)
	}
	return ch
}

func TestProducersAppendOnce(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	w.produce(ch, "p", 5, "e0", "e1")
	w.produce(ch, "p", 5, "again")
	w.produce(ch, "p", 4, "older")
	w.produce(ch, "q", 1, "e2")
	w.append(ch, "e3")
	w.produce(ch, "p", 9, "e4")
	w.produce(ch, "p", 12)
	w.produce(ch, "p", 11, "behind what only moved the position")
	want := []string{"e0", "e1", "e2", "e3", "e4"}
	for _, how := range []string{"from memory", "from a snapshot", "from the log"} {
		switch how {
		case "from a snapshot":
			w.group.takeSnapshot(t)
			w.start()
		case "from the log":
			w.group.snapshot, w.group.at = nil, 0
			w.start()
		}
		ch = w.named("a")
		w.equal(how, w.read(ch.Partitions()[0], 0, 100), want)
		w.equal(how+": p", ch.(Producers).Position("p"), 12)
		w.equal(how+": q", ch.(Producers).Position("q"), 1)
		w.equal(how+": a stranger", ch.(Producers).Position("r"), 0)
		w.produce(ch, "p", 12, "again")
		w.produce(ch, "q", 1, "again")
		_, next := ch.Partitions()[0].Bounds()
		w.equal(how+": next", next, len(want))
	}
}

// TestWhatWasDroppedIsNotRead: an entry may hold the same command twice, when
// its producer asked again while the outcome was unknown.
func TestWhatWasDroppedIsNotRead(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.TailBytes = 1 })
	ch := w.channel("a", 2)
	other := w.channel("b", 1)
	w.produce(ch, "p", 1, "x")
	w.group.together(
		produceCmd(ch, "p", 1, 10, "dropped", "dropped"),
		encodeAppend(nil, ch.Partitions(), []*event.Event{anEvent("plain")}),
		produceCmd(ch, "p", 2, 10, "y"),
		produceCmd(other, "p", 2, 10, "of another channel"),
		produceCmd(ch, "p", 2, 10, "dropped"),
		produceCmd(ch, "p", 1, 10, "dropped"),
		produceCmd(ch, "p", 3, 10, "z"),
	)
	w.group.together(produceCmd(ch, "p", 3, 10, "dropped"))
	w.append(ch, "last")
	want := []string{"x", "plain", "y", "z", "last"}
	part := partitionOf(anEvent("x").PartitionKey(), 2)
	w.equal("behind the tail", w.read(ch.Partitions()[part], 0, 100), want)
	w.group.takeSnapshot(t)
	w.start()
	w.equal("after a restart", w.read(w.named("a").Partitions()[part], 0, 100), want)
	w.equal("another channel's", w.named("b").(Producers).Position("p"), 2)
}

func TestProducersAreBoundedByUse(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.MaxProducers = 3 })
	ch := w.channel("a", 1)
	const own = ownProducers + "x" // used longest ago, and not forgotten
	for i, p := range []string{own, "b", "c", "a", "d", "b"} {
		w.produce(ch, p, uint64(i+1), p)
	}
	for _, restarted := range []bool{false, true} {
		if restarted {
			w.group.takeSnapshot(t)
			w.start()
			ch = w.named("a")
		}
		var have []string
		for _, p := range ch.(*raftChannel).producers.list() {
			have = append(have, fmt.Sprint(p.name, p.sequence))
		}
		w.equal("kept, in order of use", have, []string{own + "1", "d5", "b6"})
	}
	// The bound is the command's: members that are configured otherwise agree.
	w.group.together(produceCmd(ch, "e", 7, 1, "e"))
	w.equal("the command's own bound", ch.(*raftChannel).producers.list(), []producerPosition{{own, 1}, {"e", 7}})
}

// TestAppendAfter: an attempt that was given up may still arrive, before or
// after the next one, which need not end where it did.
func TestAppendAfter(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	after := func(after, sequence uint64, id string) []byte {
		c := produceCommand{channel: ch.(*raftChannel).num, producer: "p", sequence: sequence, keep: 9, isAfter: true, after: after}
		return encodeRuns(c.encode(), ch.Partitions(), []*event.Event{anEvent(id)})
	}
	stale := func(what string, r any) {
		t.Helper()
		if err, _ := r.(error); !errors.Is(err, ErrStale) {
			t.Fatalf("%s: %v", what, r)
		}
	}
	p := ch.(Producers)
	w.ok(p.AppendAfter(w.ctx, "p", 0, 10, []*event.Event{anEvent("to 10")}))
	r := w.group.together(after(10, 15, "to 15"), after(10, 20, "late"), after(15, 30, "to 30"), after(15, 25, "below"), after(25, 40, "between"))
	stale("late", r[1])
	stale("between", r[4])
	w.equal("a lower one is nothing new", r[3], nil)
	stale("by the method", p.AppendAfter(w.ctx, "p", 25, 40, []*event.Event{anEvent("between")}))
	w.ok(p.AppendAfter(w.ctx, "p", 25, 30, []*event.Event{anEvent("again")}))
	w.shard.o.TailBytes = 1
	w.start()
	w.equal("read", w.read(w.named("a").Partitions()[0], 0, 9), []string{"to 10", "to 15", "to 30"})
	w.equal("position", w.named("a").(Producers).Position("p"), 30)
}

func TestProducersOfBadForm(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	p := ch.(Producers)
	events := []*event.Event{anEvent("e")}
	for _, c := range []struct {
		producer string
		sequence uint64
		want     string
	}{
		{"", 1, "name must have 1 to 253 bytes"}, {strings.Repeat("x", 254), 1, "not 254"}, {"p", 0, "begins with 1"},
	} {
		if err := p.AppendFrom(w.ctx, c.producer, c.sequence, events); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.5q %d: %v", c.producer, c.sequence, err)
		}
	}
	w.group.refuse = func(raftlog.Class, []byte) error { return raftlog.ErrDiskFull }
	if err := p.AppendFrom(w.ctx, "p", 1, events); !errors.Is(err, raftlog.ErrDiskFull) {
		t.Errorf("full: %v", err)
	}
	w.group.refuse = nil
	w.equal("position after a refusal", p.Position("p"), 0)
	w.ok(w.log.Drop(w.ctx, ch.ID().UID))
	if err := p.AppendFrom(w.ctx, "p", 1, events); !errors.Is(err, ErrNotFound) {
		t.Errorf("dropped: %v", err)
	}
	if r := w.group.together(produceCmd(ch, "p", 1, 9, "e"))[0].(error); !errors.Is(r, ErrNotFound) {
		t.Errorf("applied to a dropped channel: %v", r)
	}
}

// TestRefusedRunsAreNotRead: where one run is wrong none is taken, and readers
// of the entry know that.
func TestRefusedRunsAreNotRead(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.TailBytes = 1 })
	ch := w.channel("a", 1)
	p := ch.Partitions()[0].(*raftPartition)
	stranger := &raftPartition{ch: p.ch, key: 999}
	bad := appendEvents(produceCmd(ch, "p", 1, 9, "refused"), stranger, []*event.Event{anEvent("nowhere")})
	r := w.group.together(bad, produceCmd(ch, "p", 1, 9, "e0"))
	if err, _ := r[0].(error); !errors.Is(err, ErrNotFound) {
		t.Fatalf("got %v", r[0])
	}
	w.append(ch, "e1")
	w.equal("read", w.read(p, 0, 9), []string{"e0", "e1"})
}

// TestOldSnapshotsAreRead: one of version 1, as written before there were
// producers, and one of version 2, before ranges could be passed.
func TestOldSnapshotsAreRead(t *testing.T) {
	for file, position := range map[string]uint64{"snapshot-v1": 0, "snapshot-v2": 5} {
		t.Run(file, func(t *testing.T) { readOldSnapshot(t, filepath.Join("testdata", file), position) })
	}
}

func readOldSnapshot(t *testing.T, file string, position uint64) {
	t.Helper()
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := NewShard(Options{})
	if err := s.Restore(bytes.NewReader(old)); err != nil {
		t.Fatal(err)
	}
	ch, ok := NewLog(s).ByName("Broker", "default", "a")
	if !ok {
		t.Fatal("the channel is missing")
	}
	terms, _ := ch.Partitions()[0].Terms()
	if got := spans(terms); !slices.Equal(got, []string{"sf[0,)", "t[0,)"}) {
		t.Errorf("terms %v", got)
	}
	if got := ch.(Producers).Position("p"); got != position {
		t.Errorf("position %d", got)
	}
}

// TestProducerModel: producers that are interrupted, ask again and fall behind,
// with plain appends between, over restarts: each sequence is there once.
func TestProducerModel(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 7))
		w := newWorld(t, func(o *Options) { o.TailBytes = 600 })
		ch := w.channel("a", 1)
		var want []string
		last := map[string]uint64{}
		for step := range 60 {
			var cmds [][]byte
			for i := range 1 + r.IntN(4) {
				id := fmt.Sprintf("%d.%d", step, i)
				if r.IntN(4) == 0 {
					cmds = append(cmds, encodeAppend(nil, ch.Partitions(), []*event.Event{anEvent(id)}))
					want = append(want, id)
					continue
				}
				p := fmt.Sprint("p", r.IntN(3))
				seq := max(last[p]+uint64(r.IntN(4)), 2) - 1
				cmds = append(cmds, produceCmd(ch, p, seq, 10, id))
				if seq > last[p] {
					last[p] = seq
					want = append(want, id)
				}
			}
			w.group.together(cmds...)
			if r.IntN(9) == 0 {
				w.group.takeSnapshot(t)
			}
			if r.IntN(9) == 0 {
				w.start()
				ch = w.named("a")
			}
		}
		w.equal(fmt.Sprint("seed ", seed), w.read(ch.Partitions()[0], 0, 1000), want)
		for p, seq := range last {
			w.equal(p, ch.(Producers).Position(p), seq)
		}
	}
}

func TestAppendFromKeepsTheContext(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	w.group.refuse = func(raftlog.Class, []byte) error { return context.Canceled }
	err := ch.(Producers).AppendFrom(w.ctx, "p", 1, nil)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), `producer "p", sequence 1`) {
		t.Errorf("got %v", err)
	}
}
