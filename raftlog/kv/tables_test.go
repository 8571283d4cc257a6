package kv_test

import (
	"bytes"
	"fmt"
	"runtime/metrics"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leat-dev/leat/raftlog/kv"
	"github.com/leat-dev/leat/raftlog/kv/kvtest"
)

// writeTables writes until so many tables lie in level 0, and returns what the
// keys hold.
func writeTables(t *testing.T, s *kv.Store, tables int) map[string]string {
	t.Helper()
	held := map[string]string{}
	for i := 0; s.LevelZero() < tables; i++ {
		if i > 1000 {
			t.Fatalf("%d tables after %d writes of 500 KiB, want %d", s.LevelZero(), i, tables)
		}
		key := fmt.Sprint("/", i%40)
		held[key] = fmt.Sprint(i) + strings.Repeat("x", 500<<10)
		mustPut(t, s, key, held[key])
	}
	return held
}

// awaitMerged lets pauses go by until nothing lies in level 0, and no merge goes on.
func awaitMerged(t *testing.T, s *kv.Store, clock *kvtest.Clock) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); s.LevelZero() > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d tables are not merged", s.LevelZero())
		}
		clock.Advance(time.Second)
	}
	s.AwaitMerge()
}

func mustHold(t *testing.T, s *kv.Store, held map[string]string) {
	t.Helper()
	for key, want := range held {
		if got, _, err := s.Get(key); err != nil || got == nil || !bytes.Equal(got.Value, []byte(want)) {
			t.Fatalf("%s is not what was written: %v", key, err)
		}
	}
}

func TestTablesAreMergedWhenTheWritesPause(t *testing.T) {
	clock := kvtest.NewClock()
	o := kv.Options{Clock: clock, Dir: t.TempDir()}
	s, _ := kvtest.Open(t, o)
	held := writeTables(t, s, 7) // more than are merged: the time stands still
	awaitMerged(t, s, clock)
	mustHold(t, s, held)

	held = writeTables(t, s, 6)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, _ = kvtest.Open(t, o)
	if s.LevelZero() < 6 {
		t.Errorf("%d tables after the restart, want what there was", s.LevelZero())
	}
	awaitMerged(t, s, clock)
	mustHold(t, s, held)
}

// TestManyTablesAreMergedWithoutAPause: while the writes go on, tables become fewer
// again and again; when they have paused, nothing runs any more.
func TestManyTablesAreMergedWithoutAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := kv.Options{}
		o.SetManyTables(7)
		s, _ := kvtest.Open(t, o)
		held := map[string]string{}
		fewer, was := 0, 0
		for i := 0; fewer < 3; i++ {
			key := fmt.Sprint("/", i%40)
			held[key] = fmt.Sprint(i) + strings.Repeat("x", 500<<10)
			mustPut(t, s, key, held[key])
			time.Sleep(20 * time.Millisecond)
			n := s.LevelZero()
			if n < was {
				fewer++
			}
			if was = n; i > 2000 {
				t.Fatalf("tables became fewer %d times in %d writes, and are %d", fewer, i, n)
			}
		}
		mustHold(t, s, held)
		time.Sleep(time.Minute)
		if n := s.LevelZero(); n >= 7 {
			t.Errorf("%d tables are left after the writes", n)
		}
		idles(t)
		mustHold(t, s, held)
		if err := s.Close(); err != nil { // or its tickers would not let the time stand
			t.Error(err)
		}
	})
}

// runs counts, as the runtime samples them, how often a goroutine of the process
// began to run.
func runs() (n uint64) {
	sample := []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	metrics.Read(sample)
	for _, c := range sample[0].Value.Float64Histogram().Counts {
		n += c
	}
	return n
}

// idles sees to it that an hour in which nothing is written takes next to nothing.
// Compactors that look for work twenty times a second would run 72,000 times each,
// of which the runtime samples every eighth.
func idles(t *testing.T) {
	t.Helper()
	before := runs()
	time.Sleep(time.Hour)
	if n := runs() - before; n > 2000 {
		t.Errorf("goroutines began to run %d times, as far as they were sampled", n)
	}
}

func TestIdleStoreHardlyRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := kvtest.Open(t, kv.Options{})
		mustPut(t, s, "/a", "1")
		idles(t)
		if err := s.Close(); err != nil { // or its tickers would not let the time stand
			t.Error(err)
		}
	})
}
