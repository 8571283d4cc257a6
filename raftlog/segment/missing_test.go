package segment

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"github.com/leat-dev/leat/raftlog/vfs"
	"github.com/leat-dev/leat/raftlog/vfs/errorfs"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

func TestMissingAndExchangedFiles(t *testing.T) {
	f := newFixture(t)
	state := filepath.Join(testDir, stateFile)
	for name, c := range map[string]struct {
		damage func(t *testing.T, fsys *memfs.FS)
		file   string
	}{
		"no state":            {func(t *testing.T, fsys *memfs.FS) { must(t, fsys.Remove(state)) }, state},
		"both copies of it":   {func(t *testing.T, fsys *memfs.FS) { flip(t, fsys, state, 30, 1); flip(t, fsys, state, slotSize+30, 1) }, state},
		"an empty state":      {func(t *testing.T, fsys *memfs.FS) { truncate(t, fsys, state, 0) }, state},
		"no first segment":    {func(t *testing.T, fsys *memfs.FS) { must(t, fsys.Remove(f.path(1))) }, f.path(1)},
		"no middle segment":   {func(t *testing.T, fsys *memfs.FS) { must(t, fsys.Remove(f.path(2))) }, f.path(2)},
		"no last segment":     {func(t *testing.T, fsys *memfs.FS) { must(t, fsys.Remove(f.path(3))) }, f.path(3)},
		"a segment cut short": {func(t *testing.T, fsys *memfs.FS) { truncate(t, fsys, f.path(2), 20000) }, f.path(2)},
		"an empty segment":    {func(t *testing.T, fsys *memfs.FS) { truncate(t, fsys, f.path(1), 0) }, f.path(1)},
		"another segment's":   {func(t *testing.T, fsys *memfs.FS) { overwrite(t, fsys, f.path(2), 0, readFile(t, fsys, f.path(3))) }, f.path(2)},
		"records wiped":       {func(t *testing.T, fsys *memfs.FS) { wipeRecords(t, fsys, f.path(2)) }, f.path(2)},
		"last ones wiped":     {func(t *testing.T, fsys *memfs.FS) { wipeRecords(t, fsys, f.path(3)) }, f.path(2)},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := f.closed.Clone()
			c.damage(t, fsys)
			before := contents(t, fsys)
			_, err := Open(testOptions(fsys))
			var damaged *DamagedError
			if !errors.As(err, &damaged) || damaged.File != c.file {
				t.Errorf("%v; want damage in %s", err, c.file)
			}
			for path, b := range contents(t, fsys) {
				if !bytes.Equal(b, before[path]) {
					t.Errorf("%s was changed although the log is refused", path)
				}
			}
		})
	}
}

// A first segment whose records are gone must not make the log begin later.
func TestLogDoesNotBeginBehindALostSegment(t *testing.T) {
	fsys := memfs.New(0)
	s := loadLog(t, fsys)
	write(t, s, 1, 150, 1)
	first := s.segments[0]
	left := fsys.Clone()
	closeLog(t, s)
	overwrite(t, left, first.path, headerSize, make([]byte, first.end-headerSize))
	_, err := Open(testOptions(left))
	var damaged *DamagedError
	if !errors.As(err, &damaged) || damaged.File != first.path || damaged.Last != first.last {
		t.Errorf("%v; want damage in %s", err, first.path)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func truncate(t testing.TB, fsys vfs.FS, path string, size int64) {
	t.Helper()
	f, err := fsys.OpenReadWrite(path)
	must(t, err)
	must(t, f.Truncate(size))
	must(t, f.Close())
}

func wipeRecords(t testing.TB, fsys vfs.FS, path string) {
	t.Helper()
	overwrite(t, fsys, path, headerSize, make([]byte, smallSegments-headerSize))
}

// contents are all files of the log's directory.
func contents(t testing.TB, fsys vfs.FS) map[string][]byte {
	t.Helper()
	list, err := fsys.ReadDir(testDir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, e := range list {
		path := filepath.Join(testDir, e.Name())
		all[path] = readFile(t, fsys, path)
	}
	return all
}

func readFile(t testing.TB, fsys vfs.FS, path string) []byte {
	t.Helper()
	b, err := vfs.ReadFile(fsys, path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func overwrite(t testing.TB, fsys vfs.FS, path string, at int64, b []byte) {
	t.Helper()
	f, err := fsys.OpenReadWrite(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// TestSegmentWithTwoNames: a crash in the middle of a rename may leave a segment
// with both names. The one that is not the log's is never written again.
func TestSegmentWithTwoNames(t *testing.T) {
	inner := memfs.New(0)
	var left []*memfs.FS
	renamed := false
	s := loadLog(t, errorfs.Wrap(inner, func(op errorfs.Op, _ string) error {
		if op == errorfs.SyncDir && renamed {
			for seed := range uint64(16) {
				left = append(left, inner.CrashClone(testRand(seed), 0.5))
			}
		}
		renamed = op == errorfs.Rename
		return nil
	}))
	write := func(s *Store, from, to, term uint64) {
		t.Helper()
		for ; from <= to; from += 10 {
			must(t, s.StoreLogs(entries(from, min(from+9, to), term)))
			s.keepUp()
		}
	}
	write(s, 1, 1000, 1)
	must(t, s.DeleteRange(5, 1000)) // the segments behind are written again, under lower numbers
	left, renamed = nil, false
	s.keepUp()
	write(s, 5, 400, 2)
	closeLog(t, s)
	if len(left) == 0 {
		t.Fatal("no segment got another name")
	}
	for i, fsys := range left {
		s := loadLog(t, fsys)
		_, last := bounds(s)
		write(s, last+1, last+400, 3)
		closeLog(t, s)
		s, err := load(testOptions(fsys))
		if err != nil {
			t.Fatalf("crash state %d: %v", i, err)
		}
		close(s.done)
		if got, err := readContent(s); err != nil || got.last() != last+400 {
			t.Errorf("crash state %d: %v, %v", i, got, err)
		}
		closeLog(t, s)
	}
}
