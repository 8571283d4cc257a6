package segment

import (
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/vfs"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

// countingFS counts the bytes that are written to files it made.
type countingFS struct {
	vfs.FS
	bytes atomic.Int64
}

func (f *countingFS) Create(name string) (vfs.File, error) {
	file, err := f.FS.Create(name)
	return countingFile{file, f}, err
}

type countingFile struct {
	vfs.File
	fs *countingFS
}

func (f countingFile) WriteAt(p []byte, at int64) (int, error) {
	f.fs.bytes.Add(int64(len(p)))
	return f.File.WriteAt(p, at)
}

func TestSmallWritesClearTheWayAndLargeOnesAreWrittenOnce(t *testing.T) {
	fsys := &countingFS{FS: memfs.New(0)}
	o := testOptions(fsys)
	o.SegmentBytes, o.DirectBytes = 4<<20, 0 // the default
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	next := uint64(1)
	written := func(size, times int) int64 {
		t.Helper()
		before := fsys.bytes.Load()
		for range times {
			if err := s.StoreLog(&raft.Log{Index: next, Term: 1, Data: make([]byte, size)}); err != nil {
				t.Fatal(err)
			}
			next++
		}
		return fsys.bytes.Load() - before
	}
	if n := written(64<<10, 8); n > 8*(64<<10+recordSize+align) {
		t.Errorf("8 writes of 64 KiB wrote %d bytes", n)
	}
	if n := written(1000, smallRow-1); n > (smallRow-1)*(1000+recordSize+align) {
		t.Errorf("small writes that are few wrote %d bytes", n)
	}
	if n := written(1000, 1); n < clearBytes-headerSize || n > clearBytes+headerSize {
		t.Errorf("a small write after others into new space wrote %d bytes, want about %d", n, clearBytes)
	}
	if n := written(1000, 100); n > 100*(1000+recordSize+align) {
		t.Errorf("100 small writes into cleared space wrote %d bytes", n)
	}
	const most = smallWrite - recordSize - align
	written(most, 8) // there may be space left that the ones before have cleared
	if n := written(most, 8); n < 2*8*most || n > 2*8*smallWrite+clearBytes {
		t.Errorf("8 of the largest small writes wrote %d bytes, want each about twice", n)
	}
	closeLog(t, s)
	s, err = Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer closeLog(t, s)
	for i := uint64(1); i < next; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
	}
}
