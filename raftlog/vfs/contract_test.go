package vfs_test

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/leat-dev/leat/raftlog/vfs"
	"github.com/leat-dev/leat/raftlog/vfs/errorfs"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

// TestContract wants the same of the machine's file system and of those that
// stand for it in tests.
func TestContract(t *testing.T) {
	for name, c := range map[string]struct {
		fsys vfs.FS
		dir  string
	}{
		"OS":      {vfs.OS{}, t.TempDir()},
		"memfs":   {memfs.New(0), "/"},
		"errorfs": {errorfs.Wrap(memfs.New(0), func(errorfs.Op, string) error { return nil }), "/"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Run("files", func(t *testing.T) { testFiles(t, c.fsys, filepath.Join(c.dir, "a/b")) })
			t.Run("direct", func(t *testing.T) { testDirect(t, c.fsys, filepath.Join(c.dir, "f")) })
			t.Run("names", func(t *testing.T) { testNames(t, c.fsys, filepath.Join(c.dir, "c/d")) })
			t.Run("locks", func(t *testing.T) { testLocks(t, c.fsys, filepath.Join(c.dir, "e")) })
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantContent(t *testing.T, fsys vfs.FS, path, want string) {
	t.Helper()
	f, err := fsys.Open(path)
	must(t, err)
	defer f.Close()
	b := make([]byte, len(want)+1)
	n, err := f.ReadAt(b, 0)
	if string(b[:n]) != want || !errors.Is(err, io.EOF) {
		t.Errorf("%s holds %q, %v; want %q", path, b[:n], err, want)
	}
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Errorf("%s was opened for reading, and written", path)
	}
}

func create(t *testing.T, fsys vfs.FS, path, content string) {
	t.Helper()
	f, err := fsys.Create(path)
	must(t, err)
	if _, err := f.WriteAt([]byte(content), 0); err != nil {
		t.Fatal(err)
	}
	must(t, f.Datasync())
	must(t, f.Close())
}

func testFiles(t *testing.T, fsys vfs.FS, dir string) {
	path := filepath.Join(dir, "f")
	if _, err := fsys.Create(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("created in a directory that is not there: %v", err)
	}
	must(t, fsys.MkdirAll(dir))
	must(t, fsys.MkdirAll(dir))
	if _, err := fsys.OpenReadWrite(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opened what is not there: %v", err)
	}
	create(t, fsys, path, "hello")
	wantContent(t, fsys, path, "hello")
	f, err := fsys.OpenReadWrite(path)
	must(t, err)
	if _, err := f.WriteAt([]byte("y"), 7); err != nil {
		t.Fatal(err)
	}
	wantContent(t, fsys, path, "hello\x00\x00y")
	must(t, f.Preallocate(4)) // which never shortens
	must(t, f.Preallocate(9))
	wantContent(t, fsys, path, "hello\x00\x00y\x00")
	must(t, f.Truncate(2))
	must(t, f.Truncate(3))
	wantContent(t, fsys, path, "he\x00")
	if n, err := f.Size(); n != 3 || err != nil {
		t.Errorf("size %d, %v", n, err)
	}
	must(t, f.Close())
	if _, err := f.ReadAt(make([]byte, 1), 0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("read after Close: %v", err)
	}
	create(t, fsys, path, "new")
	wantContent(t, fsys, path, "new")
}

// What is written directly is read by whoever has the file open, and the other way
// round, also within one block.
func testDirect(t *testing.T, fsys vfs.FS, dir string) {
	must(t, fsys.MkdirAll(dir))
	path := filepath.Join(dir, "f")
	create(t, fsys, path, "hello")
	f, err := fsys.OpenReadWrite(path)
	must(t, err)
	defer f.Close()
	must(t, f.Preallocate(3*vfs.DirectAlign))
	b := vfs.Blocks(2)
	if len(b) != 2*vfs.DirectAlign || !vfs.Aligned(b, vfs.DirectAlign) {
		t.Fatalf("Blocks made %d bytes, which are not aligned", len(b))
	}
	for off, b := range map[int64][]byte{512: b, 0: b[:512], vfs.DirectAlign: b[8 : 8+vfs.DirectAlign]} {
		if vfs.Aligned(b, off) {
			t.Errorf("%d bytes at %d are aligned", len(b), off)
		}
	}
	direct, err := fsys.OpenDirect(path)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	must(t, err)
	want := append([]byte("hello"), make([]byte, 3*vfs.DirectAlign-5)...)
	for i := range 3 {
		_, err := f.WriteAt([]byte{'a' + byte(i)}, int64(i))
		must(t, err)
		want[i] = 'a' + byte(i)
		wantContent(t, fsys, path, string(want))
		for j := range b {
			b[j] = byte(j*i + 1)
		}
		pieces := [][]byte{b}
		if i == 1 {
			pieces = [][]byte{b[:vfs.DirectAlign], b[vfs.DirectAlign:]}
		}
		if n, err := direct.WriteAt(vfs.DirectAlign, pieces...); errors.Is(err, errors.ErrUnsupported) && n == 0 {
			t.Skip(err)
		} else if err != nil || n != len(b) {
			t.Fatal(n, err)
		}
		copy(want[vfs.DirectAlign:], b)
		wantContent(t, fsys, path, string(want))
		_, err = f.WriteAt([]byte("between"), 2*vfs.DirectAlign-3)
		must(t, err)
		copy(want[2*vfs.DirectAlign-3:], "between")
		wantContent(t, fsys, path, string(want))
		must(t, f.Datasync())
	}
	must(t, direct.Close())
	if _, err := direct.WriteAt(0, b); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("written after Close: %v", err)
	}
	if _, err := fsys.OpenDirect(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opened what is not there: %v", err)
	}
}

func testNames(t *testing.T, fsys vfs.FS, dir string) {
	must(t, fsys.MkdirAll(dir))
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	create(t, fsys, a, "one")
	create(t, fsys, b, "two")
	open, err := fsys.Open(b)
	must(t, err)
	must(t, fsys.Rename(a, b))
	must(t, fsys.SyncDir(dir))
	wantContent(t, fsys, b, "one")
	buf := make([]byte, 3)
	if _, err := open.ReadAt(buf, 0); err != nil || string(buf) != "two" {
		t.Errorf("a file that lost its name holds %q, %v", buf, err)
	}
	must(t, open.Close())
	list, err := fsys.ReadDir(dir)
	must(t, err)
	if len(list) != 1 || list[0].Name() != "b" || list[0].IsDir() {
		t.Errorf("the directory holds %v", list)
	}
	if info, err := fsys.Stat(b); err != nil || info.Size() != 3 {
		t.Errorf("stat: %v, %v", info, err)
	}
	for what, err := range map[string]error{"rename": fsys.Rename(a, b), "remove": fsys.Remove(a)} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of what is not there: %v", what, err)
		}
	}
	must(t, fsys.Remove(b))
	if _, err := fsys.Stat(b); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat of what was removed: %v", err)
	}
	create(t, fsys, a, "")
	must(t, fsys.RemoveAll(filepath.Dir(dir)))
	if _, err := fsys.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat of a directory that was removed: %v", err)
	}
	if free, total, err := fsys.Free(filepath.Dir(filepath.Dir(dir))); err != nil || free == 0 || free > total {
		t.Errorf("%d of %d bytes are free, %v", free, total, err)
	}
}

func testLocks(t *testing.T, fsys vfs.FS, dir string) {
	must(t, fsys.MkdirAll(dir))
	path := filepath.Join(dir, "lock")
	first, err := fsys.Lock(path)
	must(t, err)
	if _, err := fsys.Lock(path); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("locked twice: %v", err)
	}
	must(t, first.Close())
	again, err := fsys.Lock(path)
	must(t, err)
	must(t, again.Close())
}
