package server

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryGoesBackWhenTheLoadIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at usage
		var cached int64
		given, dropped := 0, 0
		k := &keeper{
			every: time.Second, logger: slog.New(slog.DiscardHandler),
			usage: func() usage { return at },
			give:  func() error { given++; at.spare = 0; return nil },
			drop:  func() error { dropped++; return nil },
			forget: []func() int64{func() int64 {
				was := cached
				cached = 0
				return was
			}},
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- k.run(ctx) }()
		step := func(what string, allocated, spare int64, want int) {
			t.Helper()
			at.allocated += allocated
			at.spare += spare
			time.Sleep(time.Second)
			synctest.Wait()
			if given != want {
				t.Errorf("%s: memory was given back %d times, want %d", what, given, want)
			}
		}
		synctest.Wait()
		if given != 1 {
			t.Fatalf("after the start memory was given back %d times", given)
		}
		time.Sleep(time.Second / 2) // the looks are between the steps
		step("under load", 1<<30, 100<<20, 1)
		if dropped != 1 {
			t.Errorf("under load the program was dropped %d times, want once", dropped)
		}
		step("when the load is over", 1<<20, 0, 2)
		step("idle", 1<<20, 1<<20, 2)
		step("idle, until there is enough of it", 1<<20, worthGivingBack, 3)
		cached = worthGivingBack
		step("under load caches are left alone", 1<<30, 0, 3)
		if cached == 0 {
			t.Error("a cache was emptied under load")
		}
		step("then what they hold counts", 1<<20, 0, 4)
		for range 3 {
			cached = worthGivingBack / 4
			step("idle, with little in them", 1<<20, 0, 4)
		}
		cached = worthGivingBack / 4
		step("idle, until that is enough", 1<<20, 0, 5)
		if dropped != 2 { // memory that is given back is the program's too
			t.Errorf("the program was dropped %d times under load, want twice", dropped)
		}
		step("under a load that leaves little", 1<<30, 0, 5)
		step("then there is nothing to give back", 1<<20, 0, 5)
		if dropped != 4 {
			t.Errorf("the program was dropped %d times, want once more under load, and once after it", dropped)
		}
		step("idle", 1<<20, 0, 5)
		if dropped != 4 {
			t.Errorf("the program was dropped %d times, though nobody used it", dropped)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestMemoryOfTheStartGoesBack: what comes after the server was ready is the
// start's as well, and goes back however little it is.
func TestMemoryOfTheStartGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at usage
		given := 0
		k := &keeper{
			every: time.Second, logger: slog.New(slog.DiscardHandler), usage: func() usage { return at },
			give: func() error { given++; return nil }, drop: func() error { return nil },
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- k.run(ctx) }()
		step := func(what string, allocated int64, want int) {
			t.Helper()
			at.allocated += allocated
			time.Sleep(time.Second)
			synctest.Wait()
			if given != want {
				t.Errorf("%s: memory was given back %d times, want %d", what, given, want)
			}
		}
		time.Sleep(time.Second / 2) // the looks are between the steps
		step("while it goes on", 1<<30, 1)
		step("when it has ended", 1<<20, 2)
		step("idle", 1<<20, 2)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestGarbageGathersBesideASmallHeap(t *testing.T) {
	var paced []int
	room := int64(0)
	k := &keeper{garbage: 128 << 20, room: func() int64 { return room }, pace: func(percent int) { paced = append(paced, percent) }}
	for _, live := range []int64{0, 32 << 20, 33 << 20, 64 << 20, 256 << 20, 1 << 30, 1 << 20} {
		k.setPace(live)
	}
	if want := []int{400, 200, 50, 1000}; !slices.Equal(paced, want) {
		t.Errorf("garbage is collected at %d percent, want %d", paced, want)
	}
	paced, room = nil, 64<<20 // caches are empty, and then full again
	k.setPace(64 << 20)
	room = 0
	k.setPace(64 << 20)
	if want := []int{300, 200}; !slices.Equal(paced, want) {
		t.Errorf("beside empty caches garbage is collected at %d percent, want %d", paced, want)
	}
	k.pace, k.percent = nil, 0 // GOGC says how
	k.setPace(64 << 20)
}

// TestEachCollectionIsTold: one after the other, until it is over.
func TestEachCollectionIsTold(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := collections(ctx)
	for i := range 3 {
		select {
		case <-told:
		case <-time.After(20 * time.Second):
			t.Fatalf("collection %d was not told of", i)
		}
		runtime.GC()
	}
}
