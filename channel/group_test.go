package channel

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/segment"
)

// fakeClock stands still until it is moved.
type fakeClock struct {
	mu  sync.Mutex
	now time.Time
}

func newFakeClock() *fakeClock { return &fakeClock{now: time.Unix(1_700_000_000, 0)} }

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func (c *fakeClock) After(time.Duration) <-chan time.Time { return nil }

// fakeGroup keeps entries in memory and applies them at once.
type fakeGroup struct {
	mu         sync.Mutex
	clock      *fakeClock
	machine    *Shard
	perSegment int // entries

	entries  []*raftlog.Entry // index i+1
	first    uint64           // index of the oldest kept
	rows     []raftlog.Row    // in log order
	applied  uint64
	time     int64
	snapshot []byte
	at       uint64 // of the snapshot

	// proposed counts commands by kind.
	proposed map[byte]int
	refuse   func(class raftlog.Class, cmd []byte) error
	damage   map[uint64]error
	reads    int
	onRead   func() // called before an entry is read
}

func newFakeGroup(clock *fakeClock) *fakeGroup {
	return &fakeGroup{clock: clock, perSegment: 8, first: 1, proposed: make(map[byte]int), damage: make(map[uint64]error)}
}

func (g *fakeGroup) Propose(_ context.Context, class raftlog.Class, cmd []byte) (any, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refuse != nil {
		if err := g.refuse(class, cmd); err != nil {
			return nil, err
		}
	}
	g.proposed[cmd[0]]++
	return g.write(cmd)[0], nil
}

// together applies commands as one entry.
func (g *fakeGroup) together(cmds ...[]byte) []any {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.write(cmds...)
}

func (g *fakeGroup) write(cmds ...[]byte) []any {
	g.time = max(g.time, g.clock.Now().UnixMicro())
	e := &raftlog.Entry{Index: uint64(len(g.entries)) + 1, Term: 1, Time: g.time}
	for _, c := range cmds {
		e.Commands = append(e.Commands, bytes.Clone(c))
	}
	g.entries = append(g.entries, e)
	return g.apply(e)
}

func (g *fakeGroup) apply(e *raftlog.Entry) []any {
	fresh := &raftlog.Entry{Index: e.Index, Term: e.Term, Time: e.Time, Commands: e.Commands}
	results := g.machine.Apply(fresh)
	if results == nil {
		results = make([]any, len(e.Commands))
	}
	g.rows = append(g.rows, fresh.Rows()...)
	g.applied = e.Index
	return results
}

func (g *fakeGroup) ReadEntry(index uint64) (*raftlog.Entry, error) {
	return g.ReadEntryInto(index, func(size int) []byte { return make([]byte, size) })
}

func (g *fakeGroup) ReadEntryInto(index uint64, room func(size int) []byte) (*raftlog.Entry, error) {
	if g.onRead != nil {
		g.onRead()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reads++
	if err := g.damage[index]; err != nil {
		return nil, err
	}
	if index < g.first || index > uint64(len(g.entries)) {
		return nil, fmt.Errorf("entry %d is not in the log", index)
	}
	e := g.entries[index-1]
	read := &raftlog.Entry{Index: e.Index, Term: e.Term, Time: e.Time}
	rest := room(len(slices.Concat(e.Commands...)))
	for _, cmd := range e.Commands {
		n := copy(rest, cmd)
		read.Commands, rest = append(read.Commands, rest[:n:n]), rest[n:]
	}
	return read, nil
}

func (g *fakeGroup) find(ok func(raftlog.Row) bool) (raftlog.Row, bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.IndexFunc(g.rows, ok); i >= 0 {
		return g.rows[i], true, nil
	}
	return raftlog.Row{}, false, nil
}

func (g *fakeGroup) Find(key uint32, kind uint8, offset uint64) (raftlog.Row, bool, error) {
	return g.find(func(r raftlog.Row) bool {
		return r.Key == key && r.Kind == kind && r.Base+uint64(r.Count) > offset
	})
}

func (g *fakeGroup) FindTime(key uint32, kind uint8, t int64) (raftlog.Row, bool, error) {
	return g.find(func(r raftlog.Row) bool { return r.Key == key && r.Kind == kind && r.Time >= t })
}

func (g *fakeGroup) Segments() []segment.Info {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.segments()
}

func (g *fakeGroup) segments() []segment.Info {
	var out []segment.Info
	last := uint64(len(g.entries))
	for from := g.first; from <= last; from += uint64(g.perSegment) {
		info := segment.Info{First: from, Last: min(from+uint64(g.perSegment)-1, last)}
		info.Sealed = info.Last-info.First+1 == uint64(g.perSegment)
		sums := make(map[[2]uint32]*segment.Summary)
		for i := info.First; i <= info.Last; i++ {
			for _, c := range g.entries[i-1].Commands {
				info.Bytes += int64(len(c))
			}
		}
		for _, r := range g.rows {
			if r.Index < info.First || r.Index > info.Last {
				continue
			}
			k := [2]uint32{r.Key, uint32(r.Kind)}
			if sums[k] == nil {
				sums[k] = &segment.Summary{Key: r.Key, Kind: r.Kind, First: r.Base, MinTime: r.Time}
			}
			sums[k].Last, sums[k].MaxTime = r.Base+uint64(r.Count)-1, r.Time
			sums[k].Bytes += uint64(r.Bytes)
		}
		for _, s := range sums {
			info.Summaries = append(info.Summaries, *s)
		}
		slices.SortFunc(info.Summaries, func(a, b segment.Summary) int {
			return int(int64(a.Key)<<8|int64(a.Kind)) - int(int64(b.Key)<<8|int64(b.Kind))
		})
		out = append(out, info)
	}
	return out
}

func (g *fakeGroup) Trim(keep func(segment.Info) bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, info := range g.segments() {
		if !info.Sealed || info.Last > g.at || keep(info) {
			break
		}
		g.first = info.Last + 1
	}
	g.rows = slices.DeleteFunc(g.rows, func(r raftlog.Row) bool { return r.Index < g.first })
	return nil
}

// takeSnapshot keeps a snapshot of the state now.
func (g *fakeGroup) takeSnapshot(t testing.TB) {
	t.Helper()
	snap, err := g.machine.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := snap.Write(&b); err != nil {
		t.Fatal(err)
	}
	snap.Release()
	g.snapshot, g.at = b.Bytes(), g.applied
}

// restart gives the log to a new machine: the snapshot, then what follows it.
func (g *fakeGroup) restart(t testing.TB, s *Shard) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.machine = s
	s.Bind(g)
	if g.snapshot != nil {
		if err := s.Restore(bytes.NewReader(g.snapshot)); err != nil {
			t.Fatal(err)
		}
	}
	g.rows = slices.DeleteFunc(g.rows, func(r raftlog.Row) bool { return r.Index > g.at })
	for _, e := range g.entries[g.at:] {
		g.apply(e)
	}
}

// world is a shard on a fake group.
type world struct {
	testing.TB
	clock *fakeClock
	group *fakeGroup
	shard *Shard
	log   *Log
	o     Options
	ctx   context.Context
}

func newWorld(t testing.TB, change ...func(*Options)) *world {
	w := &world{TB: t, clock: newFakeClock(), ctx: t.Context()}
	w.o = Options{Clock: w.clock}
	for _, f := range change {
		f(&w.o)
	}
	w.group = newFakeGroup(w.clock)
	w.start()
	return w
}

func (w *world) start() {
	w.Helper()
	w.shard = NewShard(w.o)
	w.group.restart(w, w.shard)
	w.log = NewLog(w.shard)
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) channel(n string, partitions int) Channel {
	w.Helper()
	ch, err := w.log.Ensure(w.ctx, ID{Kind: "Broker", Namespace: "default", Name: n, UID: "uid-" + n}, Config{Partitions: partitions})
	w.ok(err)
	return ch
}

func anEvent(id string) *event.Event {
	return &event.Event{ID: id, Source: "/test", Type: "t", Data: []byte("data of " + id)}
}

func (w *world) append(ch Channel, ids ...string) {
	w.Helper()
	events := make([]*event.Event, len(ids))
	for i, id := range ids {
		events[i] = anEvent(id)
	}
	w.ok(ch.Append(w.ctx, events))
}

// fill appends n events, each in an entry of its own, with ids e<offset>.
func (w *world) fill(ch Channel, n int) {
	w.Helper()
	_, next := ch.Partitions()[0].Bounds()
	for i := range uint64(n) {
		w.append(ch, fmt.Sprintf("e%d", next+i))
	}
}

func (w *world) set(ch Channel, version uint64, subs ...Subscription) {
	w.Helper()
	w.ok(ch.SetSubscriptions(w.ctx, version, subs))
}

func (w *world) read(p Partition, offset uint64, n int) []string {
	w.Helper()
	stored, err := p.Read(w.ctx, offset, n, 1<<20)
	w.ok(err)
	ids := make([]string, len(stored))
	for i, s := range stored {
		if s.Offset != offset+uint64(i) {
			w.Fatalf("read from %d: event %d has offset %d", offset, i, s.Offset)
		}
		ids[i] = s.Event.ID
	}
	return ids
}

func (w *world) equal(what string, got, want any) {
	w.Helper()
	if g, e := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != e {
		w.Fatalf("%s: got %s, want %s", what, g, e)
	}
}

func sub(uid string, more ...func(*Subscription)) Subscription {
	s := Subscription{UID: uid, Generation: 1, Engine: 1}
	for _, f := range more {
		f(&s)
	}
	return s
}

func filtered(f string) func(*Subscription) { return func(s *Subscription) { s.Filter = []byte(f) } }
func from(st Start) func(*Subscription)     { return func(s *Subscription) { s.Start = st } }
func beginning() func(*Subscription)        { return from(Start{At: "beginning"}) }
func atOffset(o uint64) func(*Subscription) { return from(Start{At: "offset", Offset: o}) }

// spans lists terms as uid[from,to).
func spans(terms []Term) []string {
	var out []string
	for _, t := range terms {
		to := fmt.Sprint(t.To)
		if t.To == toEnd {
			to = ""
		}
		out = append(out, fmt.Sprintf("%s%s[%d,%s)", t.Subscription.UID, t.Subscription.Filter, t.From, to))
	}
	return out
}
