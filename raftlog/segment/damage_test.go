package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

// fixture is a log with a segment of each sort: number 1 has its index, 2 is
// sealed without one, 3 takes appends, 4 was made ahead. Entries up to synced
// are known to be, by the log's state, if it was not closed.
type fixture struct {
	killed, closed *memfs.FS
	infos          []Info
	at             map[uint64]int64 // where each record begins
	last, synced   uint64
	end            int64 // of the records of segment 3
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	fsys := memfs.New(0)
	s := loadLog(t, fsys)
	f := &fixture{at: map[uint64]int64{}}
	for next := uint64(1); len(s.segments) < 3; next++ {
		write(t, s, next, next, 1)
		f.synced = next - 1
	}
	addRows(s, 1, s.segments[0].last)
	s.keepUp() // notes that all before segment 3's first entry is synced
	_, f.last = bounds(s)
	for range 8 {
		if err := s.StoreLog(entry(f.last+1, 1)); err != nil {
			t.Fatal(err)
		}
		f.last++
	}
	f.killed, f.infos = fsys.Clone(), s.Segments()
	for i := uint64(1); i <= f.last; i++ {
		g := s.segmentOf(i)
		if g.index != nil {
			f.at[i], _, _ = s.reader.place(g, i)
		} else {
			f.at[i], _ = g.place(i)
		}
	}
	f.end = s.active().end
	closeLog(t, s)
	f.closed = fsys
	return f
}

func (f *fixture) path(number uint64) string {
	return filepath.Join(testDir, segmentName(number))
}

// middle is an entry in the middle of a segment.
func (f *fixture) middle(number int) uint64 {
	g := f.infos[number-1]
	return (g.First + g.Last) / 2
}

// Outcomes of opening a log that has been damaged.
const (
	whole   = "all entries read back"
	refused = "Open is refused, and changes nothing"
	torn    = "the last entry is cut off"
	one     = "one entry is damaged, the others read back"
)

// damage is one flipped bit, and what must come of it.
type damage struct {
	part  string
	file  string
	at    int64
	entry uint64 // concerned; 0: none
	// What becomes of a log that was killed, and of one that was closed.
	killed, closed string
	errorAt        int64 // the position that the error names
}

func damages(f *fixture) []damage {
	const sector = memfs.Sector
	indexBody := int64((f.indexEnd() + headerSize - 1) &^ (headerSize - 1))
	both := func(d damage, outcome string) damage { d.killed, d.closed = outcome, outcome; return d }
	list := []damage{
		both(damage{part: "file header: magic", file: f.path(1), at: 2}, refused),
		both(damage{part: "file header: number", file: f.path(2), at: 16}, refused),
		both(damage{part: "file header: generation", file: f.path(3), at: 24}, refused),
		both(damage{part: "file header: checksum", file: f.path(3), at: headerBytes - 1}, refused),
		both(damage{part: "file header of a segment made ahead", file: f.path(4), at: 30}, refused),
		both(damage{part: "unused space of a file header", file: f.path(3), at: sector}, whole),
		both(damage{part: "space behind the records", file: f.path(3), at: f.end + sector}, whole),
		both(damage{part: "index block", file: f.path(1), at: indexBody + 10}, whole),
		both(damage{part: "index block's checksum", file: f.path(1), at: indexBody + blockSize - 1}, whole),
		both(damage{part: "index footer", file: f.path(1), at: smallSegments - footerSize + 40}, whole),
		both(damage{part: "unused space of the index footer", file: f.path(1), at: smallSegments - 1}, whole),
		both(damage{part: "first copy of the state", file: filepath.Join(testDir, stateFile), at: slotHeader + 8}, whole),
		both(damage{part: "second copy of the state", file: filepath.Join(testDir, stateFile), at: slotSize + 9}, whole),
	}
	for _, x := range []struct {
		part           string
		entry          uint64
		killed, closed string
	}{
		{"first record of an indexed segment", 1, one, one},
		{"middle record of an indexed segment", f.middle(1), one, one},
		{"last record of an indexed segment", f.infos[0].Last, one, one},
		{"first record of a sealed segment", f.infos[1].First, refused, refused},
		{"middle record of a sealed segment", f.middle(2), refused, refused},
		{"last record of a sealed segment", f.infos[1].Last, refused, refused},
		{"first record of the last segment", f.infos[2].First, refused, refused},
		{"middle record of the last segment", f.middle(3), refused, refused},
		{"last record", f.last, torn, refused},
	} {
		for field, offset := range map[string]int64{
			"checksum": 0, "chain": 4, "generation": 8, "index": 16, "term": 24, "time": 32, "length": 44, "type": 56, "payload": recordSize + 3,
		} {
			d := damage{part: x.part + ": " + field, entry: x.entry, killed: x.killed, closed: x.closed, at: f.at[x.entry] + offset, errorAt: f.at[x.entry]}
			for i, g := range f.infos {
				if g.First <= x.entry && x.entry <= g.Last {
					d.file = f.path(uint64(i + 1))
				}
			}
			list = append(list, d)
		}
	}
	return list
}

// indexEnd is where the records of segment 1 end.
func (f *fixture) indexEnd() int64 {
	last := f.infos[0].Last
	return f.at[last] + bytesOf(entry(last, 1))
}

// TestOneFlippedBit flips a bit in each part of a log, killed and closed.
func TestOneFlippedBit(t *testing.T) {
	f := newFixture(t)
	for _, d := range damages(f) {
		for _, state := range []struct {
			name, outcome string
			fsys          *memfs.FS
		}{{"killed", d.killed, f.killed}, {"closed", d.closed, f.closed}} {
			t.Run(d.part+"/"+state.name, func(t *testing.T) {
				fsys := state.fsys.Clone()
				flip(t, fsys, d.file, d.at, 0x40)
				d.check(t, f, fsys, state.outcome)
			})
		}
	}
}

func (d damage) check(t *testing.T, f *fixture, fsys *memfs.FS, outcome string) {
	before := contents(t, fsys)
	s, err := load(testOptions(fsys))
	if outcome == refused {
		d.checkError(t, err)
		for path, b := range contents(t, fsys) {
			if !bytes.Equal(b, before[path]) {
				t.Errorf("%s was changed although the log is refused", path)
			}
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	close(s.done)
	defer closeLog(t, s)
	switch outcome {
	case whole:
		checkLog(t, s, 1, f.last, 1)
	case torn:
		checkLog(t, s, 1, f.last-1, 1)
		if r := s.Recovered(); len(r) != 1 || r[0] != (Torn{File: d.file, Offset: d.errorAt, Index: d.entry}) {
			t.Errorf("what was cut off is reported as %+v", r)
		}
	case one:
		checkEntries(t, s, 1, d.entry-1, 1)
		checkEntries(t, s, d.entry+1, f.last, 1)
		d.checkError(t, s.GetLog(d.entry, new(raft.Log)))
	}
	if outcome != torn && len(s.Recovered()) > 0 {
		t.Errorf("reported as cut off: %+v", s.Recovered())
	}
}

func (d damage) checkError(t *testing.T, err error) {
	t.Helper()
	var damaged *DamagedError
	if !errors.As(err, &damaged) || damaged.File != d.file || damaged.Offset != d.errorAt {
		t.Errorf("%v; want damage in %s at byte %d", err, d.file, d.errorAt)
	}
}

// TestEveryBitOfTheLastSegment flips a bit in every byte of the last segment's
// records. Whatever it hits, an entry that is followed by a later write is
// refused, never cut off; and no entry ever reads back wrong.
func TestEveryBitOfTheLastSegment(t *testing.T) {
	f := newFixture(t)
	path := f.path(3)
	step := int64(1)
	if testing.Short() {
		step = 7
	}
	for at := int64(headerSize); at < f.end; at += step {
		fsys := f.killed.Clone()
		flip(t, fsys, path, at, 1<<(at%8))
		s, err := load(testOptions(fsys))
		var damaged *DamagedError
		switch {
		case errors.As(err, &damaged):
			if damaged.File != path || damaged.Offset > at {
				t.Fatalf("byte %d: %v", at, err)
			}
			continue
		case err != nil:
			t.Fatal(err)
		}
		close(s.done)
		last := f.last // a bit of the padding
		if _, l := bounds(s); l != last {
			last--
			if at < f.at[f.last] || len(s.Recovered()) != 1 {
				t.Fatalf("byte %d: entries up to %d are left, reported: %+v", at, l, s.Recovered())
			}
		}
		checkLog(t, s, 1, last, 1)
		closeLog(t, s)
	}
}

// TestLastWriteTornAtEachByte cuts the last record off at each of its bytes. What
// follows is space never written, or what the file's earlier life left there.
func TestLastWriteTornAtEachByte(t *testing.T) {
	f := newFixture(t)
	path := f.path(3)
	size := f.end - f.at[f.last]
	old := make([]byte, 0, size+3*recordSize)
	for i := f.last; int64(len(old)) < size; i++ {
		old, _ = appendRecord(old, entry(i, 7), nil, 12345, 1, 0)
	}
	for name, rest := range map[string][]byte{"zeros": make([]byte, size), "an earlier life": old[:size]} {
		t.Run(name, func(t *testing.T) {
			for n := range size {
				if testing.Short() && n > recordSize && n < size-align && n%16 != 0 {
					continue
				}
				fsys := f.killed.Clone()
				overwrite(t, fsys, path, f.at[f.last]+n, rest[n:])
				s, err := load(testOptions(fsys))
				if err != nil {
					t.Fatalf("torn at %d: %v", n, err)
				}
				close(s.done)
				last := f.last - 1
				if n >= recordSize+int64(len(entry(f.last, 1).Data)) {
					last = f.last
				}
				checkLog(t, s, 1, last, 1)
				// From the generation on it is known for a record of this life.
				if r := s.Recovered(); n >= 16 && last < f.last && (len(r) != 1 || r[0].Offset != f.at[f.last]) {
					t.Fatalf("torn at %d: reported %+v", n, r)
				}
				// Other entries take its place, and stay.
				write(t, s, last+1, last+3, 2)
				closeLog(t, s)
				s = loadLog(t, fsys)
				checkEntries(t, s, 1, last, 1)
				checkEntries(t, s, last+1, last+3, 2)
				closeLog(t, s)
			}
		})
	}
}

// TestRestOfATornWriteIsWiped: a later record of a torn write, left behind the
// place of the first, must not be there when others of the same size have taken
// that place: it would be a whole record that does not continue the log.
func TestRestOfATornWriteIsWiped(t *testing.T) {
	f := newFixture(t)
	s := loadLog(t, f.killed)
	must(t, s.StoreLogs(entries(f.last+1, f.last+2, 1)))
	path, at, size := s.active().path, int64(0), int64(0)
	at, size = s.active().place(f.last + 1)
	torn := f.killed.Clone()
	closeLog(t, s)
	overwrite(t, torn, path, at, make([]byte, size))
	s = loadLog(t, torn)
	must(t, s.StoreLogs(entries(f.last+1, f.last+1, 2)))
	if _, again := s.active().place(f.last + 1); again != size {
		t.Fatalf("the record has %d bytes, want %d as before", again, size)
	}
	killed := torn.Clone()
	closeLog(t, s)
	s = loadLog(t, killed)
	checkEntries(t, s, f.last+1, f.last+1, 2)
	closeLog(t, s)
}

// TestTornWriteOfSeveralRecords loses any of the records of the last write: a
// later record of the same write is no proof that it was synced.
func TestTornWriteOfSeveralRecords(t *testing.T) {
	f := newFixture(t)
	s := loadLog(t, f.killed)
	if err := s.StoreLogs(entries(f.last+1, f.last+5, 1)); err != nil {
		t.Fatal(err)
	}
	at := map[uint64]int64{}
	for i := f.last + 1; i <= f.last+5; i++ {
		at[i], _ = s.active().place(i)
	}
	path, left := s.active().path, f.killed.Clone()
	closeLog(t, s)
	for lost := 1; lost < 1<<5; lost++ {
		fsys := left.Clone()
		first := uint64(0)
		for i := range uint64(5) {
			if lost&(1<<i) != 0 {
				overwrite(t, fsys, path, at[f.last+1+i], make([]byte, recordSize))
				if first == 0 {
					first = f.last + 1 + i
				}
			}
		}
		s := loadLog(t, fsys)
		checkLog(t, s, 1, first-1, 1)
		if anyLeft(lost, int(first-f.last-1)) != (len(s.Recovered()) > 0) {
			t.Errorf("lost %05b: reported %+v", lost, s.Recovered())
		}
		// What the torn write left must not be taken for a continuation.
		write(t, s, first, first, 1)
		killed := fsys.Clone()
		closeLog(t, s)
		s = loadLog(t, killed)
		checkLog(t, s, 1, first, 1)
		closeLog(t, s)
	}
}

// anyLeft tells whether a record behind the first lost one is left.
func anyLeft(lost, first int) bool {
	for i := first + 1; i < 5; i++ {
		if lost&(1<<i) == 0 {
			return true
		}
	}
	return false
}

// Where the segment that takes appends is empty, the end of the one before it is
// still known.
func TestLastRecordBeforeAnEmptySegmentIsMissed(t *testing.T) {
	fsys := memfs.New(0)
	s := loadLog(t, fsys)
	write(t, s, 1, 100, 1)
	first := s.segments[0]
	must(t, s.DeleteRange(first.last+1, 100))
	at, _ := first.place(first.last)
	left := fsys.Clone()
	closeLog(t, s)
	flip(t, left, first.path, at+recordSize, 1)
	_, err := Open(testOptions(left))
	var damaged *DamagedError
	if !errors.As(err, &damaged) || damaged.File != first.path || damaged.Offset != at {
		t.Errorf("%v; want damage in %s at byte %d", err, first.path, at)
	}
}

// A record that is whole, but not the one that the next was written after: a
// write that went elsewhere, or one that was lost.
func TestRecordOfAnotherHistoryIsRefused(t *testing.T) {
	f := newFixture(t)
	s := loadLog(t, f.killed.Clone())
	g := s.active()
	i := (g.first + f.last) / 2
	b := make([]byte, recordSize)
	if _, err := g.file.ReadAt(b, f.at[i]); err != nil {
		t.Fatal(err)
	}
	h, err := parseRecordHeader(b)
	must(t, err)
	other, _ := appendRecord(nil, entry(i, 9), nil, g.generation, h.chain, 0)
	closeLog(t, s)
	overwrite(t, f.killed, g.path, f.at[i], other)
	_, err = Open(testOptions(f.killed))
	var damaged *DamagedError
	if !errors.As(err, &damaged) || damaged.File != g.path || damaged.Offset != f.at[i+1] {
		t.Errorf("%v; want damage in %s at byte %d", err, g.path, f.at[i+1])
	}
}

// Positions that do not read back from an index are found among the records.
func TestEntriesAreReadWithoutTheirIndexBlock(t *testing.T) {
	fsys := memfs.New(0)
	s := loadLog(t, fsys)
	write(t, s, 1, 150, 1)
	for i := range uint64(150) {
		s.AddRows(i+1, []Row{{Key: 1, Base: 3 * i, Count: 1, Index: i + 1}, {Key: 2, Base: 3 * i, Count: 1, Index: i + 1}})
	}
	s.keepUp()
	g := s.segments[0]
	if g.index == nil || g.index.foot.bodyBytes() < 2*blockSize {
		t.Fatal("the index has no second block")
	}
	at := g.index.foot.body + blockSize + 100
	flip(t, fsys, g.path, at, 1)
	s.reader.forget(g)
	checkEntries(t, s, 1, 150, 1)
	var damaged *DamagedError
	if _, _, err := s.Find(2, 0, 3*g.last-6); !errors.As(err, &damaged) || damaged.File != g.path || damaged.Offset != at-100 {
		t.Errorf("a row in the damaged block: %v", err)
	}
	closeLog(t, s)
	s = loadLog(t, fsys)
	checkEntries(t, s, 1, 150, 1)
	record := make([]byte, 8)
	binary.LittleEndian.PutUint64(record, 99)
	overwrite(t, fsys, g.path, headerSize+16, record) // no way from the first record on
	if err := s.GetLog(g.last, new(raft.Log)); !errors.As(err, &damaged) {
		t.Errorf("an entry that cannot be found: %v", err)
	}
	closeLog(t, s)
}
