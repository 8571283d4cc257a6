package segment

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"testing"

	"github.com/leat-dev/leat/raftlog/vfs"
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
	f, err := fsys.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
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
