package http1

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
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
	// begun counts the requests of loops, and blocked those that wait for block.
	begun, blocked atomic.Int64
	// busy counts the requests of loops that took the processor for long, and woken is
	// how many of them there were when who was woken by the first has run.
	busy, woken atomic.Int64
	lent        lent
}

// lent are buffers, of which so many at most are out, and those that are given back
// are overwritten.
type lent struct {
	most, out, gets atomic.Int64
	pool            sync.Pool
}

const lentSize = 4 * bufferSize

func (*lent) Size() int { return lentSize }

func (l *lent) Get() *[]byte {
	l.gets.Add(1)
	if l.out.Add(1) > l.most.Load() {
		l.out.Add(-1)
		return nil
	}
	if b, _ := l.pool.Get().(*[]byte); b != nil {
		return b
	}
	b := make([]byte, lentSize)
	return &b
}

func (l *lent) Put(b *[]byte) {
	for i := range *b {
		(*b)[i] = '?'
	}
	l.out.Add(-1)
	l.pool.Put(b)
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
	a.Status = http.StatusAccepted
	if r.Path == "/warm" {
		return true
	}
	w.plains.Add(1)
	switch body, whole := r.Body.Whole(); {
	case r.Path == "/took":
		_, _ = io.Copy(io.Discard, &r.Body)
		a.Body = []byte(time.Since(r.Began).String())
	case r.Path == "/long":
		a.Body = make([]byte, 2*bufferSize)
	case r.Path == "/large":
		a.Body = make([]byte, 8<<20) // more than a socket takes
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
		a.Body = make([]byte, r.Length)
		n, _ := io.ReadFull(&r.Body, a.Body)
		a.Body = a.Body[:n]
	}
	return true
}

// busyFor is how long a request for /busy takes the processor.
const busyFor = 250 * time.Microsecond

// ofLoop serves the requests of a loop as handle does.
type ofLoop struct {
	w *world
	// flushed are known when all have begun.
	flushed []*Request
}

func (y *ofLoop) Begin(r *Request) bool {
	if _, whole := r.Body.Whole(); r.Path == "/standard" || !whole {
		return false
	}
	n := y.w.begun.Add(1)
	switch {
	case r.Path == "/panic":
		panic("as asked")
	case r.Path == "/block":
		y.w.blocked.Add(1)
		go func() {
			<-y.w.block
			r.Done()
		}()
	case r.Path == "/stall", r.Path == "/busy":
		y.flushed = append(y.flushed, r)
	case n%3 == 0:
		r.Done()
	case n%3 == 1:
		go r.Done()
	default:
		y.flushed = append(y.flushed, r)
	}
	return true
}

func (y *ofLoop) Finish(r *Request, a *Answer, _ time.Time) {
	if r.Path == "/panic late" {
		panic("as asked, later")
	}
	y.w.handle(r, a)
}

func (y *ofLoop) Flush() (wait func()) {
	flushed := y.flushed
	y.flushed = nil
	return func() {
		for _, r := range flushed {
			switch r.Path {
			case "/stall":
				<-y.w.block
			case "/busy":
				if y.w.busy.Add(1) == 1 {
					go func() { y.w.woken.Store(y.w.busy.Load()) }()
				}
				for began := time.Now(); time.Since(began) < busyFor; {
				}
			}
			r.Done()
		}
	}
}

func start(t *testing.T, l net.Listener, change ...func(*Options)) *world {
	w := &world{T: t, ended: make(chan error, 1), block: make(chan struct{})}
	w.lent.most.Store(1000)
	o := Options{
		Handler: w.handle,
		Async:   func() Async { return &ofLoop{w: w} },
		Buffers: &w.lent,
		Fallback: &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("X-Server", "standard")
			body, _ := io.ReadAll(r.Body)
			rw.Write(body)
		})},
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: 2 * time.Minute, IdleTimeout: 2 * time.Minute,
		Logger: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&o)
	}
	w.s = NewServer(o)
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

func overTCP(t *testing.T, change ...func(*Options)) (*world, func() *peer) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := start(t, l, change...)
	t.Cleanup(w.stop)
	return w, func() *peer {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(time.Minute)) // for what never comes
		return &peer{c, bufio.NewReader(c)}
	}
}

// eachWay runs a test with connections that are new, and with such as are in a
// loop, where there are any.
func eachWay(t *testing.T, f func(t *testing.T, w *world, dial func() *peer)) {
	t.Run("new", func(t *testing.T) {
		w, dial := overTCP(t)
		f(t, w, dial)
	})
	t.Run("in a loop", func(t *testing.T) {
		w, dial := inLoop(t)
		f(t, w, dial)
	})
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
