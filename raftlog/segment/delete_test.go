package segment

import (
	"fmt"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

// restarts checks a log, and what a killed process and a power cut leave of it.
func restarts(t *testing.T, s *Store, fsys *memfs.FS, check func(*testing.T, *Store)) {
	t.Helper()
	check(t, s)
	for _, left := range []*memfs.FS{fsys.Clone(), fsys.CrashClone(testRand(1), 0)} {
		again := loadLog(t, left)
		check(t, again)
		closeLog(t, again)
	}
}

// A follower's conflict: the entries from one on go, others of a later term come.
func TestConflictIsCutOffAndOverwritten(t *testing.T) {
	for _, indexed := range []bool{false, true} {
		for _, cut := range []uint64{2, 40, 60, 61, 62, 63, 64, 65, 66, 149, 150} {
			t.Run(fmt.Sprint("indexed=", indexed, " from ", cut), func(t *testing.T) {
				fsys := memfs.New(0)
				s := loadLog(t, fsys)
				write(t, s, 1, 150, 1)
				if indexed {
					addRows(s, 1, 150)
					s.keepUp()
				}
				if err := s.DeleteRange(cut, 150); err != nil {
					t.Fatal(err)
				}
				restarts(t, s, fsys, func(t *testing.T, s *Store) { checkLog(t, s, 1, cut-1, 1) })
				write(t, s, cut, 170, 2)
				restarts(t, s, fsys, func(t *testing.T, s *Store) {
					checkEntries(t, s, 1, cut-1, 1)
					checkEntries(t, s, cut, 170, 2)
				})
				closeLog(t, s)
				s = loadLog(t, fsys)
				checkEntries(t, s, 1, cut-1, 1)
				checkEntries(t, s, cut, 170, 2)
				closeLog(t, s)
			})
		}
	}
}

// The first entries of every segment are the places where a cut leaves an empty one.
func TestCutAtTheBeginOfEachSegment(t *testing.T) {
	fsys := memfs.New(0)
	s := loadLog(t, fsys)
	write(t, s, 1, 200, 1)
	infos := s.Segments()
	closeLog(t, s)
	for _, g := range infos[1:] {
		left := fsys.Clone()
		s := loadLog(t, left)
		if err := s.DeleteRange(g.First, 200); err != nil {
			t.Fatal(err)
		}
		restarts(t, s, left, func(t *testing.T, s *Store) { checkLog(t, s, 1, g.First-1, 1) })
		write(t, s, g.First, g.First+5, 1)
		restarts(t, s, left, func(t *testing.T, s *Store) { checkLog(t, s, 1, g.First+5, 1) })
		closeLog(t, s)
	}
}

func TestRowsOfACutSegmentStay(t *testing.T) {
	s := loadLog(t, memfs.New(0))
	defer closeLog(t, s)
	write(t, s, 1, 150, 1)
	addRows(s, 1, 150)
	s.keepUp()
	if err := s.DeleteRange(20, 150); err != nil {
		t.Fatal(err)
	}
	checkRows(t, s, 1, 19)
	if r, ok, err := s.Find(20%3, 1, 20/3*10); ok || err != nil {
		t.Errorf("a row of a deleted entry: %+v, %v", r, err)
	}
	write(t, s, 20, 100, 2)
	addRows(s, 20, 100)
	s.keepUp()
	checkRows(t, s, 1, 100)
}

// After an installed snapshot raft deletes everything and goes on elsewhere.
func TestLogBeginsAnywhereAfterEverythingWasDeleted(t *testing.T) {
	for _, next := range []uint64{1, 80, 1000} {
		t.Run(fmt.Sprint(next), func(t *testing.T) {
			fsys := memfs.New(0)
			s := loadLog(t, fsys)
			write(t, s, 1, 150, 1)
			addRows(s, 1, 150)
			s.keepUp()
			if err := s.DeleteRange(1, 150); err != nil {
				t.Fatal(err)
			}
			restarts(t, s, fsys, func(t *testing.T, s *Store) {
				if first, last := bounds(s); first != 0 || last != 0 {
					t.Fatalf("entries %d to %d are left", first, last)
				}
			})
			write(t, s, next, next+100, 2)
			addRows(s, next, next+100)
			restarts(t, s, fsys, func(t *testing.T, s *Store) { checkLog(t, s, next, next+100, 2) })
			checkRows(t, s, next, next+100)
			closeLog(t, s)
			s = loadLog(t, fsys)
			checkLog(t, s, next, next+100, 2)
			closeLog(t, s)
		})
	}
}

func TestDeletionOfAPrefixIsExact(t *testing.T) {
	fsys := memfs.New(0)
	s := loadLog(t, fsys)
	write(t, s, 1, 150, 1)
	for _, last := range []uint64{1, 30, 70, 149} {
		if err := s.DeleteRange(0, last); err != nil {
			t.Fatal(err)
		}
		restarts(t, s, fsys, func(t *testing.T, s *Store) { checkLog(t, s, last+1, 150, 1) })
	}
	write(t, s, 151, 160, 1)
	restarts(t, s, fsys, func(t *testing.T, s *Store) { checkLog(t, s, 150, 160, 1) })
	closeLog(t, s)
}

func TestDeletionsThatDoNotFit(t *testing.T) {
	s := loadLog(t, memfs.New(0))
	defer closeLog(t, s)
	if err := s.DeleteRange(1, 9); err != nil {
		t.Errorf("of an empty log: %v", err)
	}
	write(t, s, 10, 30, 1)
	if err := s.DeleteRange(15, 20); err == nil {
		t.Error("a hole was made")
	}
	for _, r := range [][2]uint64{{1, 9}, {31, 40}, {20, 19}} {
		if err := s.DeleteRange(r[0], r[1]); err != nil {
			t.Errorf("entries %v, which are not there: %v", r, err)
		}
	}
	checkLog(t, s, 10, 30, 1)
}

func TestDropBeforeKeepsWhatSharesASegmentAndTheLastEntry(t *testing.T) {
	fsys := memfs.New(0)
	s := loadLog(t, fsys)
	write(t, s, 1, 150, 1)
	infos := s.Segments()
	for _, c := range []struct{ index, first uint64 }{
		{infos[0].Last, 1},
		{infos[0].Last + 1, infos[1].First},
		{infos[1].Last + 1, infos[2].First},
		{1000, s.Segments()[len(infos)-1].First},
	} {
		if err := s.DropBefore(c.index); err != nil {
			t.Fatal(err)
		}
		restarts(t, s, fsys, func(t *testing.T, s *Store) { checkLog(t, s, c.first, 150, 1) })
	}
	closeLog(t, s)
}

// Where the disk is full and no segment was made ahead, everything can be
// deleted all the same.
func TestEverythingCanBeDeletedOnAFullDisk(t *testing.T) {
	fsys := memfs.New(0)
	s := loadLog(t, fsys)
	write(t, s, 1, 60, 1)
	fsys.SetCapacity(1)
	fill(t, s, 61)
	_, last := bounds(s)
	if err := s.DeleteRange(1, last); err != nil {
		t.Fatal(err)
	}
	restarts(t, s, fsys, func(t *testing.T, s *Store) {
		if first, last := bounds(s); first != 0 || last != 0 {
			t.Fatalf("entries %d to %d are left", first, last)
		}
	})
	if err := s.StoreLogs(entries(500, 510, 3)); err != nil {
		t.Fatal(err)
	}
	restarts(t, s, fsys, func(t *testing.T, s *Store) { checkLog(t, s, 500, 510, 3) })
	closeLog(t, s)
}

// fill appends until no segment is left that was made ahead.
func fill(t *testing.T, s *Store, next uint64) {
	t.Helper()
	for len(s.ready) > 0 {
		if err := s.StoreLog(entry(next, 1)); err != nil {
			t.Fatal(err)
		}
		next++
	}
}

func TestReadersGoOnBesideDeletions(t *testing.T) {
	s := openLog(t, memfs.New(0))
	defer closeLog(t, s)
	stop := make(chan struct{})
	readers := make(chan error, 2)
	for range cap(readers) {
		go func() {
			for {
				select {
				case <-stop:
					readers <- nil
					return
				default:
				}
				if err := readAll(s); err != nil {
					readers <- err
					return
				}
			}
		}()
	}
	next := uint64(1)
	for round := range uint64(12) {
		write(t, s, next, next+99, round)
		addRows(s, next, next+70)
		if err := s.DropBefore(next); err != nil {
			t.Error(err)
		}
		if err := s.DeleteRange(next+80, next+99); err != nil {
			t.Error(err)
		}
		next += 80
	}
	close(stop)
	for range cap(readers) {
		if err := <-readers; err != nil {
			t.Error(err)
		}
	}
}

// readAll reads whatever is in the log, and the rows of three keys. Entries may
// go meanwhile; none may read back wrong.
func readAll(s *Store) error {
	first, last := bounds(s)
	for i := first; i <= last; i++ {
		var l raft.Log
		switch err := s.GetLog(i, &l); {
		case err == raft.ErrLogNotFound:
		case err != nil:
			return err
		case !same(&l, entry(i, l.Term)):
			return fmt.Errorf("entry %d reads back as %+v", i, l)
		}
	}
	for k := range uint32(3) {
		if _, _, err := s.Find(k, 1, last/3*5); err != nil {
			return err
		}
	}
	s.Segments()
	return nil
}
