package kv_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/kv"
)

// onGroup runs a store on a real group of one voter.
func onGroup(t *testing.T, dir, boot string, snapshotBytes int64) (*kv.Store, *raftlog.Group, uint64) {
	t.Helper()
	fatal := func(err error) { t.Errorf("fatal: %v", err) }
	s, err := kv.Open(kv.Options{Dir: filepath.Join(dir, "kv"), BootID: boot, Fatal: fatal})
	if err != nil {
		t.Fatal(err)
	}
	trusted := s.Applied()
	g, err := raftlog.Open(t.Context(), raftlog.Options{
		Dir: dir, Name: "meta", NodeID: "n1", Machine: s, Fatal: fatal,
		SegmentBytes: 1 << 20, SnapshotBytes: snapshotBytes, DiskFloor: 1, DiskReserve: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Bind(g)
	return s, g, trusted
}

func stop(t *testing.T, s *kv.Store, g *raftlog.Group) {
	t.Helper()
	if err := g.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestOnAGroup(t *testing.T) {
	dir := t.TempDir()
	s, g, _ := onGroup(t, dir, "one", 64<<10)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				if r, err := s.Put(t.Context(), fmt.Sprintf("/%d/%d", i, j%10), make([]byte, 1000), kv.AnyRev, 0); err != nil || !r.OK {
					t.Errorf("put: %v, %v", r, err)
				}
			}
		})
	}
	wg.Wait()
	want := content(t, s)
	applied := s.Applied()
	stop(t, s, g)

	for _, boot := range []string{"one", "two"} { // closed: both find it whole
		s, g, trusted := onGroup(t, dir, boot, 64<<10)
		if trusted != applied {
			t.Errorf("boot %s: the database holds entry %d, want %d", boot, trusted, applied)
		}
		if got := content(t, s); got != want {
			t.Errorf("boot %s: the content changed over a restart", boot)
		}
		stop(t, s, g)
	}

	// The database is lost: snapshot and log give it back.
	lost := copyDir(t, dir)
	without(t, filepath.Join(lost, "kv"), "mark.json")
	s, g, trusted := onGroup(t, lost, "one", 64<<10)
	if trusted != 0 {
		t.Errorf("a database without its mark was trusted up to %d", trusted)
	}
	if got := content(t, s); got != want {
		t.Error("the rebuilt content is another")
	}
	rev := mustPut(t, s, "/after", "x")
	killed := copyDir(t, lost) // as a kill leaves it: nothing is in flight
	stop(t, s, g)

	s, g, trusted = onGroup(t, killed, "one", 64<<10)
	if k, _, err := s.Get("/after"); err != nil || k == nil || k.ModRev != rev || trusted == 0 {
		t.Errorf("after a kill: %v, %v, trusted up to %d", k, err, trusted)
	}
	stop(t, s, g)
}
