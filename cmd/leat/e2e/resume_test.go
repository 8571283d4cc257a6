package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// breaker is a way to a server that can be broken off.
type breaker struct {
	t  *testing.T
	to func() string

	l     net.Listener
	mu    sync.Mutex
	conns map[net.Conn]bool
	cut   bool
	all   sync.WaitGroup
}

// newBreaker leads to an address, which may be another each time.
func newBreaker(t *testing.T, to func() string) *breaker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &breaker{t: t, to: to, l: l, conns: map[net.Conn]bool{}}
	b.all.Go(b.run)
	t.Cleanup(func() {
		l.Close()
		b.breakOff()
		b.all.Wait()
	})
	return b
}

func (b *breaker) run() {
	for {
		in, err := b.l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", b.to())
		b.mu.Lock()
		if err != nil || b.cut {
			in.Close()
			if err == nil {
				out.Close()
			}
			b.mu.Unlock()
			continue
		}
		b.conns[in], b.conns[out] = true, true
		b.mu.Unlock()
		for _, c := range [][2]net.Conn{{in, out}, {out, in}} {
			b.all.Go(func() {
				io.Copy(c[0], c[1]) // until one side ends, or is cut
				c[0].Close()
				c[1].Close()
			})
		}
	}
}

// breakOff closes what is open.
func (b *breaker) breakOff() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		c.Close()
	}
	clear(b.conns)
}

// refuse says whether new connections are closed at once.
func (b *breaker) refuse(cut bool) {
	b.mu.Lock()
	b.cut = cut
	b.mu.Unlock()
}

// follower is a command that follows events, as it prints them.
type follower struct {
	t      *testing.T
	cmd    *exec.Cmd
	lines  *bufio.Reader
	stderr bytes.Buffer
}

func follow(t *testing.T, env []string, args ...string) *follower {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	f := &follower{t: t, cmd: exec.CommandContext(t.Context(), path, args...)}
	f.cmd.Env = append(os.Environ(), env...)
	f.cmd.Stderr = &f.stderr
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	f.lines = bufio.NewReader(out)
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return f
}

// sees waits for these lines, and no others between them.
func (f *follower) sees(ids ...string) {
	f.t.Helper()
	for _, id := range ids {
		line, err := f.lines.ReadString('\n')
		if strings.TrimSpace(line) != id {
			f.t.Fatalf("got %q (%v), want %s\n%s", line, err, id, f.stderr.String())
		}
	}
}

// ends waits for the end and its exit status.
func (f *follower) ends(status int) (stderr string) {
	f.t.Helper()
	rest, _ := io.ReadAll(f.lines) // shown
	_ = f.cmd.Wait()               // the status tells
	if got := f.cmd.ProcessState.ExitCode(); got != status || len(rest) > 0 {
		f.t.Fatalf("status %d, want %d; more output %q\n%s", got, status, rest, f.stderr.String())
	}
	return f.stderr.String()
}

func (s *server) sendNumbered(from, to int) (ids []string) {
	s.t.Helper()
	for n := from; n < to; n++ {
		id := fmt.Sprint("e", n)
		if status, body, err := post(s.t.Context(), s.url("/default/default"), id, "numbered", nil, "{}"); err != nil || status != 202 {
			s.t.Fatalf("%d %s %v", status, body, err)
		}
		ids = append(ids, id)
	}
	return ids
}

// TestTailResumes: each event is shown once, and in order, over connections that
// break off and servers that are started anew, also when nothing had come yet.
func TestTailResumes(t *testing.T) {
	s := startServer(t)
	s.apply(broker)
	b := newBreaker(t, func() string { return hostPort(s.API) })
	before := s.sendNumbered(0, 3)
	f := follow(t, s.env(), "tail", "default", "--server", "https://"+b.l.Addr().String(), "--since", "beginning", "--limit", "16", "-o", "name")
	f.sees(before...)
	b.breakOff()
	f.sees(s.sendNumbered(3, 6)...)
	b.refuse(true)
	b.breakOff()
	while := s.sendNumbered(6, 9) // while it cannot reach the server
	b.refuse(false)
	f.sees(while...)
	s.stop()
	s.start()
	f.sees(s.sendNumbered(9, 12)...)
	s.kill()
	s.start()
	f.sees(s.sendNumbered(12, 16)...)
	if stderr := f.ends(0); !strings.Contains(stderr, "trying to go on with --since 0:") {
		t.Errorf("it says nothing of what happened: %s", stderr)
	}
}

// TestTailOfAnotherLog: a broker that was made anew has other events, which are
// not taken for those that follow.
func TestTailOfAnotherLog(t *testing.T) {
	s := startServer(t)
	s.apply(broker)
	b := newBreaker(t, func() string { return hostPort(s.API) })
	first := s.sendNumbered(0, 2)
	f := follow(t, s.env(), "tail", "default", "--server", "https://"+b.l.Addr().String(), "--since", "beginning", "-o", "name")
	f.sees(first...)
	b.refuse(true)
	b.breakOff()
	s.delete(broker)
	s.apply(broker)
	s.sendNumbered(0, 5)
	b.refuse(false)
	if stderr := f.ends(1); !strings.Contains(stderr, "made anew in the meantime") {
		t.Error(stderr)
	}
}

// TestTailGivesUp: when the time to go on is up, it fails and says how to.
func TestTailGivesUp(t *testing.T) {
	s := startServer(t)
	s.apply(broker)
	first := s.sendNumbered(0, 2)
	f := follow(t, s.env(), "tail", "default", "--since", "beginning", "-o", "name", "--reconnect", "200ms")
	f.sees(first...)
	s.stop()
	if stderr := f.ends(1); !strings.Contains(stderr, "Go on with --since 0:2") {
		t.Error(stderr)
	}
	s.start()
	third := s.sendNumbered(2, 3)
	f = follow(t, s.env(), "tail", "default", "--since", "0:2", "--limit", "1", "-o", "name")
	f.sees(third...)
	f.ends(0)
}

// TestListenResumes: a program gets each event once over a connection that
// breaks off and a server that is started anew.
func TestListenResumes(t *testing.T) {
	s := startServer(t)
	s.apply(broker)
	b := newBreaker(t, func() string { return hostPort(s.API) })
	var mu sync.Mutex
	var got []string
	program := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		got = append(got, r.Header.Get("Ce-Id"))
		mu.Unlock()
	}))
	defer program.Close()
	want := s.sendNumbered(0, 3)
	has := func(n int) {
		eventually(t, 30*time.Second, "the program has the events", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(got) >= n
		})
	}
	f := follow(t, s.env(), "listen", "default", "--server", "https://"+b.l.Addr().String(), "--to", program.URL,
		"--since", "beginning", "--limit", "12", "--concurrency", "1", "-o", "name")
	has(3)
	b.breakOff()
	want = append(want, s.sendNumbered(3, 6)...)
	has(6)
	b.refuse(true)
	b.breakOff()
	want = append(want, s.sendNumbered(6, 9)...)
	s.stop()
	s.start()
	b.refuse(false)
	want = append(want, s.sendNumbered(9, 12)...)
	has(12)
	f.sees(want...)
	f.ends(0)
	if !slices.Equal(got, want) {
		t.Errorf("the program got %v, want %v", got, want)
	}
}
