package raftlog

import (
	"bytes"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"
)

// TestGatheringLeavesLittleGarbage: whatever commands an entry is made of, what is
// allocated for it is little more than what it keeps.
func TestGatheringLeavesLittleGarbage(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which empties the pool of buffers
	c := newCoalescer(1<<20, 8<<20, time.Now, noLimit, nil)
	entry := func(sizes ...int) int {
		for i, size := range sizes {
			if _, _, _, err := c.add(Events, bytes.Repeat([]byte{byte(i)}, size)); err != nil {
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
		c.finish(b, make([]any, b.n), nil)
		return len(b.buf)
	}
	kept, handed := 0, 0
	var before, after runtime.MemStats
	for round := range 21 {
		if round == 1 { // the buffers have become as large as they are needed
			runtime.ReadMemStats(&before)
			kept, handed = 0, 0
		}
		for _, sizes := range [][]int{slices.Repeat([]int{16 << 10}, 50), {1}, slices.Repeat([]int{80 << 10}, 12), {40 << 10}, slices.Repeat([]int{1 << 10}, 100)} {
			kept += entry(sizes...)
			for _, size := range sizes {
				handed += size
			}
		}
	}
	runtime.ReadMemStats(&after)
	// Beside the commands themselves, which are made for the test.
	if took := int(after.TotalAlloc-before.TotalAlloc) - handed; took > 2*kept {
		t.Errorf("%d bytes were allocated for entries of %d", took, kept)
	}
}
