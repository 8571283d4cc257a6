package kv_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/leat-dev/leat/raftlog/kv"
	"github.com/leat-dev/leat/raftlog/kv/kvtest"
)

// A watch that gathers delivers a few writes at once, and of many that keep coming
// a full batch; a marker and the end of the watch wait for nothing.
func TestGather(t *testing.T) {
	s, _ := kvtest.Open(t, kv.Options{})
	w := mustWatch(t, s, "/a/", false, 0)
	w.Gather(kv.Gather{For: time.Hour, Rate: 1})
	mustPut(t, s, "/a/lone", "x")
	if got := next(t, w, 1); got[0].Key != "/a/lone" {
		t.Fatalf("a lone write: %s", describe(got))
	}
	type result struct {
		b   kv.Batch
		err error
	}
	got := make(chan result)
	ask := func() {
		b, err := w.Next(t.Context())
		got <- result{b, err}
	}
	mustPut(t, s, "/a/0", "x")
	ended, end := context.WithCancel(t.Context())
	end()
	// What is there comes before the end is looked at, so this waits for more.
	if b, err := w.Next(ended); !errors.Is(err, context.Canceled) {
		t.Fatalf("the first of many: %d events, %v", len(b.Events), err)
	}
	go ask()
	const full = 256
	for i := 1; i < full; i++ {
		select {
		case r := <-got:
			t.Fatalf("after %d writes: %d, %v", i, len(r.b.Events), r.err)
		default:
		}
		mustPut(t, s, fmt.Sprint("/a/", i), "x")
	}
	if r := <-got; r.err != nil || len(r.b.Events) != full {
		t.Fatalf("of many: %d events, %v", len(r.b.Events), r.err)
	}
	rev := mustPut(t, s, "/a/before", "the marker")
	s.Progress("/a/")
	go ask()
	if r := <-got; r.err != nil || len(r.b.Events) != 1 || r.b.Progress != rev {
		t.Fatalf("with a marker: %d events, progress %d, %v", len(r.b.Events), r.b.Progress, r.err)
	}
	mustPut(t, s, "/a/before", "the end")
	go ask()
	w.Close()
	if r := <-got; r.err == nil {
		t.Errorf("a watch that was closed gave %d events", len(r.b.Events))
	}
}

// What has gathered is not held back longer than it may be, however many come.
func TestGatherForATime(t *testing.T) {
	s, _ := kvtest.Open(t, kv.Options{})
	w := mustWatch(t, s, "/a/", false, 0)
	const most = 20 * time.Millisecond
	w.Gather(kv.Gather{For: most, Rate: 1})
	for i := range 5 {
		mustPut(t, s, "/a/1", fmt.Sprint(i))
		next(t, w, 1) // comes though nothing follows
	}
}

// A watch with a small queue does not lose it by waiting.
func TestGatherInASmallQueue(t *testing.T) {
	s, _ := kvtest.Open(t, kv.Options{WatchQueue: 10})
	w := mustWatch(t, s, "/a/", false, 0)
	w.Gather(kv.Gather{For: time.Hour, Rate: 1})
	mustPut(t, s, "/a/1", "x")
	next(t, w, 1)
	for range 5 {
		mustPut(t, s, "/a/1", "y")
	}
	next(t, w, 5)
}
