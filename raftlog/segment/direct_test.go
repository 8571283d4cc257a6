package segment

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/vfs"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

// directFS counts what is written directly, and may refuse to.
type directFS struct {
	vfs.FS
	opened, closed, written, pieces atomic.Int64
	refuseOpen                      error
	refuseWrite                     error
}

func (f *directFS) OpenDirect(name string) (vfs.DirectFile, error) {
	if f.refuseOpen != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: f.refuseOpen}
	}
	file, err := f.FS.OpenDirect(name)
	if err == nil {
		f.opened.Add(1)
	}
	return countedDirect{file, f}, err
}

type countedDirect struct {
	vfs.DirectFile
	fs *directFS
}

func (f countedDirect) WriteAt(at int64, pieces ...[]byte) (int, error) {
	if f.fs.refuseWrite != nil {
		return 0, f.fs.refuseWrite
	}
	for _, p := range pieces {
		f.fs.written.Add(int64(len(p)))
	}
	f.fs.pieces.Add(int64(len(pieces)))
	return f.DirectFile.WriteAt(at, pieces...)
}

func (f countedDirect) Close() error {
	f.fs.closed.Add(1)
	return f.DirectFile.Close()
}

// sized is an entry of so many bytes that follow from its index.
func sized(index uint64, size int) *raft.Log {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(index), byte(index >> 8)})
	_, _ = r.Read(b) // never fails
	return &raft.Log{Index: index, Term: 1, Data: b, Extensions: []byte(fmt.Sprint(index))}
}

func wantSized(t *testing.T, s *Store, index uint64, size int) {
	t.Helper()
	var l raft.Log
	if err := s.GetLog(index, &l); err != nil {
		t.Fatal(err)
	}
	if want := sized(index, size); !bytes.Equal(l.Data, want.Data) || !bytes.Equal(l.Extensions, want.Extensions) {
		t.Fatalf("entry %d does not read back as it was written", index)
	}
}

// sizes of entries in turn: those of 9,000 bytes and more are written directly.
var sizes = []int{1, 9000, 100, 20000, 3968, 40000, 4000, 0, 9000, 9000, 50000}

func sizeOf(index uint64) int { return sizes[index%uint64(len(sizes))] }

func directOptions(fsys vfs.FS, dir string) Options {
	return Options{FS: fsys, Dir: dir, SegmentBytes: 256 << 10, DirectBytes: 9000, DirectBuffer: 4 * vfs.DirectAlign}
}

func TestLargeAppendsAreWrittenPastThePageCache(t *testing.T) {
	fsys := &directFS{FS: memfs.New(0)}
	s, err := Open(directOptions(fsys, testDir))
	must(t, err)
	for i := uint64(1); i < 200; i++ {
		before := fsys.written.Load()
		must(t, s.StoreLog(sized(i, sizeOf(i))))
		n, most := fsys.written.Load()-before, bytesOf(sized(i, sizeOf(i)))+2*vfs.DirectAlign
		if large := sizeOf(i) >= 9000; large != (n > 0) || n > most {
			t.Errorf("%d bytes of an entry of %d were written directly", n, sizeOf(i))
		}
		wantSized(t, s, i, sizeOf(i))
	}
	closeLog(t, s)
	if n := fsys.opened.Load(); n < 10 || n != fsys.closed.Load() {
		t.Errorf("%d files were opened, %d closed", n, fsys.closed.Load())
	}
	s, err = Open(directOptions(fsys, testDir))
	must(t, err)
	for i := uint64(1); i < 200; i++ {
		wantSized(t, s, i, sizeOf(i))
	}
	closeLog(t, s)
}

// placed has an entry's data in memory where it lies as it will in its file.
func placed(s *Store, l *raft.Log) *raft.Log {
	skip := int(s.DataAt(len(l.Data)+len(l.Extensions)) % vfs.DirectAlign)
	b := vfs.Blocks(len(l.Data)/vfs.DirectAlign + 2)[skip:][:len(l.Data)]
	copy(b, l.Data)
	l.Data = b
	return l
}

// Large data is copied on its way to the disk only where it lies otherwise than it
// will there, and is the same there in either case.
func TestLargeDataIsWrittenFromWhereItLies(t *testing.T) {
	fsys := &directFS{FS: memfs.New(0)}
	o := directOptions(fsys, testDir)
	o.LargeData = 4000
	s, err := Open(o)
	must(t, err)
	for i := uint64(1); i < 200; i++ {
		l, before := sized(i, sizeOf(i)), fsys.pieces.Load()
		if i%7 > 0 {
			l = placed(s, l)
		}
		must(t, s.StoreLog(l))
		want := int64(0)
		if size := sizeOf(i); size >= 9000 && i%7 > 0 {
			want = 3 // in front of the whole blocks of the data, these, and behind
		}
		if got := fsys.pieces.Load() - before; want > 0 && got != want || want == 0 && sizeOf(i) < 9000 && got > 0 {
			t.Errorf("entry %d of %d bytes was written in %d pieces, not %d", i, sizeOf(i), got, want)
		}
		clear(l.Data) // it is ours again
		wantSized(t, s, i, sizeOf(i))
	}
	logs := []*raft.Log{sized(200, 20000), placed(s, sized(201, 30000)), sized(202, 5000)}
	must(t, s.StoreLogs(logs))
	closeLog(t, s)
	s, err = Open(o)
	must(t, err)
	for i := uint64(1); i < 200; i++ {
		wantSized(t, s, i, sizeOf(i))
	}
	for _, l := range logs {
		wantSized(t, s, l.Index, len(l.Data))
	}
	closeLog(t, s)
}

// What the page cache and the disk have of a block may differ for a moment only:
// whoever reads beside the appends reads what was acknowledged. It is the
// machine's own file system, and segments are written again.
func TestReadersBesideDirectWrites(t *testing.T) {
	fsys := &directFS{FS: vfs.OS{}}
	o := directOptions(fsys, t.TempDir())
	s, err := Open(o)
	must(t, err)
	const last = 400
	var acknowledged atomic.Uint64
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for seen := uint64(0); seen < last; {
				first, _ := bounds(s)
				if seen = acknowledged.Load(); seen == 0 || first == 0 {
					continue
				}
				for i := max(first, seen-min(seen, 3), 1); i <= seen; i++ {
					var l raft.Log
					err := s.GetLog(i, &l)
					if errors.Is(err, raft.ErrLogNotFound) {
						continue // dropped meanwhile
					}
					if err != nil || !bytes.Equal(l.Data, sized(i, sizeOf(i)).Data) {
						t.Errorf("entry %d does not read back: %v", i, err)
						return
					}
				}
			}
		})
	}
	for i := uint64(1); i <= last; i++ {
		l := sized(i, sizeOf(i))
		if i%3 > 0 {
			l = placed(s, l)
		}
		must(t, s.StoreLog(l))
		acknowledged.Store(i)
		if i%60 == 0 {
			addRows(s, s.Indexed()+1, i)
			must(t, s.DropBefore(i-20))
		}
		if i%150 == 0 {
			must(t, s.DeleteRange(i-1, i))
			must(t, s.StoreLogs([]*raft.Log{sized(i-1, sizeOf(i-1)), sized(i, sizeOf(i))}))
		}
	}
	readers.Wait()
	closeLog(t, s)
	s, err = Open(o)
	must(t, err)
	first, _ := bounds(s)
	for i := first; i <= last; i++ {
		wantSized(t, s, i, sizeOf(i))
	}
	closeLog(t, s)
}

// A file system that cannot write directly, or not now, is written as others are.
func TestWithoutDirectWrites(t *testing.T) {
	for name, c := range map[string]struct {
		open, write error
		off         bool
	}{
		"it refuses to open":            {open: errors.ErrUnsupported, off: true},
		"it refuses the first write":    {write: fmt.Errorf("%w: %w", errors.ErrUnsupported, syscall.EINVAL), off: true},
		"there are too many open files": {open: syscall.EMFILE},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := &directFS{FS: memfs.New(0), refuseOpen: c.open, refuseWrite: c.write}
			s, err := Open(directOptions(fsys, testDir))
			must(t, err)
			for i := uint64(1); i < 40; i++ {
				must(t, s.StoreLog(sized(i, sizeOf(i))))
			}
			if s.direct.off != c.off || fsys.written.Load() != 0 {
				t.Errorf("off: %v; %d bytes were written directly", s.direct.off, fsys.written.Load())
			}
			fsys.refuseOpen, fsys.refuseWrite = nil, nil
			for i := uint64(40); i < 80; i++ {
				must(t, s.StoreLog(sized(i, sizeOf(i))))
			}
			if direct := fsys.written.Load() > 0; direct == c.off {
				t.Errorf("tried again: %v", direct)
			}
			for i := uint64(1); i < 80; i++ {
				wantSized(t, s, i, sizeOf(i))
			}
			closeLog(t, s)
			if fsys.opened.Load() != fsys.closed.Load() {
				t.Errorf("%d files were opened, %d closed", fsys.opened.Load(), fsys.closed.Load())
			}
		})
	}
}

// Of a write that failed in its middle the log keeps nothing in memory that is not
// on the disk, as it takes no more writes; what was acknowledged stands in the
// block that was written again.
func TestFailedDirectWriteKeepsWhatStandsBefore(t *testing.T) {
	inner := memfs.New(0)
	fsys := &directFS{FS: inner}
	s, err := Open(directOptions(fsys, testDir))
	must(t, err)
	for i := uint64(1); i < 20; i++ {
		must(t, s.StoreLog(sized(i, sizeOf(i))))
	}
	fsys.refuseWrite = errDisk
	if err := s.StoreLog(sized(20, 50000)); !errors.Is(err, errDisk) {
		t.Fatal(err)
	}
	if err := s.StoreLog(sized(20, 1)); !errors.Is(err, errDisk) {
		t.Errorf("after a failed write: %v", err)
	}
	must(t, s.Close())
	for share := range 3 {
		s, err := Open(directOptions(inner.CrashClone(testRand(uint64(share)), float64(share)/2), testDir))
		must(t, err)
		if _, last := bounds(s); last != 19 {
			t.Errorf("the log ends with entry %d", last)
		}
		for i := uint64(1); i < 20; i++ {
			wantSized(t, s, i, sizeOf(i))
		}
		closeLog(t, s)
	}
}
