package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// TestIdleServerSleeps: a server on which nothing happens is hardly ever awake,
// however many triggers it has. To wake up and to lie down again takes its threads
// some five switches; a timer that goes off twenty times a second, as some in
// libraries do, takes a hundred.
func TestIdleServerSleeps(t *testing.T) {
	s := startServer(t)
	s.apply("apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: default}")
	for i := range 50 {
		s.apply(of(fmt.Sprint("idle-", i), "http://127.0.0.1:1/"))
	}
	const most = 120 // a second
	window := time.NewTicker(2 * time.Second)
	defer window.Stop()
	for deadline := time.Now().Add(time.Minute); ; {
		before, began := s.switches(), time.Now()
		<-window.C
		a := float64(s.switches()-before) / time.Since(began).Seconds()
		if a <= most {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the threads of an idle server switch %.0f times a second, want %d at most", a, most)
		}
	}
}

// switches is how often the server's threads have lain down.
func (s *server) switches() (n int) {
	s.t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", s.PID))
	if err != nil || len(tasks) == 0 {
		s.t.Fatalf("no threads of process %d: %v", s.PID, err)
	}
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			continue // it has ended
		}
		_, rest, found := bytes.Cut(b, []byte("\nvoluntary_ctxt_switches:"))
		count, _, _ := bytes.Cut(rest, []byte("\n"))
		k, err := strconv.Atoi(string(bytes.TrimSpace(count)))
		if !found || err != nil {
			s.t.Fatalf("%s has no count of switches: %v", task, err)
		}
		n += k
	}
	return n
}
