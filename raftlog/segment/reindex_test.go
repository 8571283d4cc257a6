package segment

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/leat-dev/leat/raftlog/vfs/errorfs"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

// withoutIndex is a log whose first segment's index is damaged in many bits, and
// the rows of its entries.
func withoutIndex(t *testing.T) (f *fixture, whole []byte, rows []Row) {
	f = newFixture(t)
	whole = readFile(t, f.closed, f.path(1))
	foot, err := parseFooter(whole[len(whole)-footerSize:])
	if err != nil {
		t.Fatal(err)
	}
	for _, fsys := range []*memfs.FS{f.killed, f.closed} {
		overwrite(t, fsys, f.path(1), foot.body, bytes.Repeat([]byte{0x5a}, 100))
		overwrite(t, fsys, f.path(1), int64(len(whole)-footerSize), bytes.Repeat([]byte{0x5a}, 100))
	}
	for i := foot.first; i <= foot.last; i++ {
		rows = append(rows, rowsOf(i)...)
	}
	return f, whole, rows
}

// TestRebuiltIndexIsTheSame, whether the log was closed or not, and may be broken
// off anywhere and done again.
func TestRebuiltIndexIsTheSame(t *testing.T) {
	f, whole, rows := withoutIndex(t)
	for n := 1; ; n++ {
		left := f.killed.Clone()
		if n%2 == 0 {
			left = f.closed.Clone()
		}
		nth := errorfs.NewNth(n, errors.New("the disk failed"))
		err := RebuildIndex(errorfs.Wrap(left, nth.Hook), testDir, 1, rows)
		if nth.Failed() == (err == nil) {
			t.Errorf("operation %d: %v", n, err)
		}
		left = left.CrashClone(rand.New(rand.NewPCG(uint64(n), 0)), 0.5)
		if err != nil {
			if err := RebuildIndex(left, testDir, 1, rows); err != nil {
				t.Fatalf("operation %d, done again: %v", n, err)
			}
		}
		if !bytes.Equal(readFile(t, left, f.path(1)), whole) {
			t.Errorf("operation %d: the segment is another one", n)
		}
		s := openLog(t, left)
		checkRows(t, s, 1, f.infos[0].Last)
		closeLog(t, s)
		if !nth.Failed() {
			t.Logf("%d operations", n-1)
			return
		}
	}
}

// TestIndexOfHalfASegmentIsNotBuilt: what cannot be read of the records is not
// left out of an index.
func TestIndexOfHalfASegmentIsNotBuilt(t *testing.T) {
	f, _, rows := withoutIndex(t)
	zeros := make([]byte, recordSize)
	last := f.infos[0].Last
	for name, entry := range map[string]uint64{"the first": 1, "one": f.middle(1), "the last": last} {
		t.Run(name, func(t *testing.T) {
			left := f.killed.Clone()
			overwrite(t, left, f.path(1), f.at[entry], zeros)
			was := readFile(t, left, f.path(1))
			var damaged *DamagedError
			if err := RebuildIndex(left, testDir, 1, rows); !errors.As(err, &damaged) || damaged.File != f.path(1) || damaged.Offset != f.at[entry] {
				t.Errorf("%v; want damage at byte %d", err, f.at[entry])
			}
			if !bytes.Equal(readFile(t, left, f.path(1)), was) {
				t.Error("the segment was changed")
			}
		})
	}
	if err := RebuildIndex(f.killed.Clone(), testDir, 1, append(rows, rowsOf(last+1)...)); err == nil {
		t.Error("rows of the next segment were taken")
	}
}
