package segment

import (
	"errors"
	"fmt"
	"slices"
)

// DeleteRange implements raft.LogStore, exactly: a suffix (a follower's
// conflict), a prefix, or everything (after an installed snapshot; the next
// entry may then have any index). When it returns, what was deleted cannot come
// back. After a failed write every later call fails.
func (s *Store) DeleteRange(first, last uint64) error {
	s.writer.Lock()
	defer s.writer.Unlock()
	s.direct.forget() // what it knows of the log's end
	s.upkeep.Lock()
	defer s.upkeep.Unlock()
	s.mu.RLock()
	begin, end, failed := s.first, s.last, s.failed
	s.mu.RUnlock()
	if failed != nil {
		return failed
	}
	if begin == 0 || last < begin || first > end || first > last {
		return nil
	}
	var err error
	switch {
	case first <= begin && last >= end:
		err = s.deleteAll()
	case last >= end:
		err = s.deleteFrom(first)
	case first <= begin:
		err = s.dropBelow(last+1, true)
	default:
		return fmt.Errorf("delete entries %d to %d of %d to %d: it would leave a hole in the log", first, last, begin, end)
	}
	if err != nil {
		err = fmt.Errorf("delete entries %d to %d: %w", first, last, err)
		if damaged := (*DamagedError)(nil); !errors.As(err, &damaged) {
			s.fail(err)
		}
		return err
	}
	return nil
}

// DropBefore drops the sealed segments of which every entry lies below an
// index; the log's first index moves. The last entry always stays.
func (s *Store) DropBefore(index uint64) error {
	s.upkeep.Lock()
	defer s.upkeep.Unlock()
	s.mu.RLock()
	failed := s.failed
	s.mu.RUnlock()
	if failed != nil {
		return failed
	}
	if err := s.dropBelow(index, false); err != nil {
		err = fmt.Errorf("drop the segments below entry %d: %w", index, err)
		s.fail(err)
		return err
	}
	return nil
}

// dropBelow drops the segments that lie wholly below an index, in one change of
// the state; where exact is set, all entries below it.
func (s *Store) dropBelow(index uint64, exact bool) error {
	s.mu.RLock()
	n := 0
	for n < len(s.segments)-1 && s.segments[n].sealed && s.segments[n].last < min(index, s.last) {
		n++
	}
	dropped := s.segments[:n:n]
	next := s.state
	next.floor = s.segments[n].number
	s.mu.RUnlock()
	if n == 0 && !exact {
		return nil
	}
	next.indexed = max(next.indexed, next.floor-1)
	if exact {
		next.first = index
	}
	if err := s.writeState(next); err != nil {
		return err
	}
	s.mu.Lock()
	s.deletions++
	s.segments = append([]*segment(nil), s.segments[n:]...)
	if s.first != 0 {
		s.first = max(s.first, s.segments[0].first, next.first)
	}
	s.mu.Unlock()
	return s.release(dropped)
}

// release closes the files of segments that are not the log's any more and
// leaves them to be written again.
func (s *Store) release(dropped []*segment) error {
	s.mu.Lock()
	for _, g := range dropped {
		s.unrefer(g)
	}
	s.mu.Unlock()
	var errs []error
	for _, g := range dropped {
		if g.file != nil {
			errs = append(errs, g.file.Close())
		}
		s.reader.forget(g)
		s.spares = append(s.spares, g.path)
	}
	s.wakeUp()
	return errors.Join(errs...)
}

// deleteAll begins the log anew with the next segment, in one change of the
// state. Where that segment does not exist and cannot be made, the current one
// is emptied.
func (s *Store) deleteAll() error {
	if len(s.ready) == 0 {
		if err := s.prepare(s.o.SegmentBytes); err != nil && !passes(err) {
			return err
		}
	}
	s.mu.RLock()
	g, dropped, ready := s.active(), s.segments, s.ready
	s.mu.RUnlock()
	if len(ready) == 0 {
		return s.emptyOnly(g)
	}
	g, ready = ready[0], ready[1:]
	next := s.state
	next.floor, next.indexed, next.first = g.number, g.number-1, 0
	next.durable = place{g.number, headerSize}
	if err := s.writeState(next); err != nil {
		return err
	}
	s.mu.Lock()
	s.segments, s.ready = []*segment{g}, ready
	s.beginAnew(g)
	s.mu.Unlock()
	return s.release(dropped)
}

// beginAnew sets what holds of an empty log. mu is held.
func (s *Store) beginAnew(g *segment) {
	s.deletions++
	s.first, s.last, s.chain = 0, 0, 0
	s.covered = 0 // the next entry may have any index
	g.first, g.last, g.chain = 1, 0, 0
}

// emptyOnly deletes everything where the current segment is the only one to go
// on with.
func (s *Store) emptyOnly(g *segment) error {
	next := s.state
	next.floor, next.indexed, next.first = g.number, g.number-1, 0
	next.cut = place{g.number, headerSize}
	next.durable = next.cut
	if err := s.writeState(next); err != nil {
		return err
	}
	s.mu.Lock()
	dropped := s.segments[:len(s.segments)-1]
	end := g.end
	s.segments = []*segment{g}
	g.clear(headerSize)
	s.beginAnew(g)
	s.mu.Unlock()
	if err := s.endCut(g, end); err != nil {
		return err
	}
	return s.release(dropped)
}

// clear takes from memory what lies behind a place. mu is held.
func (g *segment) clear(at int64) {
	n := 0
	for n < len(g.positions) && int64(g.positions[n])*align < at {
		n++
	}
	g.positions, g.end, g.sealed = g.positions[:n:n], at, false
	g.last = g.first + uint64(n) - 1
	for k, rows := range g.rows {
		for len(rows) > 0 && rows[len(rows)-1].Index > g.last {
			rows = rows[:len(rows)-1]
		}
		g.rows[k] = rows
	}
}

// deleteFrom cuts the log in front of an entry. The cut is noted first; a crash
// before it is finished leaves the rest to the next Open.
func (s *Store) deleteFrom(index uint64) error {
	s.mu.RLock()
	old := s.segmentOf(index)
	i := slices.Index(s.segments, old)
	s.mu.RUnlock()
	g, err := s.writable(old)
	if err != nil {
		return err
	}
	at, _ := g.place(index)
	end := g.end
	if old != g {
		end = g.size // the index goes, too
	}
	chain, err := s.chainBefore(g, i, index)
	next := s.state
	next.cut = place{g.number, at}
	next.durable = next.cut
	next.indexed = min(next.indexed, g.number-1)
	if err == nil {
		err = s.writeState(next)
	}
	if err != nil {
		if old != g {
			err = errors.Join(err, g.file.Close())
		}
		return err
	}
	s.mu.Lock()
	s.deletions++
	dropped := slices.Clone(s.segments[i+1:])
	if len(dropped) > 0 {
		dropped, s.ready = append(dropped, s.ready...), nil
	}
	s.segments = append(slices.Clone(s.segments[:i]), g)
	s.unrefer(old)
	g.clear(at)
	g.chain = chain
	s.last, s.chain = index-1, chain
	s.covered = min(s.covered, s.last)
	s.mu.Unlock()
	if old != g {
		s.reader.forget(old)
	}
	if err := s.endCut(g, end); err != nil {
		return err
	}
	return s.release(dropped)
}

// writable gives a segment with its positions and rows in memory.
func (s *Store) writable(g *segment) (*segment, error) {
	if g.damaged != nil {
		return nil, g.damaged // the rows of what stays are lost
	}
	if g.index == nil {
		return g, nil
	}
	w := newSegment(g.path, fileHeader{number: g.number, generation: g.generation}, g.size, nil)
	w.first, w.last, w.end, w.chain = g.first, g.last, g.end, g.chain
	for i := g.first; i <= g.last; i++ {
		at, _, err := s.reader.place(g, i)
		if err != nil {
			return nil, err
		}
		w.positions = append(w.positions, uint32(at/align))
	}
	rows, err := s.reader.rows(g)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.addRows(w, rows)
	s.mu.Unlock()
	w.file, err = s.o.FS.OpenReadWrite(g.path)
	return w, err
}

// chainBefore is the checksum that the record of an entry, in a segment that is
// number i, chains to.
func (s *Store) chainBefore(g *segment, i int, index uint64) (uint32, error) {
	if index == g.first {
		if i == 0 {
			return 0, nil
		}
		return s.segments[i-1].chain, nil
	}
	at, _ := g.place(index - 1)
	b := make([]byte, recordSize)
	if _, err := g.file.ReadAt(b, at); err != nil {
		return 0, fmt.Errorf("read %s at byte %d: %w", g.path, at, err)
	}
	h, err := parseRecordHeader(b)
	if err != nil {
		return 0, &DamagedError{File: g.path, Offset: at, First: index - 1, Last: index - 1, Reason: err.Error()}
	}
	return h.sum, nil
}

// endCut wipes what was cut off the last segment, up to a place, and declares
// the cut done. The segments behind it are the log's no more.
func (s *Store) endCut(g *segment, to int64) error {
	if err := s.fill(g.file, g.end, to); err != nil {
		return fmt.Errorf("wipe %s: %w", g.path, err)
	}
	next := s.state
	next.cut = place{}
	if len(s.ready) == 0 {
		next.top = g.number
	}
	return s.writeState(next)
}

// finishCut ends, at Open, a cut that a crash interrupted.
func (s *Store) finishCut(cut place) error {
	g, err := s.openSegment(cut.number)
	if err != nil {
		return err
	}
	err = s.fill(g.file, cut.at, g.size)
	if err := errors.Join(err, g.file.Close()); err != nil {
		return err
	}
	next := s.state
	next.top, next.cut = cut.number, place{}
	return s.writeState(next)
}
