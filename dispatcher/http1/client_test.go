package http1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// rig is a client and how often it has connected.
type rig struct {
	*Client
	dialled atomic.Int32
}

func newRig(t *testing.T, change func(*Options)) *rig {
	r := &rig{}
	var d net.Dialer
	o := Options{
		Dial:     d.DialContext,
		MaxConns: 4, MaxIdlePerHost: 4, MaxIdle: 8, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
	}
	if change != nil {
		change(&o)
	}
	dial := o.Dial
	o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		r.dialled.Add(1)
		return dial(ctx, network, address)
	}
	r.Client = New(o)
	t.Cleanup(r.CloseIdle)
	return r
}

const request = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"

// exchange makes one exchange and returns the status and the body, of an answer
// that is not plain.
func (r *rig) exchange(ctx context.Context, address string, timeout time.Duration) (string, error) {
	conn, err := r.write(ctx, address, timeout)
	if err != nil {
		return "", err
	}
	keep := false
	defer func() { r.Put(conn, keep) }()
	a, plain, err := conn.ReadPlain(ctx, 64<<10)
	if plain || err != nil {
		keep = err == nil
		return fmt.Sprintf("%d plain", a.Status), err
	}
	res, err := conn.ReadResponse(ctx)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(res.Body)
	keep = err == nil && !res.Close
	return fmt.Sprintf("%d %s", res.StatusCode, body), err
}

// write sends the request, on the first connection that takes it.
func (r *rig) write(ctx context.Context, address string, timeout time.Duration) (*Conn, error) {
	for {
		conn, err := r.Get(ctx, address, time.Now().Add(timeout))
		if err != nil {
			return nil, err
		}
		if err = conn.Write(ctx, []byte(request)); err == nil {
			return conn, nil
		}
		r.Put(conn, false)
		if !errors.Is(err, ErrStale) {
			return nil, err
		}
	}
}

// answering is a peer that writes what it is told to each request; "" closes.
func answering(t *testing.T, answer func(n int) string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	var n atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, len(request))
				for {
					if _, err := io.ReadFull(c, b); err != nil {
						return
					}
					s := answer(int(n.Add(1)))
					if s == "" {
						return
					}
					for part := range strings.SplitSeq(s, "|") {
						if _, err := io.WriteString(c, part); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// TestAnswers of all forms, and whether the connection goes on after them.
func TestAnswers(t *testing.T) {
	large := strings.Repeat("x", 100<<10)
	for name, c := range map[string]struct {
		answer, want string
		conns        int32
	}{
		"plain":         {"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", "202 plain", 1},
		"with a body":   {"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + large[:10000], "200 plain", 1},
		"large":         {fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(large), large), "200 " + large, 1},
		"no content":    {"HTTP/1.1 204 No Content\r\n\r\n", "204 plain", 1},
		"an error":      {"HTTP/1.1 503 X\r\nContent-Length: 4\r\n\r\nbusy", "503 busy", 1},
		"chunked":       {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", "200 ab", 1},
		"informational": {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", "200 x", 1},
		"long head":     {"HTTP/1.1 200 OK\r\nX: " + large[:10000] + "\r\nContent-Length: 1\r\n\r\nx", "200 x", 1},
		"told to close": {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx", "200 x", 3},
		"too much":      {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200 plain", 3},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			address := answering(t, func(int) string { return c.answer })
			for range 3 {
				if got, err := r.exchange(t.Context(), address, 10*time.Second); got != c.want || err != nil {
					t.Fatalf("%.80q, %v", got, err)
				}
			}
			if n := r.dialled.Load(); n != c.conns {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// TestWhereverItIsCut: an answer may come in any pieces.
func TestWhereverItIsCut(t *testing.T) {
	const all = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde"
	synctest.Test(t, func(t *testing.T) {
		for cut := 1; cut < len(all); cut++ {
			client, server := net.Pipe()
			r := newRig(t, func(o *Options) {
				o.Dial = func(context.Context, string, string) (net.Conn, error) { return client, nil }
			})
			go func() {
				io.ReadFull(server, make([]byte, len(request)))
				io.WriteString(server, all[:cut])
				io.WriteString(server, all[cut:])
			}()
			if got, err := r.exchange(t.Context(), "x:80", time.Second); got != "200 plain" || err != nil {
				t.Errorf("cut at %d: %q, %v", cut, got, err)
			}
			r.CloseIdle()
		}
	})
}

// TestNoAnswer says why.
func TestNoAnswer(t *testing.T) {
	block := make(chan struct{})
	t.Cleanup(func() { close(block) })
	for name, c := range map[string]struct{ answer, want string }{
		"closed":           {"", "unexpected EOF"},
		"cut in the head":  {"HTTP/1.1 200 OK\r\nConte", "deadline exceeded"},
		"cut in the body":  {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", "deadline exceeded"},
		"no HTTP":          {"SMTP ready\r\n\r\n", "malformed HTTP"},
		"silence":          {"block", "deadline exceeded"},
		"endless headers":  {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 20_000) + "\r\n", "too large"},
		"only information": {strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 10), "too many informational"},
		"another protocol": {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "another protocol"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			address := answering(t, func(int) string {
				if c.answer == "block" {
					<-block
				}
				return c.answer
			})
			got, err := r.exchange(t.Context(), address, 200*time.Millisecond)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q, %v", got, err)
			}
			if _, err := r.exchange(t.Context(), address, 100*time.Millisecond); err == nil || r.dialled.Load() != 2 {
				t.Errorf("then %v, after %d connections", err, r.dialled.Load())
			}
		})
	}
}

// TestKeptConnectionThatHasEnded costs nothing but a new one, also where the
// deadline of its last exchange has passed.
func TestKeptConnectionThatHasEnded(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	address := strings.TrimPrefix(s.URL, "http://")
	r := newRig(t, nil)
	for i := range 3 {
		if _, err := r.exchange(t.Context(), address, 10*time.Second); err != nil {
			t.Fatal(i, err)
		}
		s.CloseClientConnections()
	}
	if n := r.dialled.Load(); n != 3 {
		t.Errorf("%d connections", n)
	}
	const short = 50 * time.Millisecond
	for range 2 {
		began := time.Now()
		if _, err := r.exchange(t.Context(), address, short); err != nil {
			t.Fatal(err)
		}
		<-time.After(short - time.Since(began) + time.Millisecond) // its deadline is over
	}
	if n := r.dialled.Load(); n != 4 {
		t.Errorf("%d connections; one that is merely idle is used again", n)
	}
}

// TestEndOfTheContext ends an exchange, whichever it is on the connection.
func TestEndOfTheContext(t *testing.T) {
	asked := make(chan bool, 1)
	block := make(chan struct{})
	defer close(block)
	address := answering(t, func(n int) string {
		if n > 2 {
			asked <- true
			<-block
		}
		return "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
	})
	r := newRig(t, nil)
	first, stop := context.WithCancel(t.Context())
	if _, err := r.exchange(first, address, time.Minute); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := r.exchange(ctx, address, time.Minute); err != nil {
		t.Fatal(err)
	}
	stop() // which is no longer the connection's
	go func() {
		<-asked
		cancel()
	}()
	if _, err := r.exchange(ctx, address, time.Minute); !errors.Is(err, context.Canceled) || r.dialled.Load() != 1 {
		t.Errorf("%v, after %d connections", err, r.dialled.Load())
	}
	if _, err := r.exchange(ctx, address, time.Minute); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestBounds: no more connections than may be, to one host or kept; who finds
// none waits for one, and no longer than it may.
func TestBounds(t *testing.T) {
	const conns, askers = 3, 30
	var now, most atomic.Int32
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release
		now.Add(-1)
	}))
	defer s.Close()
	address := strings.TrimPrefix(s.URL, "http://")
	r := newRig(t, func(o *Options) { o.MaxConns, o.MaxIdlePerHost = conns, 2 })
	var done sync.WaitGroup
	for range askers {
		done.Go(func() {
			if _, err := r.exchange(t.Context(), address, time.Minute); err != nil {
				t.Error(err)
			}
		})
	}
	for now.Load() < conns {
		<-time.After(time.Millisecond)
	}
	if _, err := r.exchange(t.Context(), address, 20*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("one more: %v", err)
	}
	close(release)
	done.Wait()
	if n := most.Load(); n != conns {
		t.Errorf("%d at once", n)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if h := r.hosts[address]; h == nil || len(h.idle) > 2 || h.conns != len(h.idle) || len(h.waiting) != 0 || r.idle != len(h.idle) {
		t.Errorf("left are %+v, %d idle", h, r.idle)
	}
}

// TestTurns: who has waited longest is next, whether the connection before can be
// used again or not; and who gives up leaves its turn to others.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *Options) {
			o.MaxConns = 1
			o.Dial = func(context.Context, string, string) (net.Conn, error) {
				client, server := net.Pipe()
				go io.Copy(io.Discard, server)
				return client, nil
			}
		})
		first, err := r.Get(t.Context(), "x", time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan string, 1)
		ask := func(name string, ctx context.Context, timeout time.Duration, keep bool) {
			go func() {
				conn, err := r.Get(ctx, "x", time.Now().Add(timeout))
				if err != nil {
					got <- name + " gives up"
					return
				}
				got <- name
				r.Put(conn, keep)
			}()
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(t.Context())
		ask("a", t.Context(), time.Hour, true)
		ask("b", t.Context(), time.Second, true)
		ask("c", ctx, time.Hour, true)
		ask("d", t.Context(), time.Hour, false)
		ask("e", t.Context(), time.Hour, true)
		if s := <-got; s != "b gives up" {
			t.Error(s)
		}
		cancel()
		if s := <-got; s != "c gives up" {
			t.Error(s)
		}
		r.Put(first, true)
		for _, want := range []string{"a", "d", "e"} {
			if s := <-got; s != want {
				t.Errorf("it is the turn of %s, not of %s", s, want)
			}
		}
		synctest.Wait()
		if n := r.dialled.Load(); n != 2 || r.hosts["x"].conns != 1 {
			t.Errorf("%d connections were made, %d are there", n, r.hosts["x"].conns)
		}
		r.CloseIdle()
	})
}

// TestIdleConnectionsEnd in their time, and where there are too many of them, the
// oldest first; nothing is remembered of a host without any.
func TestIdleConnectionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *Options) {
			o.MaxIdle = 2
			o.Dial = func(context.Context, string, string) (net.Conn, error) {
				client, server := net.Pipe()
				go func() {
					b := make([]byte, len(request))
					for {
						if _, err := io.ReadFull(server, b); err != nil {
							server.Close()
							return
						}
						io.WriteString(server, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
					}
				}()
				return client, nil
			}
		})
		hosts := func() (s string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			for conn := r.oldest; conn != nil; conn = conn.newer {
				s += conn.host.address
			}
			if len(s) != len(r.hosts) {
				t.Errorf("%d hosts are known", len(r.hosts))
			}
			return s
		}
		for _, address := range []string{"a", "b", "a", "c"} {
			if _, err := r.exchange(t.Context(), address, time.Second); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
		}
		if got := hosts(); got != "ac" {
			t.Errorf("idle are %q", got)
		}
		time.Sleep(40*time.Second + time.Millisecond)
		synctest.Wait()
		if got := hosts(); got != "c" {
			t.Errorf("later, idle are %q", got)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := hosts(); got != "" {
			t.Errorf("at last, idle are %q", got)
		}
	})
}

// TestLargeRequestsAreWhole: also where the peer reads slowly, and its answer
// comes in many pieces.
func TestLargeRequestsAreWhole(t *testing.T) {
	const requests = 5
	body := strings.Repeat("0123456789abcdef", 1<<20)
	answer := strings.Repeat("y", 3000)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil || string(b) != body {
			t.Errorf("%d of %d bytes came, %v", len(b), len(body), err)
		}
		_, _ = io.WriteString(w, answer)
	}))
	defer s.Close()
	r := newRig(t, nil)
	head := fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", len(body))
	for range requests {
		conn, err := r.Get(t.Context(), strings.TrimPrefix(s.URL, "http://"), time.Now().Add(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Write(t.Context(), []byte(head+body)); err != nil {
			t.Fatal(err)
		}
		res, err := conn.ReadResponse(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if string(b) != answer || err != nil {
			t.Errorf("the answer has %d bytes, %v", len(b), err)
		}
		r.Put(conn, true)
	}
	if n := r.dialled.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}
