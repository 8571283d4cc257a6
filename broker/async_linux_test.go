package broker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/broker/http1"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/raftlog"
)

// inLoop has the client's connection served by a loop.
func (w *world) inLoop() {
	w.Helper()
	for range 5 {
		w.accepted(brokerPath, "x", binary()...)
	}
	w.broker.mu.Lock()
	defer w.broker.mu.Unlock()
	if w.broker.begun == 0 {
		w.Fatal("no request was begun")
	}
}

// TestLoopAnswersAsAnyServer: what is counted and told is the same, event or
// refusal.
func TestLoopAnswersAsAnyServer(t *testing.T) {
	var mu sync.Mutex
	var told []string
	w := newWorld(t, func(o *IngressOptions) {
		o.Accepted = func(id channel.ID, events []*event.Event) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, fmt.Sprint(id.Name, " ", len(events), " ", events[0].ID))
		}
		o.Told = func(id channel.ID, events []*event.Event) bool { return id.Name == "b" && events[0].ID == "known" }
	})
	w.inLoop()
	for range 5 {
		<-w.counted
	}
	mu.Lock()
	told = nil
	mu.Unlock()
	batch := "[" + structured() + "," + structured() + "]"
	for _, c := range []struct {
		path, body string
		headers    []string
		status     int
		want       count
	}{
		{brokerPath, "x", binary("Ce-Id", "one"), 202, count{"default", "b", 202, 1}},
		{brokerPath, "x", binary("Ce-Id", "known"), 202, count{"default", "b", 202, 1}},
		{channelPath, batch, batchMode(), 202, count{"default", "c", 202, 2}},
		{brokerPath, "[]", batchMode(), 202, count{"default", "b", 202, 0}},
		{brokerPath, "x", binary("Ce-Id", ""), 400, count{"default", "b", 400, 0}},
		{brokerPath, "{", structuredMode(), 400, count{"default", "b", 400, 0}},
		{brokerPath, "x", binary("Content-Encoding", "gzip"), 400, count{"default", "b", 400, 0}},
		{"/default/none", "x", binary(), 404, count{"", "", 404, 0}},
		{brokerPath, "x", binary("Ce-Id", "two"), 202, count{"default", "b", 202, 1}},
		{brokerPath, strings.Repeat("x", 10<<10), binary("Ce-Id", "large"), 202, count{"default", "b", 202, 1}},
	} {
		if a := w.post(c.path, c.body, c.headers...); a.status != c.status || c.status >= 400 && a.problem.Reason == "" {
			t.Errorf("%s: got %d %s, want %d", c.path, a.status, a.body, c.status)
		}
		if got := <-w.counted; got != c.want {
			t.Errorf("%s: counted as %v, want %v", c.path, got, c.want)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if got, want := fmt.Sprint(told), "[b 1 one c 2 1 b 1 two b 1 large]"; got != want {
		t.Errorf("told %s, want %s", got, want)
	}
}

// TestLoopOnALogThatFails: the sender is told, whoever has noticed, and nothing
// is held afterwards.
func TestLoopOnALogThatFails(t *testing.T) {
	w := &world{T: t, fakes: newFakes(), counted: make(chan count, 1000)}
	i := NewIngress(IngressOptions{Resolver: w.fakes, AppendTimeout: 20 * time.Millisecond})
	w.serve(i, i)
	w.inLoop()
	for name, fail := range map[string]func(context.Context) error{
		"soon": func(context.Context) error { return raftlog.ErrDiskFull },
		"late": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"odd":  func(context.Context) error { return errors.New("what is this") },
	} {
		w.broker.failing(fail)
		for n := range 6 {
			a := w.post(brokerPath, strings.Repeat("x", 1+n%2*20<<10), binary()...)
			if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
				t.Errorf("%s: got %d %v", name, a.status, a.header)
			}
		}
	}
	w.broker.failing(nil)
	w.accepted(brokerPath, "x", binary()...)
	if n := i.bodies.used.Load(); n != 0 {
		t.Errorf("%d bytes of bodies are still held", n)
	}
	if n := i.requests.Load(); n != 0 {
		t.Errorf("%d requests are still handled", n)
	}
}

// fleeting resolves each path to nowhere, until it is gone.
type fleeting struct {
	everywhere
	gone *bool
}

func (f fleeting) Broker(string, string) (channel.Channel, bool) { return nowhere{}, !*f.gone }

// TestLoopLooksUpAnewAfterEachFlush: what has gone takes no more.
func TestLoopLooksUpAnewAfterEachFlush(t *testing.T) {
	gone := false
	y := NewIngress(IngressOptions{Resolver: fleeting{gone: &gone}}).async()()
	begin := func() bool {
		var a http1.Answer
		r := http1.Request{Path: brokerPath, Began: time.Now(), Headers: event.HeaderList{
			{Name: "Ce-Specversion", Value: "1.0"}, {Name: "Ce-Id", Value: "1"}, {Name: "Ce-Source", Value: "/s"}, {Name: "Ce-Type", Value: "t"},
		}}
		if !y.Begin(&r) {
			return false
		}
		y.Finish(&r, &a, time.Now())
		return a.Status == http.StatusAccepted
	}
	if !begin() || !begin() {
		t.Fatal("not begun")
	}
	gone = true
	y.Flush()()
	if begin() {
		t.Error("what is gone has taken an event")
	}
	gone = false
	if !begin() {
		t.Error("what is there again takes none")
	}
}

// TestNoLoopWhereSendersAreAsked who they are: that may have to be waited for.
func TestNoLoopWhereSendersAreAsked(t *testing.T) {
	w := newWorld(t, func(o *IngressOptions) { o.Authenticator = anyone{} })
	for range 5 {
		w.accepted(brokerPath, "x", binary()...)
	}
	if w.broker.begun != 0 {
		t.Errorf("%d requests were begun", w.broker.begun)
	}
}

type anyone struct{}

func (anyone) Authorize(context.Context, string, string) error { return nil }

// TestOneChannelsConnectionsLeaveRoomForOthers: whose senders stall within a body, or
// wait for a log that stalls with what is larger than its connection's buffer.
func TestOneChannelsConnectionsLeaveRoomForOthers(t *testing.T) {
	for name, body := range map[string]string{"within a body": strings.Repeat("x", 20<<10), "in small events with large heads": strings.Repeat("x", 4000)} {
		t.Run(name, func(t *testing.T) {
			w := &world{T: t, fakes: newFakes(), counted: make(chan count, 1000)}
			i := NewIngress(IngressOptions{Resolver: w.fakes, MaxBodyMemory: 1 << 20, MaxChannelMemory: 512 << 10})
			w.serve(i, i)
			var peers []net.Conn
			for range 20 {
				peers = append(peers, w.dialLoop())
			}
			leave := make(chan struct{})
			defer close(leave)
			w.broker.failing(func(context.Context) error { <-leave; return nil })
			length := len(body)
			if name == "within a body" {
				length *= 2
			}
			for _, p := range peers {
				_, _ = io.WriteString(p, rawPost(length)+body)
			}
			for end := time.Now().Add(10 * time.Second); i.bodies.used.Load() < 256<<10; <-time.After(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("they hold nothing")
				}
			}
			<-time.After(50 * time.Millisecond) // for those who take more than their share
			w.accepted(channelPath, strings.Repeat("x", 20<<10), binary()...)
		})
	}
}

// dialLoop is a connection that is in a loop.
func (w *world) dialLoop() net.Conn {
	w.Helper()
	p, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = p.Close() })
	r := bufio.NewReader(p)
	for range 4 {
		_, _ = io.WriteString(p, rawPost(1)+"x")
		res, err := http.ReadResponse(r, nil)
		if err != nil || res.StatusCode != http.StatusAccepted {
			w.Fatal(res, err)
		}
	}
	return p
}

// rawPost is the head of an event to the broker.
func rawPost(length int) string {
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n", brokerPath, length)
	for pair := range slices.Chunk(binary(), 2) {
		head += pair[0] + ": " + pair[1] + "\r\n"
	}
	return head + "\r\n"
}
