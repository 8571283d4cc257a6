package segment

import (
	"bytes"
	"errors"
	"testing"

	"github.com/leat-dev/leat/raftlog/vfs/errorfs"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

const stablePath = "/log/stable"

func openStable(t *testing.T, fsys *memfs.FS) *StableStore {
	t.Helper()
	must(t, fsys.MkdirAll(testDir))
	s, err := OpenStable(fsys, stablePath)
	must(t, err)
	return s
}

func wantTerm(t *testing.T, s *StableStore, terms ...uint64) {
	t.Helper()
	got, err := s.GetUint64([]byte("CurrentTerm"))
	for _, want := range terms {
		if err == nil && got == want {
			return
		}
	}
	t.Errorf("term %d, %v; want one of %d", got, err, terms)
}

func TestStableValuesSurvive(t *testing.T) {
	fsys := memfs.New(0)
	s := openStable(t, fsys)
	if _, err := s.Get([]byte("LastVoteCand")); err == nil || err.Error() != "not found" {
		t.Errorf("a key that was never set: %v; raft looks for this very text", err)
	}
	must(t, s.SetUint64([]byte("CurrentTerm"), 1<<40))
	must(t, s.Set([]byte("LastVoteCand"), []byte("n1")))
	must(t, s.Set([]byte("empty"), nil))
	for _, left := range []*memfs.FS{fsys.Clone(), fsys.CrashClone(testRand(1), 0)} {
		again := openStable(t, left)
		wantTerm(t, again, 1<<40)
		if v, err := again.Get([]byte("LastVoteCand")); err != nil || string(v) != "n1" {
			t.Errorf("vote %q, %v", v, err)
		}
		if _, err := again.GetUint64([]byte("LastVoteCand")); err == nil {
			t.Error("a name was read as a number")
		}
		must(t, again.Close())
	}
	if err := s.Set([]byte("large"), make([]byte, maxSlot)); err == nil {
		t.Error("a value that does not fit was taken")
	}
	must(t, s.SetUint64([]byte("CurrentTerm"), 5)) // which does no harm
	must(t, s.Close())
	if err := s.SetUint64([]byte("CurrentTerm"), 6); err == nil {
		t.Error("a closed store was written")
	}
}

// One damaged copy is renewed, and never brings an older term back; with both
// damaged a vote might be forgotten.
func TestStableFileWithFlippedBits(t *testing.T) {
	fsys := memfs.New(0)
	s := openStable(t, fsys)
	must(t, s.SetUint64([]byte("CurrentTerm"), 7))
	must(t, s.SetUint64([]byte("CurrentTerm"), 8))
	must(t, s.Close())
	for at := int64(0); at < 2*slotSize; at += 13 {
		left := fsys.Clone()
		flip(t, left, stablePath, at, 4)
		again := openStable(t, left)
		wantTerm(t, again, 8)
		must(t, again.Close())
		flip(t, left, stablePath, (at+slotSize)%(2*slotSize), 4) // the other copy
		again = openStable(t, left)
		wantTerm(t, again, 8)
		must(t, again.Close())
	}
	flip(t, fsys, stablePath, 100, 1)
	flip(t, fsys, stablePath, slotSize+100, 1)
	before := readFile(t, fsys, stablePath)
	_, err := OpenStable(fsys, stablePath)
	var damaged *DamagedError
	if !errors.As(err, &damaged) || damaged.File != stablePath {
		t.Errorf("with both copies damaged: %v", err)
	}
	if !bytes.Equal(before, readFile(t, fsys, stablePath)) {
		t.Error("the refused file was changed")
	}
}

// Each operation fails, or the machine stops at it: a restart finds the old term
// or the new one, and the new one once Set has returned.
func TestEveryFailingOperationOfTheStableStore(t *testing.T) {
	for n := 1; ; n++ {
		inner := memfs.New(0)
		must(t, inner.MkdirAll(testDir))
		var left *memfs.FS
		var acked, leftAcked uint64
		nth := errorfs.NewNth(n, errDisk, errorfs.Mutations()...)
		fsys := errorfs.Wrap(inner, func(op errorfs.Op, name string) error {
			err := nth.Hook(op, name)
			if err != nil {
				left, leftAcked = inner.CrashClone(testRand(uint64(n)), 0.5), acked
			}
			return err
		})
		if s, err := OpenStable(fsys, stablePath); err == nil {
			for term := uint64(1); term <= 3; term++ {
				err := s.SetUint64([]byte("CurrentTerm"), term)
				if err == nil {
					acked = term
				} else if again := s.SetUint64([]byte("CurrentTerm"), term); again == nil {
					t.Error("written again after a failure")
				}
			}
			s.Close()
		}
		if !nth.Failed() {
			return
		}
		for _, x := range []struct {
			fsys  *memfs.FS
			acked uint64
		}{{left, leftAcked}, {inner.Clone(), acked}, {inner.CrashClone(testRand(uint64(n)), 0), acked}} {
			s := openStable(t, x.fsys)
			if got, err := s.GetUint64([]byte("CurrentTerm")); err == nil || x.acked > 0 {
				if got != x.acked && got != x.acked+1 {
					t.Errorf("operation %d: term %d after %d was acknowledged", n, got, x.acked)
				}
			}
			must(t, s.Close())
		}
	}
}
