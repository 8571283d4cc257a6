package http1

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

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
func TestHandedOver(t *testing.T) { eachWay(t, testHandedOver) }

func testHandedOver(t *testing.T, w *world, dial func() *peer) {
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
func TestUnreadBodyEndsTheConnection(t *testing.T) { eachWay(t, testUnreadBody) }

func testUnreadBody(t *testing.T, _ *world, dial func() *peer) {
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
func TestRefusalReachesWhoSendsALargeBody(t *testing.T) { eachWay(t, testRefusalOfALargeBody) }

func testRefusalOfALargeBody(t *testing.T, _ *world, dial func() *peer) {
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

// TestRequestBeginsWhenItsHeadIsThere, however long that took; that of its body
// counts.
func TestRequestBeginsWhenItsHeadIsThere(t *testing.T) {
	inFakeTime(t, func(w *world) {
		p := w.dial()
		for range 2 {
			p.send("POST /took HTTP/1.1\r\nHost: x\r\n")
			time.Sleep(3 * time.Second)
			p.send("Content-Length: 1\r\n\r\n")
			time.Sleep(2 * time.Second)
			p.send("x")
			p.expect(t, "202 2s")
		}
		p.Close()
	})
}

// TestBusyConnectionsGoOn for longer than any deadline.
func TestBusyConnectionsGoOn(t *testing.T) {
	inFakeTime(t, func(w *world) {
		p := w.dial()
		for range 100 {
			p.send(post("/", strings.Repeat("x", 2*lentSize)))
			p.expect(t, "202 "+strings.Repeat("x", 2*lentSize))
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
		v, began := c.readHead(now)
		if v != plain {
			b.Fatal(v)
		}
		if done, ok := c.answer(now, began); !done || !ok {
			b.Fatal(done, ok)
		}
	}
}

type nowhere struct{ net.Conn }

func (nowhere) Write(b []byte) (int, error)      { return len(b), nil }
func (nowhere) SetWriteDeadline(time.Time) error { return nil }
