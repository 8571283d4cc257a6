package segment

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"path/filepath"

	"github.com/leat-dev/leat/raftlog/vfs"
)

// RebuildIndex writes the index of a segment of a log that nobody has open anew,
// from its records and the rows of all its entries, in order. What stands behind
// the records is kept in a file beside. It refuses a segment whose records do not
// all read back, up to where the log goes on.
func RebuildIndex(fsys vfs.FS, dir string, number uint64, rows []Row) (err error) {
	s := &Store{o: Options{FS: fsys, Dir: dir}}
	g, err := s.openSegment(number)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.file.Close()) }()
	if err := s.scanAlone(g); err != nil {
		return err
	}
	if err := s.reachesItsEnd(g); err != nil {
		return err
	}
	for _, r := range rows {
		if r.Index < g.first || r.Index > g.last {
			return fmt.Errorf("%s holds entries %d to %d, but a row is of entry %d", g.path, g.first, g.last, r.Index)
		}
	}
	s.addRows(g, rows)
	foot := g.footer()
	if err := keepFrom(fsys, g, foot.body); err != nil {
		return err
	}
	x, body := encodeIndex(foot, g.sortedRows(), g.positions)
	if g.size, err = putIndex(g, x.foot, body); err != nil {
		return err
	}
	_, err = openIndex(g, readFrom(g.file))
	return err
}

// scanAlone reads a segment's records without what precedes it.
func (s *Store) scanAlone(g *segment) error {
	alone := &Store{o: s.o, state: logState{floor: g.number}}
	torn, err := alone.scan(g)
	switch {
	case err != nil:
		return err
	case torn != nil:
		return &DamagedError{File: g.path, Offset: torn.from, First: g.last + 1, Reason: "a record does not read back"}
	case len(g.positions) == 0:
		return &DamagedError{File: g.path, Offset: headerSize, Reason: "no record reads back"}
	}
	return nil
}

// reachesItsEnd sees to it that no record is missing at the end of a segment:
// the next one goes on behind its last, or the state knows where the log ends.
func (s *Store) reachesItsEnd(g *segment) (err error) {
	missing := func(reason string) error {
		return &DamagedError{File: g.path, Offset: g.end, First: g.last + 1, Reason: reason}
	}
	body, _, err := verifySlots(s.o.FS, s.path(stateFile), stateMagic, "state")
	if err != nil {
		return err
	}
	state, err := decodeState(body)
	if err != nil {
		return &DamagedError{File: s.path(stateFile), Offset: slotHeader, Reason: err.Error()}
	}
	if end := state.durable; end.number == g.number && g.end < end.at {
		return missing(fmt.Sprintf("its records end here, but it was synced up to byte %d", end.at))
	}
	next, err := s.openSegment(g.number + 1)
	if errors.Is(err, iofs.ErrNotExist) {
		return missing("there is no segment after it, so where it ends is not known")
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, next.file.Close()) }()
	b, err := (&window{seg: next}).bytes(headerSize, recordSize)
	if err != nil {
		return err
	}
	h, err := parseRecordHeader(b)
	if err != nil || h.generation != next.generation {
		return nil // empty, or damaged, which is another matter
	}
	if h.index != g.last+1 || h.chain != g.chain {
		return missing(fmt.Sprintf("its records end with entry %d, but %s goes on with entry %d", g.last, next.path, h.index))
	}
	return nil
}

// keepFrom keeps a copy of a segment's end.
func keepFrom(fsys vfs.FS, g *segment, at int64) error {
	was := make([]byte, max(0, g.size-at))
	if err := readFrom(g.file)(was, at); err != nil {
		return fmt.Errorf("read %s at byte %d: %w", g.path, at, err)
	}
	kept, err := freeName(fsys, fmt.Sprintf("%s.from-byte-%d%s", g.path, at, AsideSuffix))
	if err != nil {
		return err
	}
	if err := writeFile(fsys, kept, was); err != nil {
		return fmt.Errorf("keep what %s was: %w", filepath.Base(g.path), err)
	}
	return nil
}
