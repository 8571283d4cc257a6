package segment

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/vfs"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

// checks verifies a closed log.
func checks(t *testing.T, fsys vfs.FS, each func(*raft.Log)) []FileCheck {
	t.Helper()
	var all []FileCheck
	err := Verify(context.Background(), VerifyOptions{FS: fsys, Dir: testDir, Each: each}, func(c FileCheck) error {
		all = append(all, c)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func damagesOf(all []FileCheck) (out []Damage) {
	for _, c := range all {
		out = append(out, c.Damages...)
	}
	return out
}

// verified is a closed log of 300 entries over several segments with indexes.
func verified(t *testing.T) *memfs.FS {
	t.Helper()
	fsys := memfs.New(0)
	s := loadLog(t, fsys)
	for i := uint64(1); i <= 300; i++ {
		write(t, s, i, i, 1)
		addRows(s, i, i)
		s.keepUp()
	}
	closeLog(t, s)
	return fsys
}

// TestVerifyOfAWholeLog: every entry is read, in order; files are not changed.
func TestVerifyOfAWholeLog(t *testing.T) {
	fsys := verified(t)
	next := uint64(1)
	all := checks(t, fsys, func(l *raft.Log) {
		if !same(l, entry(next, 1)) {
			t.Fatalf("entry %d is not as it was written", next)
		}
		next++
	})
	if len(damagesOf(all)) > 0 || next != 301 || all[0].Kind != "state" {
		t.Errorf("up to %d: %+v", next-1, all)
	}
	if again := checks(t, fsys, nil); fmt.Sprint(all) != fmt.Sprint(again) {
		t.Errorf("first %+v, then %+v", all, again)
	}
}

// TestVerifyFindsEachFlippedBit: wherever a record or an index was hit, one
// damage says so, at a place before the bit, and names an entry or the index;
// all other entries are read.
func TestVerifyFindsEachFlippedBit(t *testing.T) {
	whole := verified(t)
	path := testDir + "/" + segmentName(1)
	var end int64
	for _, c := range checks(t, whole, nil) {
		if c.Path == path {
			end = c.Bytes
		}
	}
	if end == 0 {
		t.Fatal("there is no first segment")
	}
	for at := int64(headerSize); at < 20<<10; at += 173 {
		fsys := whole.Clone()
		f, err := fsys.OpenReadWrite(path)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1)
		if _, err := f.ReadAt(b, at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		var read []uint64
		found := damagesOf(checks(t, fsys, func(l *raft.Log) { read = append(read, l.Index) }))
		if len(found) == 0 && len(read) == 300 {
			continue // it hit the padding behind a record
		}
		if len(found) != 1 || found[0].Offset > at || !found[0].Indexed || found[0].First == 0 || found[0].Last != found[0].First {
			t.Fatalf("bit at byte %d: %+v", at, found)
		}
		if lost := found[0].First; len(read) != 299 || slices.Contains(read, lost) || len(found[0].Rows) != len(rowsOf(lost)) {
			t.Fatalf("bit at byte %d: entry %d is named, with %d rows; %d were read", at, lost, len(found[0].Rows), len(read))
		}
	}
}

func TestVerifyFindsADamagedIndexAndState(t *testing.T) {
	for name, c := range map[string]struct {
		path string
		at   int64
		want string
	}{
		"index":     {testDir + "/" + segmentName(1), smallSegments - footerSize, "segment"},
		"a header":  {testDir + "/" + segmentName(2), 3, "segment"},
		"one state": {testDir + "/" + stateFile, slotHeader, "state"},
	} {
		fsys := verified(t)
		f, err := fsys.OpenReadWrite(c.path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{0xFF}, c.at); err != nil {
			t.Fatal(err)
		}
		for _, check := range checks(t, fsys, nil) {
			if (len(check.Damages) == 1) != (check.Path == c.path) || len(check.Damages) == 1 && check.Kind != c.want {
				t.Errorf("%s: %+v", name, check)
			}
		}
	}
}

// TestVerifyOfAnOpenLog sees what is in it, and what has been hit since.
func TestVerifyOfAnOpenLog(t *testing.T) {
	fsys := memfs.New(0)
	s := loadLog(t, fsys)
	for i := uint64(1); i <= 100; i++ {
		write(t, s, i, i, 1)
		addRows(s, i, i)
		s.keepUp()
	}
	verify := func() (records int, found []Damage) {
		t.Helper()
		err := s.Verify(t.Context(), func(c FileCheck) error {
			records += c.Records
			found = append(found, c.Damages...)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return records, found
	}
	if n, found := verify(); n != 100 || len(found) > 0 {
		t.Errorf("%d records, %+v", n, found)
	}
	g := s.active()
	at, _ := g.place(100)
	if _, err := g.file.WriteAt([]byte{0xFF}, at+recordSize+9); err != nil {
		t.Fatal(err)
	}
	n, found := verify()
	if n != 99 || len(found) != 1 || found[0].First != 100 || !found[0].Indexed || len(found[0].Rows) != len(rowsOf(100)) {
		t.Errorf("%d records, %+v", n, found)
	}
	stop := errors.New("stop")
	if err := s.Verify(t.Context(), func(FileCheck) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	closeLog(t, s)
}

// TestVerifyTellsAnInterruptedWriteFromDamage: the last write of a process that
// was killed may be torn; one that was followed by another may not.
func TestVerifyTellsAnInterruptedWriteFromDamage(t *testing.T) {
	f := newFixture(t)
	hit := func(index uint64) []FileCheck {
		t.Helper()
		fsys := f.killed.Clone()
		file, err := fsys.OpenReadWrite(f.path(3))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt([]byte{0xFF, 0xFF}, f.at[index]+recordSize+1); err != nil {
			t.Fatal(err)
		}
		return checks(t, fsys, nil)
	}
	if all := checks(t, f.killed, nil); len(damagesOf(all)) > 0 {
		t.Errorf("of a process that was killed: %+v", all)
	}
	torn := func(all []FileCheck) (at int64) {
		for _, c := range all {
			at += c.Torn
		}
		return at
	}
	if all := hit(f.last); len(damagesOf(all)) > 0 || torn(all) != f.at[f.last] {
		t.Errorf("the last record is bad: %+v", all)
	}
	found := damagesOf(hit(f.last - 2))
	if len(found) != 1 || found[0].First != f.last-2 || found[0].Last != f.last-2 || found[0].Indexed {
		t.Errorf("a record before others is bad: %+v", found)
	}
}
