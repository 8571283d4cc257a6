package errorfs

import (
	"errors"
	"slices"
	"testing"

	"github.com/leat-dev/leat/raftlog/vfs"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

var errTest = errors.New("as the test wants it")

// all does each operation once, and returns the first error.
func all(fsys vfs.FS) error {
	var f vfs.File
	var direct vfs.DirectFile
	steps := []func() error{
		func() error { return fsys.MkdirAll("/d") },
		func() (err error) { f, err = fsys.Create("/d/f"); return err },
		func() error { return f.Preallocate(10) },
		func() error { _, err := f.WriteAt([]byte("abcd"), 0); return err },
		func() error { return f.Datasync() },
		func() error { return f.Truncate(4) },
		func() error { _, err := f.ReadAt(make([]byte, 4), 0); return err },
		func() error { return fsys.Rename("/d/f", "/d/g") },
		func() error { return fsys.SyncDir("/d") },
		func() error { _, err := fsys.ReadDir("/d"); return err },
		func() error { _, err := fsys.Stat("/d/g"); return err },
		func() error { _, _, err := fsys.Free("/d"); return err },
		func() error { _, err := fsys.Lock("/d/lock"); return err },
		func() error { _, err := fsys.Open("/d/g"); return err },
		func() error { _, err := fsys.OpenReadWrite("/d/g"); return err },
		func() (err error) { direct, err = fsys.OpenDirect("/d/g"); return err },
		func() error { _, err := direct.WriteAt(0, vfs.Blocks(2)); return err },
		func() error { return fsys.Remove("/d/g") },
		func() error { return fsys.RemoveAll("/d") },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func TestHookSeesEveryOperationAndMayFailIt(t *testing.T) {
	var seen []Op
	if err := all(Wrap(memfs.New(0), func(op Op, name string) error {
		if name == "" {
			t.Errorf("%s of no file", op)
		}
		seen = append(seen, op)
		return nil
	})); err != nil {
		t.Fatal(err)
	}
	want := []Op{Mkdir, Create, Preallocate, Write, Sync, Truncate, Read, Rename, SyncDir, ReadDir, Stat, Free, Lock, Open, Open, Open, Write, Remove, Remove}
	if !slices.Equal(seen, want) {
		t.Errorf("seen %v", seen)
	}
	for n := 1; n <= len(want)+1; n++ {
		nth := NewNth(n, errTest)
		err := all(Wrap(memfs.New(0), nth.Hook))
		if failed := n <= len(want); errors.Is(err, errTest) != failed || nth.Failed() != failed {
			t.Errorf("operation %d: %v, failed: %v", n, err, nth.Failed())
		}
	}
	if nth := NewNth(2, errTest, Open); !errors.Is(all(Wrap(memfs.New(0), nth.Hook)), errTest) {
		t.Error("the second open did not fail")
	}
}

func TestFailedWriteHasWrittenItsFirstHalf(t *testing.T) {
	inner := memfs.New(0)
	f, err := Wrap(inner, NewNth(1, errTest, Write).Hook).Create("/f")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := f.WriteAt([]byte("abcd"), 0); n != 2 || !errors.Is(err, errTest) {
		t.Errorf("%d, %v", n, err)
	}
	if size, _ := f.Size(); size != 2 {
		t.Errorf("%d bytes were written", size)
	}
	direct, err := Wrap(inner, NewNth(1, errTest, Write).Hook).OpenDirect("/f")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := direct.WriteAt(0, vfs.Blocks(1), vfs.Blocks(2)); n != vfs.DirectAlign || !errors.Is(err, errTest) {
		t.Errorf("of a direct write %d, %v", n, err)
	}
}
