package segment

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leat-dev/leat/raftlog/vfs"
	"github.com/leat-dev/leat/raftlog/vfs/errorfs"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

// script uses a log in every way that writes, until the first error.
func script(fsys vfs.FS, m *model, failed func(error)) (err error) {
	var s *Store
	defer func() {
		if s != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	o := testOptions(fsys)
	o.Failed = failed
	if s, err = Open(o); err != nil {
		return err
	}
	grow := func(n int, term uint64) {
		for i := 0; i < n && err == nil; i++ {
			err = m.append(s, 6, term)
		}
		if err != nil {
			return
		}
		addRows(s, s.Indexed()+1, m.now.last()-10)
		s.keepUp()
	}
	do := func(f func() error) {
		if err == nil {
			err = f()
		}
	}
	grow(30, 1)
	do(func() error { return m.delete(s, m.now.last()-100, m.now.last()) })
	grow(20, 2)
	do(func() error { return m.dropBefore(s, m.now.last()-50) })
	grow(20, 3)
	do(func() error { return m.delete(s, m.now.first, m.now.first+3) })
	do(func() error { return s.Close() })
	if err == nil {
		s, err = Open(o)
	}
	grow(10, 4)
	do(func() error { return m.delete(s, m.now.first, m.now.last()) })
	grow(20, 5)
	do(func() error { return m.dropBefore(s, m.now.last()-50) })
	return err
}

// TestEveryFailingOperation lets each operation of a script fail once, of each
// kind. Afterwards the log opens, and holds all that was acknowledged.
func TestEveryFailingOperation(t *testing.T) {
	for _, fault := range []error{errDisk, syscall.ENOSPC} {
		for _, ops := range append([][]errorfs.Op{{errorfs.Open, errorfs.Read, errorfs.ReadDir}}, kinds()...) {
			t.Run(fmt.Sprint(fault, " ", ops), func(t *testing.T) {
				for n := 1; ; n++ {
					if testing.Short() && n > 3 {
						n += n / 3
					}
					if !failNth(t, n, fault, ops) {
						return
					}
				}
			})
		}
	}
}

func kinds() (all [][]errorfs.Op) {
	for _, op := range errorfs.Mutations() {
		all = append(all, []errorfs.Op{op})
	}
	return all
}

func failNth(t *testing.T, n int, fault error, ops []errorfs.Op) bool {
	t.Helper()
	inner := memfs.New(0)
	nth := errorfs.NewNth(n, fault, ops...)
	m := &model{}
	var told atomic.Int32
	err := script(errorfs.Wrap(inner, nth.Hook), m, func(error) { told.Add(1) })
	if !nth.Failed() {
		if err != nil {
			t.Fatal(err)
		}
		return false
	}
	if err != nil && !errors.Is(err, fault) {
		t.Errorf("operation %d: the error does not say why: %v", n, err)
	}
	if told.Load() > 1 {
		t.Errorf("operation %d: %d failures were told", n, told.Load())
	}
	for name, left := range map[string]*memfs.FS{
		"the process":           inner.Clone(),
		"the machine, at worst": inner.CrashClone(testRand(uint64(n)), 0),
		"the machine":           inner.CrashClone(testRand(uint64(n)), 0.5),
	} {
		s, err := Open(testOptions(left))
		if err != nil {
			t.Fatalf("operation %d; restart of %s: %v", n, name, err)
		}
		if err := m.check(s); err != nil {
			t.Fatalf("operation %d; restart of %s: %v", n, name, err)
		}
		again := *m
		again.settle(t, s)
		if err := again.append(s, 5, 9); err != nil {
			t.Fatal(err)
		}
		closeLog(t, s)
		s = openLog(t, left)
		if err := again.check(s); err != nil {
			t.Fatalf("operation %d; second restart of %s: %v", n, name, err)
		}
		closeLog(t, s)
	}
	return true
}

// A write or sync that failed is not tried again: what is on disk is not known.
func TestNothingIsWrittenAfterAFailedWrite(t *testing.T) {
	for _, op := range []errorfs.Op{errorfs.Write, errorfs.Sync} {
		var failing atomic.Bool
		var after atomic.Int32
		inner := memfs.New(0)
		fsys := errorfs.Wrap(inner, func(o errorfs.Op, _ string) error {
			if !failing.Load() {
				return nil
			}
			if o == op && after.Load() == 0 {
				after.Add(1)
				return errDisk
			}
			if after.Load() > 0 && (o == errorfs.Write || o == errorfs.Sync) {
				after.Add(1)
			}
			return nil
		})
		var told error
		o := testOptions(fsys)
		o.Failed = func(err error) { told = err }
		s, err := load(o)
		must(t, err)
		close(s.done)
		write(t, s, 1, 20, 1)
		failing.Store(true)
		if err := s.StoreLogs(entries(21, 22, 1)); !errors.Is(err, errDisk) {
			t.Fatal(err)
		}
		if !errors.Is(told, errDisk) {
			t.Errorf("told of %v", told)
		}
		for _, err := range []error{s.StoreLogs(entries(21, 22, 1)), s.DeleteRange(10, 20), s.DropBefore(15), s.Ready()} {
			if !errors.Is(err, errDisk) {
				t.Errorf("after a failed %s: %v", op, err)
			}
		}
		s.keepUp()
		checkLog(t, s, 1, 20, 1) // what was synced can be read on
		closeLog(t, s)
		if after.Load() != 1 {
			t.Errorf("after a failed %s there were %d writes and syncs", op, after.Load()-1)
		}
	}
}

// Where the log's state cannot be written a restart may find the old one or the
// new: that does not pass, whatever the reason.
func TestFailedStateIsFinal(t *testing.T) {
	var failing atomic.Bool
	fsys := errorfs.Wrap(memfs.New(0), func(op errorfs.Op, name string) error {
		if failing.Load() && op == errorfs.Write && filepath.Base(name) == stateFile {
			return syscall.ENOSPC
		}
		return nil
	})
	var told error
	o := testOptions(fsys)
	o.Failed = func(err error) { told = err }
	s, err := Open(o)
	must(t, err)
	defer s.Close()
	write(t, s, 1, 20, 1)
	must(t, s.Ready())
	failing.Store(true)
	for next := uint64(21); err == nil; next++ {
		err = s.StoreLog(entry(next, 1))
	}
	if errors.Is(err, ErrFull) || !errors.Is(err, syscall.ENOSPC) || !errors.Is(told, syscall.ENOSPC) {
		t.Errorf("append: %v; told: %v", err, told)
	}
}

// A full disk refuses appends once the segment made ahead is used up, loses
// nothing, and needs no restart when there is room again.
func TestFullDiskPasses(t *testing.T) {
	fsys := memfs.New(0)
	s := openLog(t, fsys)
	write(t, s, 1, 30, 1)
	must(t, s.Ready())
	full, _, err := s.files()
	must(t, err)
	fsys.SetCapacity(int64(len(full)) * smallSegments) // and no byte more
	last := uint64(30)
	for err == nil {
		if err = s.StoreLog(entry(last+1, 1)); err == nil {
			last++
		}
	}
	if !errors.Is(err, ErrFull) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if last < 100 {
		t.Errorf("refused after entry %d: the segments made ahead were not used", last)
	}
	if err := s.Ready(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Ready says %v", err)
	}
	if room := s.Room(); room >= int64(len(entry(last+1, 1).Data)) {
		t.Errorf("Room says %d", room)
	}
	checkLog(t, s, 1, last, 1)
	killed := fsys.Clone() // with a full disk the log opens, too
	again := openLog(t, killed)
	checkLog(t, again, 1, last, 1)
	closeLog(t, again)

	fsys.SetCapacity(0)
	must(t, s.StoreLog(entry(last+1, 1)))
	must(t, s.Ready())
	checkLog(t, s, 1, last+1, 1)
	closeLog(t, s)
}

// Whoever asks Ready makes the log try again, but not in a hurry.
func TestFullDiskIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := memfs.New(0)
		s := openLog(t, fsys)
		defer closeLog(t, s)
		synctest.Wait()
		fsys.SetCapacity(1)
		must(t, s.StoreLogs(entries(1, 110, 1)))
		synctest.Wait()
		if err := s.Ready(); !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		attempts := s.attempts
		for range 10 {
			_ = s.Ready()
			synctest.Wait()
		}
		if s.attempts != attempts {
			t.Errorf("tried %d times at once", s.attempts-attempts)
		}
		fsys.SetCapacity(0)
		time.Sleep(retryAfter + 1) // of the bubble's time
		if err := s.Ready(); !errors.Is(err, ErrFull) {
			t.Errorf("Ready waited: %v", err)
		}
		synctest.Wait()
		must(t, s.Ready())
	})
}

// Retention makes room on a full disk: dropped segments are written again.
func TestDroppedSegmentsMakeRoomOnAFullDisk(t *testing.T) {
	fsys := memfs.New(0)
	s := openLog(t, fsys)
	write(t, s, 1, 100, 1)
	fsys.SetCapacity(1)
	last := uint64(100)
	var err error
	for err == nil {
		if err = s.StoreLog(entry(last+1, 1)); err == nil {
			last++
		}
	}
	addRows(s, 1, last)
	must(t, s.DropBefore(last))
	must(t, s.StoreLogs(entries(last+1, last+50, 1)))
	first, _ := bounds(s)
	checkLog(t, s, first, last+50, 1)
	closeLog(t, s)
}
