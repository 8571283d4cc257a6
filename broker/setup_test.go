package broker

import (
	"bytes"
	"context"
	"encoding/json"
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
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/raftlog"
)

// fakeChannel keeps what is appended. Only Append, Begin, Flush and ID may be
// called.
type fakeChannel struct {
	channel.Channel
	id channel.ID

	mu      sync.Mutex
	appends [][]*event.Event
	// fail, where set, is asked instead of keeping events.
	fail func(ctx context.Context) error
	// begun counts calls of Begin; those of whom wait for Flush.
	begun   int
	waiting []func(error)
}

var _ channel.Beginner = (*fakeChannel)(nil)

// Begin does what Append would. Where that fails, every other time it does not
// begin, but leaves it to Append.
func (c *fakeChannel) Begin(events []*event.Event, by time.Time, done func(error)) error {
	c.mu.Lock()
	c.begun++
	fail, even := c.fail, c.begun%2 == 0
	c.mu.Unlock()
	switch {
	case fail == nil:
		if err := c.Append(context.Background(), events); err != nil {
			return err
		}
		c.mu.Lock()
		c.waiting = append(c.waiting, done)
		c.mu.Unlock()
	case even:
		return fmt.Errorf("begin: %w", raftlog.ErrWouldWait)
	default:
		go func() {
			ctx, cancel := context.WithDeadline(context.Background(), by)
			defer cancel()
			done(fail(ctx))
		}()
	}
	return nil
}

func (c *fakeChannel) Commit() { c.Flush() }

func (c *fakeChannel) Flush() {
	c.mu.Lock()
	waiting := c.waiting
	c.waiting = nil
	c.mu.Unlock()
	for _, done := range waiting {
		done(nil)
	}
}

func (c *fakeChannel) ID() channel.ID { return c.id }

func (c *fakeChannel) Append(ctx context.Context, events []*event.Event) error {
	c.mu.Lock()
	fail := c.fail
	c.mu.Unlock()
	if fail != nil {
		return fail(ctx)
	}
	kept := make([]*event.Event, len(events))
	for i, e := range events { // they are good until Append returns
		kept[i] = e.Clone()
		kept[i].Data, kept[i].PassThrough = bytes.Clone(e.Data), slices.Clone(e.PassThrough)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.appends = append(c.appends, kept)
	return nil
}

// take returns the events of each Append, and forgets them.
func (c *fakeChannel) take() [][]*event.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.appends
	c.appends = nil
	return out
}

func (c *fakeChannel) failing(f func(ctx context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = f
}

// fakes resolve default/b to a broker and default/c to a channel.
type fakes struct{ broker, channel *fakeChannel }

func newFakes() *fakes {
	return &fakes{
		broker:  &fakeChannel{id: channel.ID{Kind: "Broker", Namespace: "default", Name: "b", UID: "1"}},
		channel: &fakeChannel{id: channel.ID{Kind: "Channel", Namespace: "default", Name: "c", UID: "2"}},
	}
}

func (f *fakes) Broker(namespace, name string) (channel.Channel, bool) {
	return f.broker, namespace == "default" && name == "b"
}

func (f *fakes) Channel(namespace, name string) (channel.Channel, bool) {
	return f.channel, namespace == "default" && name == "c"
}

// at is the fake that a path of targets names.
func (f *fakes) at(path string) *fakeChannel {
	if strings.HasPrefix(path, "/channels/") {
		return f.channel
	}
	return f.broker
}

const (
	brokerPath  = "/default/b"
	channelPath = "/channels/default/c"
)

// targets are a broker and a channel.
var targets = []string{brokerPath, channelPath}

// now is the ingress's clock.
var now = time.Date(2026, 1, 2, 3, 4, 5, 678_901_234, time.FixedZone("", 3600))

const nowText = "2026-01-02T02:04:05.678901Z"

// world is an ingress that serves over HTTP on loopback.
type world struct {
	*testing.T
	*fakes
	url     string
	counted chan count
}

type count struct {
	namespace, name string
	status, events  int
}

func newWorld(t *testing.T, change ...func(*IngressOptions)) *world {
	w := &world{T: t, fakes: newFakes(), counted: make(chan count, 1000)}
	o := IngressOptions{
		Resolver: w.fakes,
		Now:      func() time.Time { return now },
		Counted: func(s Served) {
			select {
			case w.counted <- count{s.Namespace, s.Name, s.Status, s.Events}:
			default: // more than any test looks at
			}
		},
	}
	for _, f := range change {
		f(&o)
	}
	i := NewIngress(o)
	w.serve(i, i)
	return w
}

// serve serves an ingress, and all that is no plain request to it by h.
func (w *world) serve(i *Ingress, h http.Handler) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	s := NewServer(i, h, ServerOptions{})
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	w.Cleanup(func() {
		_ = s.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			w.Error(err)
		}
	})
	w.url = "http://" + l.Addr().String()
}

// answer is what came back.
type answer struct {
	status  int
	header  http.Header
	body    string
	problem Problem
}

// send sends a request; headers are names and values in turn.
func (w *world) send(method, path string, body io.Reader, headers ...string) answer {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), method, w.url+path, body)
	if err != nil {
		w.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		w.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.Fatal(err)
	}
	a := answer{status: res.StatusCode, header: res.Header, body: string(b)}
	if len(b) > 0 {
		if err := json.Unmarshal(b, &a.problem); err != nil || res.Header.Get("Content-Type") != "application/json" {
			w.Errorf("the answer is no JSON: %v: %q", err, b)
		}
	}
	return a
}

func (w *world) post(path, body string, headers ...string) answer {
	w.Helper()
	return w.send(http.MethodPost, path, strings.NewReader(body), headers...)
}

// binary are the headers of a valid event in binary mode, and more; a value of
// "" removes a header.
func binary(more ...string) []string {
	h := []string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", "t"}
	for i := 0; i < len(more); i += 2 {
		for j := 0; j < len(h); j += 2 {
			if h[j] == more[i] {
				h = append(h[:j], h[j+2:]...)
				break
			}
		}
		if more[i+1] != "" {
			h = append(h, more[i], more[i+1])
		}
	}
	return h
}

// structured is a valid event in the JSON format, with more members.
func structured(more ...string) string {
	return `{"specversion":"1.0","id":"1","source":"/s","type":"t"` + strings.Join(append([]string{""}, more...), ",") + `}`
}

func structuredMode(more ...string) []string {
	return append([]string{"Content-Type", event.StructuredType}, more...)
}

func batchMode(more ...string) []string {
	return append([]string{"Content-Type", event.BatchType}, more...)
}

// accepted sends a request that must be answered with 202, and returns the
// events that it appended, at once.
func (w *world) accepted(path, body string, headers ...string) []*event.Event {
	w.Helper()
	if a := w.post(path, body, headers...); a.status != http.StatusAccepted || a.body != "" {
		w.Fatalf("%s: got %d %s", path, a.status, a.body)
	}
	appends := w.at(path).take()
	if len(appends) != 1 {
		w.Fatalf("%s: %d appends", path, len(appends))
	}
	return appends[0]
}

// refused checks a refusal, and that nothing was appended.
func (w *world) refused(a answer, status int, attribute, reason string) {
	w.Helper()
	if a.status != status || a.problem.Attribute != attribute || a.problem.Reason == "" || !strings.Contains(a.problem.Reason, reason) {
		w.Errorf("got %d %s, want %d, attribute %q, reason …%s…", a.status, a.body, status, attribute, reason)
	}
	for _, path := range targets {
		if n := len(w.at(path).take()); n > 0 {
			w.Errorf("%s: %d appends, though refused", path, n)
		}
	}
}

// attributes lists an event's attributes but for those that are stamped.
func attributes(e *event.Event) string {
	var b strings.Builder
	for _, name := range []string{"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema"} {
		if v, ok := e.Attribute(name); ok {
			fmt.Fprintf(&b, "%s=%s ", name, v.Str)
		}
	}
	for _, x := range e.Extensions {
		switch x.Name {
		case ttlExtension, arrivalExtension, event.Traceparent:
		default:
			fmt.Fprintf(&b, "%s=%s(%d) ", x.Name, x.Value.Str, x.Value.Kind)
		}
	}
	return strings.TrimSpace(b.String())
}
