package system

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/kv"
	"github.com/leat-dev/leat/raftlog/kv/kvtest"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

// world is resources with their history, and a system broker on a real log.
type world struct {
	testing.TB
	kv    *kv.Store
	clock *kvtest.Clock
	log   *channel.Log
	ch    channel.Channel
	// fail decides what becomes of an append; see faulty.
	fail func(sequence uint64) (before, after error)

	o    Options
	stop func()
	said strings.Builder // by the publisher's logger
}

func newWorld(tb testing.TB, change ...func(*Options)) *world {
	w := &world{TB: tb, clock: kvtest.NewClock()}
	w.kv, _ = kvtest.Open(tb, kv.Options{Clock: w.clock})
	shard := channel.NewShard(channel.Options{})
	group, err := raftlog.Open(tb.Context(), raftlog.Options{
		Dir: "/log", Name: "s0", NodeID: "n", Machine: shard, FS: memfs.New(0), SegmentBytes: 8 << 20, DiskFloor: 1 << 20, DiskReserve: 1 << 10,
		Fatal: func(err error) { tb.Errorf("fatal: %v", err) },
	})
	w.ok(err)
	tb.Cleanup(func() { w.ok(group.Close(context.WithoutCancel(tb.Context()))) })
	shard.Bind(group)
	w.log = channel.NewLog(shard)
	w.makeLog("1")
	w.o = Options{
		History: w.kv, Source: "https://127.0.0.1:8443", MinBackoff: time.Nanosecond, MaxBackoff: time.Nanosecond,
		Channel: func() (channel.Channel, bool) {
			ch, ok := w.log.ByName("Broker", Namespace, Name)
			if !ok {
				return nil, false
			}
			return &faulty{Channel: ch, Producers: ch.(channel.Producers), w: w}, true
		},
		Logger: slog.New(slog.NewTextHandler(&lockedWriter{b: &w.said}, nil)),
	}
	for _, f := range change {
		f(&w.o)
	}
	tb.Cleanup(w.end)
	return w
}

type lockedWriter struct {
	mu sync.Mutex
	b  *strings.Builder
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (w *world) makeLog(uid string) {
	w.Helper()
	var err error
	w.ch, err = w.log.Ensure(w.Context(), channel.ID{Kind: "Broker", Namespace: Namespace, Name: Name, UID: uid}, channel.Config{Partitions: 1})
	w.ok(err)
}

// faulty fails as the world says, before an append or after it was done.
type faulty struct {
	channel.Channel
	channel.Producers
	w *world
}

func (f *faulty) AppendAfter(ctx context.Context, producer string, after, sequence uint64, events []*event.Event) error {
	if f.w.fail == nil {
		return f.Producers.AppendAfter(ctx, producer, after, sequence, events)
	}
	refused, unknown := f.w.fail(sequence)
	if refused != nil {
		return refused
	}
	return errors.Join(f.Producers.AppendAfter(ctx, producer, after, sequence, events), unknown)
}

// run starts a publisher, as a restart of the process would.
func (w *world) run() {
	w.Helper()
	p, err := New(w.o)
	w.ok(err)
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.Run(ctx); err != nil {
			w.Errorf("run: %v", err)
		}
	}()
	w.stop = func() { cancel(); <-done }
}

func (w *world) end() {
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) equal(what string, got, want any) {
	w.Helper()
	if g, e := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != e {
		w.Fatalf("%s:\n got %s\nwant %s", what, g, e)
	}
}

// put writes a resource and returns the revision.
func (w *world) put(key, value string) uint64 {
	w.Helper()
	r, err := w.kv.Put(w.Context(), "/registry/"+key, []byte(value), kv.AnyRev, 0)
	w.ok(err)
	return r.Rev
}

func (w *world) remove(key string) uint64 {
	w.Helper()
	r, err := w.kv.Delete(w.Context(), "/registry/"+key, kv.AnyRev)
	w.ok(err)
	return r.Rev
}

// published waits until the log has n events, and returns them.
func (w *world) published(n int) []*event.Event {
	w.Helper()
	p := w.ch.Partitions()[0]
	ctx, cancel := context.WithTimeout(w.Context(), 20*time.Second)
	defer cancel()
	if n > 0 {
		if err := p.Wait(ctx, uint64(n)-1, 1<<62); err != nil {
			_, next := p.Bounds()
			w.Fatalf("%d events, %d are awaited: %v", next, n, err)
		}
	}
	return w.all()
}

// all is what the log has now.
func (w *world) all() []*event.Event {
	w.Helper()
	p := w.ch.Partitions()[0]
	var out []*event.Event
	for {
		stored, err := p.Read(w.Context(), uint64(len(out)), 1000, 64<<20)
		w.ok(err)
		if len(stored) == 0 {
			return out
		}
		for _, s := range stored {
			out = append(out, s.Event)
		}
	}
}

// settled waits until the log's position is at a revision.
func (w *world) settled(revision uint64) {
	w.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for w.ch.(channel.Producers).Position(producer) < revision {
		if time.Now().After(deadline) {
			w.Fatalf("position %d, awaited %d", w.ch.(channel.Producers).Position(producer), revision)
		}
		<-time.After(time.Millisecond)
	}
}

func config(name, value string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q,"namespace":"default","uid":"uid-%s","managedFields":[{"manager":"x"}]},"data":{"v":%q}}`, name, name, value)
}

// lines are events in short: verb kind name@resourceVersion.
func lines(events []*event.Event) []string {
	var out []string
	for _, e := range events {
		kind, _ := e.Attribute("kind")
		name, _ := e.Attribute("name")
		verb := strings.TrimPrefix(strings.TrimPrefix(e.Type, typeResource), "dev.knative.apiserver.")
		if e.Type == TypeGap {
			var g Gap
			json.Unmarshal(e.Data, &g) // an empty gap shows
			out = append(out, fmt.Sprintf("gap %d-%d %v %s", g.From, g.To, g.Revisions, g.Reason))
			continue
		}
		out = append(out, fmt.Sprintf("%s %s %s@%s", verb, kind.Str, name.Str, e.ID[strings.LastIndexByte(e.ID, '/')+1:]))
	}
	return out
}
