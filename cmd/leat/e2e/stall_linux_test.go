package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// answered is what came of one post.
type answered struct {
	id     string
	status int
	retry  string
	reason string
	took   time.Duration
}

// postAll posts events at once, and waits for the answers.
func (s *server) postAll(t *testing.T, prefix string, n int, data string) []answered {
	out := make([]answered, n)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for i := range out {
		wg.Go(func() {
			a := answered{id: fmt.Sprint(prefix, i)}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url("/default/default"), strings.NewReader(data))
			if err != nil {
				t.Error(err)
				return
			}
			for k, v := range map[string]string{"Ce-Specversion": "1.0", "Ce-Id": a.id, "Ce-Type": "x", "Ce-Source": "/e2e", "Content-Type": "text/plain"} {
				req.Header.Set(k, v)
			}
			began := time.Now()
			resp, err := client.Do(req)
			if err != nil {
				t.Errorf("%s: %v", a.id, err)
				return
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Errorf("%s: %v", a.id, err)
			}
			a.status, a.retry, a.reason, a.took = resp.StatusCode, resp.Header.Get("Retry-After"), string(b), time.Since(began)
			out[i] = a
		})
	}
	wg.Wait()
	return out
}

// ids of the log of the broker, with how often each is there.
func (s *server) ids(t *testing.T) map[string]int {
	t.Helper()
	out, stderr, status := leat(t, s.env(), "", "tail", "default", "--since", "beginning", "--no-follow", "-o", "name")
	if status != 0 {
		t.Fatal(stderr)
	}
	ids := map[string]int{}
	for id := range strings.FieldsSeq(out) {
		ids[id]++
	}
	return ids
}

// get is the status and the text of a page, within a time.
func (s *server) get(t *testing.T, path string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url(path), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// TestStalledDisk: the disk of a real server hangs, in every call that changes a
// file. Who waits is answered with 503 in time; who comes later is refused at
// once, large events too, and they cost no memory; what is stored is delivered;
// health and metrics tell. When the disk answers, all goes on by itself; nothing
// that was acknowledged is lost or there twice, nothing that was refused is there.
func TestStalledDisk(t *testing.T) {
	needGate(t)
	const appendTimeout, stallAfter = 4 * time.Second, 2 * time.Second
	s := newServer(t, t.TempDir()+"/data", "--append-timeout", appendTimeout.String(), "--stall-after", stallAfter.String(), "--shutdown-timeout", "3s", "--retry-after", "2s")
	disk := gated(t, s)
	s.start()
	var shut atomic.Bool
	down := subscriber(t, func(id string) int {
		if shut.Load() && strings.HasPrefix(id, "late") {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	s.apply(broker + "\n---\napiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: all}\nspec:\n  broker: default\n  subscriber: {uri: \"" + down.URL + "\"}\n  delivery: {retry: 100, backoffPolicy: linear, backoffDelay: PT0.1S}")
	acked, refused := map[string]bool{}, map[string]bool{}
	sort := func(all []answered) (late, unknown int) {
		for _, a := range all {
			switch {
			case a.status == http.StatusAccepted:
				acked[a.id] = true
			case a.status != http.StatusServiceUnavailable || a.retry != "2":
				t.Errorf("%s: %d, Retry-After %q: %s", a.id, a.status, a.retry, a.reason)
			case strings.Contains(a.reason, "nothing was accepted"):
				refused[a.id] = true
			default:
				unknown++
			}
			if a.took > appendTimeout+2*time.Second {
				late++
			}
		}
		return late, unknown
	}
	sort(s.postAll(t, "before", 20, "x"))
	eventually(t, 20*time.Second, "what came before is delivered", func() bool { return len(down.missing(acked)) == 0 })
	shut.Store(true)
	sort(s.postAll(t, "late", 20, "x"))
	if len(acked) != 40 {
		t.Fatalf("%d of 40 were accepted", len(acked))
	}

	disk.close(writeCalls)
	late, unknown := sort(s.postAll(t, "first", 50, "x"))
	if late > 0 || unknown == 0 {
		t.Errorf("when the disk began to hang: %d of 50 were answered too late, of %d the outcome is not known", late, unknown)
	}
	if !disk.holds() {
		t.Fatal("nothing hangs: too little is tested")
	}
	before := memory(t, s.cmd.Process.Pid)
	within(t, 15*time.Second, "200 events of 900 kB during a stall", func() {
		if _, unknown := sort(s.postAll(t, "large", 200, strings.Repeat("x", 900_000))); unknown > 0 || !refused["large0"] {
			t.Errorf("of %d the outcome is not known", unknown)
		}
	})
	if grown := memory(t, s.cmd.Process.Pid) - before; grown > 200<<20 { // max-body-memory, and as much garbage
		t.Errorf("the server holds %d MiB more", grown>>20)
	}
	shut.Store(false)
	eventually(t, 30*time.Second, "what is stored is delivered while the disk hangs", func() bool { return len(down.missing(acked)) == 0 })
	if status, text := s.get(t, "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(text, "s0") {
		t.Errorf("/readyz: %d %s", status, text)
	}
	if out, _, status := leat(t, s.env(), "", "kubectl", "get", "--raw", "/readyz"); status == 0 {
		t.Errorf("/readyz of the API: %s", out)
	}
	if status, _ := s.get(t, "/healthz"); status != http.StatusOK {
		t.Errorf("/healthz: %d", status)
	}
	if _, text := s.get(t, "/metrics"); !strings.Contains(text, `leat_ingress_unavailable_total{reason="stall"} 2`) || strings.Contains(text, `leat_log_stalled_seconds{group="s0"} 0`) {
		t.Error("the metrics say nothing of it")
	}
	if st := s.status(); st.Disk.StalledSeconds < stallAfter.Seconds() {
		t.Errorf("leat status: %+v", st.Disk)
	}

	disk.open()
	eventually(t, 20*time.Second, "events are taken again", func() bool {
		after := s.postAll(t, fmt.Sprint("after", len(acked), "-", len(refused), "-"), 1, "x")
		sort(after)
		return after[0].status == http.StatusAccepted
	})
	if status, text := s.get(t, "/readyz"); status != http.StatusOK {
		t.Errorf("/readyz: %d %s", status, text)
	}
	if _, stderr, status := leat(t, s.env(), "", "kubectl", "get", "--raw", "/readyz"); status != 0 {
		t.Errorf("/readyz of the API: %s", stderr)
	}
	check := func(when string) {
		t.Helper()
		eventually(t, 30*time.Second, when+": everything accepted is delivered", func() bool { return len(down.missing(acked)) == 0 })
		ids := s.ids(t)
		for id := range acked {
			if ids[id] != 1 {
				t.Errorf("%s: %s is there %d times", when, id, ids[id])
			}
		}
		for id, n := range ids {
			if refused[id] || n != 1 {
				t.Errorf("%s: %s is there %d times; refused: %v", when, id, n, refused[id])
			}
		}
	}
	check("after the stall")

	// Killed while the disk hangs.
	disk.close(gatedCalls)
	sort(s.postAll(t, "second", 20, "x"))
	s.kill()
	disk.open()
	s.start()
	sort(s.postAll(t, "restarted", 5, "x"))
	check("after a kill during a stall")

	// Asked to end while the disk hangs: it does, in its time.
	disk.close(gatedCalls)
	sort(s.postAll(t, "third", 5, "x"))
	within(t, 20*time.Second, "the end during a stall", func() { s.stop() })
	b, err := os.ReadFile(s.dir + ".log")
	if err != nil || strings.Contains(string(b), "panic:") {
		t.Errorf("it did not end in order: %v", err)
	}
	disk.open()
	s.start()
	check("after an end during a stall")
	var line map[string]any
	for l := range strings.Lines(string(b)) {
		if json.Unmarshal([]byte(l), &line) == nil && line["msg"] == "the disk answers again" {
			return
		}
	}
	t.Error("the log does not say that the disk answered again")
}
