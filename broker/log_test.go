package broker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/dispatcher"
	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

// logs resolve default/b to a broker in a real log.
type logs struct{ *channel.Log }

func (l logs) Broker(namespace, name string) (channel.Channel, bool) {
	return l.ByName("Broker", namespace, name)
}

func (l logs) Channel(namespace, name string) (channel.Channel, bool) {
	return l.ByName("Channel", namespace, name)
}

// openLog opens a log on a file system; close is what the end of a process
// does.
func openLog(t *testing.T, fs *memfs.FS) (l *channel.Log, close func()) {
	t.Helper()
	shard := channel.NewShard(channel.Options{})
	group, err := raftlog.Open(t.Context(), raftlog.Options{
		Dir: "/log", Name: "s0", NodeID: "n", Machine: shard, FS: fs, SegmentBytes: 1 << 20, DiskFloor: 1 << 20, DiskReserve: 1 << 10,
		Fatal: func(err error) { t.Errorf("fatal: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	shard.Bind(group)
	return channel.NewLog(shard), func() {
		if err := group.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}
}

// ids are those of all events of a channel with one partition.
func ids(t *testing.T, ch channel.Channel) []string {
	t.Helper()
	var out []string
	for {
		events, err := ch.Partitions()[0].Read(t.Context(), uint64(len(out)), 1000, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 {
			return out
		}
		for _, e := range events {
			if string(e.Event.Data) != "data of "+e.Event.ID {
				t.Errorf("event %s has data %q", e.Event.ID, e.Event.Data)
			}
			out = append(out, e.Event.ID)
		}
	}
}

// TestAcceptedIsInTheLog: what was answered with 202 is there with its own
// data after a power cut, however many send at once; a full disk is a 503 that
// stores nothing.
func TestAcceptedIsInTheLog(t *testing.T) {
	fs := memfs.New(0)
	l, closeLog := openLog(t, fs)
	ch, err := l.Ensure(t.Context(), channel.ID{Kind: "Broker", Namespace: "default", Name: "b", UID: "1"}, channel.Config{Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(o *IngressOptions) { o.Resolver = logs{l} })
	const senders, each = 8, 20
	var group sync.WaitGroup
	for s := range senders {
		group.Go(func() {
			for n := range each {
				id := fmt.Sprintf("%d-%d", s, n)
				if a := w.post(brokerPath, "data of "+id, binary("Ce-Id", id, "Content-Type", "text/plain")...); a.status != http.StatusAccepted {
					t.Errorf("%d %s", a.status, a.body)
				}
			}
		})
	}
	group.Wait()

	fs.SetCapacity(1)
	refused := false
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); { // what is free may be known from just before
		a := w.post(brokerPath, "data of x", binary("Ce-Id", "x", "Content-Type", "text/plain")...)
		if refused = a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") != ""; refused {
			break
		}
	}
	if !refused {
		t.Error("a full disk was never told of")
	}
	stored := ids(t, ch)

	fs.SetCapacity(0)
	cut := fs.CrashClone(rand.New(rand.NewPCG(1, 1)), 0) // nothing is left but what was synced
	closeLog()
	l, closeLog = openLog(t, cut)
	defer closeLog()
	ch, ok := l.ByName("Broker", "default", "b")
	if !ok {
		t.Fatal("the broker is not there any more")
	}
	kept := ids(t, ch)
	if fmt.Sprint(kept) != fmt.Sprint(stored) {
		t.Errorf("before the power cut %v, after it %v", stored, kept)
	}
	seen := map[string]bool{}
	for _, id := range kept {
		seen[id] = true
	}
	for s := range senders {
		for n := range each {
			if id := fmt.Sprintf("%d-%d", s, n); !seen[id] {
				t.Errorf("event %s was accepted and is not there", id)
			}
		}
	}
}

// TestReplyIsInTheLog, next to the event that caused it.
func TestReplyIsInTheLog(t *testing.T) {
	l, closeLog := openLog(t, memfs.New(0))
	defer closeLog()
	ch, err := l.Ensure(t.Context(), channel.ID{Kind: "Broker", Namespace: "default", Name: "b", UID: "1"}, channel.Config{Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	i := NewIngress(IngressOptions{Resolver: logs{l}})
	if err := ch.Append(t.Context(), []*event.Event{anEvent()}); err != nil {
		t.Fatal(err)
	}
	stored, err := ch.Partitions()[0].Read(t.Context(), 0, 1, 1<<20)
	if err != nil || len(stored) != 1 {
		t.Fatalf("%v, %v", stored, err)
	}
	original := &dispatcher.Original{Channel: ch.ID(), Stored: stored[0]}
	if err := i.AcceptReply(t.Context(), ch, original, anEvent()); err != nil {
		t.Fatal(err)
	}
	stored, err = ch.Partitions()[0].Read(t.Context(), 1, 2, 1<<20)
	if err != nil || len(stored) != 1 {
		t.Fatalf("%v, %v", stored, err)
	}
	if v, _ := stored[0].Event.Attribute(causeExtension); v.Str != "default/b/0/0" {
		t.Errorf("cause %q", v.Str)
	}
	if err := l.Drop(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	if err := i.AcceptReply(t.Context(), ch, original, anEvent()); !errors.Is(err, channel.ErrNotFound) {
		t.Errorf("after the broker had gone: %v", err)
	}
}
