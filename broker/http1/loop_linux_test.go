package http1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inLoop is overTCP, with connections that are in a loop when they are given.
func inLoop(t *testing.T, change ...func(*Options)) (*world, func() *peer) {
	w, dial := overTCP(t, change...)
	return w, func() *peer {
		t.Helper()
		p := dial()
		before := w.begun.Load()
		for range firstTrial + 1 {
			p.send(post("/warm", "x"))
			p.expect(t, "202 ")
		}
		if w.begun.Load() == before {
			t.Fatal("the connection is in no loop")
		}
		return p
	}
}

// ends waits until the server has closed a connection.
func (p *peer) ends(t *testing.T) {
	t.Helper()
	_ = p.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, p.r); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection goes on")
	}
}

// TestLoopWhereverItIsCut: requests are answered in order, however the bytes
// arrive, and whether or not the connection leaves its loop for that.
func TestLoopWhereverItIsCut(t *testing.T) {
	all := post("/", "one") + post("/", "") + post("/x", "three")
	w, dial := inLoop(t)
	for cut := 1; cut < len(all); cut++ {
		p := dial()
		p.send(all[:cut], all[cut:])
		p.expect(t, "202 one", "202 ", "202 three")
		p.send(all)
		p.expect(t, "202 one", "202 ", "202 three")
		_ = p.Close()
	}
	if got, want := w.plains.Load(), int64(6*(len(all)-1)); got != want {
		t.Errorf("%d of %d requests were plain", got, want)
	}
}

// TestLoopTakesManyAtOnce, more than the buffer holds, in their order; also
// where the last byte of a request is the last of the buffer.
func TestLoopTakesManyAtOnce(t *testing.T) {
	_, dial := inLoop(t)
	p := dial()
	var all strings.Builder
	var want []string
	for i := range 1000 {
		all.WriteString(post("/", fmt.Sprint(i)))
		want = append(want, fmt.Sprint("202 ", i))
	}
	p.send(all.String())
	p.expect(t, want...)
	fits := strings.Repeat("x", bufferSize-len(post("/", ""))-len("000"))
	if n := len(post("/", fits)); n != bufferSize {
		t.Fatalf("%d bytes", n)
	}
	p.send(strings.Repeat(post("/", fits), 10))
	for range 10 {
		p.expect(t, "202 "+fits)
	}
}

// TestLoopEndsWithItsPeer: what was sent before is answered.
func TestLoopEndsWithItsPeer(t *testing.T) {
	w, dial := inLoop(t)
	for _, text := range []string{"", post("/", "x"), post("/", "x") + post("/", "x"), post("/", "x") + "POST / H"} {
		p := dial()
		if _, err := io.WriteString(p, text); err != nil {
			t.Fatal(err)
		}
		if err := p.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		for range strings.Count(text, "x\r\n\r\n") {
			p.expect(t, "202 x")
		}
		p.ends(t)
	}
	p := dial()
	_ = p.Conn.(*net.TCPConn).SetLinger(0)
	_ = p.Close() // a reset
	w.expectConns(0)
}

// expectConns waits until the server has so many connections.
func (w *world) expectConns(want int) {
	w.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		w.s.mu.Lock()
		n := len(w.s.conns)
		w.s.mu.Unlock()
		if n == want {
			return
		}
		if time.Now().After(end) {
			w.Fatalf("%d connections, want %d", n, want)
		}
		<-time.After(time.Millisecond)
	}
}

// TestLoopEndsTheIdle, and nobody else: not one that rests for less than it may,
// which gives back meanwhile what it needs for a request.
func TestLoopEndsTheIdle(t *testing.T) {
	const may = 400 * time.Millisecond
	_, dial := inLoop(t, func(o *Options) { o.IdleTimeout = may })
	began := time.Now()
	idle, other := dial(), dial()
	for {
		_ = idle.SetReadDeadline(time.Now().Add(may / 4)) // more than one sweep
		_, err := idle.r.ReadByte()
		other.send(post("/", "x"))
		other.expect(t, "202 x")
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if time.Since(began) > 20*may {
			t.Fatal("the idle connection goes on")
		}
	}
	if took := time.Since(began); took < may {
		t.Errorf("ended after %v", took)
	}
}

// TestLoopEndsTheIdleBesideTheBusy, of whom it hears without a pause.
func TestLoopEndsTheIdleBesideTheBusy(t *testing.T) {
	w, dial := inLoop(t, func(o *Options) { o.IdleTimeout = 100 * time.Millisecond })
	idle := dial()
	busy, err := unix.Eventfd(1, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	w.s.mu.Lock()
	for _, l := range w.s.loops.all {
		if err := control(l.epoll, unix.EPOLL_CTL_ADD, busy, unix.EPOLLIN); err != nil { // told of each time, as nobody reads it
			t.Error(err)
		}
	}
	w.s.mu.Unlock()
	idle.ends(t)
	if err := unix.Close(busy); err != nil {
		t.Error(err)
	}
}

// TestLoopPanicEndsOneConnection only, whether it comes soon or late.
func TestLoopPanicEndsOneConnection(t *testing.T) {
	w, dial := inLoop(t)
	other := dial()
	for range 6 { // each way to be done
		p := dial()
		p.send(post("/panic", ""))
		p.ends(t)
	}
	other.send(post("/", "fine"))
	other.expect(t, "202 fine")
	w.expectConns(1)
}

// TestLoopPeerThatReadsLittle: it keeps nobody, and gets its answer when it does.
func TestLoopPeerThatReadsLittle(t *testing.T) {
	w, dial := inLoop(t)
	slow, other := dial(), dial()
	slow.send(post("/large", "") + post("/", "next"))
	for range 10 {
		other.send(post("/", "x"))
		other.expect(t, "202 x")
	}
	res, err := http.ReadResponse(slow.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, res.Body); n != 8<<20 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	slow.expect(t, "202 next")
	w.expectConns(2)
}

// TestLoopPeerThatReadsNothing is given up.
func TestLoopPeerThatReadsNothing(t *testing.T) {
	w, dial := inLoop(t, func(o *Options) { o.WriteTimeout = 100 * time.Millisecond })
	dial().send(post("/large", ""))
	w.expectConns(0)
}

// TestLoopShutdown answers what has come, and ends the idle.
func TestLoopShutdown(t *testing.T) {
	w, dial := inLoop(t)
	idle, busy, both := dial(), dial(), dial()
	busy.send(post("/block", "late"))
	both.send(post("/block", "late") + post("/", "too late"))
	w.expectBegun(busy, both)
	ended := make(chan error, 1)
	go func() { ended <- w.s.Shutdown(w.Context()) }()
	idle.ends(t)
	select {
	case err := <-ended:
		t.Fatalf("ended before the last answer: %v", err)
	default:
	}
	close(w.block)
	for _, p := range []*peer{busy, both} {
		p.expect(t, "202 late close")
		p.ends(t)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	w.expectConns(0)
}

// expectBegun waits until as many requests are blocked as there are peers.
func (w *world) expectBegun(peers ...*peer) {
	w.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		n := int(w.blocked.Load())
		if n == len(peers) {
			return
		}
		if time.Now().After(end) {
			w.Fatalf("%d requests are blocked, want %d", n, len(peers))
		}
		<-time.After(time.Millisecond)
	}
}

// TestLoopOnOneProcessor: a loop waits by Go's poller only, where it would keep the
// only processor from all others.
func TestLoopOnOneProcessor(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	w, dial := inLoop(t)
	peers := []*peer{dial(), dial()}
	if w.s.loops.all[0].direct {
		t.Error("it waits by itself")
	}
	for i := range 20 {
		for _, p := range peers {
			p.send(post("/", fmt.Sprint(i)), post("/", "more"))
			p.expect(t, fmt.Sprint("202 ", i), "202 more")
		}
	}
	for _, p := range peers {
		_ = p.Close()
	}
	w.expectConns(0)
}

// TestLoopLetsOthersRun: who is woken by what a loop has committed does not wait for
// the processor until nothing more comes.
func TestLoopLetsOthersRun(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	w, dial := inLoop(t)
	const requests = 30 // for less than the scheduler leaves anybody the processor
	p := dial()
	for range 5 {
		w.busy.Store(0)
		w.woken.Store(0)
		p.send(strings.Repeat(post("/busy", ""), requests))
		p.expect(t, slices.Repeat([]string{"202 "}, requests)...)
		if n := w.woken.Load(); n == 0 || n > 10 {
			t.Fatalf("who was woken by the first of %d requests ran after %d", requests, n)
		}
	}
}

// TestLoopBesideAStall: while its goroutine waits for what it has begun, the loop
// serves others, and those who wait are answered when that comes.
func TestLoopBesideAStall(t *testing.T) {
	w, dial := inLoop(t)
	slow, slower, other := dial(), dial(), dial()
	for _, p := range []*peer{slow, slower} {
		before := w.begun.Load()
		p.send(post("/stall", "late"))
		for w.begun.Load() == before {
			<-time.After(time.Millisecond)
		}
		for range 10 {
			other.send(post("/", "now"))
			other.expect(t, "202 now")
		}
	}
	close(w.block)
	for _, p := range []*peer{slow, slower} {
		p.expect(t, "202 late")
		p.send(post("/", "again"))
		p.expect(t, "202 again")
	}
}

// TestLoopClose ends all at once, also what is answered just then.
func TestLoopClose(t *testing.T) {
	w, dial := inLoop(t)
	idle, busy := dial(), dial()
	busy.send(post("/block", "late"))
	w.expectBegun(busy)
	ctx, cancel := context.WithCancel(w.Context())
	cancel()
	if err := w.s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := w.s.Close(); err != nil {
		t.Error(err)
	}
	idle.ends(t)
	busy.ends(t)
	// Its descriptor would be another's by the time that its answer is written.
	w.s.mu.Lock()
	for c := range w.s.conns {
		if !c.owned {
			t.Error("what is about to be answered has lost its descriptor")
		}
	}
	w.s.mu.Unlock()
	close(w.block)
	w.expectConns(0)
}

// TestLongAnswersAreNotKept by a connection that rests, be it on a goroutine, in
// a loop, or after its peer has taken its time.
func TestLongAnswersAreNotKept(t *testing.T) {
	for path, counts := range map[string][]int{"/long": {1, firstTrial + 1, firstTrial + 3}, "/large": {firstTrial + 1}} {
		for _, requests := range counts {
			t.Run(fmt.Sprintf("%d of %s", requests, path[1:]), func(t *testing.T) {
				w, dial := overTCP(t)
				p := dial()
				for range requests {
					p.send(post(path, ""))
					p.answer()
				}
				if looped := w.begun.Load() > 0; looped != (requests > firstTrial) {
					t.Errorf("in a loop: %v", looped)
				}
				c := w.endResting()
				if n := cap(c.out) + cap(c.reply.Body); n > bufferSize {
					t.Errorf("it keeps %d bytes of its answer", n)
				}
				p.ends(t)
			})
		}
	}
}

// endResting ends the only connection, as a drain does, once it rests.
func (w *world) endResting() *conn {
	w.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-time.After(time.Millisecond) {
		w.s.mu.Lock()
		conns := slices.Collect(maps.Keys(w.s.conns))
		w.s.mu.Unlock()
		if len(conns) != 1 || !conns[0].state.CompareAndSwap(idle, closed) {
			continue
		}
		if c := conns[0]; c.loop != nil {
			c.drop()
		} else {
			_ = c.rwc.Close()
		}
		return conns[0]
	}
	w.Fatal("no connection rests")
	return nil
}

// TestLoopUnderLoad: many connections send all kinds of requests, cut anywhere.
func TestLoopUnderLoad(t *testing.T) {
	w, dial := overTCP(t)
	kinds := []struct{ text, want string }{
		{post("/", "a"), "202 a"}, {post("/", "a"), "202 a"}, {post("/", "a"), "202 a"}, {post("/", "a"), "202 a"},
		{post("/b", ""), "202 "}, {post("/refuse", "x"), "403 "}, {post("/", strings.Repeat("y", 2*bufferSize)), "202 " + strings.Repeat("y", 2*bufferSize)},
	}
	var peers sync.WaitGroup
	for n := range 40 {
		p := dial()
		peers.Go(func() {
			for i := range 300 {
				k := kinds[(i*i+n)%len(kinds)]
				cut := len(k.text)
				if i%50 == 49 {
					cut = (i * n) % len(k.text)
				}
				p.send(k.text[:cut], k.text[cut:])
				if got := p.answer(); got != k.want {
					t.Errorf("got %.80q, want %.80q", got, k.want)
					return
				}
			}
			_ = p.Close()
		})
	}
	peers.Wait()
	if w.begun.Load() == 0 {
		t.Error("no loop has served any")
	}
	w.expectConns(0)
	w.expectLent(0)
}
