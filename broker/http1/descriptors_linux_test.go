package http1

import (
	"bufio"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestLoopWithoutDescriptors is none, and keeps none of them, however many there are.
func TestLoopWithoutDescriptors(t *testing.T) {
	beside, err := net.Listen("tcp", "127.0.0.1:0") // which has Go's poller made
	if err != nil {
		t.Fatal(err)
	}
	defer beside.Close()
	s := NewServer(Options{Async: func() Async { return &ofLoop{} }, IdleTimeout: time.Minute})
	const needed = 3
	for n := range needed + 1 {
		// What ran before in this process may still give some back.
		for end := time.Now().Add(10 * time.Second); ; <-time.After(time.Millisecond) {
			before := descriptors(t, needed+1)
			l, err := withDescriptors(t, before[:n+1], func() (*loop, error) { return newLoop(s) })
			right := (err == nil) == (n == needed) && (err == nil || errors.Is(err, unix.EMFILE))
			if l != nil {
				err = errors.Join(err, l.close())
			}
			after := descriptors(t, needed+1)
			if right && slices.Equal(after, before) {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("with %d descriptors: %v; free were %v, and are %v", n, err, before, after)
			}
		}
	}
}

// TestLoopBesideAWantOfDescriptors: who comes to a loop then stays where it is, and
// whoever has to leave one ends, and nobody else.
func TestLoopBesideAWantOfDescriptors(t *testing.T) {
	w, dial := inLoop(t)
	leaves, other := dial(), dial()
	w.expectConns(2)
	comes, err := net.Dial("tcp", other.RemoteAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer comes.Close()
	stays := &peer{comes, bufio.NewReader(comes)}
	stays.send(post("/", "x"))
	stays.expect(t, "202 x")
	_, _ = withDescriptors(t, []int{0}, func() (*loop, error) {
		for range 2 * firstTrial {
			stays.send(post("/", "x"))
			stays.expect(t, "202 x")
		}
		leaves.send(post("/standard", "x"))
		leaves.ends(t)
		other.send(post("/", "x"))
		other.expect(t, "202 x")
		return nil, nil
	})
	w.expectConns(2)
	other.send(post("/standard", "x"))
	other.expect(t, "200 standardx")
	stays.send(post("/standard", "x"))
	stays.expect(t, "200 standardx")
}

// descriptors are the next ones that are free.
func descriptors(t *testing.T, n int) []int {
	t.Helper()
	fds := make([]int, n)
	for i := range fds {
		var err error
		if fds[i], err = unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
	return fds
}

// withDescriptors calls f while all of these can be had but the last.
func withDescriptors[T any](t *testing.T, free []int, f func() (T, error)) (T, error) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}()
	fewer := limit
	fewer.Cur = uint64(free[len(free)-1])
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &fewer); err != nil {
		t.Fatal(err)
	}
	return f()
}

// TestLoopTakesNoneThatMayHaveBeenCut: a duplicate of its descriptor would go on.
func TestLoopTakesNoneThatMayHaveBeenCut(t *testing.T) {
	w, dial := overTCP(t)
	p := dial()
	w.expectConns(1)
	c := func() *conn {
		w.s.mu.Lock()
		defer w.s.mu.Unlock()
		for c := range w.s.conns {
			return c
		}
		return nil
	}()
	w.s.draining.Store(true)
	if err := c.detach(); !errors.Is(err, net.ErrClosed) || c.owned {
		t.Errorf("it has a descriptor of its own: %v", err)
	}
	w.s.draining.Store(false)
	p.send(post("/", "x"))
	p.expect(t, "202 x")
}
