package memfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
)

func seeded(n uint64) *rand.Rand { return rand.New(rand.NewPCG(n, 0)) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put writes into a file, which is made when absent.
func put(t *testing.T, m *FS, path string, at int64, b []byte, sync bool) {
	t.Helper()
	f, err := m.OpenReadWrite(path)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = m.Create(path)
	}
	must(t, err)
	defer f.Close()
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if sync {
		must(t, f.Datasync())
	}
}

// get is a file's content; nil: there is no such file.
func get(t *testing.T, m *FS, path string) []byte {
	t.Helper()
	f, err := m.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	must(t, err)
	defer f.Close()
	size, err := f.Size()
	must(t, err)
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return b
}

func TestPowerCutLeavesWhatWasSynced(t *testing.T) {
	m := New(0)
	before, after := bytes.Repeat([]byte{1}, 8*Sector), bytes.Repeat([]byte{2}, 8*Sector)
	put(t, m, "/f", 0, before, true)
	must(t, m.SyncDir("/"))
	put(t, m, "/f", 0, after, false)
	if got := get(t, m.CrashClone(seeded(1), 0), "/f"); !bytes.Equal(got, before) {
		t.Error("what was not synced is there though nothing of it is to be")
	}
	if got := get(t, m.CrashClone(seeded(1), 1), "/f"); !bytes.Equal(got, after) {
		t.Error("what was not synced is gone though all of it is to be there")
	}
	torn := false
	for seed := range uint64(20) {
		got := get(t, m.CrashClone(seeded(seed), 0.5), "/f")
		for s := range slices.Chunk(got, Sector) {
			if !bytes.Equal(s, before[:Sector]) && !bytes.Equal(s, after[:Sector]) {
				t.Fatal("a sector is mixed")
			}
		}
		torn = torn || !bytes.Equal(got, before) && !bytes.Equal(got, after)
	}
	if !torn {
		t.Error("no write was torn")
	}
	if got := get(t, m.Clone(), "/f"); !bytes.Equal(got, after) {
		t.Error("a killed process took writes with it")
	}
}

// What is written after a power cut's clone was taken does not reach it, nor the
// other way round.
func TestClonesAreIndependent(t *testing.T) {
	m := New(0)
	put(t, m, "/f", 0, []byte("one"), true)
	must(t, m.SyncDir("/"))
	clone, crash := m.Clone(), m.CrashClone(seeded(1), 1)
	put(t, m, "/f", 0, []byte("two"), true)
	put(t, clone, "/f", 1, []byte("x"), true)
	for want, fsys := range map[string]*FS{"two": m, "oxe": clone, "one": crash} {
		if got := get(t, fsys, "/f"); string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestNamesAreDurableOnceTheirDirectoryIsSynced(t *testing.T) {
	m := New(0)
	must(t, m.MkdirAll("/d"))
	put(t, m, "/d/old", 0, []byte("old"), true)
	must(t, m.SyncDir("/d"))
	put(t, m, "/d/new", 0, []byte("new"), true)
	must(t, m.Rename("/d/new", "/d/old"))
	names := func(fsys *FS) string { return string(get(t, fsys, "/d/old")) + "," + string(get(t, fsys, "/d/new")) }
	if got := names(m.CrashClone(seeded(1), 0)); got != "old," {
		t.Errorf("without a sync of the directory: %s", got)
	}
	seen := map[string]bool{}
	for seed := range uint64(100) {
		seen[names(m.CrashClone(seeded(seed), 0.6))] = true
	}
	for _, want := range []string{"old,", "old,new", "new,new", "new,"} { // in this order, never another
		if !seen[want] {
			t.Errorf("a power cut never leaves %q", want)
		}
		delete(seen, want)
	}
	if len(seen) > 0 {
		t.Errorf("a power cut leaves %v", seen)
	}
	must(t, m.SyncDir("/d"))
	if got := names(m.CrashClone(seeded(1), 0)); got != "new," {
		t.Errorf("with the directory synced: %s", got)
	}
	must(t, m.Remove("/d/old"))
	if got := names(m.CrashClone(seeded(1), 0)); got != "new," {
		t.Errorf("a removal that was not synced: %s", got)
	}
}

func TestLengthIsDurableWithTheContent(t *testing.T) {
	m := New(0)
	put(t, m, "/f", 0, bytes.Repeat([]byte{7}, 1000), true)
	must(t, m.SyncDir("/"))
	f, err := m.OpenReadWrite("/f")
	must(t, err)
	must(t, f.Truncate(10))
	if got := get(t, m.CrashClone(seeded(1), 0), "/f"); len(got) != 1000 {
		t.Errorf("%d bytes after a truncation that was not synced", len(got))
	}
	must(t, f.Datasync())
	must(t, f.Preallocate(2000))
	if got := get(t, m.CrashClone(seeded(1), 0), "/f"); len(got) != 10 {
		t.Errorf("%d bytes after a truncation that was", len(got))
	}
	if got := get(t, m.CrashClone(seeded(1), 1), "/f"); len(got) != 2000 || !bytes.Equal(got[10:], make([]byte, 1990)) {
		t.Errorf("%d bytes, or not zeros, behind the old end", len(got))
	}
}

func TestCapacity(t *testing.T) {
	m := New(100)
	put(t, m, "/f", 0, make([]byte, 60), true)
	f, err := m.Create("/g")
	must(t, err)
	for name, err := range map[string]error{
		"write":       second(f.WriteAt(make([]byte, 41), 0)),
		"preallocate": f.Preallocate(41),
		"truncate":    f.Truncate(41),
	} {
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s beyond the capacity: %v", name, err)
		}
	}
	must(t, f.Preallocate(40))
	put(t, m, "/f", 0, make([]byte, 60), true) // what is there can be written again
	if free, total, _ := m.Free("/"); free != 0 || total != 100 {
		t.Errorf("%d of %d free", free, total)
	}
	must(t, m.Remove("/f"))
	if free, _, _ := m.Free("/"); free != 60 {
		t.Errorf("%d free after a removal", free)
	}
	m.SetCapacity(0)
	must(t, f.Preallocate(1000))
}

func second(_ int, err error) error { return err }
