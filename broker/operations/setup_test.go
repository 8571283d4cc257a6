package operations

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/dispatcher"
	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

// clock is the log's; it stands still until it is moved.
type clock struct {
	raftlog.SystemClock
	now atomic.Int64 // seconds since the epoch
}

var epoch = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

func (c *clock) Now() time.Time { return epoch.Add(time.Duration(c.now.Load()) * time.Second) }

// world serves the API on a real log in memory: Broker default/b with one
// partition, Channel default/c with two.
type world struct {
	*testing.T
	clock           *clock
	broker, channel channel.Channel
	handler         http.Handler
	url             string
	// broken, where set, changes what ByName finds.
	broken func(channel.Channel) channel.Channel
	// statuses are those of the subscriptions, and diskErr why the disk cannot
	// be read.
	statuses []dispatcher.SubscriptionStatus
	diskErr  error
	asked    []Resource
	verify   Verifier
	schemas  schemas
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, clock: &clock{}, schemas: compileSchemas(t)}
	shard := channel.NewShard(channel.Options{Clock: w.clock})
	group, err := raftlog.Open(t.Context(), raftlog.Options{
		Dir: "/log", Name: "s0", NodeID: "n", Machine: shard, FS: memfs.New(0), Clock: w.clock, SegmentBytes: 1 << 20, DiskFloor: 1, DiskReserve: 1,
		Fatal: func(err error) { t.Errorf("fatal: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	shard.Bind(group)
	log := channel.NewLog(shard)
	w.broker, err = log.Ensure(t.Context(), channel.ID{Kind: "Broker", Namespace: "default", Name: "b", UID: "1"}, channel.Config{Partitions: 1})
	if err == nil {
		w.channel, err = log.Ensure(t.Context(), channel.ID{Kind: "Channel", Namespace: "default", Name: "c", UID: "2"}, channel.Config{Partitions: 2})
	}
	if err != nil {
		t.Fatal(err)
	}
	w.handler = Handler(Options{
		Channels: w.finder(log), Inventory: log, Subscriptions: w, Disk: w.disk, Resources: func() []Resource { return w.asked },
		Verify:  func(ctx context.Context, report func(FileReport) error) error { return w.verify(ctx, report) },
		Version: testVersion, Now: w.clock.Now, ReadEvents: 3,
	})
	s := httptest.NewServer(w.handler)
	w.url = s.URL + "/leat/v1"
	t.Cleanup(func() {
		s.Close()
		if err := group.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return w
}

type finder func(kind, namespace, name string) (channel.Channel, bool)

func (f finder) ByName(kind, namespace, name string) (channel.Channel, bool) {
	return f(kind, namespace, name)
}

func (w *world) finder(log *channel.Log) finder {
	return func(kind, namespace, name string) (channel.Channel, bool) {
		ch, ok := log.ByName(kind, namespace, name)
		if ok && w.broken != nil {
			ch = w.broken(ch)
		}
		return ch, ok
	}
}

// fill appends events n0, n1 and so on, a second apart, of types even and odd.
func (w *world) fill(ch channel.Channel, from, to int) {
	w.Helper()
	for n := from; n < to; n++ {
		w.clock.now.Store(int64(n))
		e := &event.Event{ID: fmt.Sprintf("n%d", n), Source: fmt.Sprintf("/s%d", n), Type: [2]string{"even", "odd"}[n%2], DataContentType: "application/json", Data: fmt.Appendf(nil, `{"n":%d, "html":"<&>"}`, n)}
		if err := ch.Append(w.Context(), []*event.Event{e}); err != nil {
			w.Fatal(err)
		}
	}
}

const (
	brokerEvents  = "/namespaces/default/brokers/b/events"
	channelEvents = "/namespaces/default/channels/c/events"
)

// open begins a stream.
func (w *world) open(ctx context.Context, path string) *http.Response {
	w.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+path, nil)
	if err != nil {
		w.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { res.Body.Close() })
	return res
}

// read reads a stream that ends.
func (w *world) read(path string) []Line {
	w.Helper()
	res := w.open(w.Context(), path)
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "application/x-ndjson" {
		b, _ := io.ReadAll(res.Body)
		w.Fatalf("%s: %s %v %s", path, res.Status, res.Header, b)
	}
	var out []Line
	s := bufio.NewScanner(res.Body)
	for s.Scan() {
		out = append(out, w.line(s.Bytes()))
	}
	if err := s.Err(); err != nil {
		w.Fatal(err)
	}
	return out
}

func (w *world) line(b []byte) Line {
	w.Helper()
	w.schemas.check(w.T, "Line", b)
	var l Line
	if err := json.Unmarshal(b, &l); err != nil {
		w.Fatalf("%v: %q", err, b)
	}
	return l
}

// ids are those of the lines' events; an error is its text.
func ids(lines []Line) string {
	var out []string
	for _, l := range lines {
		var e struct{ ID string }
		if l.Error != "" {
			e.ID = "error: " + l.Error
		} else if l.Gap != nil {
			e.ID = fmt.Sprintf("%s:%d-%d", l.Gap.Reason, l.Offset, l.Gap.To)
		} else if err := json.Unmarshal(l.Event, &e); err != nil {
			e.ID = err.Error()
		}
		out = append(out, e.ID)
	}
	return strings.Join(out, " ")
}

// refused is the problem that a request is refused with.
func (w *world) refused(path string, status int) Problem {
	w.Helper()
	res := w.open(w.Context(), path)
	body, err := io.ReadAll(res.Body)
	if err != nil {
		w.Fatal(err)
	}
	w.schemas.check(w.T, "Problem", body)
	var p Problem
	if err := json.Unmarshal(body, &p); err != nil || res.StatusCode != status || p.Reason == "" || res.Header.Get("Content-Type") != "application/json" {
		w.Errorf("%s: %s, %+v, %v", path, res.Status, p, err)
	}
	return p
}
