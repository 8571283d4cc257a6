package http1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leat-dev/leat/api/event"
)

// pipes is a listener of connections in memory, so that time can be faked.
type pipes struct {
	conns chan net.Conn
	errs  chan error
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes {
	return &pipes{conns: make(chan net.Conn), errs: make(chan error), done: make(chan struct{})}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case err := <-p.errs:
		return nil, err
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// world is a server in fake time. Its handler answers with what it was sent,
// and what /standard says is net/http's.
type world struct {
	*testing.T
	*pipes
	s      *Server
	ended  chan error
	plains atomic.Int64
	// block, where set, holds up who asks for /block.
	block chan struct{}
}

func (w *world) handle(r *Request, a *Answer) bool {
	switch r.Path {
	case "/standard":
		return false
	case "/panic":
		panic("as asked")
	case "/block":
		<-w.block
	}
	w.plains.Add(1)
	a.Status = http.StatusAccepted
	switch body, whole := r.Body.Whole(); {
	case r.Path == "/refuse":
		a.Status, a.Headers = http.StatusForbidden, []event.Header{{Name: "X-Why", Value: "because"}}
		var one [1]byte
		_, _ = io.ReadFull(&r.Body, one[:])
		if !whole {
			_, _ = io.CopyN(io.Discard, &r.Body, bufferSize) // so that it has begun
		}
	case whole:
		a.Body = append([]byte(nil), body...)
	default:
		a.Body, _ = io.ReadAll(&r.Body)
	}
	return true
}

func start(t *testing.T, l net.Listener) *world {
	w := &world{T: t, ended: make(chan error, 1), block: make(chan struct{})}
	w.s = NewServer(Options{
		Handler: w.handle,
		Fallback: &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("X-Server", "standard")
			body, _ := io.ReadAll(r.Body)
			rw.Write(body)
		})},
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: 2 * time.Minute, IdleTimeout: 2 * time.Minute,
		Logger: slog.New(slog.DiscardHandler),
	})
	go func() { w.ended <- w.s.Serve(l) }()
	return w
}

func (w *world) stop() {
	w.Helper()
	if err := w.s.Close(); err != nil {
		w.Error(err)
	}
	if err := <-w.ended; !errors.Is(err, http.ErrServerClosed) {
		w.Error(err)
	}
}

func inFakeTime(t *testing.T, f func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		w := start(t, p)
		w.pipes = p
		f(w)
		w.stop()
	})
}

// peer is the client's end of a connection.
type peer struct {
	net.Conn
	r *bufio.Reader
}

func (w *world) dial() *peer {
	client, server := net.Pipe()
	w.conns <- server
	return &peer{client, bufio.NewReader(client)}
}

func overTCP(t *testing.T) (*world, func() *peer) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := start(t, l)
	t.Cleanup(w.stop)
	return w, func() *peer {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return &peer{c, bufio.NewReader(c)}
	}
}

func post(path, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
}

// send writes beside what is read, as a pipe has no room.
func (p *peer) send(parts ...string) {
	go func() {
		for _, s := range parts {
			if s == "" {
				continue
			}
			if _, err := io.WriteString(p, s); err != nil {
				return
			}
		}
	}()
}

// answer reads an answer: its status, who gave it, its body, and whether the
// connection goes on.
func (p *peer) answer() string {
	res, err := http.ReadResponse(p.r, nil)
	if err != nil {
		return "no answer"
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.Header.Get("Date") == "" {
		return fmt.Sprintf("broken: %v", err)
	}
	s := fmt.Sprintf("%d %s%s", res.StatusCode, res.Header.Get("X-Server"), body)
	if res.Close {
		s += " close"
	}
	return s
}

func (p *peer) expect(t *testing.T, want ...string) {
	t.Helper()
	for i, s := range want {
		if got := p.answer(); got != s {
			t.Fatalf("answer %d is %.80q, want %.80q", i, got, s)
		}
	}
}

// TestWhereverItIsCut: requests on one connection are answered in order,
// however the bytes arrive.
func TestWhereverItIsCut(t *testing.T) {
	all := post("/", "one") + post("/", "") + post("/x", "three")
	inFakeTime(t, func(w *world) {
		for cut := 1; cut < len(all); cut++ {
			p := w.dial()
			p.send(all[:cut], all[cut:])
			p.expect(t, "202 one", "202 ", "202 three")
			p.Close()
		}
		p := w.dial()
		p.send(strings.Split(all, "")...)
		p.expect(t, "202 one", "202 ", "202 three")
		p.Close()
		if got, want := w.plains.Load(), int64(3*len(all)); got != want {
			t.Errorf("%d of %d requests were plain", got, want)
		}
	})
}

// TestBodies of all sizes, before and behind others.
func TestBodies(t *testing.T) {
	inFakeTime(t, func(w *world) {
		for _, size := range []int{1, 1000, bufferSize - 60, bufferSize, bufferSize + 1, 3*bufferSize + 7, 1 << 20} {
			body := strings.Repeat("0123456789abcdef!", size/17+1)[:size]
			p := w.dial()
			p.send(post("/", body) + post("/", "next"))
			p.expect(t, "202 "+body, "202 next")
			p.Close()
		}
	})
}

// TestHandedOver: what is not plain, and what the handler leaves, is answered by
// net/http, with all that has been read; and so is what follows.
func TestHandedOver(t *testing.T) {
	w, dial := overTCP(t)
	large := strings.Repeat("x", 10*bufferSize)
	for name, c := range map[string]struct{ text, want string }{
		"method":        {"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na", "200 standarda"},
		"chunked":       {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", "200 standardab"},
		"query":         {post("/?a", "b"), "200 standardb"},
		"left":          {post("/standard", "b"), "200 standardb"},
		"left, large":   {post("/standard", large), "200 standard" + large},
		"a large head":  {"POST / HTTP/1.1\r\nHost: x\r\nX: " + large + "\r\nContent-Length: 1\r\n\r\na", "200 standarda"},
		"lines end so":  {"POST / HTTP/1.1\nHost: x\nContent-Length: 1\n\na", "200 standarda"},
		"not to be had": {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", "400 400 Bad Request close"},
	} {
		p := dial()
		p.send(post("/", "first") + c.text + post("/", "last"))
		if name == "not to be had" {
			p.expect(t, "202 first")
			if res, err := http.ReadResponse(p.r, nil); err != nil || res.StatusCode != http.StatusBadRequest {
				t.Errorf("%s: %v, %v", name, res, err)
			}
			continue
		}
		p.expect(t, "202 first", c.want, "200 standardlast")
	}
	if got := w.plains.Load(); got != 8 {
		t.Errorf("%d requests were answered here", got)
	}
}

// TestUnreadBodyEndsTheConnection, and the answer arrives all the same. One that
// is in memory is passed over.
func TestUnreadBodyEndsTheConnection(t *testing.T) {
	_, dial := overTCP(t)
	p := dial()
	p.send(post("/refuse", "short") + post("/", "next"))
	p.expect(t, "403 ", "202 next")
	p.send(post("/refuse", strings.Repeat("x", 100<<10)))
	p.expect(t, "403  close")
	if _, err := p.r.ReadByte(); err == nil {
		t.Error("the connection goes on")
	}
}

// TestRefusalReachesWhoSendsALargeBody: one that sends all of it before it reads
// an answer is not cut off by a reset, which would take the answer away.
func TestRefusalReachesWhoSendsALargeBody(t *testing.T) {
	_, dial := overTCP(t)
	for range 5 {
		p := dial()
		if _, err := io.WriteString(p, post("/refuse", strings.Repeat("x", 5<<20))); err != nil {
			t.Fatalf("while the body is sent: %v", err)
		}
		p.expect(t, "403  close")
	}
}

// TestPanicEndsOneConnection only.
func TestPanicEndsOneConnection(t *testing.T) {
	inFakeTime(t, func(w *world) {
		p, q := w.dial(), w.dial()
		p.send(post("/panic", ""))
		p.expect(t, "no answer")
		q.send(post("/", "fine"))
		q.expect(t, "202 fine")
		q.Close()
	})
}

// TestSilenceEnds a connection: before its first request, within a head, within
// a body, and between requests.
func TestSilenceEnds(t *testing.T) {
	for name, c := range map[string]struct {
		text, want string
		least      time.Duration
	}{
		"at first":  {"", "no answer", 10 * time.Second},
		"in a head": {"POST / HT", "no answer", 10 * time.Second},
		"in a body": {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345", "202 12345 close", time.Minute},
		"after one": {post("/", "x"), "202 x", 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, func(w *world) {
				p := w.dial()
				began := time.Now()
				p.send(c.text)
				p.expect(t, c.want)
				io.Copy(io.Discard, p.r)
				if took := time.Since(began); took < c.least || took > c.least+c.least/8+lingerTime {
					t.Errorf("ended after %v", took)
				}
				p.Close()
			})
		})
	}
}

// TestBusyConnectionsGoOn for longer than any deadline.
func TestBusyConnectionsGoOn(t *testing.T) {
	inFakeTime(t, func(w *world) {
		p := w.dial()
		for range 100 {
			p.send(post("/", strings.Repeat("x", 2*bufferSize)))
			p.expect(t, "202 "+strings.Repeat("x", 2*bufferSize))
			time.Sleep(100 * time.Second)
		}
		p.Close()
	})
}

// TestPeerThatReadsNothing is given up.
func TestPeerThatReadsNothing(t *testing.T) {
	inFakeTime(t, func(w *world) {
		p := w.dial()
		began := time.Now()
		io.WriteString(p, post("/", "x"))
		if _, err := io.WriteString(p, post("/", "x")); err == nil {
			t.Error("the connection goes on")
		}
		if took := time.Since(began); took < 2*time.Minute || took > 3*time.Minute {
			t.Errorf("given up after %v", took)
		}
	})
}

// TestShutdown answers what has come, here and at net/http, and ends the idle.
func TestShutdown(t *testing.T) {
	inFakeTime(t, func(w *world) {
		idler, busy, standard := w.dial(), w.dial(), w.dial()
		idler.send(post("/", "x"))
		idler.expect(t, "202 x")
		busy.send(post("/block", "late"))
		standard.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		standard.expect(t, "200 standard")
		synctest.Wait()
		ended := make(chan error)
		go func() { ended <- w.s.Shutdown(w.Context()) }()
		idler.expect(t, "no answer")
		synctest.Wait()
		select {
		case err := <-ended:
			t.Fatalf("ended before the last answer: %v", err)
		default:
		}
		close(w.block)
		busy.expect(t, "202 late close")
		standard.expect(t, "no answer")
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestShutdownIsBounded: Close ends what it left.
func TestShutdownIsBounded(t *testing.T) {
	inFakeTime(t, func(w *world) {
		p := w.dial()
		p.send(post("/block", "late"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if err := w.s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err := w.s.Close(); err != nil {
			t.Error(err)
		}
		p.expect(t, "no answer")
		close(w.block)
	})
}

// TestWantOfDescriptorsPasses, where the listener's end does not.
func TestWantOfDescriptorsPasses(t *testing.T) {
	inFakeTime(t, func(w *world) {
		began := time.Now()
		for range 10 {
			w.errs <- &net.OpError{Op: "accept", Err: syscall.EMFILE}
		}
		p := w.dial()
		if took := time.Since(began); took < 2*time.Second || took > 5*time.Second {
			t.Errorf("accepted again after %v", took)
		}
		p.send(post("/", "x"))
		p.expect(t, "202 x")
		p.Close()
	})
	l := newPipes()
	w := start(t, l)
	failure := errors.New("the network is gone")
	l.errs <- failure
	if err := <-w.ended; !errors.Is(err, failure) {
		t.Error(err)
	}
	w.s.Close()
}

// BenchmarkConn is what a request costs beside its socket and its handler.
func BenchmarkConn(b *testing.B) {
	raw := []byte(plainHead + "Ce-Specversion: 1.0\r\nCe-Source: /shop\r\nCe-Type: order.created\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\ndata")
	s := NewServer(Options{Handler: func(_ *Request, a *Answer) bool { a.Status = http.StatusAccepted; return true }, ReadTimeout: time.Minute, WriteTimeout: time.Minute})
	c := s.newConn(nowhere{})
	b.ReportAllocs()
	for b.Loop() {
		c.at = [2]int{0, copy(c.buf, raw)}
		now := time.Now()
		if v := c.readHead(now); v != plain {
			b.Fatal(v)
		}
		if done, ok := c.answer(now); !done || !ok {
			b.Fatal(done, ok)
		}
	}
}

type nowhere struct{ net.Conn }

func (nowhere) Write(b []byte) (int, error)      { return len(b), nil }
func (nowhere) SetWriteDeadline(time.Time) error { return nil }
