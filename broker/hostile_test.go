package broker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener of connections in memory, so that time can be faked.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// pipeWorld is an ingress that serves connections in memory, in fake time.
type pipeWorld struct {
	*testing.T
	*fakes
	*pipes
	ingress *Ingress
	peers   sync.WaitGroup
}

func inFakeTime(t *testing.T, o IngressOptions, f func(w *pipeWorld)) {
	synctest.Test(t, func(t *testing.T) {
		w := &pipeWorld{T: t, fakes: newFakes(), pipes: &pipes{conns: make(chan net.Conn), done: make(chan struct{})}}
		o.Resolver = w.fakes
		w.ingress = NewIngress(o)
		s := NewServer(w.ingress, w.ingress, ServerOptions{})
		ended := make(chan error)
		go func() { ended <- s.Serve(w.pipes) }()
		f(w)
		s.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		w.peers.Wait()
		time.Sleep(time.Second) // net/http lingers for half of one
		synctest.Wait()
		if n := w.ingress.bodies.used.Load(); n != 0 {
			t.Errorf("%d bytes of bodies are still held", n)
		}
	})
}

// trickle writes parts, a second before each, until nobody reads any more.
func trickle(c net.Conn, parts ...string) {
	for _, p := range parts {
		time.Sleep(time.Second)
		if _, err := io.WriteString(c, p); err != nil {
			return
		}
	}
}

const binaryHead = "POST /default/b HTTP/1.1\r\nHost: x\r\nCe-Specversion: 1.0\r\nCe-Id: 1\r\nCe-Source: /s\r\nCe-Type: t\r\n"

// TestTrickledBodiesTimeOut: one byte a second does not hold a request for
// longer than the server allows, and it is told why.
func TestTrickledBodiesTimeOut(t *testing.T) {
	for name, c := range map[string]struct{ head, part string }{
		"length":  {"Content-Length: 1000\r\n\r\n", "x"},
		"chunked": {"Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"},
		"nothing": {"Content-Length: 1000\r\n\r\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, IngressOptions{}, func(w *pipeWorld) {
				conn := w.dial()
				defer conn.Close()
				start := time.Now()
				io.WriteString(conn, binaryHead+c.head)
				if c.part != "" {
					parts := make([]string, 1000)
					for i := range parts {
						parts[i] = c.part
					}
					w.peers.Go(func() { trickle(conn, parts...) })
				}
				res, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				body, err := io.ReadAll(res.Body)
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); res.StatusCode != http.StatusRequestTimeout || took > 61*time.Second || !strings.Contains(string(body), "too slowly") {
					t.Errorf("%d after %v: %s", res.StatusCode, took, body)
				}
				if n := len(w.broker.take()); n != 0 {
					t.Errorf("%d appends", n)
				}
			})
		})
	}
}

// TestTrickledHeadersTimeOut: the connection is closed.
func TestTrickledHeadersTimeOut(t *testing.T) {
	inFakeTime(t, IngressOptions{}, func(w *pipeWorld) {
		conn := w.dial()
		defer conn.Close()
		start := time.Now()
		w.peers.Go(func() { trickle(conn, strings.Split(binaryHead, "")...) })
		io.Copy(io.Discard, conn)
		if took := time.Since(start); took > 11*time.Second {
			t.Errorf("closed after %v", took)
		}
	})
}

// TestBodyThatBreaksOff is nothing that was accepted.
func TestBodyThatBreaksOff(t *testing.T) {
	inFakeTime(t, IngressOptions{}, func(w *pipeWorld) {
		conn := w.dial()
		io.WriteString(conn, binaryHead+"Content-Length: 10\r\n\r\n12345")
		conn.Close()
		synctest.Wait()
		if n := len(w.broker.take()); n != 0 {
			t.Errorf("%d appends", n)
		}
	})
}

// TestBodiesShareBoundedMemory: peers who announce much and send little hold
// little; where they are many, others are told to come again, and can once the
// time of the slow ones is up.
func TestBodiesShareBoundedMemory(t *testing.T) {
	const peers = 8
	inFakeTime(t, IngressOptions{MaxBodyMemory: peers * smallBody}, func(w *pipeWorld) {
		for range peers {
			conn := w.dial()
			defer conn.Close()
			io.WriteString(conn, binaryHead+"Content-Length: 1000000\r\n\r\n")
			w.peers.Go(func() { io.Copy(io.Discard, conn) })
		}
		synctest.Wait()
		if used := w.ingress.bodies.used.Load(); used != peers*smallBody {
			t.Fatalf("%d bytes are held", used)
		}
		send := func() *http.Response {
			conn := w.dial()
			defer conn.Close()
			io.WriteString(conn, binaryHead+"Content-Length: 0\r\n\r\n")
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			return res
		}
		if res := send(); res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") != "1" {
			t.Errorf("got %d %v", res.StatusCode, res.Header)
		}
		time.Sleep(time.Minute + time.Second)
		if res := send(); res.StatusCode != http.StatusAccepted {
			t.Errorf("got %d when the slow ones had gone", res.StatusCode)
		}
	})
}

// TestTooMuchIsRefusedBeforeItIsSent, by its length alone.
func TestTooMuchIsRefusedBeforeItIsSent(t *testing.T) {
	inFakeTime(t, IngressOptions{}, func(w *pipeWorld) {
		conn := w.dial()
		defer conn.Close()
		start := time.Now()
		io.WriteString(conn, binaryHead+"Content-Length: 2000000\r\nExpect: 100-continue\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusRequestEntityTooLarge || time.Since(start) > 0 {
			t.Errorf("got %s after %v", res.Status, time.Since(start))
		}
	})
}

// TestBodyGrows through all sizes of buffers, within what it may have.
func TestBodyGrows(t *testing.T) {
	var b bodies
	b.init(4<<20, 4<<20)
	for _, size := range []int{0, 1, smallBody - 1, smallBody, smallBody + 1, mediumBody - 1, mediumBody, mediumBody + 1, 5 * mediumBody, 1 << 20} {
		want := strings.Repeat("0123456789abcdef!", size/17+1)[:size]
		for _, length := range []int64{int64(size), -1} {
			var into body
			if err := b.read(&into, io.MultiReader(strings.NewReader(want[:size/2]), strings.NewReader(want[size/2:])), length, 1<<20); err != nil || string(into.bytes) != want {
				t.Errorf("%d bytes of length %d: %v, %d bytes", size, length, err, len(into.bytes))
			}
			if into.reserved > max(smallBody, 16*int64(size)) || b.used.Load() != into.reserved {
				t.Errorf("%d bytes hold %d, in all %d", size, into.reserved, b.used.Load())
			}
			b.release(&into)
			if n := b.used.Load(); n != 0 {
				t.Fatalf("%d bytes are still held", n)
			}
		}
	}
}

// arrived is a body of which some came with its head.
type arrived struct {
	buffered, rest *strings.Reader
	reads          int
}

func (a *arrived) Buffered() int { return a.buffered.Len() }

func (a *arrived) Read(p []byte) (int, error) {
	a.reads++
	if a.buffered.Len() > 0 {
		return a.buffered.Read(p)
	}
	return a.rest.Read(p)
}

// TestBodyThatHasComeInPart is read on into a larger buffer at once where much of a
// small one would be full: each read is a system call. Where little has come it holds
// no more than any other.
func TestBodyThatHasComeInPart(t *testing.T) {
	for _, c := range []struct{ buffered, rest, reads, reserved int }{
		{3800, 12 << 10, 2, mediumBody},
		{smallBody / 2, mediumBody - smallBody/2, 2, mediumBody},
		{100, 3000, 2, smallBody},
		{3800, smallBody - 3800, 2, smallBody},
		{0, 16 << 10, 2, mediumBody},
	} {
		var b bodies
		b.init(4<<20, 4<<20)
		want := strings.Repeat("0123456789abcdef!", (c.buffered+c.rest)/17+1)[:c.buffered+c.rest]
		from := &arrived{buffered: strings.NewReader(want[:c.buffered]), rest: strings.NewReader(want[c.buffered:])}
		var into body
		if err := b.read(&into, from, int64(len(want)), 1<<20); err != nil || string(into.bytes) != want {
			t.Errorf("%+v: %v, %d bytes", c, err, len(into.bytes))
		}
		if from.reads != c.reads || into.reserved != int64(c.reserved) {
			t.Errorf("%+v: %d reads, %d bytes are held", c, from.reads, into.reserved)
		}
		b.release(&into)
	}
	var b bodies
	b.init(4<<20, 4<<20)
	var into body
	from := &arrived{buffered: strings.NewReader(strings.Repeat("x", smallBody/2-1)), rest: strings.NewReader("")}
	if err := b.read(&into, from, 1<<20, 1<<20); err != nil || into.reserved != smallBody {
		t.Errorf("who has sent little holds %d bytes, %v", into.reserved, err)
	}
}

// TestManyHeaderLinesAreRefused, long or short.
func TestManyHeaderLinesAreRefused(t *testing.T) {
	w := newWorld(t)
	for name, line := range map[string]func(i int) string{
		"one name, short": func(int) string { return "a:\r\n" },
		"few, but long": func(i int) string {
			if i >= 500 {
				return ""
			}
			return fmt.Sprintf("name-%d: %0200d\r\n", i, i)
		},
		"names":          func(i int) string { return fmt.Sprintf("name-%d: value\r\n", i) },
		"attributes":     func(i int) string { return fmt.Sprintf("ce-a%d: 1\r\n", i) },
		"passed through": func(i int) string { return fmt.Sprintf("knative-%d: 1\r\n", i) },
	} {
		c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		b.WriteString(binaryHead)
		for i := range 10_000 {
			b.WriteString(line(i))
		}
		go io.WriteString(c, b.String()+"Content-Length: 0\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s: %v, %v", name, res, err)
		}
		c.Close()
	}
	if n := len(w.broker.take()); n != 0 {
		t.Errorf("%d appends", n)
	}
}

// TestPeerThatLeaves: its request ends with it, and does not wait on.
func TestPeerThatLeaves(t *testing.T) {
	i := NewIngress(IngressOptions{Resolver: newFakes(), Counted: func(s Served) {
		if s.Status != http.StatusServiceUnavailable || s.Shortage != ShortageTime {
			t.Errorf("counted as %d, %s", s.Status, s.Shortage)
		}
	}})
	f := i.o.Resolver.(*fakes)
	ctx, cancel := context.WithCancel(t.Context())
	f.broker.failing(func(ctx context.Context) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	})
	r := httptest.NewRequest(http.MethodPost, brokerPath, nil).WithContext(ctx)
	for n, h := 0, binary(); n < len(h); n += 2 {
		r.Header.Set(h[n], h[n+1])
	}
	i.ServeHTTP(httptest.NewRecorder(), r)
}

// TestLimitConns: a connection beyond the limit waits for another to end.
func TestLimitConns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{conns: make(chan net.Conn, 2), done: make(chan struct{})}
		defer p.Close()
		l := LimitConns(p, ServerOptions{MaxConns: 1})
		a, b := p.dial(), p.dial()
		defer a.Close()
		defer b.Close()
		accepted := make(chan net.Conn, 2)
		go func() {
			for range 2 {
				c, err := l.Accept()
				if err != nil {
					t.Error(err)
					return
				}
				accepted <- c
			}
		}()
		synctest.Wait()
		if n := len(accepted); n != 1 {
			t.Fatalf("%d were accepted", n)
		}
		(<-accepted).Close()
		(<-accepted).Close()
	})
}
