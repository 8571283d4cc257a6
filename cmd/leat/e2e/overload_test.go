package e2e

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// load is what came of posting to a server from many sides.
type load struct {
	mu                sync.Mutex
	accepted, refused []time.Duration
	acked             map[string]bool
}

// post posts from so many writers at once for a time, each as fast as it is
// answered.
func (l *load) post(t *testing.T, url, prefix string, writers int, during time.Duration, data string) {
	ctx, cancel := context.WithTimeout(t.Context(), during)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: writers}}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				l.one(t, client, url, fmt.Sprintf("%s-%d-%d", prefix, w, i), data)
			}
		})
	}
	wg.Wait()
}

func (l *load) one(t *testing.T, client *http.Client, url, id, data string) {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(data))
	if err != nil {
		t.Error(err)
		return
	}
	for k, v := range map[string]string{"Ce-Specversion": "1.0", "Ce-Id": id, "Ce-Type": "x", "Ce-Source": "/e2e", "Content-Type": "text/plain"} {
		req.Header.Set(k, v)
	}
	began := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		t.Errorf("under load: %v", err)
		return
	}
	defer resp.Body.Close()
	took := time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch resp.StatusCode {
	case http.StatusAccepted:
		l.accepted = append(l.accepted, took)
		l.acked[id] = true
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		l.refused = append(l.refused, took)
		if resp.Header.Get("Retry-After") == "" {
			t.Errorf("%d without Retry-After", resp.StatusCode)
		}
	default:
		t.Errorf("under load: %s", resp.Status)
	}
}

func p99(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[len(d)*99/100]
}

// TestOverload: at three times what it can take, the server refuses what is too
// much at once and with Retry-After; what it accepts takes about as long as
// without the overload, and reaches the subscriber.
func TestOverload(t *testing.T) {
	const most = 16
	s := startServer(t, "--max-requests", strconv.Itoa(most))
	down := subscriber(t, func(string) int { return http.StatusOK })
	s.apply(broker + "\n---\napiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: all}\nspec: {broker: default, subscriber: {uri: \"" + down.URL + "\"}}")
	during := 2 * time.Second
	if testing.Short() {
		during = time.Second / 2
	}
	acked := map[string]bool{}
	// Latencies on a machine that others use are worth little: the bound is wide,
	// and the worst of three tries does not count.
	for try := 1; ; try++ {
		calm, over := &load{acked: acked}, &load{acked: acked}
		calm.post(t, s.url("/default/default"), fmt.Sprint("calm", try), most, during, "x")
		over.post(t, s.url("/default/default"), fmt.Sprint("over", try), 3*most, during, "x")
		t.Logf("calm: %d accepted, p99 %v; overload: %d accepted, p99 %v, %d refused, p99 %v",
			len(calm.accepted), p99(calm.accepted), len(over.accepted), p99(over.accepted), len(over.refused), p99(over.refused))
		bound := 10*p99(calm.accepted) + 500*time.Millisecond
		if len(over.refused) > 0 && len(over.accepted) > 0 && p99(over.accepted) < bound && p99(over.refused) < bound {
			break
		}
		if try == 3 {
			t.Errorf("three times: nothing was refused, or more slowly than in %v, or what was accepted took longer", bound)
			break
		}
	}
	eventually(t, time.Minute, "everything accepted reaches the subscriber", func() bool { return len(down.missing(acked)) == 0 })
}

// memory is what of a process is in memory, in bytes.
func memory(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skipf("what a process holds is read from /proc: %v", err)
	}
	for line := range strings.Lines(string(b)) {
		var kb int64
		if n, err := fmt.Sscanf(line, "VmRSS: %d kB", &kb); err == nil && n == 1 {
			return kb << 10
		}
	}
	t.Fatalf("no VmRSS in %s", b)
	return 0
}

// hostile is subscribers of the worst kind, by path.
func hostile(t *testing.T) (url string, sent *atomic.Int64) {
	sent = &atomic.Int64{}
	done := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-done:
		}
	})
	mux.HandleFunc("/trickle", func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := io.WriteString(w, "x"); err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-r.Context().Done():
				return
			case <-done:
				return
			}
		}
	})
	mux.HandleFunc("/gigabyte", func(w http.ResponseWriter, _ *http.Request) {
		for k, v := range map[string]string{"Ce-Specversion": "1.0", "Ce-Id": "big", "Ce-Type": "big", "Ce-Source": "/hostile"} {
			w.Header().Set(k, v)
		}
		block := make([]byte, 1<<20)
		for range 1 << 10 {
			n, err := w.Write(block)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/reset", func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // so that the peer sees a reset; without, an end
		}
		c.Close()
	})
	s := httptest.NewServer(mux)
	t.Cleanup(func() { close(done); s.CloseClientConnections(); s.Close() })
	return s.URL, sent
}

// TestHostilePeers: subscribers that hang, trickle, answer a gigabyte or reset
// the connection, and ten thousand connections that say nothing or one header
// without an end: a well-behaved subscriber gets all its events, and the server
// holds no more than these settings let it.
func TestHostilePeers(t *testing.T) {
	idle, events := 10_000, 300
	if testing.Short() {
		idle, events = 1_000, 50
	}
	idle = min(idle, openFiles(t)-1000) // as many as this machine lets one process have
	s := startServer(t, "--max-deliveries", "200", "--max-delivery-bytes", "16MiB")
	bad, sent := hostile(t)
	well := subscriber(t, func(string) int { return http.StatusOK })
	manifest := []string{broker, "apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: well}\nspec: {broker: default, subscriber: {uri: \"" + well.URL + "\"}}"}
	for _, name := range []string{"hang", "trickle", "gigabyte", "reset"} {
		manifest = append(manifest, fmt.Sprintf("apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: %s}\nspec:\n  broker: default\n  subscriber: {uri: \"%s/%s\"}\n  delivery: {retry: 1, timeout: PT1S, backoffDelay: PT0.1S}", name, bad, name))
	}
	s.apply(strings.Join(manifest, "\n---\n"))
	before := memory(t, s.cmd.Process.Pid)

	conns := dialMany(t, hostPort(s.HTTP), idle)
	for i, c := range conns {
		if i%10 == 0 {
			if _, err := io.WriteString(c, "POST /default/default HTTP/1.1\r\nHost: x\r\nX-Slow: "); err != nil {
				t.Logf("a slow header: %v", err) // the server may have had enough of it
			}
		}
	}
	want := map[string]bool{}
	data := `"` + strings.Repeat("x", 10_000) + `"`
	worst := int64(0)
	for i := range events {
		id := fmt.Sprint("e", i)
		status, body, err := post(t.Context(), s.url("/default/default"), id, "x", nil, data)
		if err != nil || status != http.StatusAccepted {
			t.Fatalf("event %d: %d %s %v", i, status, body, err)
		}
		want[id] = true
		worst = max(worst, memory(t, s.cmd.Process.Pid))
	}
	eventually(t, time.Minute, "the well-behaved subscriber has everything", func() bool {
		worst = max(worst, memory(t, s.cmd.Process.Pid))
		return len(well.missing(want)) == 0
	})
	eventually(t, 30*time.Second, "the gigabyte is being answered", func() bool { return sent.Load() > 0 })
	worst = max(worst, memory(t, s.cmd.Process.Pid))
	t.Logf("%d MiB before, %d MiB at most with %d connections; %d MiB of answers were taken", before>>20, worst>>20, len(conns), sent.Load()>>20)
	if most := int64(events) * 2 * 8 << 20; sent.Load() > most { // what a reply may have, and the sockets' buffers
		t.Errorf("%d MiB of endless answers were taken", sent.Load()>>20)
	}
	// A connection has buffers and a goroutine or two; a delivery has one event and
	// as much of an answer as a reply may have.
	if most := before + int64(len(conns))*(40<<10) + 300<<20; worst > most {
		t.Errorf("the server held %d MiB, at most %d are expected", worst>>20, most>>20)
	}
}

// openFiles is how many files a process may have open.
func openFiles(t *testing.T) int {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	return int(min(limit.Cur, 1<<20))
}

// dialMany opens connections until the test ends.
func dialMany(t *testing.T, address string, n int) []net.Conn {
	t.Helper()
	var mu sync.Mutex
	conns := map[int]net.Conn{}
	var wg sync.WaitGroup
	for w := range 50 {
		wg.Go(func() {
			var d net.Dialer
			for i := w; i < n; i += 50 {
				c, err := d.DialContext(t.Context(), "tcp", address)
				if err != nil {
					t.Errorf("connection %d: %v; raise the limit of open files (ulimit -n)", i, err)
					return
				}
				mu.Lock()
				conns[i] = c
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Cleanup(func() {
		for _, c := range conns {
			c.Close()
		}
	})
	return slices.Collect(maps.Values(conns))
}

// TestOverloadOfLargeEvents: large events from three times as many senders as
// there is room for are refused at once, with 429 or 503 and Retry-After; those
// that are accepted are not slower for it by much, the server's memory stays
// within its bounds, and small events to another broker come in all the while.
func TestOverloadOfLargeEvents(t *testing.T) {
	const fit, size = 8, 900_000
	s := startServer(t, "--max-channel-memory", "12MiB", "--max-body-memory", "24MiB", "--max-batch-bytes", "4MiB", "--max-pending-bytes", "8MiB")
	down := subscriber(t, func(string) int { return http.StatusOK })
	s.apply(broker + "\n---\n" + strings.ReplaceAll(broker, "name: default", "name: quiet") + "\n---\napiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: all}\nspec: {broker: default, subscriber: {uri: \"" + down.URL + "\"}}")
	during := 2 * time.Second
	if testing.Short() {
		during = time.Second / 2
	}
	acked := map[string]bool{}
	data := strings.Repeat("x", size)
	before := memory(t, s.cmd.Process.Pid)
	for try := 1; ; try++ {
		calm, over, quiet := &load{acked: acked}, &load{acked: acked}, &load{acked: map[string]bool{}}
		calm.post(t, s.url("/default/default"), fmt.Sprint("calm", try), fit, during, data)
		var wg sync.WaitGroup
		wg.Go(func() { quiet.post(t, s.url("/default/quiet"), fmt.Sprint("quiet", try), 2, during, "x") })
		over.post(t, s.url("/default/default"), fmt.Sprint("over", try), 3*fit, during, data)
		wg.Wait()
		t.Logf("calm: %d accepted, p99 %v; overload: %d accepted, p99 %v, %d refused, p99 %v; beside: %d accepted, p99 %v, %d refused",
			len(calm.accepted), p99(calm.accepted), len(over.accepted), p99(over.accepted), len(over.refused), p99(over.refused),
			len(quiet.accepted), p99(quiet.accepted), len(quiet.refused))
		if len(quiet.refused) > len(quiet.accepted)/10 {
			t.Errorf("%d small events to another broker were refused, %d accepted", len(quiet.refused), len(quiet.accepted))
		}
		bound := 10*p99(calm.accepted) + 500*time.Millisecond
		if len(over.refused) > 0 && len(over.accepted) > 0 && p99(over.accepted) < bound && p99(over.refused) < bound && p99(quiet.accepted) < bound {
			break
		}
		if try == 3 {
			t.Errorf("three times: nothing was refused, or more slowly than in %v, or what was accepted took longer", bound)
			break
		}
	}
	// Bodies, what is encoded of them, what waits, tail and cache; and garbage.
	if grown := memory(t, s.cmd.Process.Pid) - before; grown > 300<<20 {
		t.Errorf("the server holds %d MiB more", grown>>20)
	}
	eventually(t, time.Minute, "everything accepted reaches the subscriber", func() bool { return len(down.missing(acked)) == 0 })
}
