package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/leat-dev/leat/raftlog/segment"
	"github.com/leat-dev/leat/raftlog/vfs"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

// repair does what there is to do until nothing is left, and returns the steps
// and the hints.
func repair(t *testing.T, fsys vfs.FS) (steps, hints []string) {
	t.Helper()
	for range 10 {
		plan, err := PlanRepair(t.Context(), fsys, "/g", func() Machine { return &counter{} })
		if err != nil {
			t.Fatal(err)
		}
		done := false
		hints = nil
		for _, r := range plan {
			if r.Do == nil {
				hints = append(hints, r.Hint)
				continue
			}
			if err := r.Do(); err != nil {
				t.Fatalf("%s: %v", r.Step, err)
			}
			steps, done = append(steps, r.Step), true
		}
		if !done {
			return steps, hints
		}
	}
	t.Fatalf("there is no end to it: %q", steps)
	return nil, nil
}

func allFiles(t *testing.T, fsys vfs.FS) (paths []string) {
	t.Helper()
	paths = append(list(t, fsys, "/g/log"), "/g/stable")
	return append(paths, list(t, fsys, "/g/snapshots")...)
}

// TestRepairTurnsBackAFlippedBit: wherever one bit has flipped, all is there again
// after the repair, and the file as it was is kept.
func TestRepairTurnsBackAFlippedBit(t *testing.T) {
	fsys, _ := filled(t)
	for _, path := range allFiles(t, fsys) {
		f, err := fsys.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		size, err := f.Size()
		if err != nil {
			t.Fatal(err)
		}
		step := max(size/23, 1)
		places := []int64{0, 20, 4096, 4096 + 20, 4096 + 70, size - 1, size - 60, size - 128}
		for at := int64(3); at < size; at += step {
			places = append(places, at)
		}
		for _, at := range places {
			if at < 0 || at >= size {
				continue
			}
			left := fsys.Clone()
			flip(t, left, path, at)
			steps, hints := repair(t, left)
			if len(hints) > 0 {
				t.Fatalf("%s, byte %d: %q", path, at, hints)
			}
			if len(steps) > 0 && !slices.ContainsFunc(list(t, left, filepath.Dir(path)), func(p string) bool { return strings.Contains(p, segment.AsideSuffix) }) {
				t.Errorf("%s, byte %d: %q, but nothing is kept", path, at, steps)
			}
			reopen(t, left, func(g *Group, c *counter) {
				if len(c.commands) != 120 {
					t.Errorf("%s, byte %d: %d commands", path, at, len(c.commands))
				}
				checkGroup(t, g, 0, 120)
			})
		}
	}
}

// wreck makes more than a bit of a file wrong.
func wreck(t *testing.T, fsys vfs.FS, path string, at, n int64) {
	t.Helper()
	f, err := fsys.OpenReadWrite(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(0xa5 + 7*i)
	}
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// TestRepairMakesLostPiecesAnew: the log's state, term and vote, and snapshots
// that an older one replaces, can be lost as a whole.
func TestRepairMakesLostPiecesAnew(t *testing.T) {
	fsys, _ := filled(t)
	snapshots := list(t, fsys, "/g/snapshots")
	for name, c := range map[string]struct {
		harm func(fsys *memfs.FS)
		step string
	}{
		"state damaged":   {func(fsys *memfs.FS) { wreck(t, fsys, "/g/log/log.state", 0, 8192) }, "state anew"},
		"state missing":   {func(fsys *memfs.FS) { remove(t, fsys, "/g/log/log.state") }, "state anew"},
		"votes damaged":   {func(fsys *memfs.FS) { wreck(t, fsys, "/g/stable", 0, 8192) }, "term and vote anew"},
		"votes missing":   {func(fsys *memfs.FS) { remove(t, fsys, "/g/stable") }, "term and vote anew"},
		"newest snapshot": {func(fsys *memfs.FS) { wreck(t, fsys, snapshots[1], 0, 16) }, "snapshot aside"},
		"all snapshots":   {func(fsys *memfs.FS) { wreck(t, fsys, snapshots[0], 0, 99); wreck(t, fsys, snapshots[1], 40, 9) }, "snapshot aside"},
		"state and a flip": {func(fsys *memfs.FS) {
			wreck(t, fsys, "/g/log/log.state", 0, 8192)
			flip(t, fsys, segmentPath(1), 4096+1000)
		}, "turn back bit"},
	} {
		t.Run(name, func(t *testing.T) {
			left := fsys.Clone()
			c.harm(left)
			if _, err := tryOpen(left.Clone(), nil); err == nil && !strings.Contains(name, "newest") {
				t.Fatal("it starts without a repair")
			}
			steps, hints := repair(t, left)
			if len(hints) > 0 || !slices.ContainsFunc(steps, func(s string) bool { return strings.Contains(s, c.step) }) {
				t.Fatalf("steps %q, hints %q", steps, hints)
			}
			reopen(t, left, func(g *Group, c *counter) {
				if len(c.commands) != 120 {
					t.Errorf("%d commands", len(c.commands))
				}
				checkGroup(t, g, 0, 120)
				if got := propose(t, g, command(120)); got != uint64(120) {
					t.Errorf("the next offset is %d", got)
				}
			})
		})
	}
}

func remove(t *testing.T, fsys vfs.FS, path string) {
	t.Helper()
	if err := fsys.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func segmentPath(n int) string { return fmt.Sprintf("/g/log/%016x.seg", n) }

// TestCutGivesUpWhatFollows: damage of more than a bit that the start needs is
// told of with the command that gives it up, which keeps what precedes it in the
// log and the rest beside.
func TestCutGivesUpWhatFollows(t *testing.T) {
	fsys, infos := filled(t)
	last := infos[len(infos)-1]
	for i := len(infos) - 1; i >= 0 && last.First > last.Last; i-- {
		last = infos[i]
	}
	for name, harm := range map[string]func(fsys *memfs.FS){
		"record":  func(fsys *memfs.FS) { wreck(t, fsys, last.Path, 4096+8, 40) },
		"missing": func(fsys *memfs.FS) { remove(t, fsys, last.Path) },
	} {
		t.Run(name, func(t *testing.T) {
			left := fsys.Clone()
			harm(left)
			_, hints := repair(t, left)
			if len(hints) == 0 || !strings.Contains(hints[0], "--cut "+last.Path) {
				t.Fatalf("hints %q", hints)
			}
			if err := CutAt(t.Context(), left, "/g", filepath.Base(last.Path), 0); err != nil {
				t.Fatal(err)
			}
			if steps, hints := repair(t, left); len(steps)+len(hints) > 0 {
				t.Fatalf("after the cut: %q %q", steps, hints)
			}
			n := 0
			reopen(t, left, func(g *Group, c *counter) {
				if n = len(c.commands); n == 0 || n >= 120 {
					t.Fatalf("%d commands are left", n)
				}
				checkGroup(t, g, 0, n)
				propose(t, g, command(n))
			})
			reopen(t, left, func(g *Group, _ *counter) { checkGroup(t, g, 0, n+1) })
		})
	}
	for _, bad := range []string{"stable", "00ff.seg", infos[0].Path} {
		if err := CutAt(t.Context(), fsys.Clone(), "/g", bad, 0); err == nil {
			t.Errorf("%s was cut", bad)
		}
	}
}

// wholeFile is a file's content.
func wholeFile(t *testing.T, fsys vfs.FS, path string) []byte {
	t.Helper()
	b, err := vfs.ReadFile(fsys, path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRepairMakesAnIndexAnew: an index of which more than a bit is wrong is made
// anew, byte for byte, from what a snapshot before it, or nothing, and the log
// after that tell.
func TestRepairMakesAnIndexAnew(t *testing.T) {
	fsys, infos := filled(t)
	indexed := 0
	for _, s := range infos {
		whole := wholeFile(t, fsys, s.Path)
		footer := int64(len(whole)) - 128
		if string(whole[footer:footer+8]) != "LEATIDX1" {
			continue
		}
		indexed++
		body := int64(binary.LittleEndian.Uint64(whole[footer+64:]))
		for name, places := range map[string][]int64{
			"footer": {footer}, "groups": {body}, "rows": {body + 500}, "all of it": {body, body + 1000, footer},
		} {
			t.Run(filepath.Base(s.Path)+" "+name, func(t *testing.T) {
				left := fsys.Clone()
				for _, at := range places {
					wreck(t, left, s.Path, at, 40)
				}
				steps, hints := repair(t, left)
				if len(hints) > 0 || len(steps) != 1 || !strings.Contains(steps[0], "index anew") {
					t.Fatalf("steps %q, hints %q", steps, hints)
				}
				if !bytes.Equal(wholeFile(t, left, s.Path), whole) {
					t.Error("the segment is another one than before the damage")
				}
				if !slices.ContainsFunc(list(t, left, "/g/log"), func(p string) bool { return strings.Contains(p, segment.AsideSuffix) }) {
					t.Error("nothing is kept")
				}
				reopen(t, left, func(g *Group, c *counter) { checkGroup(t, g, 0, 120) })
			})
		}
	}
	if indexed < 3 {
		t.Fatalf("%d segments with an index: too little is tested", indexed)
	}
}

// TestIndexIsNotMadeAnewBehindALostEntry: rows follow from all entries before
// them, so where one of those is lost since the snapshot there is no index.
func TestIndexIsNotMadeAnewBehindALostEntry(t *testing.T) {
	fsys, infos := filled(t)
	body := func(path string) int64 {
		b := wholeFile(t, fsys, path)
		return int64(binary.LittleEndian.Uint64(b[len(b)-128+64:]))
	}
	for name, harm := range map[string]func(fsys *memfs.FS){
		"its own":       func(fsys *memfs.FS) { wreck(t, fsys, infos[1].Path, 4096+70, 40) },
		"one before":    func(fsys *memfs.FS) { wreck(t, fsys, infos[0].Path, 4096+700, 40) },
		"its last ones": func(fsys *memfs.FS) { wreck(t, fsys, infos[1].Path, body(infos[1].Path)-4000, 4000) },
	} {
		t.Run(name, func(t *testing.T) {
			left := fsys.Clone()
			harm(left)
			wreck(t, left, infos[1].Path, body(infos[1].Path), 40)
			wreck(t, left, infos[1].Path, infos[1].Bytes-128, 40)
			was := wholeFile(t, left, infos[1].Path)
			steps, hints := repair(t, left)
			if len(steps) > 0 || len(hints) == 0 {
				t.Errorf("steps %q, hints %q", steps, hints)
			}
			if !bytes.Equal(wholeFile(t, left, infos[1].Path), was) {
				t.Error("it was changed")
			}
			p := planner{fsys: left, dir: "/g", machine: func() Machine { return &counter{} }}
			_, err := p.rowsOf(segment.FileCheck{Path: infos[1].Path, First: infos[1].First, Last: infos[1].Last})
			if errors.Join(err, segment.RebuildIndex(left, "/g/log", 2, nil)) == nil {
				t.Error("it was made anew all the same")
			}
		})
	}
}

// rename gives a snapshot's content the name that it has where raft is some
// entries behind what was applied, and returns its path.
func rename(t *testing.T, fsys vfs.FS, behind uint64) string {
	t.Helper()
	newest := list(t, fsys, "/g/snapshots")[0]
	meta, content, err := segment.OpenSnapshot(fsys, newest)
	if err != nil {
		t.Fatal(err)
	}
	snapshots, err := segment.OpenSnapshots(fsys, "/g/snapshots", 4)
	if err != nil {
		t.Fatal(err)
	}
	sink, err := snapshots.Create(meta.Version, meta.Index-behind, meta.Term, meta.Configuration, meta.ConfigurationIndex, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(sink, content); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sink.Close(), content.Close()); err != nil {
		t.Fatal(err)
	}
	remove(t, fsys, newest)
	return list(t, fsys, "/g/snapshots")[0]
}

// TestFollowerKnowsWhatASnapshotHas: the snapshot of a sole voter may have
// more than its name says.
func TestFollowerKnowsWhatASnapshotHas(t *testing.T) {
	fsys := memfs.New(0)
	g, _ := openGroup(t, "/g", func(o *Options) { o.FS = fsys })
	for i := range 10 {
		propose(t, g, command(i))
	}
	if err := g.Snapshot(); err != nil {
		t.Fatal(err)
	}
	closeGroup(t, g)
	rename(t, fsys, 3)
	c := &counter{}
	if err := Verify(t.Context(), fsys, "/g", c, func(segment.FileCheck) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if len(c.commands) != 10 {
		t.Errorf("%d commands, of 10", len(c.commands))
	}
}

// records are the places of a segment's records, and where they end.
func records(t *testing.T, fsys vfs.FS, path string) (at []int64) {
	t.Helper()
	b := wholeFile(t, fsys, path)
	generation := b[24:32]
	pos := 4096
	for ; pos+64 <= len(b) && bytes.Equal(b[pos+8:pos+16], generation); pos += 64 + (int(binary.LittleEndian.Uint32(b[pos+44:]))+7)&^7 {
		at = append(at, int64(pos))
	}
	return append(at, int64(pos))
}

// TestLogBehindItsSnapshot: what a sole voter's snapshot has of entries that raft
// did not count yet was synced. Where the log has lost those, it is not taken for
// one that ends where it does: what would come next would have their places. A cut
// gives them up, and the snapshot with them.
func TestLogBehindItsSnapshot(t *testing.T) {
	fsys := memfs.New(0)
	g, _ := openGroup(t, "/g", func(o *Options) { o.FS = fsys })
	for i := range 10 {
		propose(t, g, command(i))
	}
	if err := g.Snapshot(); err != nil {
		t.Fatal(err)
	}
	left := fsys.Clone() // killed
	closeGroup(t, g)
	named := rename(t, left, 3)
	path := segmentPath(1)
	places := records(t, left, path)
	last := places[len(places)-2] // the last one that was written
	wreck(t, left, path, last+8, 60)

	if _, err := tryOpen(left, nil); err == nil {
		t.Fatal("the log begins anew in front of entries that a snapshot has")
	} else {
		wantDamage(t, err, filepath.Base(path))
	}
	_, hints := repair(t, left)
	if len(hints) != 1 || !strings.Contains(hints[0], fmt.Sprintf("--cut %s:%d", path, last)) {
		t.Fatalf("hints %q", hints)
	}
	if err := CutAt(t.Context(), left, "/g", filepath.Base(path), last); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(list(t, left, "/g/snapshots"), named) {
		t.Error("the snapshot is there still")
	}
	for n := 9; n < 12; n++ {
		reopen(t, left, func(g *Group, c *counter) {
			checkGroup(t, g, 0, n)
			if len(c.commands) != n {
				t.Errorf("%d commands after the cut, not %d", len(c.commands), n)
			}
			if got := propose(t, g, command(n)); got != uint64(n) {
				t.Errorf("the next offset is %d, not %d", got, n)
			}
		})
	}
}

// TestLogBehindItsSnapshotsName: the same where only entries of raft's own are
// lost, of which the snapshot has the name.
func TestLogBehindItsSnapshotsName(t *testing.T) {
	fsys := memfs.New(0)
	reopen(t, fsys, func(g *Group, _ *counter) { propose(t, g, command(0)) })
	g, _ := openGroup(t, "/g", func(o *Options) { o.FS = fsys }) // raft adds two
	if err := g.Snapshot(); err != nil {
		t.Fatal(err)
	}
	left := fsys.Clone() // killed
	closeGroup(t, g)
	path := segmentPath(1)
	places := records(t, left, path)
	last := places[len(places)-2]
	wreck(t, left, path, last+8, 60)

	_, err := tryOpen(left, nil)
	wantDamage(t, err, filepath.Base(path))
	_, hints := repair(t, left)
	if len(hints) != 1 || !strings.Contains(hints[0], fmt.Sprintf("--cut %s:%d", path, last)) {
		t.Fatalf("hints %q", hints)
	}
	if err := CutAt(t.Context(), left, "/g", filepath.Base(path), last); err != nil {
		t.Fatal(err)
	}
	reopen(t, left, func(g *Group, c *counter) {
		if got := propose(t, g, command(1)); got != 1 {
			t.Errorf("the next offset is %d", got)
		}
		checkGroup(t, g, 0, 2)
	})
}
