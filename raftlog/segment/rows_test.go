package segment

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

func testRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// checkRows finds the rows of entries by offset and by time.
func checkRows(t testing.TB, s *Store, from, to uint64) {
	t.Helper()
	for i := from; i <= to; i++ {
		want := rowsOf(i)[0]
		for _, offset := range []uint64{want.Base, want.Base + 9} {
			r, ok, err := s.Find(want.Key, 1, offset)
			if err != nil || !ok || r != want {
				t.Fatalf("offset %d of key %d: %+v, %v, %v; want %+v", offset, want.Key, r, ok, err, want)
			}
		}
		for _, at := range []int64{want.Time, want.Time - 999} {
			r, ok, err := s.FindTime(want.Key, 1, at)
			if err != nil || !ok || r != want {
				t.Fatalf("time %d of key %d: %+v, %v, %v; want %+v", at, want.Key, r, ok, err, want)
			}
		}
	}
}

func TestRowsAreFoundInMemoryAndInIndexes(t *testing.T) {
	fsys := memfs.New(0)
	s := loadLog(t, fsys)
	write(t, s, 1, 200, 1)
	if got := s.Indexed(); got != 0 {
		t.Errorf("indexed up to %d without rows", got)
	}
	addRows(s, 1, 120)
	checkRows(t, s, 1, 120) // in memory
	s.keepUp()
	indexed := s.Indexed()
	if indexed == 0 || indexed >= 120 {
		t.Fatalf("indexed up to %d of 120: nothing is tested", indexed)
	}
	checkRows(t, s, 1, 120) // some on disk
	if _, ok, err := s.Find(1, 1, 1<<40); ok || err != nil {
		t.Errorf("a row behind the last: %v, %v", ok, err)
	}
	if _, ok, err := s.Find(9, 1, 0); ok || err != nil {
		t.Errorf("a row of an unknown key: %v, %v", ok, err)
	}
	if _, ok, err := s.Find(1, 2, 0); ok || err != nil {
		t.Errorf("a row of an unknown kind: %v, %v", ok, err)
	}

	pending := s.PendingRows(110)
	for _, r := range pending {
		if r.Index <= indexed || r.Index > 110 {
			t.Errorf("row %+v is pending; indexed up to %d", r, indexed)
		}
	}
	if want := 110 - indexed; uint64(len(pending)) != want {
		t.Errorf("%d rows are pending, want %d", len(pending), want)
	}
	// A restart: the snapshot at entry 110 gives its rows back, the entries
	// after it are applied again.
	again := loadLog(t, fsys.CrashClone(testRand(1), 0))
	if got := again.Indexed(); got != indexed {
		t.Errorf("indexed up to %d after a restart, %d before", got, indexed)
	}
	checkRows(t, again, 1, indexed)
	again.RestoreRows(110, pending)
	checkRows(t, again, 1, 110)
	addRows(again, 90, 200) // those that are there already are not taken twice
	checkRows(t, again, 1, 200)
	again.keepUp()
	checkRows(t, again, 1, 200)
	if got := again.PendingRows(200); uint64(len(got)) != 200-again.Indexed() {
		t.Errorf("%d rows pending, indexed up to %d", len(got), again.Indexed())
	}
	closeLog(t, again)
	closeLog(t, s)
}

// Rows of one entry that follow each other become one, so that a batch of many
// small appends costs one row.
func TestRowsOfOneEntryThatFollowEachOtherAreOne(t *testing.T) {
	s := loadLog(t, memfs.New(0))
	defer closeLog(t, s)
	write(t, s, 1, 1, 1)
	row := func(base uint64, count uint32) Row {
		return Row{Key: 1, Base: base, Count: count, Bytes: count * 7, Index: 1, Time: 5}
	}
	s.AddRows(1, []Row{row(0, 2), row(2, 3), row(9, 1)})
	want := []Row{row(0, 5), row(9, 1)}
	if got := s.PendingRows(1); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// An index that is larger than its room makes the file grow.
func TestIndexMayOutgrowItsRoom(t *testing.T) {
	fsys := memfs.New(0)
	s := loadLog(t, fsys)
	write(t, s, 1, 150, 1)
	for i := range uint64(150) {
		var rows []Row
		for k := range uint32(40) {
			rows = append(rows, Row{Key: k, Base: i, Count: 1, Index: i + 1, Time: int64(i)})
		}
		s.AddRows(i+1, rows)
	}
	s.keepUp()
	closeLog(t, s)
	s = loadLog(t, fsys)
	defer closeLog(t, s)
	g := s.segments[0]
	if g.index == nil || g.size <= smallSegments {
		t.Fatalf("the first segment has %d bytes: nothing is tested", g.size)
	}
	for i := g.first; i <= g.last; i++ {
		for k := range uint32(40) {
			if r, ok, err := s.Find(k, 0, i-1); err != nil || !ok || r.Index != i || r.Base != i-1 {
				t.Fatalf("offset %d of key %d: %+v, %v, %v", i-1, k, r, ok, err)
			}
		}
	}
	checkEntries(t, s, 1, 150, 1)
	s.o.Recycle = 10 // of which the larger ones are made smaller
	must(t, s.DropBefore(150))
	write(t, s, 151, 400, 1)
	for _, g := range s.segments[1:] {
		if info, err := fsys.Stat(g.path); err != nil || info.Size() != smallSegments {
			t.Errorf("%s, written again: %+v, %v", g.path, info, err)
		}
	}
}

// Every answer of Find must be the same whether rows lie in memory or on disk,
// also where keys have gaps, and rows have no offsets.
func TestFindAgreesWithALinearSearch(t *testing.T) {
	const seed = 7
	r := testRand(seed)
	s := loadLog(t, memfs.New(0))
	defer closeLog(t, s)
	write(t, s, 1, 300, 1)
	var all []Row
	base := map[rowKey]uint64{}
	for i := uint64(1); i <= 300; i++ {
		var rows []Row
		for range r.IntN(3) {
			k := rowKey{uint32(r.IntN(4)), uint8(r.IntN(2))}
			row := Row{Key: k.key, Kind: k.kind, Base: base[k], Count: uint32(r.IntN(3)), Index: i, Time: int64(i / 3)}
			base[k] += uint64(max(row.Count, 1) + uint32(2*r.IntN(2)))
			rows = append(rows, row)
		}
		slices.SortStableFunc(rows, compareRows)
		s.AddRows(i, rows)
		all = append(all, rows...)
		if i%50 == 0 {
			s.keepUp()
		}
	}
	for k, end := range base {
		for offset := range end + 2 {
			got, ok, err := s.Find(k.key, k.kind, offset)
			want, found := linear(all, k, func(r Row) bool { return r.end() > offset })
			if err != nil || ok != found || ok && (got.Index != want.Index || got.Base > want.Base) {
				t.Fatalf("seed %d: offset %d of %v: %+v, %v, %v; want %+v", seed, offset, k, got, ok, err, want)
			}
		}
		for at := range int64(102) {
			got, ok, err := s.FindTime(k.key, k.kind, at)
			want, found := linear(all, k, func(r Row) bool { return r.Time >= at })
			if err != nil || ok != found || ok && got.Index != want.Index {
				t.Fatalf("seed %d: time %d of %v: %+v, %v, %v; want %+v", seed, at, k, got, ok, err, want)
			}
		}
	}
}

func linear(all []Row, k rowKey, is func(Row) bool) (Row, bool) {
	for _, r := range all {
		if r.Key == k.key && r.Kind == k.kind && is(r) {
			return r, true
		}
	}
	return Row{}, false
}

// A damaged index hides nothing but what may lie in it.
func TestFindNamesADamagedIndexOnlyWhereTheRowMayLieInIt(t *testing.T) {
	fsys := memfs.New(0)
	s := loadLog(t, fsys)
	write(t, s, 1, 250, 1)
	addRows(s, 1, 250)
	s.keepUp()
	infos := s.Segments()
	closeLog(t, s)
	bad := infos[1]
	flip(t, fsys, bad.Path, bad.Bytes-footerSize+20, 1)
	s = loadLog(t, fsys)
	defer closeLog(t, s)
	checkEntries(t, s, 1, 250, 1) // the records are whole
	s.RestoreRows(s.Indexed(), nil)
	addRows(s, s.Indexed()+1, 250)
	// A key's last row before the damage is sure, and so is its second after it:
	// for its first there may be an earlier one in the damaged segment.
	checkRows(t, s, infos[0].First, infos[0].Last)
	checkByOffset := func(i uint64) error {
		want := rowsOf(i)[0]
		r, ok, err := s.Find(want.Key, 1, want.Base+1)
		if err == nil && (!ok || r != want) {
			t.Errorf("entry %d: %+v, %v", i, r, ok)
		}
		return err
	}
	for i := bad.First; i <= bad.Last; i++ {
		var damaged *DamagedError
		if err := checkByOffset(i); !errors.As(err, &damaged) || damaged.File != bad.Path || damaged.First != bad.First || damaged.Last != bad.Last {
			t.Fatalf("the row of entry %d, whose index is damaged: %v", i, err)
		}
	}
	for i := bad.Last + 1; i <= 250; i++ {
		if err := checkByOffset(i); err != nil {
			t.Fatalf("the row of entry %d, behind the damage: %v", i, err)
		}
	}
}

// flip turns bits of one byte of a file.
func flip(t testing.TB, fsys *memfs.FS, path string, at int64, bits byte) {
	t.Helper()
	f, err := fsys.OpenReadWrite(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := []byte{0}
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatalf("%s at %d: %v", path, at, err)
	}
	b[0] ^= bits
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := f.Datasync(); err != nil {
		t.Fatal(err)
	}
}

// TestMemoryOfManyRowsIsUsedAgain for those of a later segment, of one key, and all are
// found meanwhile, in memory or in an index.
func TestMemoryOfManyRowsIsUsedAgain(t *testing.T) {
	s := loadLog(t, memfs.New(0))
	defer closeLog(t, s)
	const keys, each, last = 2, 60, 400
	row := func(key uint32, entry, i uint64) Row { // none goes on where the one before it ends
		return Row{Key: key, Base: (entry*each + i) * 10, Count: 5, Bytes: 50 * key, Index: entry, Time: int64(entry)}
	}
	again := 0
	for entry := uint64(1); entry <= last; entry++ {
		write(t, s, entry, entry, 1)
		var rows []Row
		for key := range uint32(keys) {
			for i := range uint64(each) {
				rows = append(rows, row(key, entry, i))
			}
		}
		room := s.rowRoom
		s.AddRows(entry, rows)
		if room != nil && s.rowRoom == nil {
			again++
		}
		s.keepUp()
		for i := range uint64(each) {
			for key := range uint32(keys) {
				for _, of := range []uint64{entry, entry/2 + 1} {
					want := row(key, of, i)
					if r, ok, err := s.Find(key, 0, want.Base+3); err != nil || !ok || r != want {
						t.Fatalf("at entry %d: %+v, %v, %v; want %+v", entry, r, ok, err, want)
					}
				}
			}
		}
	}
	if segments := len(s.Segments()); again < segments/2 || segments < 6 {
		t.Errorf("memory was used again %d times in %d segments", again, segments)
	}
}
