package segment

import (
	"fmt"
)

// scan reads a segment's records from its begin, and finds where they end. A bad
// record is an interrupted write's, which is to be wiped, or damage.
func (s *Store) scan(g *segment) (*wipe, error) {
	r := &window{seg: g}
	limit := g.size
	if s.state.clean {
		// The log was closed; behind its end nothing has been written since.
		switch end := s.state.durable; {
		case g.number > end.number:
			return nil, nil
		case g.number == end.number:
			limit = min(limit, max(end.at, headerSize))
		}
	}
	for g.end+recordSize <= limit {
		b, err := r.bytes(g.end, recordSize)
		if err != nil {
			return nil, err
		}
		h, err := parseRecordHeader(b)
		if err == nil && g.end+h.size() <= limit {
			if b, err = r.bytes(g.end, h.size()); err != nil {
				return nil, err
			}
		}
		if err == nil {
			h, _, err = parseRecord(b, g.generation)
		}
		if err != nil {
			return s.judge(g, r, err)
		}
		// Nothing is written into a segment before all that precedes it is synced,
		// so a gap is damage. What the log's first record chains to may have been
		// dropped with its segment.
		if known := s.last != 0 || len(g.positions) > 0; known && (h.index != g.last+1 || h.chain != g.chain) {
			return nil, s.broken(g, h)
		} else if !known && g.number > s.state.floor && h.chain != 0 {
			return nil, s.beheaded(g, h)
		}
		if len(g.positions) == 0 {
			g.first = h.index
		}
		g.positions = append(g.positions, uint32(g.end/align))
		g.chain, g.last = h.sum, h.index
		g.end += h.size()
	}
	return nil, nil
}

// broken describes a whole record that does not continue the log.
func (s *Store) broken(g *segment, h recordHeader) error {
	e := &DamagedError{File: g.path, Offset: g.end, First: g.last + 1, Last: max(h.index, g.last+2) - 1}
	e.Reason = fmt.Sprintf("entry %d, chained to %08x, is there instead of entry %d, chained to %08x", h.index, h.chain, g.last+1, g.chain)
	for _, before := range s.segments {
		if len(g.positions) == 0 && before != g && before.number+1 == g.number {
			e.Reason = fmt.Sprintf("no whole record is there, but %s goes on with entry %d, chained to %08x", g.path, h.index, h.chain)
			e.File, e.Offset = before.path, before.end
		}
	}
	return e
}

// beheaded describes a whole record that continues entries of which none is
// there, although the segments before it belong to the log.
func (s *Store) beheaded(g *segment, h recordHeader) error {
	return &DamagedError{
		File: s.segments[0].path, Offset: headerSize, First: max(s.state.first, 1), Last: h.index - 1,
		Reason: fmt.Sprintf("no whole record is there, but %s goes on with entry %d, chained to %08x", g.path, h.index, h.chain),
	}
}

// judge tells an interrupted write from damage. A write begins only when the one
// before it has been synced. So a record of a write that began behind the bad
// one proves that the bad one had been synced; records of the same write prove
// nothing, as a crash may keep any part of a write.
func (s *Store) judge(g *segment, r *window, reason error) (*wipe, error) {
	at := g.end
	next := uint64(0) // the bad entry's index; 0: not known
	if g.last != 0 {
		next = g.last + 1
	}
	torn := false
	b, err := r.bytes(at, recordSize)
	if err != nil {
		return nil, err
	}
	if h, _ := parseRecordHeader(b); plausible(b, g.generation) || next != 0 && h.index == next && h.chain == g.chain {
		torn = true
	}
	to := at + recordSize
	for from := at + align; ; {
		later, h, err := r.nextHeader(from, g.generation)
		if err != nil {
			return nil, err
		}
		if later == 0 {
			break
		}
		if s.provesSynced(g, h, next) {
			return nil, &DamagedError{File: g.path, Offset: at, First: next, Last: h.index - uint64(h.batch) - 1,
				Reason: fmt.Sprintf("%v; entry %d, written after it, is there", reason, h.index)}
		}
		torn = true
		to = later + recordSize
		from = later + align
	}
	if !torn {
		return nil, nil // nothing has been written here in this life of the file
	}
	return &wipe{seg: g, from: at, to: to}, nil
}

// provesSynced says whether a record, found behind a bad one, was written by a
// later write than the bad one.
func (s *Store) provesSynced(g *segment, h recordHeader, next uint64) bool {
	if next != 0 {
		return h.index-uint64(h.batch) > next
	}
	// The bad record is the log's first: its index is not known, but records of
	// its own write follow it without a gap, and it is number 0 of them.
	return h.batch == 0
}

// window reads a file through one buffer.
type window struct {
	seg *segment
	buf []byte
	at  int64
}

const windowSize = 1 << 20

// bytes returns n bytes from a place; they are valid until the next call. Where
// the file ends before, it returns fewer.
func (w *window) bytes(at, n int64) ([]byte, error) {
	n = min(n, w.seg.size-at)
	if at < w.at || at+n > w.at+int64(len(w.buf)) {
		want := min(max(n, windowSize), w.seg.size-at)
		if int64(cap(w.buf)) < want {
			w.buf = make([]byte, want)
		}
		w.buf, w.at = w.buf[:want], at
		if _, err := w.seg.file.ReadAt(w.buf, at); err != nil {
			w.buf = w.buf[:0]
			return nil, fmt.Errorf("read %s at byte %d: %w", w.seg.path, at, err)
		}
	}
	return w.buf[at-w.at:][:n:n], nil
}

// nextHeader finds the next valid record header of a generation from a place on;
// 0: there is none.
func (w *window) nextHeader(at int64, generation uint64) (int64, recordHeader, error) {
	for at+recordSize <= w.seg.size {
		b, err := w.bytes(at, windowSize)
		if err != nil {
			return 0, recordHeader{}, err
		}
		i := 0
		for ; i+recordSize <= len(b); i += align {
			if !plausible(b[i:], generation) {
				continue
			}
			if h, err := parseRecordHeader(b[i:]); err == nil {
				return at + int64(i), h, nil
			}
		}
		at += int64(i)
	}
	return 0, recordHeader{}, nil
}
