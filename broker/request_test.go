package broker

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leat-dev/leat/api/event"
)

// standardHeader marks what net/http has answered.
const standardHeader = "X-Standard"

// bothServers is a world that tells which server answers.
func bothServers(t *testing.T, change ...func(*IngressOptions)) *world {
	w := &world{T: t, fakes: newFakes(), counted: make(chan count, 1000)}
	o := IngressOptions{Resolver: w.fakes, Counted: func(s Served) { w.counted <- count{s.Namespace, s.Name, s.Status, s.Events} }}
	for _, f := range change {
		f(&o)
	}
	i := NewIngress(o)
	w.serve(i, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set(standardHeader, "true")
		i.ServeHTTP(rw, r)
	}))
	return w
}

// TestEachServerAnswersItsOwn: the requests of senders are read here, also those
// that are refused; what net/http has to answer it answers, and each request is
// counted once.
func TestEachServerAnswersItsOwn(t *testing.T) {
	w := bothServers(t)
	w.channel.failing(func(context.Context) error { return errors.New("as asked") })
	large := strings.Repeat("x", 2<<20)
	for name, c := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		standard           bool
	}{
		"binary":        {"POST", brokerPath, "data", binary(), http.StatusAccepted, false},
		"structured":    {"POST", brokerPath, structured(), structuredMode(), http.StatusAccepted, false},
		"batch":         {"POST", brokerPath, "[" + structured() + "]", batchMode(), http.StatusAccepted, false},
		"large":         {"POST", brokerPath, large[:1<<20], binary(), http.StatusAccepted, false},
		"malformed":     {"POST", brokerPath, "", binary("Ce-Id", ""), http.StatusBadRequest, false},
		"not stored":    {"POST", channelPath, "", binary(), http.StatusServiceUnavailable, false},
		"too large":     {"POST", brokerPath, large, binary(), http.StatusRequestEntityTooLarge, true},
		"names nothing": {"POST", "/default/unknown", "", binary(), http.StatusNotFound, true},
		"escaped":       {"POST", "/default/%62", "", binary(), http.StatusAccepted, true},
		"options":       {"OPTIONS", brokerPath, "", nil, http.StatusOK, true},
	} {
		http.DefaultClient.CloseIdleConnections() // what was handed over stays with net/http
		a := w.send(c.method, c.path, strings.NewReader(c.body), c.headers...)
		if a.status != c.status || (a.header.Get(standardHeader) != "") != c.standard {
			t.Errorf("%s: got %d %v", name, a.status, a.header)
		}
		if n := <-w.counted; n.status != c.status {
			t.Errorf("%s: counted as %d", name, n.status)
		}
	}
	if n := len(w.counted); n != 0 {
		t.Errorf("%d requests were counted twice", n)
	}
}

// TestOverloadedServerAnswersItself: what has come is refused, and whoever still
// sends is net/http's.
func TestOverloadedServerAnswersItself(t *testing.T) {
	w := bothServers(t, func(o *IngressOptions) { o.MaxBodyMemory = smallBody - 1 })
	for body, standard := range map[string]bool{"": false, strings.Repeat("x", 2*smallBody): true} {
		http.DefaultClient.CloseIdleConnections() // as above
		a := w.post(brokerPath, body, binary()...)
		if a.status != http.StatusServiceUnavailable || (a.header.Get(standardHeader) != "") != standard {
			t.Errorf("%d bytes: got %d %v", len(body), a.status, a.header)
		}
	}
}

// TestWhatIsPassedThrough is the same from both servers.
func TestWhatIsPassedThrough(t *testing.T) {
	w := bothServers(t)
	headers := binary("x-request-id", "1", "knative-b", "2", "KNATIVE-A", "3", "x-b3-traceid", "4", "other", "5")
	for _, path := range []string{brokerPath, "/default/%62"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		b.WriteString("POST " + path + " HTTP/1.1\r\nHost: x\r\n")
		for i := 0; i < len(headers); i += 2 {
			b.WriteString(headers[i] + ": " + headers[i+1] + "\r\n")
		}
		conn.Write([]byte(b.String() + "\r\n"))
		answer := make([]byte, 12)
		if _, err := conn.Read(answer); err != nil || string(answer) != "HTTP/1.1 202" {
			t.Fatalf("%q, %v", answer, err)
		}
		conn.Close()
		want := []event.Header{{Name: "Knative-A", Value: "3"}, {Name: "Knative-B", Value: "2"}, {Name: "X-B3-Traceid", Value: "4"}, {Name: "X-Request-Id", Value: "1"}}
		got := w.broker.take()[0][0].PassThrough
		if len(got) != len(want) {
			t.Fatalf("%s: %v", path, got)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s: %v", path, got)
			}
		}
	}
}

// TestDeadlinesAreShared by those who come at about the same time, and end in
// their time.
func TestDeadlinesAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deadlines{after: 8 * time.Second}
		began := time.Now()
		first := d.context(began)
		time.Sleep(999 * time.Millisecond)
		if d.context(time.Now()) != first {
			t.Error("not shared")
		}
		time.Sleep(time.Millisecond)
		second, asked := d.context(time.Now()), time.Now()
		if second == first {
			t.Error("shared for too long")
		}
		<-first.Done()
		if took := time.Since(began); took != 9*time.Second || !errors.Is(first.Err(), context.DeadlineExceeded) {
			t.Errorf("%v after %v", first.Err(), took)
		}
		<-second.Done()
		if took := time.Since(asked); took != 9*time.Second {
			t.Errorf("ended after %v", took)
		}
	})
}
