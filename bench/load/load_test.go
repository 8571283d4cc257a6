//go:build linux

package load_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/leat-dev/leat/bench/load"
)

// server answers with a status, and keeps the ids and bodies it gets.
type server struct {
	*httptest.Server
	status int

	mu     sync.Mutex
	ids    map[string]bool
	bodies [][]byte
}

func newServer(t *testing.T, status int) *server {
	s := &server{status: status, ids: map[string]bool{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.ids[r.Header.Get("Ce-Id")] = true
	s.bodies = append(s.bodies, b)
	s.mu.Unlock()
	w.WriteHeader(s.status)
	io.WriteString(w, strings.Repeat("an answer ", 10))
}

func (s *server) address() string { return s.Listener.Addr().String() }

func TestEachRequestIsAnotherEvent(t *testing.T) {
	s := newServer(t, http.StatusAccepted)
	sent, err := load.Send(t.Context(), load.Plan{
		Address: s.address(), Conns: 8, Limit: 500, First: 7,
		Request: load.Binary(s.address(), "/x", load.Event{Data: `{"a":1}`}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if sent.Events != 500 || len(sent.Latencies) != 500 || len(s.ids) != 500 || !s.ids["000000000007"] || !s.ids["000000000506"] {
		t.Errorf("%d events, %d latencies, %d ids", sent.Events, len(sent.Latencies), len(s.ids))
	}
	if sent.Answers < 500*100 { // the bodies alone
		t.Errorf("the answers had %d bytes", sent.Answers)
	}
	if string(s.bodies[0]) != `{"a":1}` {
		t.Errorf("body %s", s.bodies[0])
	}
}

func TestLargeBatchIsWhole(t *testing.T) {
	s := newServer(t, http.StatusAccepted)
	data := load.Payload(100<<10, `"k":"v",`)
	if len(data) != 100<<10 {
		t.Errorf("the payload has %d bytes", len(data))
	}
	sent, err := load.Send(t.Context(), load.Plan{
		Address: s.address(), Conns: 2, Limit: 3,
		Request: load.Batch(s.address(), "/x", 20, load.Event{Data: data}),
	})
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, b := range s.bodies {
		var events []struct {
			ID   string
			Data struct{ K string }
		}
		if err := json.Unmarshal(b, &events); err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			ids[e.ID] = e.Data.K == "v"
		}
	}
	if sent.Events != 60 || len(ids) != 60 || !ids["000000000059"] {
		t.Errorf("%d events were sent, %d came", sent.Events, len(ids))
	}
}

func TestOtherAnswersThan202AreErrors(t *testing.T) {
	s := newServer(t, http.StatusServiceUnavailable)
	_, err := load.Send(t.Context(), load.Plan{
		Address: s.address(), Conns: 1, Limit: 1,
		Request: load.Binary(s.address(), "/x", load.Event{Data: `{}`}),
	})
	if err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("got %v", err)
	}
}

func TestRateIsKept(t *testing.T) {
	s := newServer(t, http.StatusAccepted)
	sent, err := load.Send(t.Context(), load.Plan{
		Address: s.address(), Conns: 4, Rate: 500, Limit: 100,
		Request: load.Binary(s.address(), "/x", load.Event{Data: `{}`}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if sent.Events != 100 || sent.Took < 195*time.Millisecond {
		t.Errorf("%d events at 500 a second took %s", sent.Events, sent.Took)
	}
}

func TestSendEndsWithItsContext(t *testing.T) {
	s := newServer(t, http.StatusAccepted)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := load.Send(ctx, load.Plan{
		Address: s.address(), Conns: 1, Length: time.Hour,
		Request: load.Binary(s.address(), "/x", load.Event{Data: `{}`}),
	}); ctx.Err() == nil || err == nil {
		t.Errorf("it ended with %v", err)
	}
}

// TestSinkCountsEachEventOnce: and times it, whoever sends it.
func TestSinkCountsEachEventOnce(t *testing.T) {
	sink, err := load.NewSink()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := sink.Close(); err != nil {
			t.Error(err)
		}
	}()
	topic := sink.Topic("a")
	stamps := load.NewStamps(10, 300)
	topic.Expect(10, stamps)
	p := load.Plan{Address: sink.Address(), Conns: 16, Limit: 300, First: 10, Stamps: stamps,
		Request: load.Binary(sink.Address(), "/a", load.Event{Data: load.Payload(200<<10, "")})}
	if _, err := load.Send(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if err := topic.Await(t.Context(), 300); err != nil {
		t.Fatal(err)
	}
	p.Limit = 5
	if _, err := load.Send(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if n, again := topic.Received(); n != 300 || again != 5 || len(topic.Latencies()) != 300 {
		t.Errorf("%d came, %d again, %d were timed", n, again, len(topic.Latencies()))
	}
	if lowest, highest, ok := topic.Span(); lowest != 10 || highest != 309 || !ok {
		t.Errorf("from %d to %d came, %v", lowest, highest, ok)
	}
	topic.Expect(310, nil)
	n, _ := topic.Received()
	if _, _, ok := topic.Span(); ok || n != 0 {
		t.Errorf("%d came after a new count began", n)
	}
}

func TestSinkTellsWhatItCannotCount(t *testing.T) {
	sink, err := load.NewSink()
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.Post(sink.Topic("a").URL, "text/plain", strings.NewReader("no event")); err == nil {
		resp.Body.Close()
	}
	if err := sink.Close(); err == nil || !strings.Contains(err.Error(), "id") {
		t.Errorf("it ended with %v", err)
	}
}
