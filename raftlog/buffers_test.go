package raftlog

import (
	"bytes"
	"context"
	"math"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestGatheringLeavesLittleGarbage: whatever commands an entry is made of, what is
// allocated for it is little more than what it keeps.
func TestGatheringLeavesLittleGarbage(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which empties the pool of buffers
	c := newCoalescer(1<<20, 8<<20, time.Now, noLimit, nil)
	entry := func(sizes ...int) int {
		for i, size := range sizes {
			if _, _, err := c.add(Events, bytes.Repeat([]byte{byte(i)}, size)); err != nil {
				t.Fatal(err)
			}
		}
		b := c.cut()
		c.own(b)
		_, commands, err := decodeEntry(b.buf)
		if err != nil || len(commands) != len(sizes) {
			t.Fatalf("%d commands of %d, %v", len(commands), len(sizes), err)
		}
		for i, cmd := range commands {
			if len(cmd) != sizes[i] || bytes.Count(cmd, []byte{byte(i)}) != sizes[i] {
				t.Errorf("command %d of %v does not read back", i, sizes)
			}
		}
		kept := len(b.buf)
		c.finish(b, make([]any, b.n), nil)
		return kept
	}
	// The best of many rounds, as the pool may lose a buffer at any time, and does
	// so at random under the race detector.
	garbage := math.Inf(1) // for each byte that is kept
	var before, after runtime.MemStats
	for range 40 {
		kept, handed := 0, 0
		runtime.ReadMemStats(&before)
		for _, sizes := range [][]int{slices.Repeat([]int{16 << 10}, 50), {1}, slices.Repeat([]int{80 << 10}, 12), {40 << 10}, slices.Repeat([]int{1 << 10}, 100)} {
			kept += entry(sizes...)
			for _, size := range sizes {
				handed += size
			}
		}
		runtime.ReadMemStats(&after)
		// Beside the commands themselves, which are made for the test.
		took := int(after.TotalAlloc-before.TotalAlloc) - handed
		garbage = min(garbage, float64(took-kept)/float64(kept))
	}
	if garbage > 0.2 {
		t.Errorf("%.2f bytes of garbage for each byte of an entry", garbage)
	}
}

// TestEntriesThatNobodyKeepsTakeNoRoom in memory that is used again, whatever lies
// beside them there is kept.
func TestEntriesThatNobodyKeepsTakeNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var kept []*Buffer
		c := newCoalescer(8<<10, 1<<20, time.Now, noLimit, func(data []byte, in *Buffer) ([]any, error) {
			if bytes.HasSuffix(data, []byte("keep")) {
				in.Hold()
				kept = append(kept, in)
			}
			return make([]any, 1), nil
		})
		c.reuse, c.reused = true, spoil
		ctx, stop := context.WithCancel(t.Context())
		go c.run(ctx)
		for i := range 1000 {
			for _, cmd := range []string{"keep", string(make([]byte, 3000)), string(make([]byte, 100))} {
				if cmd == "keep" && i%50 > 0 { // few, and small: one buffer takes them all
					continue
				}
				if _, err := c.propose(ctx, Events, []byte(cmd)); err != nil {
					t.Fatal(err)
				}
			}
		}
		stop()
		<-c.stopped
		if n := len(slices.Compact(kept)); len(kept) != 20 || n != 1 {
			t.Errorf("20 small entries that are kept hold %d buffers", n)
		}
	})
}
