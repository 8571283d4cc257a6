package raftlog

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leat-dev/leat/raftlog/vfs/errorfs"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

// stall makes operations hang, for as long as it is on.
type stall struct {
	mu     sync.Mutex
	hangs  func(op errorfs.Op, name string) bool // nil: nothing does
	answer chan struct{}
	hung   atomic.Int64
}

func (s *stall) hook(op errorfs.Op, name string) error {
	s.mu.Lock()
	hangs, answer := s.hangs, s.answer
	s.mu.Unlock()
	if hangs != nil && hangs(op, name) {
		s.hung.Add(1)
		<-answer
	}
	return nil
}

func (s *stall) begin(hangs func(errorfs.Op, string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hangs, s.answer = hangs, make(chan struct{})
}

func (s *stall) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hangs = nil
	close(s.answer)
}

func hangs(ops ...errorfs.Op) func(errorfs.Op, string) bool {
	return func(op errorfs.Op, name string) bool {
		for _, o := range ops {
			if o == op && (o == errorfs.Free || filepath.Ext(name) == ".seg" || strings.HasSuffix(name, ".tmp")) {
				return true
			}
		}
		return false
	}
}

// A disk that hangs, in whatever operation: who waits is answered when its time
// is up, and does not know; who comes once that is noticed is refused at once,
// with nothing written; what is stored can be read. When the disk answers, the
// group goes on by itself: all that was acknowledged is there, in one place, and
// nothing that was refused.
func TestStalledDisk(t *testing.T) {
	for name, ops := range map[string][]errorfs.Op{
		"write": {errorfs.Write}, "sync": {errorfs.Sync}, "free space": {errorfs.Free},
		"everything": {errorfs.Write, errorfs.Sync, errorfs.Free, errorfs.Preallocate, errorfs.Rename},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { stalledDisk(t, ops) })
		})
	}
}

func stalledDisk(t *testing.T, ops []errorfs.Op) {
	disk := memfs.New(0)
	var s stall
	const pending = 4 << 10
	g, c := openGroup(t, "/g", func(o *Options) {
		o.FS, o.StallAfter, o.MaxPendingBytes, o.MaxEntryBytes = errorfs.Wrap(disk, s.hook), 5*time.Second, pending, 1<<10
		o.Fatal = func(err error) { t.Errorf("fatal: %v", err) }
	})
	for i := range 20 {
		propose(t, g, command(i))
	}
	before := g.Applied()
	time.Sleep(time.Second) // the reading of the free space is old

	s.begin(hangs(ops...))
	var mu sync.Mutex
	outcome := map[string]error{}
	var wg sync.WaitGroup
	try := func(cmd string, patience time.Duration) {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			began := time.Now()
			_, err := g.Propose(ctx, Events, []byte(cmd))
			if took := time.Since(began); took > patience {
				t.Errorf("%.10s took %v, and had %v", cmd, took, patience)
			}
			mu.Lock()
			defer mu.Unlock()
			outcome[cmd] = err
		})
	}
	large := func(i int) string { return command(100+i) + strings.Repeat(" ", 200) }
	for i := range 100 { // many times what may wait
		try(large(i), 3*time.Second)
	}
	try(command(50), time.Minute) // has the patience
	time.Sleep(4 * time.Second)
	synctest.Wait()
	if s.hung.Load() == 0 {
		t.Fatal("nothing hangs: too little is tested")
	}
	g.coalescer.mu.Lock()
	if g.coalescer.pending > pending {
		t.Errorf("%d bytes wait, %d may", g.coalescer.pending, pending)
	}
	g.coalescer.mu.Unlock()
	mu.Lock()
	if len(outcome) < 100 {
		t.Errorf("%d of 100 were answered", len(outcome))
	}
	mu.Unlock()
	if d := g.Stalled(); d != 0 {
		t.Errorf("told after %v", d)
	}
	time.Sleep(2 * time.Second)
	if d := g.Stalled(); d < 5*time.Second || d > 7*time.Second {
		t.Errorf("stalled for %v", d)
	}
	began := time.Now()
	for i := range 10 {
		if _, err := g.Propose(t.Context(), Events, []byte(command(60+i))); !errors.Is(err, ErrStalled) {
			t.Errorf("during a stall that was noticed: %v", err)
		}
	}
	if took := time.Since(began); took != 0 {
		t.Errorf("refused after %v", took)
	}
	for i := range before {
		if _, err := g.ReadEntry(i + 1); err != nil {
			t.Errorf("entry %d: %v", i+1, err)
		}
	}
	time.Sleep(time.Hour)
	s.end()
	wg.Wait()
	synctest.Wait()
	propose(t, g, command(99))
	if d := g.Stalled(); d != 0 {
		t.Errorf("stalled for %v although the disk answers", d)
	}
	closeGroup(t, g)
	times := map[string]int{}
	for _, cmd := range c.commands {
		times[cmd]++
	}
	for cmd, err := range outcome {
		switch n := times[cmd]; {
		case err == nil && n != 1, n > 1:
			t.Errorf("%.10s: %d times, outcome %v", cmd, n, err)
		case err != nil && !errors.Is(err, ErrUnknownOutcome) && n != 0:
			t.Errorf("%.10s: is there, although refused: %v", cmd, err)
		}
	}
	for i := range 10 {
		if times[command(60+i)] != 0 {
			t.Errorf("command %d is there, although refused", 60+i)
		}
	}
	again := c.commands
	reopen(t, disk, func(_ *Group, c *counter) {
		if strings.Join(again, "\n") != strings.Join(c.commands, "\n") {
			t.Errorf("%d commands after a restart, %d before", len(c.commands), len(again))
		}
	})
}

// A group whose disk hangs is closed within the time there is for it.
func TestCloseOfAStalledGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s stall
		g, _ := openGroup(t, "/g", func(o *Options) { o.FS = errorfs.Wrap(memfs.New(0), s.hook) })
		s.begin(hangs(errorfs.Sync))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := g.Propose(ctx, Events, []byte("x")); !errors.Is(err, ErrUnknownOutcome) {
			t.Error(err)
		}
		wait, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		if err := g.Close(wait); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 10*time.Second {
			t.Errorf("close: %v after %v", err, time.Since(began))
		}
		s.end()
		g.wg.Wait() // nobody is left behind
		g.raft.Shutdown().Error()
	})
}
