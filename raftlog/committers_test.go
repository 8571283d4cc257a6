package raftlog

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestCommittersBesideEachOther: some commit what they have begun, others wait for
// what they propose, small and large, and snapshots are taken, until the group is
// closed amid that. Each command is answered once; those that are said to be there
// are, as they were, also for who opens the group again.
func TestCommittersBesideEachOther(t *testing.T) {
	dir := t.TempDir()
	g, _ := openGroup(t, dir, func(o *Options) { o.SegmentBytes = 4 << 20 })
	propose(t, g, "first") // the space that is free is known then
	const each = 150
	var begun, told atomic.Int64
	var mu sync.Mutex
	outcomes := map[string]error{}
	note := func(cmd string, err error) {
		told.Add(1)
		mu.Lock()
		defer mu.Unlock()
		if _, twice := outcomes[cmd]; twice {
			t.Errorf("%.20q is answered twice", cmd)
		}
		outcomes[cmd] = err
	}
	var all, half sync.WaitGroup
	for n := range 3 {
		half.Add(1)
		all.Go(func() {
			for i := range each {
				if i == each/2 {
					half.Done()
				}
				for k := range 1 + i%3 {
					cmd := fmt.Sprintf("begun %d %d %d", n, i, k)
					err := g.Begin(Events, []byte(cmd), time.Now().Add(time.Minute), func(err error) { note(cmd, err) })
					if err == nil {
						begun.Add(1)
					} else if !errors.Is(err, ErrClosed) && !errors.Is(err, ErrWouldWait) {
						t.Error(err)
					}
				}
				if i%7 == 6 {
					g.Flush()
				} else {
					g.Commit()
				}
			}
		})
	}
	for n, size := range []int{10, 40 << 10, 100 << 10} {
		half.Add(1)
		all.Go(func() {
			for i := range each {
				if i == each/2 {
					half.Done()
				}
				cmd := fmt.Sprintf("proposed %d %d %s", n, i, strings.Repeat(string(rune('a'+i%26)), size))
				begun.Add(1)
				_, err := g.Propose(t.Context(), Events, []byte(cmd))
				note(cmd, err)
			}
		})
	}
	all.Go(func() {
		for range 10 {
			if err := g.Snapshot(); err != nil && told.Load() == 0 {
				t.Error(err)
			}
		}
	})
	half.Wait()
	if err := g.Close(t.Context()); err != nil {
		t.Error(err)
	}
	all.Wait()
	if b, n := begun.Load(), told.Load(); b != n {
		t.Errorf("%d of %d are answered when the group is closed", n, b)
	}
	g, c := openGroup(t, dir, func(o *Options) { o.SegmentBytes = 4 << 20 })
	defer g.Close(t.Context())
	there := map[string]int{}
	for _, cmd := range c.commands {
		there[cmd]++
	}
	good := 0
	for cmd, err := range outcomes {
		if err == nil {
			good++
		}
		if n := there[cmd]; err == nil && n != 1 || errors.Is(err, ErrClosed) && n != 0 {
			t.Errorf("%.20q is there %d times, after %v", cmd, n, err)
		}
	}
	if good == 0 || good == len(outcomes) {
		t.Errorf("%d of %d came before the end", good, len(outcomes))
	}
}
