package raftlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

// outcomes notes what became of commands that were begun.
type outcomes struct {
	mu   sync.Mutex
	told map[string][]error
}

func (o *outcomes) of(name string) func(error) {
	return func(err error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.told == nil {
			o.told = map[string][]error{}
		}
		o.told[name] = append(o.told[name], err)
	}
}

// expect says what all were told, each once.
func (o *outcomes) expect(t *testing.T, want map[string]error) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.told) != len(want) {
		t.Errorf("%d were told, want %d: %v", len(o.told), len(want), o.told)
	}
	for name, err := range want {
		if got := o.told[name]; len(got) != 1 || !errors.Is(got[0], err) {
			t.Errorf("%s was told %v, want %v", name, got, err)
		}
	}
}

// beginning is a coalescer in fake time, whose commits wait for release.
func beginning(t *testing.T, f func(c *coalescer, o *outcomes, begin func(name string, within time.Duration), release chan error, stop func())) {
	synctest.Test(t, func(t *testing.T) {
		refused := errors.New("not this one")
		release := make(chan error)
		c := newCoalescer(1<<20, 1<<20, time.Now, noLimit, committed(func(data []byte) ([]any, error) {
			if err := <-release; err != nil {
				return nil, err
			}
			results, err := echo(data)
			for i, r := range results {
				if r == "refused" {
					results[i] = refused
				}
			}
			return results, err
		}))
		ctx, stop := context.WithCancel(t.Context())
		go c.run(ctx)
		synctest.Wait()
		o := &outcomes{}
		f(c, o, func(name string, within time.Duration) {
			if err := c.begin(waiter{class: Events, by: time.Now().Add(within), done: o.of(name)}, []byte(name)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}, release, stop)
		stop()
		<-c.stopped
		if c.late != nil {
			t.Error("somebody is waited for still")
		}
	})
}

// many are more than one goroutine tells.
const many = 2*mostTold + 10

// TestBegunCommandsAreToldWhatBecame of them, once, and go with the flush.
func TestBegunCommandsAreToldWhatBecame(t *testing.T) {
	beginning(t, func(c *coalescer, o *outcomes, begin func(string, time.Duration), release chan error, _ func()) {
		for i := range many {
			begin(fmt.Sprint(i), time.Hour)
		}
		synctest.Wait()
		if c.flying != nil {
			t.Error("an entry is on its way before the flush")
		}
		c.flush()
		synctest.Wait()
		begin("refused", time.Hour)
		c.flush()
		synctest.Wait()
		o.expect(t, nil)
		release <- nil
		synctest.Wait()
		want := map[string]error{}
		for i := range many {
			want[fmt.Sprint(i)] = nil
		}
		o.expect(t, want)
		release <- nil
		synctest.Wait()
		if got := o.told["refused"]; len(got) != 1 || got[0] == nil || got[0].Error() != "not this one" {
			t.Errorf("told %v, want the error that apply gave", got)
		}
		time.Sleep(2 * time.Hour) // nobody is told that it is late
		if n := len(o.told["0"]); n != 1 {
			t.Errorf("told %d times", n)
		}
	})
}

// TestCommitIsTheCallers: who commits has made durable what was begun, and told all,
// when that returns. What comes meanwhile is for others, as is all where something is
// on its way.
func TestCommitIsTheCallers(t *testing.T) {
	beginning(t, func(c *coalescer, o *outcomes, begin func(string, time.Duration), release chan error, stop func()) {
		returned := make(chan int)
		commit := func() {
			c.commitHere()
			o.mu.Lock()
			defer o.mu.Unlock()
			returned <- len(o.told)
		}
		begin("a", time.Hour)
		begin("b", time.Hour)
		go commit()
		synctest.Wait()
		begin("c", time.Hour)
		go commit()
		if told := <-returned; told != 0 {
			t.Errorf("%d were told by who had nothing to commit", told)
		}
		release <- nil // a and b
		if told := <-returned; told != 2 {
			t.Errorf("the caller returns when %d of 2 have been told", told)
		}
		release <- nil // c
		synctest.Wait()
		o.expect(t, map[string]error{"a": nil, "b": nil, "c": nil})
		begin("last", time.Hour)
		go commit()
		synctest.Wait()
		stop()
		synctest.Wait()
		select {
		case <-c.stopped:
			t.Error("it has ended while somebody commits")
		default:
		}
		release <- nil
		<-returned
		<-c.stopped
		o.expect(t, map[string]error{"a": nil, "b": nil, "c": nil, "last": nil})
		c.commitHere() // there is nothing any more
	})
}

// TestBegunCommandsEndInTime: each by its own, in flight and in the queue; what
// becomes of them later they are not told.
func TestBegunCommandsEndInTime(t *testing.T) {
	beginning(t, func(c *coalescer, o *outcomes, begin func(string, time.Duration), release chan error, _ func()) {
		begin("flying", time.Second)
		c.flush()
		synctest.Wait()
		begin("queued", 3*time.Second)
		begin("sooner", 2*time.Second)
		begin("patient", time.Hour)
		want := map[string]error{}
		for _, name := range []string{"flying", "sooner", "queued"} {
			time.Sleep(time.Second - time.Nanosecond)
			synctest.Wait()
			o.expect(t, want)
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			want[name] = ErrUnknownOutcome
			o.expect(t, want)
		}
		release <- nil
		synctest.Wait()
		release <- nil
		synctest.Wait()
		want["patient"] = nil
		o.expect(t, want)
		time.Sleep(2 * time.Hour)
	})
}

// TestBegunCommandsAreToldOfTheEnd: those in flight what becomes of them, the
// others that nothing does.
func TestBegunCommandsAreToldOfTheEnd(t *testing.T) {
	beginning(t, func(c *coalescer, o *outcomes, begin func(string, time.Duration), release chan error, stop func()) {
		failed := errors.New("the lead is lost")
		begin("flying", time.Hour)
		begin("flying too", time.Hour)
		c.flush()
		synctest.Wait()
		begin("queued", time.Hour)
		begin("queued too", time.Hour)
		stop()
		synctest.Wait()
		o.expect(t, map[string]error{"queued": ErrClosed, "queued too": ErrClosed})
		release <- failed
		<-c.stopped
		o.expect(t, map[string]error{"queued": ErrClosed, "queued too": ErrClosed, "flying": failed, "flying too": failed})
		if err := c.begin(waiter{}, []byte("late")); !errors.Is(err, ErrClosed) {
			t.Errorf("begun after the end: %v", err)
		}
	})
}

// TestBeginOnAGroup: commands are applied in their order, are refused as those
// of Propose are, and nobody waits to learn what is free.
func TestBeginOnAGroup(t *testing.T) {
	disk := &fullDisk{FS: memfs.New(0), free: 1000}
	clock := &handClock{now: time.Unix(1e9, 0)}
	proposed := make(chan error, 10)
	g, m := openGroup(t, "/g", func(o *Options) {
		o.FS, o.Clock, o.DiskFloor, o.DiskReserve = disk, clock, 100, 10
		o.Hooks.Proposed = func(_ Class, _ time.Duration, err error) { proposed <- err }
	})
	defer closeGroup(t, g)
	clock.add(time.Second)
	begin := func(cmd string) error {
		done := make(chan error, 1)
		if err := g.Begin(Events, []byte(cmd), time.Now().Add(time.Minute), func(err error) { done <- err }); err != nil {
			return err
		}
		g.Flush()
		return <-done
	}
	if err := begin("a"); !errors.Is(err, ErrWouldWait) {
		t.Errorf("with an old reading of the space: %v", err)
	}
	if _, err := g.Propose(t.Context(), Events, []byte("a")); err != nil {
		t.Fatal(err)
	}
	if err := <-proposed; err != nil {
		t.Error(err)
	}
	for _, cmd := range []string{"b", "c"} {
		if err := begin(cmd); err != nil {
			t.Fatal(err)
		}
		if err := <-proposed; err != nil {
			t.Error(err)
		}
	}
	m.mu.Lock()
	if !slices.Equal(m.commands, []string{"a", "b", "c"}) {
		t.Errorf("applied %q", m.commands)
	}
	m.mu.Unlock()
	disk.set(50)
	clock.add(time.Second)
	huge := string(make([]byte, 64<<20))
	for _, c := range []struct {
		cmd  string
		want error
	}{{"x", ErrDiskFull}, {huge, ErrTooLarge}} {
		// Propose first, which waits for a reading of the space.
		if _, err := g.Propose(t.Context(), Events, []byte(c.cmd)); !errors.Is(err, c.want) {
			t.Errorf("proposed: %v, want %v", err, c.want)
		}
		if err := begin(c.cmd); !errors.Is(err, c.want) {
			t.Errorf("begun: %v, want %v", err, c.want)
		}
		for range 2 {
			if err := nextOf(proposed); !errors.Is(err, c.want) {
				t.Errorf("counted as %v, want %v", err, c.want)
			}
		}
	}
	clock.add(time.Second)
	if err := begin("x"); !errors.Is(err, ErrWouldWait) {
		t.Errorf("with an old reading of the space: %v", err)
	}
	if err := nextOf(proposed); !errors.Is(err, errNothing) {
		t.Errorf("what has not begun is counted, as %v", err)
	}
}

var errNothing = errors.New("nothing is there")

// nextOf is what a channel has.
func nextOf(c chan error) error {
	select {
	case err := <-c:
		return err
	default:
		return errNothing
	}
}

// TestRoomOfWaitersIsUsedAgain once all in it have been told, by however many, and
// holds nothing of them.
func TestRoomOfWaitersIsUsedAgain(t *testing.T) {
	beginning(t, func(c *coalescer, o *outcomes, begin func(string, time.Duration), release chan error, _ func()) {
		want := map[string]error{}
		var room *waiter
		for round, n := range []int{many, 1, 2, many, many / 2} {
			for i := range n {
				name := fmt.Sprint(round, "-", i)
				begin(name, time.Hour)
				want[name] = nil
			}
			if used := &c.queue[0].waiters[0]; room != nil && used != room {
				t.Errorf("round %d: %d wait in room of their own", round, n)
			}
			c.flush()
			release <- nil
			synctest.Wait()
			o.expect(t, want)
			if len(c.spare) != 1 {
				t.Fatalf("round %d: room for %d batches is kept, want that of the one", round, len(c.spare))
			}
			kept := c.spare[0][:1]
			room = &kept[0]
			for i, w := range kept[:cap(kept)] {
				if w.done != nil {
					t.Fatalf("round %d: the %d. of those who were told is held", round, i)
				}
			}
		}
	})
}

// TestBatchesAreUsedAgain once all in them have been told, but not those that somebody
// still has to look at.
func TestBatchesAreUsedAgain(t *testing.T) {
	beginning(t, func(c *coalescer, o *outcomes, begin func(string, time.Duration), release chan error, _ func()) {
		want := map[string]error{}
		round := func(n int, beside func()) (used *batch) {
			for range n {
				name := fmt.Sprint(len(want))
				begin(name, time.Hour)
				want[name] = nil
			}
			used = c.queue[0]
			beside()
			c.flush()
			release <- nil
			synctest.Wait()
			o.expect(t, want)
			return used
		}
		first := round(3, func() {})
		if again := round(1, func() {}); again != first {
			t.Error("a batch was made where one was free")
		}
		answer := make(chan any, 1)
		round(2, func() {
			go func() {
				result, err := c.propose(context.Background(), Events, []byte("proposed"))
				answer <- errors.Join(err, expectEqual(result, "proposed"))
			}()
			synctest.Wait()
		})
		if err := <-answer; err != nil {
			t.Errorf("who waits beside those who are told: %v", err)
		}
		if len(c.unused) != 0 {
			t.Error("a batch that somebody waits on is used again")
		}
	})
}

func expectEqual(got, want any) error {
	if got != want {
		return fmt.Errorf("got %v, want %v", got, want)
	}
	return nil
}
