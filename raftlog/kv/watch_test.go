package kv_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/leat-dev/leat/raftlog/kv"
	"github.com/leat-dev/leat/raftlog/kv/kvtest"
)

func mustWatch(tb testing.TB, s *kv.Store, prefix string, exact bool, since uint64) *kv.Watch {
	tb.Helper()
	w, err := s.Watch(prefix, exact, since)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(w.Close)
	return w
}

// next reads n events and fails on anything else. It is called beside the test,
// too, and then reports only.
func next(tb testing.TB, w *kv.Watch, n int) []*kv.Event {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	var events []*kv.Event
	for len(events) < n {
		b, err := w.Next(ctx)
		if err != nil {
			tb.Fatalf("after %d of %d events: %v", len(events), n, err)
		}
		events = append(events, b.Events...)
	}
	if len(events) != n {
		tb.Fatalf("%d events, want %d", len(events), n)
	}
	return events
}

func describe(events []*kv.Event) string {
	var b strings.Builder
	for _, e := range events {
		value := string(e.Value)
		if e.Deleted {
			value = "deleted"
		}
		fmt.Fprintf(&b, "%d %s %s<-%s@%d\n", e.Rev, e.Key, value, e.Prev, e.PrevRev)
	}
	return b.String()
}

func TestWatchSeesItsKeysOnly(t *testing.T) {
	s, _ := kvtest.Open(t, kv.Options{})
	dir := mustWatch(t, s, "/a/", false, 0)
	one := mustWatch(t, s, "/a/1", true, 0)
	odd := mustWatch(t, s, "/a/1", false, 0) // a prefix that is no folder
	mustPut(t, s, "/a/1", "x")               // 2
	mustPut(t, s, "/ab", "x")                // 3
	mustPut(t, s, "/a/10", "x")              // 4
	mustPut(t, s, "/a/1", "y")               // 5
	if _, err := s.Delete(t.Context(), "/a/1", kv.AnyRev); err != nil {
		t.Fatal(err)
	}
	want := "2 /a/1 x<-@0\n4 /a/10 x<-@0\n5 /a/1 y<-x@2\n6 /a/1 deleted<-y@5\n"
	if got := describe(next(t, dir, 4)); got != want {
		t.Errorf("folder:\n%swant\n%s", got, want)
	}
	if got := describe(next(t, odd, 4)); got != want {
		t.Errorf("prefix:\n%swant\n%s", got, want)
	}
	want = "2 /a/1 x<-@0\n5 /a/1 y<-x@2\n6 /a/1 deleted<-y@5\n"
	if got := describe(next(t, one, 3)); got != want {
		t.Errorf("key:\n%swant\n%s", got, want)
	}
}

// What a watch delivers is the same from memory, from the database, and when
// it was there from the beginning.
func TestWatchFromThePast(t *testing.T) {
	for _, recent := range []int{1, 5, 1000} {
		t.Run(fmt.Sprintf("%d in memory", recent), func(t *testing.T) {
			s, _ := kvtest.Open(t, kv.Options{RecentEvents: recent})
			first := mustWatch(t, s, "/a/", false, 0)
			for i := range 700 {
				mustPut(t, s, fmt.Sprintf("/a/%d", i%7), fmt.Sprint("v", i))
				mustPut(t, s, "/b/", "x")
				if i%5 == 0 {
					if _, err := s.Delete(t.Context(), fmt.Sprintf("/a/%d", i%7), kv.AnyRev); err != nil {
						t.Fatal(err)
					}
				}
			}
			all := next(t, first, 840)
			for _, since := range []int{0, 1, 420, 838} {
				w := mustWatch(t, s, "/a/", false, all[since].Rev)
				if got, want := describe(next(t, w, 839-since)), describe(all[since+1:]); got != want {
					t.Errorf("since revision %d: the events differ from those seen live", all[since].Rev)
				}
			}
			future := mustWatch(t, s, "/a/", false, s.Rev()+1)
			mustPut(t, s, "/a/1", "skipped")
			mustPut(t, s, "/a/1", "seen")
			if got := next(t, future, 1); string(got[0].Value) != "seen" {
				t.Errorf("a watch of the future got %s", describe(got))
			}
		})
	}
}

func TestForgottenWritesAreReadFromTheDatabase(t *testing.T) {
	s, _ := kvtest.Open(t, kv.Options{})
	since := s.Rev()
	behind := mustWatch(t, s, "/a/", false, 0)
	for i := range 20 {
		mustPut(t, s, fmt.Sprintf("/a/%d", i%7), fmt.Sprint(i))
	}
	if s.Forget() == 0 {
		t.Error("20 writes took no memory")
	}
	if n := s.Forget(); n != 0 {
		t.Errorf("%d bytes are forgotten twice", n)
	}
	later := mustWatch(t, s, "/a/", false, since)
	mustPut(t, s, "/a/0", "after")
	want := describe(next(t, behind, 21))
	if got := describe(next(t, later, 21)); got != want {
		t.Errorf("from the past:\n%s\nas it came:\n%s", got, want)
	}
	if want[strings.LastIndexByte(strings.TrimSpace(want), '\n')+1:] != fmt.Sprintf("%d /a/0 after<-14@%d\n", s.Rev(), s.Rev()-6) {
		t.Errorf("the last is not what was written last:\n%s", want)
	}
	if s.Forget() == 0 {
		t.Error("what is written afterwards is not kept")
	}
}

func TestWatchBelowTheFloor(t *testing.T) {
	s, _ := kvtest.Open(t, kv.Options{RecentEvents: 1})
	early := mustPut(t, s, "/a", "1")
	w := mustWatch(t, s, "/", false, early) // has not read yet
	mustPut(t, s, "/a", "2")
	late := mustPut(t, s, "/a", "3")
	behind := mustWatch(t, s, "/", false, early)
	if _, err := s.Compact(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Watch("/", false, early); !errors.Is(err, kv.ErrCompacted) {
		t.Errorf("watch below the floor: %v", err)
	}
	for _, w := range []*kv.Watch{w, behind} {
		if b, err := w.Next(t.Context()); !errors.Is(err, kv.ErrCompacted) {
			t.Errorf("a watch that the floor has passed: %v, %v", b, err)
		}
	}
	mustPut(t, s, "/a", "4")
	if got := next(t, mustWatch(t, s, "/", false, late), 1); string(got[0].Prev) != "3" {
		t.Errorf("from the floor on: %s", describe(got))
	}
}

func TestSlowWatcherIsClosedAndOthersAreNot(t *testing.T) {
	s, _ := kvtest.Open(t, kv.Options{WatchQueue: 10})
	slow, fast := mustWatch(t, s, "/", false, 0), mustWatch(t, s, "/", false, 0)
	for i := range 20 {
		mustPut(t, s, "/a", fmt.Sprint(i))
		next(t, fast, 1)
	}
	if _, err := slow.Next(t.Context()); !errors.Is(err, kv.ErrSlowWatcher) {
		t.Errorf("the slow watch got %v", err)
	}
}

func TestProgressFollowsTheEvents(t *testing.T) {
	s, _ := kvtest.Open(t, kv.Options{})
	w := mustWatch(t, s, "/a/", false, 0)
	other := mustWatch(t, s, "/b/", false, 0)
	rev := mustPut(t, s, "/a/1", "x")
	later := mustPut(t, s, "/b/1", "x")
	s.Progress("/a/")
	mustPut(t, s, "/a/1", "y")
	b, err := w.Next(t.Context())
	if err != nil || len(b.Events) != 1 || b.Events[0].Rev != rev || b.Progress != later {
		t.Errorf("got %s, progress %d, %v; want revision %d, progress %d", describe(b.Events), b.Progress, err, rev, later)
	}
	b, err = w.Next(t.Context())
	if err != nil || len(b.Events) != 1 || b.Progress != 0 {
		t.Errorf("then %s, progress %d, %v", describe(b.Events), b.Progress, err)
	}
	b, err = other.Next(t.Context())
	if err != nil || len(b.Events) != 1 || b.Progress != 0 {
		t.Errorf("the other prefix got %s, progress %d, %v", describe(b.Events), b.Progress, err)
	}
}

func TestWatchEndsWithItsContextAndWithTheStore(t *testing.T) {
	s, _ := kvtest.Open(t, kv.Options{})
	w := mustWatch(t, s, "/", false, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with its context's end: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Next(t.Context()); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("with the store's end: %v", err)
	}
	if _, _, err := s.Get("/a"); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("read of a closed store: %v", err)
	}
}

func TestWaitRev(t *testing.T) {
	s, _ := kvtest.Open(t, kv.Options{})
	if err := s.WaitRev(t.Context(), s.Rev()); err != nil {
		t.Error(err)
	}
	done := make(chan error)
	go func() { done <- s.WaitRev(t.Context(), 3) }()
	mustPut(t, s, "/a", "1")
	select {
	case err := <-done:
		t.Fatalf("returned at revision %d: %v", s.Rev(), err)
	default:
	}
	mustPut(t, s, "/a", "2")
	if err := <-done; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.WaitRev(ctx, 100); !errors.Is(err, context.Canceled) {
		t.Errorf("with its context's end: %v", err)
	}
}

// Many watches, begun at any time, each see a gapless run of the writes.
func TestWatchersBeside(t *testing.T) {
	s, _ := kvtest.Open(t, kv.Options{RecentEvents: 100})
	const writes = 2000
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				w, err := s.Watch("/", false, 0)
				if err != nil {
					t.Error(err)
					return
				}
				rev := w.Rev()
				for rev < writes+1 && rev < w.Rev()+300 {
					b, err := w.Next(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					for _, e := range b.Events {
						if e.Rev != rev+1 {
							t.Errorf("revision %d after %d", e.Rev, rev)
							return
						}
						rev++
					}
				}
				w.Close()
			}
		})
	}
	for i := range writes {
		mustPut(t, s, fmt.Sprint("/", i%10), "v")
	}
	wg.Wait()
}
