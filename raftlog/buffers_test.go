package raftlog

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leat-dev/leat/raftlog/segment"
	"github.com/leat-dev/leat/raftlog/vfs"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

// TestGatheringLeavesLittleGarbage: whatever commands an entry is made of, what is
// allocated for it is little more than what it keeps.
func TestGatheringLeavesLittleGarbage(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which empties the pool of buffers
	var sizes []int
	kept := 0
	c := newCoalescer(1<<20, 8<<20, time.Now, noLimit, committed(func(data []byte) ([]any, error) {
		_, commands, err := decodeEntry(data)
		if err != nil || len(commands) != len(sizes) {
			t.Fatalf("%d commands of %d, %v", len(commands), len(sizes), err)
		}
		for i, cmd := range commands {
			if len(cmd) != sizes[i] || bytes.Count(cmd, []byte{byte(i)}) != sizes[i] {
				t.Errorf("command %d of %v does not read back", i, sizes)
			}
		}
		kept += len(data)
		return nil, nil
	}))
	entry := func() {
		for i, size := range sizes {
			if _, _, err := c.add(Events, bytes.Repeat([]byte{byte(i)}, size)); err != nil {
				t.Fatal(err)
			}
		}
		c.commitHere()
	}
	// The best of many rounds, as the pool may lose a buffer at any time, and does
	// so at random under the race detector.
	garbage := math.Inf(1) // for each byte that is kept
	var before, after runtime.MemStats
	for range 40 {
		handed := 0
		kept = 0
		runtime.ReadMemStats(&before)
		for _, sizes = range [][]int{slices.Repeat([]int{16 << 10}, 50), {1}, slices.Repeat([]int{80 << 10}, 12), {40 << 10}, slices.Repeat([]int{1 << 10}, 100)} {
			entry()
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
		c := newCoalescer(8<<10, 1<<20, time.Now, noLimit, func(data []byte, in *Buffer, _ []segment.Sum) ([]any, error) {
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

// piecesFS counts direct writes, and those of them that take from several places in
// memory.
type piecesFS struct {
	vfs.FS
	writes, gathered atomic.Int64
}

func (f *piecesFS) OpenDirect(name string) (vfs.DirectFile, error) {
	file, err := f.FS.OpenDirect(name)
	return piecesFile{file, f}, err
}

type piecesFile struct {
	vfs.DirectFile
	fs *piecesFS
}

func (f piecesFile) WriteAt(off int64, pieces ...[]byte) (int, error) {
	f.fs.writes.Add(1)
	if len(pieces) > 1 {
		f.fs.gathered.Add(1)
	}
	return f.DirectFile.WriteAt(off, pieces...)
}

// A large entry is gathered where it lies as it will in its file, also behind others
// that wait and of which the segment is known, and so is not copied to be written.
func TestLargeEntriesAreWrittenFromWhereTheyWereGathered(t *testing.T) {
	fsys := &piecesFS{FS: memfs.New(0)}
	g, c := openGroup(t, "/data", func(o *Options) {
		o.FS, o.SegmentBytes, o.MaxEntryBytes, o.DirectBytes = fsys, 16<<20, 512<<10, 100<<10
	})
	var want []string
	begin := func(size int) <-chan error {
		want = append(want, strings.Repeat(string(rune('a'+len(want)%26)), size))
		done := make(chan error, 1)
		w := waiter{class: Events, by: time.Now().Add(time.Minute), done: func(err error) { done <- err }}
		if err := g.coalescer.begin(w, []byte(want[len(want)-1])); err != nil {
			t.Fatal(err)
		}
		return done
	}
	// Several wait at a time: large ones, small ones between them, and one that is
	// larger than what is gathered.
	for round := range 10 {
		var told []<-chan error
		for _, size := range []int{400 << 10, 100 << 10, 700<<10 + round, 10, 300<<10 + 7*round, 450 << 10} {
			told = append(told, begin(size))
		}
		g.Flush()
		for _, done := range told {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	}
	if w, n := fsys.writes.Load(), fsys.gathered.Load(); w < 40 || n < w-5 { // but for what begins in the next segment
		t.Errorf("of %d direct writes %d were from where their entries were gathered", w, n)
	}
	if !slices.Equal(c.commands, want) {
		t.Error("what was applied is not what was begun")
	}
	for i, cmd := range want {
		row, ok, err := g.Find(7, 1, uint64(i))
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		e, err := g.ReadEntry(row.Index)
		if err != nil || string(e.Commands[i-int(row.Base)]) != cmd {
			t.Fatalf("command %d does not read back: %v", i, err)
		}
	}
	closeGroup(t, g)
}

// What large entries leave of the buffers that they were gathered in is used by the
// next ones, while somebody keeps those.
func TestEntriesShareTheBuffersTheyAreGatheredIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var kept []*Buffer
		var content [][]byte
		c := newCoalescer(1<<20, 8<<20, time.Now, noLimit, func(data []byte, in *Buffer, _ []segment.Sum) ([]any, error) {
			in.Hold()
			kept, content = append(kept, in), append(content, data)
			return nil, nil
		})
		c.reuse, c.reused = true, spoil
		ctx, stop := context.WithCancel(t.Context())
		go c.run(ctx)
		cmd := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 300<<10) }
		for i := range 20 {
			if _, err := c.propose(ctx, Events, cmd(i)[:1], cmd(i)[1:]); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		<-c.stopped
		for i, data := range content {
			if _, commands, err := decodeEntry(data); err != nil || len(commands) != 1 || !bytes.Equal(commands[0], cmd(i)) {
				t.Errorf("entry %d is not kept: %v", i, err)
			}
		}
		if n := len(slices.Compact(kept)); n > 4 {
			t.Errorf("20 entries of 300 KiB hold %d buffers of 2 MiB", n)
		}
	})
}

// An entry is not written before the commands are in it that others copy there, who
// may be slow.
func TestEntryWaitsForWhatIsBeingCopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		written := make(chan string, 1)
		c := newCoalescer(1<<20, 8<<20, time.Now, noLimit, func(data []byte, _ *Buffer, _ []segment.Sum) ([]any, error) {
			written <- string(data[entryHeaderSize:])
			return nil, nil
		})
		c.reuse = true
		c.mu.Lock()
		b, slow, err := c.reserve(Events, 4)
		if err != nil {
			t.Fatal(err)
		}
		b.copying++
		c.mu.Unlock()
		ctx, stop := context.WithCancel(t.Context())
		go c.run(ctx)
		synctest.Wait()
		select {
		case got := <-written:
			t.Fatalf("%q was written", got)
		default:
		}
		copy(slow, "slow")
		c.mu.Lock()
		b.copying--
		c.copied.Broadcast()
		c.mu.Unlock()
		if got := <-written; got != "\x04slow" {
			t.Errorf("%q was written", got)
		}
		stop()
		<-c.stopped
	})
}

// Commands of all sizes from many callers are each where its caller has put it, with
// the sum that it has there.
func TestCommandsThatAreCopiedBesideEachOther(t *testing.T) {
	g, c := openGroup(t, "/data", func(o *Options) {
		o.FS, o.SegmentBytes, o.MaxEntryBytes, o.DirectBytes = memfs.New(0), 16<<20, 512<<10, 100<<10
	})
	const callers, each = 16, 20
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for j := range each {
				cmd := []byte(fmt.Sprintf("%02d %02d", i, j) + strings.Repeat(string(rune('a'+i)), (i*each+j)*317))
				if _, err := g.ProposeWith(t.Context(), Events, cmd[:5], cmd[5:]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for i, cmd := range c.commands {
		var caller, n int
		if _, err := fmt.Sscanf(cmd[:5], "%d %d", &caller, &n); err != nil || cmd[5:] != strings.Repeat(string(rune('a'+caller)), (caller*each+n)*317) {
			t.Fatalf("command %d is not one that was proposed: %v", i, err)
		}
		seen[cmd[:5]] = true
		row, ok, err := g.Find(7, 1, uint64(i))
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		if e, err := g.ReadEntry(row.Index); err != nil || string(e.Commands[i-int(row.Base)]) != cmd {
			t.Fatalf("command %d does not read back: %v", i, err)
		}
	}
	if len(seen) != callers*each {
		t.Errorf("%d of %d commands are there", len(seen), callers*each)
	}
	closeGroup(t, g)
}
