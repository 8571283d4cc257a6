package segment

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const firstFile = "first" // the logical first index, where that lies inside a segment

// recover reads the directory. Segments with an index are taken by it: their
// records are checked when they are read. The others are scanned.
func (s *Store) recover() error {
	if _, err := s.o.FS.Stat(filepath.Join(s.o.Dir, deletingFile)); err == nil {
		if err := s.finishDeleting(); err != nil {
			return fmt.Errorf("finish the deletion of the log in %s: %w", s.o.Dir, err)
		}
	}
	paths := list(s.o.FS, s.o.Dir, segmentSuffix)
	slices.Sort(paths)
	for i, path := range paths {
		g, err := s.openSegment(path, i == len(paths)-1)
		if err != nil {
			return err
		}
		if g == nil {
			continue // never became a segment
		}
		if n := len(s.segments); n > 0 {
			before := s.segments[n-1]
			before.sealed = true
			if before.last+1 != g.first {
				s.segments = append(s.segments, g)
				return &DamagedError{File: before.path, Offset: before.end, First: before.last + 1, Last: g.first - 1,
					Reason: fmt.Sprintf("it ends with entry %d, and the next segment, %s, begins with %d", before.last, g.path, g.first)}
			}
		}
		s.segments = append(s.segments, g)
	}
	if n := len(s.segments); n > 0 && s.segments[n-1].last >= s.segments[0].first {
		s.first = s.segments[0].first
	}
	return s.readFirst()
}

func (s *Store) openSegment(path string, last bool) (_ *segment, err error) {
	f, err := s.o.FS.OpenReadWrite(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, headerBytes)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	h, err := parseFileHeader(b[:n])
	if err != nil {
		return nil, &DamagedError{File: path, Reason: err.Error()}
	}
	if name := filepath.Base(path); name != segmentName(h.first) {
		return nil, &DamagedError{File: path, Reason: fmt.Sprintf("its header says that it begins with entry %d", h.first)}
	}
	g := &segment{path: path, file: f, size: size, generation: h.generation, first: h.first, last: h.first - 1,
		chain: h.chain, end: headerSize, positions: []uint32{}, rows: map[rowKey][]Row{}, covered: h.first - 1}
	x, err := openIndex(s.o.FS, indexPath(path), s.cache)
	if err == nil && x.head.generation == g.generation && x.head.first == g.first && !last {
		g.index, g.positions, g.last, g.covered = x, nil, x.head.last, x.head.last
		return g, nil
	}
	if x != nil {
		err = errors.Join(err, x.file.Close()) // of another life of this file
	}
	if damaged := (*DamagedError)(nil); errors.As(err, &damaged) {
		s.o.Logger.Warn("the index of a segment is damaged; the segment is scanned", "error", err)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return g, s.scan(g, last)
}

// scan reads a segment's records. A bad one with nothing valid after it is, in
// the last segment, the end of an interrupted write.
func (s *Store) scan(g *segment, last bool) error {
	for g.end+recordSize <= g.size {
		h, _, err := g.readRecord(g.end)
		next := g.last + 1
		switch {
		case err == nil && h.chain != g.chain:
			err = fmt.Errorf("the record chains to %08x, not to %08x", h.chain, g.chain)
		case err == nil && h.index != next:
			err = fmt.Errorf("entry %d is there instead of %d", h.index, next)
		}
		if err == nil {
			g.positions = append(g.positions, uint32(g.end/align))
			g.chain, g.last = h.sum, h.index
			g.end += h.size()
			continue
		}
		return s.judge(g, next, err, last)
	}
	return nil
}

// judge tells a torn write from damage. A record that was written by a later
// write than the bad one proves that the bad one had been synced.
func (s *Store) judge(g *segment, next uint64, reason error, last bool) error {
	later, err := g.laterRecord(g.end + align)
	if err != nil {
		return err
	}
	if later != nil && later.index-uint64(later.batch) > next {
		return &DamagedError{File: g.path, Offset: g.end, First: next, Last: later.index - 1,
			Reason: fmt.Sprintf("%v; entry %d, written after it, is whole", reason, later.index)}
	}
	if g.blank() {
		return nil // nothing has been written there in this life of the file
	}
	if last {
		s.torn = append(s.torn, Torn{File: g.path, Offset: g.end, Index: next})
		return g.wipe()
	}
	return nil // whether entries are missing shows where the next segment begins
}

// blank says whether the place of the next record holds nothing of this
// generation.
func (g *segment) blank() bool {
	b := make([]byte, min(recordSize, g.size-g.end))
	if _, err := g.file.ReadAt(b, g.end); err != nil {
		return true
	}
	h, err := parseRecordHeader(b)
	if err == nil {
		return h.generation != g.generation
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// wipe clears the header of what is left of an interrupted write, and of all
// else of this generation behind it, so that it cannot be taken for a record of
// a later write.
func (g *segment) wipe() error {
	zeros := make([]byte, recordSize)
	for at := g.end; at+recordSize <= g.size; {
		b := make([]byte, recordSize)
		if _, err := g.file.ReadAt(b, at); err != nil {
			return fmt.Errorf("read %s: %w", g.path, err)
		}
		if h, err := parseRecordHeader(b); at == g.end || (err == nil && h.generation == g.generation) {
			if _, err := g.file.WriteAt(zeros, at); err != nil {
				return fmt.Errorf("cut off %s: %w", g.path, err)
			}
		}
		next, err := g.nextHeader(at + align)
		if err != nil {
			return err
		}
		if next == 0 {
			break
		}
		at = next
	}
	if err := g.file.Datasync(); err != nil {
		return fmt.Errorf("sync %s: %w", g.path, err)
	}
	return nil
}

// laterRecord finds the last whole record of this generation behind a position.
func (g *segment) laterRecord(at int64) (*recordHeader, error) {
	var found *recordHeader
	for {
		next, err := g.nextHeader(at)
		if err != nil || next == 0 {
			return found, err
		}
		if h, _, err := g.readRecord(next); err == nil {
			found = &h
		}
		at = next + align
	}
}

// nextHeader finds the next valid header of this generation from a position on.
// 0: there is none.
func (g *segment) nextHeader(at int64) (int64, error) {
	const window = 1 << 20
	buf := make([]byte, window+recordSize)
	for ; at+recordSize <= g.size; at += window {
		b := buf[:min(int64(len(buf)), g.size-at)]
		if _, err := g.file.ReadAt(b, at); err != nil {
			return 0, fmt.Errorf("read %s: %w", g.path, err)
		}
		for i := 0; i+recordSize <= len(b) && i < window; i += align {
			if !plausible(b[i:], g.generation) {
				continue
			}
			if _, err := parseRecordHeader(b[i:]); err == nil {
				return at + int64(i), nil
			}
		}
	}
	return 0, nil
}

// readFirst reads the logical first index, where one has been kept.
func (s *Store) readFirst() error {
	path := filepath.Join(s.o.Dir, firstFile)
	f, err := s.o.FS.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 64)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s: %w", path, err)
	}
	number, sum, _ := strings.Cut(strings.TrimSpace(string(b[:n])), " ")
	first, err := strconv.ParseUint(number, 10, 64)
	if err != nil || sum != fmt.Sprintf("%08x", checksum([]byte(number))) {
		return &DamagedError{File: path, Reason: "it does not hold a number and its checksum"}
	}
	if s.first != 0 && first > s.first && first <= s.lastLocked() {
		s.first = first
	}
	return nil
}

func (s *Store) writeFirst(first uint64) error {
	number := strconv.FormatUint(first, 10)
	return writeFile(s.o.FS, filepath.Join(s.o.Dir, firstFile), fmt.Appendf(nil, "%s %08x\n", number, checksum([]byte(number))))
}
