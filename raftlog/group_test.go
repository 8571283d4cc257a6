package raftlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/leat-dev/leat/raftlog/segment"
)

// counter is a machine that keeps every command and gives each an offset.
type counter struct {
	mu       sync.Mutex
	commands []string
}

func (c *counter) Apply(e *Entry) []any {
	c.mu.Lock()
	defer c.mu.Unlock()
	results := make([]any, len(e.Commands))
	size := 0
	for i, cmd := range e.Commands {
		results[i] = uint64(len(c.commands) + i)
		size += len(cmd)
	}
	e.AddRow(7, 1, uint64(len(c.commands)), uint32(len(e.Commands)), uint32(size))
	for _, cmd := range e.Commands {
		c.commands = append(c.commands, string(cmd))
	}
	return results
}

type counterSnapshot []string

func (c *counter) Snapshot() (Snapshot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return counterSnapshot(c.commands[:len(c.commands):len(c.commands)]), nil
}

func (s counterSnapshot) Write(w io.Writer) error {
	var b []byte
	for _, cmd := range s {
		b = binary.AppendUvarint(b, uint64(len(cmd)))
		b = append(b, cmd...)
	}
	_, err := w.Write(b)
	return err
}

func (counterSnapshot) Release() {}

func (c *counter) Restore(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	c.commands = nil
	for rest := bytes.NewReader(b); rest.Len() > 0; {
		n, err := binary.ReadUvarint(rest)
		if err != nil {
			return err
		}
		cmd := make([]byte, n)
		if _, err := io.ReadFull(rest, cmd); err != nil {
			return err
		}
		c.commands = append(c.commands, string(cmd))
	}
	return nil
}

func openGroup(t testing.TB, dir string, change func(*Options)) (*Group, *counter) {
	t.Helper()
	c := &counter{}
	o := Options{
		Dir: dir, Name: "test", NodeID: "n1", Machine: c, SegmentBytes: 64 << 10, SnapshotBytes: 1 << 40,
		DiskFloor: 1, DiskReserve: 1, Fatal: func(err error) { t.Errorf("fatal: %v", err) },
		Reuse: true, Hooks: Hooks{Reused: spoil},
	}
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	g, err := Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	return g, c
}

func closeGroup(t testing.TB, g *Group) {
	t.Helper()
	if err := g.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func propose(t testing.TB, g *Group, cmd string) uint64 {
	t.Helper()
	r, err := g.Propose(t.Context(), Events, []byte(cmd))
	if err != nil {
		t.Fatal(err)
	}
	return r.(uint64)
}

// command is large enough that a few fill a segment.
func command(i int) string { return fmt.Sprintf("%06d", i) + string(make([]byte, 3000)) }

// checkGroup reads every command back by its offset's row.
func checkGroup(t *testing.T, g *Group, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		row, ok, err := g.Find(7, 1, uint64(i))
		if err != nil || !ok {
			t.Fatalf("offset %d: %v, %v", i, ok, err)
		}
		e, err := g.ReadEntry(row.Index)
		if err != nil {
			t.Fatalf("offset %d: %v", i, err)
		}
		if i < int(row.Base) || string(e.Commands[i-int(row.Base)]) != command(i) {
			t.Fatalf("offset %d holds another command (row %+v)", i, row)
		}
	}
}

func TestGroupKeepsWhatItAcknowledgedOverRestarts(t *testing.T) {
	dir := t.TempDir()
	n := 0
	for restart := range 4 {
		g, c := openGroup(t, dir, nil)
		if len(c.commands) != n {
			t.Fatalf("restart %d: %d commands are applied, want %d", restart, len(c.commands), n)
		}
		for range 60 {
			if got := propose(t, g, command(n)); got != uint64(n) {
				t.Fatalf("offset %d, want %d", got, n)
			}
			n++
		}
		checkGroup(t, g, 0, n)
		if restart == 1 {
			if err := g.Snapshot(); err != nil {
				t.Fatal(err)
			}
		}
		closeGroup(t, g)
	}
	if g, _ := openGroup(t, dir, nil); true {
		if s := g.Segments(); len(s) < 5 {
			t.Errorf("%d segments: too few to test anything", len(s))
		}
		checkGroup(t, g, 0, n)
		closeGroup(t, g)
	}
}

func TestGroupPacksConcurrentCommands(t *testing.T) {
	g, c := openGroup(t, t.TempDir(), nil)
	defer closeGroup(t, g)
	before := g.Applied()
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 20 {
				propose(t, g, "x")
			}
		})
	}
	wg.Wait()
	if len(c.commands) != 64*20 {
		t.Errorf("%d commands applied", len(c.commands))
	}
	if entries := g.Applied() - before; entries > 64*20/2 {
		t.Errorf("%d entries for %d commands: they are not packed", entries, 64*20)
	}
}

func TestTrimDropsSegmentsBelowTheNewestSnapshotOnly(t *testing.T) {
	dir := t.TempDir()
	g, _ := openGroup(t, dir, nil)
	for i := range 200 {
		propose(t, g, command(i))
	}
	nothing := func(segment.Info) bool { return false }
	if err := g.Trim(nothing); err != nil || g.Segments()[0].First != 1 {
		t.Fatalf("without a snapshot nothing may go: %v, %+v", err, g.Segments()[0])
	}
	if err := g.Snapshot(); err != nil {
		t.Fatal(err)
	}
	keepFrom := uint64(100)
	if err := g.Trim(func(s segment.Info) bool { return s.Summaries[0].Last >= keepFrom }); err != nil {
		t.Fatal(err)
	}
	first := g.Segments()[0].Summaries[0].First
	if first == 0 || first > keepFrom {
		t.Fatalf("the log begins with offset %d, want one just below %d", first, keepFrom)
	}
	checkGroup(t, g, int(first), 200)
	if _, ok, _ := g.Find(7, 1, 0); !ok {
		t.Error("Find below the floor must give the first row there is")
	}
	closeGroup(t, g)
	g, c := openGroup(t, dir, nil)
	defer closeGroup(t, g)
	if len(c.commands) != 200 {
		t.Errorf("%d commands after the restart", len(c.commands))
	}
	checkGroup(t, g, int(first), 200)
	for i := 200; i < 260; i++ {
		propose(t, g, command(i))
	}
	checkGroup(t, g, int(first), 260)
	newest, _ := g.snapshots.Newest()
	if err := g.Trim(nothing); err != nil {
		t.Fatal(err)
	}
	if s := g.Segments(); s[0].First > newest+1 || len(s) < 3 {
		t.Errorf("the log begins with %d, the newest snapshot is of %d", s[0].First, newest)
	}
}

func FuzzSnapshotHeader(f *testing.F) {
	var b bytes.Buffer
	h := snapshotHeader{applied: 9, indexed: 3, time: 77, rows: []Row{{Key: 1, Kind: 2, Base: 3, Count: 4, Bytes: 5, Index: 6, Time: 7}}}
	if err := h.write(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{snapshotVersion, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := readSnapshotHeader(bytes.NewReader(data))
		if err == nil && len(h.rows) > len(data) {
			t.Errorf("%d rows out of %d bytes", len(h.rows), len(data))
		}
	})
}

func BenchmarkPropose(b *testing.B) {
	for _, w := range []int{1, 16, 256} {
		b.Run(fmt.Sprint("W=", w), func(b *testing.B) {
			g, _ := openGroup(b, b.TempDir(), func(o *Options) { o.SegmentBytes = 64 << 20 })
			defer closeGroup(b, g)
			cmd := make([]byte, 1024)
			b.SetParallelism((w + 1) / 2)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := g.Propose(b.Context(), Events, cmd); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// spoil writes to memory that nobody may keep.
func spoil(memory []byte) {
	for i := range memory {
		memory[i] = 0xdb
	}
}
