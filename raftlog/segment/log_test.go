package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/vfs"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

const testDir = "/log"

// smallSegments takes some fifty entries of the tests to a segment.
const smallSegments = 32 << 10

func testOptions(fsys vfs.FS) Options {
	return Options{FS: fsys, Dir: testDir, SegmentBytes: smallSegments, OpenFiles: 2, IndexCache: 3, LargeData: 300, DirectBytes: 1000, DirectBuffer: vfs.DirectAlign}
}

func openLog(t testing.TB, fsys vfs.FS) *Store {
	t.Helper()
	s, err := Open(testOptions(fsys))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// loadLog opens a log that does no upkeep but by calls of keepUp, so that what
// is on disk depends on the test alone.
func loadLog(t testing.TB, fsys vfs.FS) *Store {
	t.Helper()
	s, err := load(testOptions(fsys))
	if err != nil {
		t.Fatal(err)
	}
	close(s.done)
	s.keepUp()
	return s
}

func closeLog(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// entry makes a log entry whose content follows from its index and term alone.
func entry(index, term uint64) *raft.Log {
	size := index * 37 % 400
	data := binary.LittleEndian.AppendUint64(nil, index<<16|term)
	for uint64(len(data)) < size {
		data = append(data, byte(index*uint64(len(data))+term))
	}
	return &raft.Log{Index: index, Term: term, Data: data}
}

func entries(from, to, term uint64) []*raft.Log {
	var logs []*raft.Log
	for i := from; i <= to; i++ {
		logs = append(logs, entry(i, term))
	}
	return logs
}

// write appends entries, a few at a time.
func write(t testing.TB, s *Store, from, to, term uint64) {
	t.Helper()
	for batch := range slices.Chunk(entries(from, to, term), 3) {
		s.keepUp()
		if err := s.StoreLogs(batch); err != nil {
			t.Fatal(err)
		}
	}
}

func same(a, b *raft.Log) bool {
	return a.Index == b.Index && a.Term == b.Term && a.Type == b.Type && bytes.Equal(a.Data, b.Data) &&
		bytes.Equal(a.Extensions, b.Extensions) && a.AppendedAt.Equal(b.AppendedAt)
}

// checkLog wants exactly the entries from one to another, all of one term.
func checkLog(t testing.TB, s *Store, first, last, term uint64) {
	t.Helper()
	if f, l := bounds(s); f != first || l != last {
		t.Fatalf("entries %d to %d, want %d to %d", f, l, first, last)
	}
	checkEntries(t, s, first, last, term)
	for _, i := range []uint64{first - 1, last + 1} {
		if err := s.GetLog(i, new(raft.Log)); !errors.Is(err, raft.ErrLogNotFound) {
			t.Errorf("entry %d: %v, want none", i, err)
		}
	}
}

func checkEntries(t testing.TB, s *Store, first, last, term uint64) {
	t.Helper()
	for i := first; i <= last; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		if !same(&l, entry(i, term)) {
			t.Fatalf("entry %d reads back as %+v", i, l)
		}
	}
}

func bounds(s *Store) (first, last uint64) {
	first, _ = s.FirstIndex()
	last, _ = s.LastIndex()
	return first, last
}

// rowsOf are an entry's rows: ten offsets of one of three keys.
func rowsOf(index uint64) []Row {
	return []Row{{Key: uint32(index % 3), Kind: 1, Base: index / 3 * 10, Count: 10, Bytes: 100, Index: index, Time: int64(index) * 1000}}
}

func addRows(s *Store, from, to uint64) {
	for i := from; i <= to; i++ {
		s.AddRows(i, rowsOf(i))
	}
}

func TestEntriesReadBackWithAllTheirFields(t *testing.T) {
	fsys := memfs.New(0)
	s := openLog(t, fsys)
	var want []*raft.Log
	for i, l := range []raft.Log{
		{Type: raft.LogCommand, Data: []byte("data"), Extensions: []byte("more"), AppendedAt: time.Unix(7, 9)},
		{Type: raft.LogNoop},
		{Type: raft.LogConfiguration, Data: []byte{1}},
		{Type: raft.LogBarrier, Extensions: []byte("only")},
		{Type: raft.LogCommand, Data: make([]byte, 9000)},
	} {
		l.Index, l.Term = uint64(i+1), uint64(i/2+1)
		want = append(want, &l)
	}
	if err := s.StoreLogs(want); err != nil {
		t.Fatal(err)
	}
	check := func(s *Store) {
		for _, w := range want {
			var l raft.Log
			if err := s.GetLog(w.Index, &l); err != nil || !same(&l, w) {
				t.Errorf("entry %d: %v, %+v", w.Index, err, l)
			}
		}
	}
	check(s)
	addRows(s, 1, 5)
	killed := openLog(t, fsys.Clone())
	check(killed)
	closeLog(t, killed)
	closeLog(t, s)
	s = openLog(t, fsys)
	check(s)
	closeLog(t, s)
}

func TestLogRunsOverSegmentsAndRestarts(t *testing.T) {
	fsys := memfs.New(0)
	last := uint64(0)
	for round := range 4 {
		s := openLog(t, fsys)
		if len(s.Recovered()) > 0 {
			t.Fatalf("a closed log has been cut: %+v", s.Recovered())
		}
		write(t, s, last+1, last+150, 1)
		if round%2 == 0 {
			addRows(s, last+1, last+150)
			s.keepUp()
		}
		last += 150
		checkLog(t, s, 1, last, 1)
		checkSegments(t, s, last)
		killed := openLog(t, fsys.Clone())
		checkLog(t, killed, 1, last, 1)
		closeLog(t, killed)
		closeLog(t, s)
	}
}

// checkSegments wants segments that follow each other, all but the last sealed.
func checkSegments(t *testing.T, s *Store, last uint64) {
	t.Helper()
	infos := s.Segments()
	if len(infos) < 3 {
		t.Fatalf("%d segments: too few to test anything", len(infos))
	}
	next := uint64(1)
	for i, g := range infos {
		if g.First != next || g.Sealed != (i < len(infos)-1) {
			t.Errorf("segment %d is %+v, should begin with %d", i, g, next)
		}
		next = g.Last + 1
	}
	if next != last+1 {
		t.Errorf("the segments end with %d, the log with %d", next-1, last)
	}
}

func TestOneAppendMayRunOverSeveralSegments(t *testing.T) {
	fsys := memfs.New(0)
	s := openLog(t, fsys)
	if err := s.StoreLogs(entries(1, 300, 1)); err != nil {
		t.Fatal(err)
	}
	checkLog(t, s, 1, 300, 1)
	checkSegments(t, s, 300)
	closeLog(t, s)
	s = openLog(t, fsys)
	checkLog(t, s, 1, 300, 1)
	closeLog(t, s)
}

func TestAppendsThatDoNotFollowAreRefusedAndChangeNothing(t *testing.T) {
	fsys := memfs.New(0)
	s := openLog(t, fsys)
	if err := s.StoreLog(entry(0, 1)); err == nil {
		t.Error("entry 0 was taken")
	}
	write(t, s, 5, 9, 1) // a log may begin anywhere
	for name, logs := range map[string][]*raft.Log{
		"a gap":             {entry(11, 1)},
		"a repetition":      {entry(9, 1)},
		"a gap within":      {entry(10, 1), entry(12, 1)},
		"too large":         {{Index: 10, Data: make([]byte, smallSegments)}},
		"too large, second": {entry(10, 1), {Index: 11, Data: make([]byte, smallSegments)}},
	} {
		if err := s.StoreLogs(logs); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	write(t, s, 10, 12, 1)
	checkLog(t, s, 5, 12, 1)
	closeLog(t, s)
	if err := s.StoreLog(entry(13, 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("append to a closed log: %v", err)
	}
	s = openLog(t, fsys)
	checkLog(t, s, 5, 12, 1)
	closeLog(t, s)
}

func TestLargestEntryFits(t *testing.T) {
	s := openLog(t, memfs.New(0))
	defer closeLog(t, s)
	data := make([]byte, s.MaxEntry())
	for i := range uint64(3) {
		if err := s.StoreLog(&raft.Log{Index: i + 1, Term: 1, Data: data}); err != nil {
			t.Fatalf("an entry of MaxEntry bytes: %v", err)
		}
	}
	if err := s.StoreLog(&raft.Log{Index: 4, Term: 1, Data: make([]byte, len(data)+1)}); err == nil {
		t.Error("a larger entry was taken")
	}
}

func TestSteadyLogWritesItsDroppedSegmentsAgain(t *testing.T) {
	fsys := memfs.New(0)
	s := loadLog(t, fsys)
	generations := map[uint64]bool{}
	last, files := uint64(0), 0
	for round := range 8 {
		write(t, s, last+1, last+150, 1)
		last += 150
		addRows(s, 1, last)
		s.keepUp()
		if err := s.DropBefore(last - 20); err != nil {
			t.Fatal(err)
		}
		s.keepUp()
		for _, g := range s.segments {
			generations[g.generation] = true
		}
		list, _, err := s.files()
		if err != nil {
			t.Fatal(err)
		}
		if round > 2 && len(list) > files {
			t.Errorf("round %d: %d files, %d before", round, len(list), files)
		}
		files = max(files, len(list))
	}
	if len(generations) < 8 {
		t.Errorf("%d generations: files are written again without a new one", len(generations))
	}
	first, _ := bounds(s)
	if first == 1 || first > last-20 {
		t.Fatalf("the log begins with %d", first)
	}
	checkLog(t, s, first, last, 1)
	closeLog(t, s)
	s = openLog(t, fsys)
	checkLog(t, s, first, last, 1)
	closeLog(t, s)
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{SegmentBytes: 4096}, {SegmentBytes: 1<<20 + 1}, {SegmentBytes: 1 << 20, FirstBytes: 100}} {
		o.FS, o.Dir = memfs.New(0), testDir
		if _, err := Open(o); err == nil {
			t.Errorf("segments of %d bytes, the first of %d, were taken", o.SegmentBytes, o.FirstBytes)
		}
	}
}

func TestFullSegmentSizesMayChangeBetweenOpens(t *testing.T) {
	fsys := memfs.New(0)
	last := uint64(0)
	for i, size := range []int64{64 << 10, 16 << 10, 128 << 10, 32 << 10} {
		o := testOptions(fsys)
		o.SegmentBytes = size
		s, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		// One that fits only into segments of the new size.
		large := &raft.Log{Index: last + 1, Term: 1, Data: bytes.Repeat([]byte{byte(i)}, int(s.MaxEntry()))}
		if err := s.StoreLog(large); err != nil {
			t.Fatal(err)
		}
		write(t, s, last+2, last+100, 1)
		var l raft.Log
		if err := s.GetLog(last+1, &l); err != nil || !same(&l, large) {
			t.Fatal(fmt.Sprint("the large entry: ", err))
		}
		checkEntries(t, s, last+2, last+100, 1)
		last += 100
		closeLog(t, s)
	}
}
