package segment

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/vfs"
	"github.com/leat-dev/leat/raftlog/vfs/errorfs"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

const snapshotDir = "/snapshots"

func openSnapshots(t *testing.T, fsys vfs.FS, keep int) *SnapshotStore {
	t.Helper()
	s, err := OpenSnapshots(fsys, snapshotDir, keep)
	must(t, err)
	return s
}

func snapshotContent(index uint64) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "state at %d.", index), 50)
}

func takeSnapshot(s *SnapshotStore, index uint64) error {
	sink, err := s.Create(raft.SnapshotVersionMax, index, 3, raft.Configuration{Servers: []raft.Server{{ID: "n1", Address: "a"}}}, 1, nil)
	if err != nil {
		return err
	}
	b := snapshotContent(index)
	for _, part := range [][]byte{b[:10], b[10:]} {
		if _, err := sink.Write(part); err != nil {
			return errors.Join(err, sink.Cancel())
		}
	}
	return sink.Close()
}

func indexes(t *testing.T, s *SnapshotStore) (list []uint64) {
	t.Helper()
	metas, err := s.List()
	must(t, err)
	for _, m := range metas {
		list = append(list, m.Index)
	}
	return list
}

func readSnapshot(s *SnapshotStore, index uint64) error {
	metas, err := s.List()
	if err != nil {
		return err
	}
	for _, m := range metas {
		if m.Index != index {
			continue
		}
		meta, r, err := s.Open(m.ID)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
		if !bytes.Equal(b, snapshotContent(index)) || meta.Index != index || meta.Term != 3 || meta.Size != int64(len(b)) || meta.Configuration.Servers[0].ID != "n1" {
			return fmt.Errorf("snapshot %d reads back as %+v with %d bytes", index, meta, len(b))
		}
		return nil
	}
	return errors.New("not listed")
}

func TestSnapshotsReadBackAndSurvive(t *testing.T) {
	fsys := memfs.New(0)
	s := openSnapshots(t, fsys, 4)
	if _, ok := s.Newest(); ok || len(indexes(t, s)) > 0 {
		t.Error("snapshots in an empty directory")
	}
	for _, i := range []uint64{10, 20, 30} {
		must(t, takeSnapshot(s, i))
	}
	sink, err := s.Create(raft.SnapshotVersionMax, 40, 3, raft.Configuration{}, 1, nil)
	must(t, err)
	must(t, sink.Cancel())
	must(t, takeSnapshot(s, 30)) // the same again takes the other's place
	for _, left := range []*memfs.FS{fsys.Clone(), fsys.CrashClone(testRand(1), 0)} {
		again := openSnapshots(t, left, 4)
		if got := indexes(t, again); !slices.Equal(got, []uint64{30, 20, 10}) {
			t.Errorf("snapshots %v", got)
		}
		for _, i := range []uint64{10, 20, 30} {
			must(t, readSnapshot(again, i))
		}
		again.OldestFirst()
		if got := indexes(t, again); !slices.Equal(got, []uint64{10, 20, 30}) {
			t.Errorf("snapshots, oldest first: %v", got)
		}
	}
}

// The ladder keeps the oldest and the newest, and spreads the others.
func TestLadderOfSnapshots(t *testing.T) {
	fsys := memfs.New(0)
	s := openSnapshots(t, fsys, 4)
	for i := uint64(1); i <= 64; i++ {
		must(t, takeSnapshot(s, i*10))
	}
	got := indexes(t, s)
	if len(got) != 4 || got[0] != 640 || got[3] != 10 {
		t.Fatalf("kept %v", got)
	}
	for i := range 3 {
		if gap := got[i] - got[i+1]; gap > 420 {
			t.Errorf("kept %v: a gap of %d", got, gap)
		}
	}
	list, err := fsys.ReadDir(snapshotDir)
	must(t, err)
	if len(list) != 4 {
		t.Errorf("%d files", len(list))
	}
	must(t, s.Prune(got[2]+1)) // the log begins behind the second
	if left := indexes(t, s); !slices.Equal(left, got[:3]) {
		t.Errorf("pruned to %v", left)
	}
	must(t, s.Prune(1<<40))
	if left := indexes(t, s); !slices.Equal(left, got[:1]) {
		t.Errorf("pruned to %v: the newest always stays", left)
	}
}

// TestSnapshotWithFlippedBit flips a bit in every byte: no content is handed out
// that is not what was written, and no other snapshot goes.
func TestSnapshotWithFlippedBit(t *testing.T) {
	fsys := memfs.New(0)
	s := openSnapshots(t, fsys, 4)
	must(t, takeSnapshot(s, 10))
	must(t, takeSnapshot(s, 20))
	metas, err := s.List()
	must(t, err)
	path := filepath.Join(snapshotDir, metas[0].ID+snapSuffix)
	size := int64(len(readFile(t, fsys, path)))
	content := size - int64(len(snapshotContent(20)))
	for at := int64(0); at < size; at++ {
		left := fsys.Clone()
		flip(t, left, path, at, 1)
		again, err := OpenSnapshots(left, snapshotDir, 4)
		if (err == nil) != (at >= content) {
			t.Fatalf("byte %d: %v", at, err)
		}
		if err == nil {
			err = readSnapshot(again, 20)
			must(t, readSnapshot(again, 10))
		}
		var damaged *DamagedError
		if !errors.As(err, &damaged) || damaged.File != path {
			t.Fatalf("byte %d: %v", at, err)
		}
		if list, _ := left.ReadDir(snapshotDir); len(list) != 2 {
			t.Fatalf("byte %d: %d files are left", at, len(list))
		}
	}
	for _, cut := range []int64{0, snapHead - 1, snapHead + 5, size - 1} {
		left := fsys.Clone()
		truncate(t, left, path, cut)
		var damaged *DamagedError
		if _, err := OpenSnapshots(left, snapshotDir, 4); !errors.As(err, &damaged) || damaged.File != path {
			t.Errorf("cut short at %d: %v", cut, err)
		}
	}
}

// Each operation fails, or the machine stops at it: what was there stays, what
// was closed is there, and nothing is there in part.
func TestEveryFailingOperationOfSnapshots(t *testing.T) {
	base := memfs.New(0)
	must(t, takeSnapshot(openSnapshots(t, base, 3), 10))
	for n := 1; ; n++ {
		inner := base.Clone()
		var left *memfs.FS
		nth := errorfs.NewNth(n, errDisk, errorfs.Mutations()...)
		acked, leftAcked := []uint64{10}, []uint64{10}
		fsys := errorfs.Wrap(inner, func(op errorfs.Op, name string) error {
			err := nth.Hook(op, name)
			if err != nil {
				left, leftAcked = inner.CrashClone(testRand(uint64(n)), 0.5), slices.Clone(acked)
			}
			return err
		})
		if s, err := OpenSnapshots(fsys, snapshotDir, 3); err == nil {
			for i := uint64(2); i <= 3; i++ {
				if takeSnapshot(s, i*10) == nil {
					acked = append(acked, i*10)
				}
			}
		}
		if !nth.Failed() {
			return
		}
		for _, x := range []struct {
			fsys  *memfs.FS
			acked []uint64
		}{{left, leftAcked}, {inner.Clone(), acked}, {inner.CrashClone(testRand(uint64(n)), 0), acked}} {
			again := openSnapshots(t, x.fsys, 3)
			got := indexes(t, again)
			for _, i := range x.acked {
				if !slices.Contains(got, i) {
					t.Errorf("operation %d: snapshot %d is gone: %v", n, i, got)
				}
			}
			for _, i := range got {
				if err := readSnapshot(again, i); err != nil {
					t.Errorf("operation %d: snapshot %d: %v", n, i, err)
				}
			}
			must(t, takeSnapshot(again, 50))
		}
	}
}
