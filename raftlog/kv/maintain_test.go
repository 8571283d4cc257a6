package kv_test

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/leat-dev/leat/raftlog/kv"
	"github.com/leat-dev/leat/raftlog/kv/kvtest"
)

func TestKeysExpireByTheLogsTime(t *testing.T) {
	clock := kvtest.NewClock()
	s, _ := kvtest.Open(t, kv.Options{Clock: clock})
	put := func(key string, ttl time.Duration) {
		t.Helper()
		if r, err := s.Put(t.Context(), key, []byte("v"), kv.AnyRev, ttl); err != nil || !r.OK {
			t.Fatal(r, err)
		}
	}
	put("/stays", 0)
	put("/short", 10*time.Second)
	put("/long", time.Hour)
	put("/renewed", 10*time.Second)
	put("/renewed", 20*time.Second)
	put("/kept", 10*time.Second)
	put("/kept", 0)
	w := mustWatch(t, s, "/", false, 0)
	expect := func(key string) {
		t.Helper()
		if got := next(t, w, 1); got[0].Key != key || !got[0].Deleted {
			t.Errorf("got %swant the deletion of %s", describe(got), key)
		}
	}
	clock.Advance(10 * time.Second)
	expect("/short")
	clock.Advance(10 * time.Second)
	expect("/renewed")
	clock.Advance(time.Hour)
	expect("/long")
	page, err := s.List("/", "", 0, 0)
	if err != nil || len(page.KVs) != 2 {
		t.Errorf("%d keys are left, want /kept and /stays: %v", len(page.KVs), err)
	}
}

func TestManyKeysExpireTogether(t *testing.T) {
	clock := kvtest.NewClock()
	s, _ := kvtest.Open(t, kv.Options{Clock: clock})
	const keys = 1500
	for i := range keys {
		if _, err := s.Put(t.Context(), fmt.Sprint("/", i), nil, 0, time.Duration(i+1)*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	w := mustWatch(t, s, "/", false, 0)
	clock.Advance(time.Minute)
	next(t, w, keys)
}

func TestHistoryIsBoundedByCount(t *testing.T) {
	s, _ := kvtest.Open(t, kv.Options{HistoryEvents: 100})
	w := mustWatch(t, s, "/", false, 0)
	for i := range 1000 {
		mustPut(t, s, "/a", fmt.Sprint(i))
		next(t, w, 1)
	}
	waitFloor(t, s, s.Rev()-200)
	if _, _, err := s.GetAt("/a", 2); !errors.Is(err, kv.ErrCompacted) {
		t.Errorf("read below the floor: %v", err)
	}
	if got, _, err := s.GetAt("/a", s.CompactRev()); err != nil || got.ModRev != s.CompactRev() {
		t.Errorf("read at the floor: %v, %v", got, err)
	}
}

func TestHistoryIsBoundedByAge(t *testing.T) {
	clock := kvtest.NewClock()
	s, _ := kvtest.Open(t, kv.Options{Clock: clock, HistoryAge: time.Hour, CompactEvery: 5 * time.Minute})
	old := mustPut(t, s, "/a", "old")
	clock.Advance(30 * time.Minute)
	mustPut(t, s, "/a", "newer")
	clock.Advance(31 * time.Minute)
	waitFloor(t, s, old)
	if s.CompactRev() != old {
		t.Errorf("the floor is %d, want %d", s.CompactRev(), old)
	}
	clock.Advance(25 * time.Minute)
	waitFloor(t, s, old)
	if s.CompactRev() != old {
		t.Errorf("the floor is %d, want %d: the second write is 56 minutes old", s.CompactRev(), old)
	}
}

// waitFloor waits for the maintenance to move the floor.
func waitFloor(t *testing.T, s *kv.Store, rev uint64) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for s.CompactRev() < rev {
		if time.Now().After(deadline) {
			t.Fatalf("the floor is %d, want %d at least", s.CompactRev(), rev)
		}
		runtime.Gosched()
	}
}
