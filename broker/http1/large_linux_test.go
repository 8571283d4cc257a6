package http1

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestLoopTakesLargeRequests into buffers that it gives back: as many as there are,
// with others behind them, and at once. One that does not come at once, or for which
// there is no buffer, is answered all the same.
func TestLoopTakesLargeRequests(t *testing.T) {
	largest := strings.Repeat("x", lentSize-len(post("/", ""))-len("00000"))
	if n := len(post("/", largest)); n > lentSize || n < lentSize-1 {
		t.Fatalf("%d bytes", n)
	}
	large := strings.Repeat("0123456789abcdef", bufferSize/12)
	w, dial := inLoop(t)
	p, before := dial(), w.begun.Load()
	for _, body := range []string{large, "small", largest, large} {
		p.send(post("/", body))
		p.expect(t, "202 "+body)
	}
	if n := w.begun.Load() - before; n != 4 {
		t.Errorf("a loop has answered %d of 4", n)
	}
	w.expectLent(0)
	p.send(strings.Repeat(post("/", large)+post("/", "small"), 10))
	for range 10 {
		p.expect(t, "202 "+large, "202 small")
	}
	beyond := strings.Repeat("y", lentSize)
	p.send(post("/", beyond))
	p.expect(t, "202 "+beyond)

	p = dial()
	for cut := 1; cut < len(post("/", large)); cut += 777 {
		p.send(post("/", large)[:cut])
		<-time.After(time.Millisecond) // mostly it comes by itself then
		p.send(post("/", large)[cut:])
		p.expect(t, "202 "+large)
	}
	w.lent.most.Store(1)
	waits := dial()
	waits.send(post("/block", large))
	w.expectLent(1)
	p = dial()
	p.send(post("/", large))
	p.expect(t, "202 "+large)
	close(w.block)
	waits.expect(t, "202 "+large)
	w.expectLent(0)
}

// TestLoopTakesWhatFillsALargeBuffer to its last byte, with more behind it, or the end.
func TestLoopTakesWhatFillsALargeBuffer(t *testing.T) {
	w, dial := inLoop(t)
	for _, less := range []int{0, bufferSize} {
		exact := strings.Repeat("x", lentSize-less-len(post("/", ""))-len("0000"))
		p := dial()
		p.send(strings.Repeat(post("/", exact), 4) + post("/", "small"))
		p.expect(t, "202 "+exact, "202 "+exact, "202 "+exact, "202 "+exact, "202 small")
		p = dial()
		_, _ = io.WriteString(p, post("/", exact))
		_ = p.Conn.(*net.TCPConn).CloseWrite()
		p.expect(t, "202 "+exact)
		p.ends(t)
	}
	w.expectLent(0)
}

// TestNobodyKeepsALargeBuffer who lets the server wait: for the rest of a body, or of
// a head behind one, or until an answer is taken. What fits into a small one gets none.
func TestNobodyKeepsALargeBuffer(t *testing.T) {
	large := strings.Repeat("x", 2*bufferSize)
	head := "POST / HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("a", bufferSize/2)
	for name, stall := range map[string]func(*world, *peer){
		"body": func(_ *world, p *peer) { _, _ = io.WriteString(p, post("/", large)[:bufferSize+2000]) },
		"head": func(_ *world, p *peer) {
			p.send(post("/", large) + head)
			p.expect(t, "202 "+large)
		},
		"answer": func(_ *world, p *peer) { p.send(post("/large", large)) },
		"answer of a goroutine": func(w *world, p *peer) {
			_, _ = io.WriteString(p, post("/large", large)[:bufferSize+2000])
			w.expectLent(0)
			_, _ = io.WriteString(p, post("/large", large)[bufferSize+2000:])
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, dial := inLoop(t, func(o *Options) { o.ReadHeaderTimeout = time.Minute })
			p := dial()
			gets := w.lent.gets.Load()
			stall(w, p)
			w.expectGets(gets + 1)
			w.expectLent(0)
			w.expectConns(1)
		})
	}
	w, dial := inLoop(t)
	p := dial()
	small := post("/", "small")
	for range 5 {
		_, _ = io.WriteString(p, small[:len(small)-5])
		<-time.After(time.Millisecond)
		_, _ = io.WriteString(p, small[len(small)-5:])
		p.expect(t, "202 small")
	}
	if n := w.lent.gets.Load(); n != 0 {
		t.Errorf("small requests have taken %d large buffers", n)
	}
}

// TestLongHeadBehindALargeRequest is net/http's, as any other.
func TestLongHeadBehindALargeRequest(t *testing.T) {
	large := strings.Repeat("x", 2*bufferSize)
	_, dial := inLoop(t)
	p := dial()
	p.send(post("/", large) + "POST / HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("a", bufferSize) + "\r\nContent-Length: 1\r\n\r\nb")
	p.expect(t, "202 "+large, "200 standardb")
}

// TestLoopPeerThatEndsWithinALargeRequest is told so.
func TestLoopPeerThatEndsWithinALargeRequest(t *testing.T) {
	large := post("/", strings.Repeat("x", 2*bufferSize))
	_, dial := inLoop(t)
	for _, cut := range []int{2000, bufferSize + 2000} {
		for range 20 {
			p := dial()
			_, _ = io.WriteString(p, large[:cut])
			_ = p.Conn.(*net.TCPConn).CloseWrite()
			if got := p.answer(); got == "no answer" {
				t.Fatalf("no answer after %d bytes", cut)
			}
		}
	}
}

// TestLoopEntersWithLargeRequests: a connection that sends nothing else is a loop's
// as well.
func TestLoopEntersWithLargeRequests(t *testing.T) {
	large := strings.Repeat("x", 2*bufferSize)
	w, dial := overTCP(t)
	p := dial()
	for end := time.Now().Add(10 * time.Second); w.begun.Load() == 0 && time.Now().Before(end); {
		p.send(post("/", large)) // as one piece, mostly
		p.expect(t, "202 "+large)
	}
	if w.begun.Load() == 0 {
		t.Error("it is in no loop")
	}
}

// TestLoopEndsWithinALargeRequest: the buffer comes back, however that is.
func TestLoopEndsWithinALargeRequest(t *testing.T) {
	large := strings.Repeat("x", 2*bufferSize)
	for name, end := range map[string]func(*world, *peer){
		"the peer ends": func(_ *world, p *peer) {
			_, _ = io.WriteString(p, post("/", large)[:bufferSize+10])
			_ = p.Close()
		},
		"the peer does not go on": func(_ *world, p *peer) { _, _ = io.WriteString(p, post("/", large)[:bufferSize+10]) },
		"the handler panics":      func(_ *world, p *peer) { p.send(post("/panic", large)) },
		"it is net/http's":        func(_ *world, p *peer) { p.send(post("/standard", large)); p.answer(); _ = p.Close() },
		"nobody takes the answer": func(_ *world, p *peer) { p.send(strings.Repeat(post("/large", large), 2)) },
	} {
		t.Run(name, func(t *testing.T) {
			w, dial := inLoop(t, func(o *Options) { o.ReadTimeout, o.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond })
			end(w, dial())
			w.expectConns(0)
			w.expectLent(0)
		})
	}
}

// expectGets waits until so many buffers have been asked for.
func (w *world) expectGets(want int64) {
	w.Helper()
	for end := time.Now().Add(10 * time.Second); w.lent.gets.Load() < want; <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("%d buffers were asked for, want %d", w.lent.gets.Load(), want)
		}
	}
}

// expectLent waits until so many buffers are out.
func (w *world) expectLent(want int64) {
	w.Helper()
	for end := time.Now().Add(10 * time.Second); w.lent.out.Load() != want; <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("%d buffers are out, want %d", w.lent.out.Load(), want)
		}
	}
}
