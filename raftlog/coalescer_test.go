package raftlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leat-dev/leat/raftlog/segment"
)

func noLimit(context.Context, Class) error { return nil }

// committed answers each entry at once.
func committed(entry func(data []byte) ([]any, error)) commitFunc {
	return func(data []byte, _ *Buffer, _ []segment.Sum) ([]any, error) { return entry(data) }
}

// echo answers each command with itself.
func echo(data []byte) ([]any, error) {
	_, commands, err := decodeEntry(data)
	results := make([]any, len(commands))
	for i, c := range commands {
		results[i] = string(c)
	}
	return results, err
}

func TestCoalescerPacksWhatArrivesWhileAnEntryIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var entries []int
		release := make(chan struct{})
		c := newCoalescer(1<<20, 1<<20, time.Now, noLimit, committed(func(data []byte) ([]any, error) {
			<-release
			results, err := echo(data)
			entries = append(entries, len(results))
			return results, err
		}))
		ctx, stop := context.WithCancel(t.Context())
		go c.run(ctx)
		var wg sync.WaitGroup
		for i := range 101 {
			wg.Go(func() {
				want := fmt.Sprint("command ", i)
				got, err := c.propose(ctx, Events, []byte(want))
				if err != nil || got != want {
					t.Errorf("got %v, %v; want %s", got, err, want)
				}
			})
			if i == 0 {
				synctest.Wait() // the first is in flight before the others come
			}
		}
		synctest.Wait()
		release <- struct{}{}
		release <- struct{}{}
		wg.Wait()
		if len(entries) != 2 || entries[0] != 1 || entries[1] != 100 {
			t.Errorf("entries of %v commands, want [1 100]", entries)
		}
		stop()
		<-c.stopped
	})
}

func TestCoalescerBoundsAnEntryButTakesOneLargeCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		release := make(chan struct{})
		c := newCoalescer(1000, 1<<20, time.Now, noLimit, committed(func(data []byte) ([]any, error) {
			<-release
			sizes = append(sizes, len(data))
			return echo(data)
		}))
		ctx, stop := context.WithCancel(t.Context())
		go c.run(ctx)
		var wg sync.WaitGroup
		for _, size := range []int{1, 400, 400, 400, 5000} {
			wg.Go(func() {
				if _, err := c.propose(ctx, Events, make([]byte, size)); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		close(release)
		wg.Wait()
		want := []int{1, 800, 400, 5000}
		if len(sizes) != len(want) {
			t.Fatalf("entries of %v bytes, want about %v", sizes, want)
		}
		for i := range want {
			if sizes[i] < want[i] || sizes[i] > want[i]+32 {
				t.Errorf("entries of %v bytes, want about %v", sizes, want)
			}
		}
		stop()
		<-c.stopped
	})
}

func TestCoalescerRefusesBeyondItsBoundButControlCommandsPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		c := newCoalescer(1<<20, 1000, time.Now, noLimit, committed(func(data []byte) ([]any, error) {
			<-release
			return echo(data)
		}))
		ctx, stop := context.WithCancel(t.Context())
		go c.run(ctx)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.propose(ctx, Events, make([]byte, 900)); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		if _, err := c.propose(ctx, Events, make([]byte, 200)); !errors.Is(err, ErrOverloaded) {
			t.Errorf("got %v, want ErrOverloaded", err)
		}
		wg.Go(func() {
			if _, err := c.propose(ctx, Control, make([]byte, 200)); err != nil {
				t.Errorf("a control command was refused: %v", err)
			}
		})
		synctest.Wait()
		close(release)
		wg.Wait()
		if _, err := c.propose(ctx, Events, make([]byte, 900)); err != nil {
			t.Errorf("what was written still counts: %v", err)
		}
		stop()
		<-c.stopped
	})
}

func TestCoalescerAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail := errors.New("stepped down")
		commits := 0
		hold := make(chan struct{})
		c := newCoalescer(1<<20, 1<<20, time.Now, noLimit, committed(func(data []byte) ([]any, error) {
			commits++
			switch commits {
			case 1:
				return nil, fail
			case 2:
				<-hold
			}
			return echo(data)
		}))
		ctx, stop := context.WithCancel(t.Context())
		go c.run(ctx)
		if _, err := c.propose(ctx, Events, nil); !errors.Is(err, fail) {
			t.Errorf("got %v, want the commit's error", err)
		}
		impatient, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if _, err := c.propose(impatient, Events, []byte("slow")); !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want an unknown outcome by deadline", err)
		}
		waiting := make(chan error)
		go func() { _, err := c.propose(context.WithoutCancel(ctx), Events, []byte("waits")); waiting <- err }()
		synctest.Wait()
		stop()
		close(hold)
		if err := <-waiting; !errors.Is(err, ErrClosed) && err != nil {
			t.Errorf("got %v, want it written or ErrClosed", err)
		}
		<-c.stopped
		if _, err := c.propose(t.Context(), Events, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	})
}

func TestCoalescerFinishesOneEntryAndRefusesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		c := newCoalescer(1<<20, 1<<20, time.Now, noLimit, committed(func(data []byte) ([]any, error) {
			<-release
			return echo(data)
		}))
		ctx, stop := context.WithCancel(t.Context())
		go c.run(ctx)
		answers := [2]chan error{make(chan error, 1), make(chan error, 1)}
		for _, answer := range answers {
			go func() { _, err := c.propose(t.Context(), Events, []byte("x")); answer <- err }()
			synctest.Wait()
		}
		stop()
		close(release)
		if err := <-answers[0]; err != nil {
			t.Errorf("the entry in flight: %v", err)
		}
		if err := <-answers[1]; !errors.Is(err, ErrClosed) {
			t.Errorf("what waited: %v", err)
		}
		<-c.stopped
	})
}

func TestLogTimeNeverGoesBack(t *testing.T) {
	now := time.UnixMicro(5_000)
	var times []int64
	c := newCoalescer(1<<20, 1<<20, func() time.Time { return now }, noLimit, committed(func(data []byte) ([]any, error) {
		at, _, err := decodeEntry(data)
		times = append(times, at)
		return make([]any, 1), err
	}))
	ctx, stop := context.WithCancel(t.Context())
	defer func() { stop(); <-c.stopped }()
	go c.run(ctx)
	propose := func() {
		if _, err := c.propose(ctx, Events, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	propose()
	now = time.UnixMicro(1_000) // the machine's clock is set back
	propose()
	c.observeTime(9_000) // another member's clock was ahead
	propose()
	now = time.UnixMicro(10_000)
	propose()
	want := []int64{5_000, 5_000, 9_000, 10_000}
	for i := range want {
		if times[i] != want[i] {
			t.Errorf("times %v, want %v", times, want)
			break
		}
	}
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{entryVersion, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Add(append([]byte{entryVersion, 1, 2, 3, 4, 5, 6, 7, 8}, 3, 'a', 'b', 'c', 0, 1, 'd'))
	f.Add(append([]byte{entryVersion, 1, 2, 3, 4, 5, 6, 7, 8}, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		at, commands, err := decodeEntry(data)
		if err != nil {
			return
		}
		b := append([]byte{entryVersion}, make([]byte, 8)...)
		binary.LittleEndian.PutUint64(b[1:], uint64(at))
		total := 0
		for _, c := range commands {
			b = binary.AppendUvarint(b, uint64(len(c)))
			b = append(b, c...)
			total += len(c)
		}
		again, repeated, err := decodeEntry(b)
		if err != nil || again != at || len(repeated) != len(commands) || total > len(data) {
			t.Errorf("does not read back: %v", err)
		}
	})
}

// TestSmallEntryHoldsLittleMemory, also after a large one: entries are kept in
// memory for long.
func TestSmallEntryHoldsLittleMemory(t *testing.T) {
	size, took := 0, 0
	c := newCoalescer(1<<20, 1<<20, time.Now, noLimit, committed(func(data []byte) ([]any, error) {
		took = cap(data)
		return nil, nil
	}))
	for _, size = range []int{1, 200 << 10, 1, 200 << 10, 200 << 10, 3000, 1} {
		if _, _, err := c.add(Events, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		c.commitHere()
		if took > size+size/4+64 && (size < largeCommand || took > 2*size+64) {
			t.Errorf("%d bytes take %d", size, took)
		}
	}
}
