package segment

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
)

// addRows takes the rows of entries of a segment in order. A row that goes on where the
// one before it ended, in the same entry, becomes part of that. mu is held.
func (s *Store) addRows(g *segment, rows []Row) {
	for _, r := range rows {
		k := rowKey{r.Key, r.Kind}
		list := g.rows[k]
		if n := len(list); n > 0 {
			if p := &list[n-1]; p.Index == r.Index && p.Count > 0 && r.Count > 0 && p.Base+uint64(p.Count) == r.Base {
				p.Count += r.Count
				p.Bytes += r.Bytes
				continue
			}
		}
		g.rows[k] = append(s.roomFor(list), r)
	}
}

// fewRows are not worth the memory that many lay in.
const fewRows = 1024

// roomFor gives a list of rows that is full the memory that those of an earlier segment
// lay in, where that is larger. mu is held.
func (s *Store) roomFor(list []Row) []Row {
	if n := len(list); n < cap(list) || n < fewRows || n >= cap(s.rowRoom) {
		return list
	}
	room := s.rowRoom
	s.rowRoom = nil
	return append(room, list...)
}

// keepRoom has the memory of a segment's longest list of rows used again, once its
// index is on disk. mu is held.
func (s *Store) keepRoom(g *segment) {
	for _, list := range g.rows {
		if cap(list) > max(cap(s.rowRoom), fewRows) {
			s.rowRoom = list[:0]
		}
	}
}

// allRows gathers a segment's rows from memory, in no order of keys.
func (g *segment) allRows() []Row {
	n := 0
	for _, rows := range g.rows {
		n += len(rows)
	}
	all := make([]Row, 0, n)
	for _, rows := range g.rows {
		all = append(all, rows...)
	}
	return all
}

func (g *segment) sortedRows() []Row {
	all := g.allRows()
	slices.SortStableFunc(all, compareRows)
	return all
}

// pendingGroups summarizes the rows in memory; they are in order within a key
// and kind.
func (g *segment) pendingGroups() []group {
	var all []group
	for _, rows := range g.rows {
		all = append(all, groupRows(rows)...)
	}
	slices.SortFunc(all, func(a, b group) int { return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Kind, b.Kind)) })
	return all
}

// AddRows says which rows an entry has, once it is applied. It is called for
// the entries in order; one that it is not called for has no rows. The rows of a
// key and kind must lie in order, of offsets and of time. A sealed segment whose
// entries have all been covered gets its index, in the background.
func (s *Store) AddRows(index uint64, rows []Row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if index <= s.covered {
		return // in an index already, or restored from a snapshot
	}
	before := s.covered
	s.covered = index
	g := s.segmentOf(index)
	if g == nil || g.indexed() {
		return
	}
	s.addRows(g, rows)
	if g.sealed && g.last == index || before < g.first {
		s.wakeUp()
	}
}

// refer makes an index's rows known to Find. mu is held, but at Open.
func (s *Store) refer(g *segment) {
	for _, x := range g.index.groups {
		k := rowKey{x.Key, x.Kind}
		s.refs[k] = append(s.refs[k], g)
	}
}

func (s *Store) unrefer(g *segment) {
	if g.index == nil {
		return
	}
	for _, x := range g.index.groups {
		k := rowKey{x.Key, x.Kind}
		left := slices.DeleteFunc(slices.Clone(s.refs[k]), func(o *segment) bool { return o == g })
		if s.refs[k] = left; len(left) == 0 {
			delete(s.refs, k)
		}
	}
}

// Find returns the row that covers an offset, or else the first row after it.
// Where that may lie in a segment whose index is damaged the error is a
// *DamagedError.
func (s *Store) Find(key uint32, kind uint8, offset uint64) (Row, bool, error) {
	return s.find(rowKey{key, kind}, search{
		before: func(r Row) bool { return r.end() <= offset },
		sure:   func(r Row) bool { return r.Base <= offset },
	})
}

// FindTime returns the first row whose entry's time is t or later, with the
// errors of Find.
func (s *Store) FindTime(key uint32, kind uint8, t int64) (Row, bool, error) {
	return s.find(rowKey{key, kind}, search{
		before: func(r Row) bool { return r.Time < t },
		sure:   func(Row) bool { return false },
	})
}

// search looks for the first row that is not before what is sought. sure says
// that there can be no earlier one, whatever the rows before it are.
type search struct{ before, sure func(Row) bool }

func (s *Store) find(k rowKey, q search) (Row, bool, error) {
	for {
		row, ok, deletions, err := s.tryFind(k, q)
		if err == nil {
			return row, ok, nil
		}
		s.mu.RLock()
		same := s.deletions == deletions
		s.mu.RUnlock()
		if same {
			return Row{}, false, err
		}
		// A segment was dropped while its index was being read.
	}
}

func (s *Store) tryFind(k rowKey, q search) (row Row, ok bool, deletions uint64, err error) {
	s.mu.RLock()
	deletions = s.deletions
	seg, group, after := s.indexedWith(k, q)
	var number uint64
	first := true
	if seg != nil {
		number = seg.number
	} else {
		row, number, first, ok = s.pendingRow(k, q)
		after = max(after, s.beforePending(k, number))
	}
	damaged := s.damagedBetween(after, number)
	s.mu.RUnlock()
	if seg != nil {
		// Read without the lock, so that a slow read holds up no append.
		if row, first, err = s.reader.find(seg, group, q.before); err != nil {
			return Row{}, false, deletions, err
		}
		ok = true
	}
	if damaged != nil && !(ok && (!first || q.sure(row))) {
		return Row{}, false, deletions, fmt.Errorf("find a row of key %d, kind %d: %w", k.key, k.kind, damaged)
	}
	return row, ok, deletions, nil
}

// indexedWith finds the segment whose index has the row, and the number of the
// last one before it that has rows of the key. mu is held.
func (s *Store) indexedWith(k rowKey, q search) (*segment, group, uint64) {
	refs := s.refs[k]
	i := sort.Search(len(refs), func(i int) bool {
		g, _ := refs[i].index.group(k)
		// A row that stands for the last: it ends where the last one does.
		return !q.before(Row{Base: g.Last, Count: 1, Time: g.MaxTime})
	})
	var after uint64
	if i > 0 {
		after = refs[i-1].number
	}
	if i == len(refs) {
		return nil, group{}, after
	}
	g, _ := refs[i].index.group(k)
	return refs[i], g, after
}

// pendingRow finds the row among those in memory, and whether it is the first
// of its segment. mu is held.
func (s *Store) pendingRow(k rowKey, q search) (row Row, number uint64, first, ok bool) {
	for _, g := range s.segments {
		rows := g.rows[k]
		if g.indexed() || len(rows) == 0 || q.before(rows[len(rows)-1]) {
			continue
		}
		i := sort.Search(len(rows), func(i int) bool { return !q.before(rows[i]) })
		return rows[i], g.number, i == 0, true
	}
	return Row{}, 0, true, false
}

// beforePending is the number of the last segment in memory with rows of a key,
// before the given one (0: of all). mu is held.
func (s *Store) beforePending(k rowKey, number uint64) uint64 {
	var last uint64
	for _, g := range s.segments {
		if (number == 0 || g.number < number) && len(g.rows[k]) > 0 {
			last = g.number
		}
	}
	return last
}

// damagedBetween returns the damage of the first segment between two, whose
// index is lost. Numbers of 0 are before and after all.
func (s *Store) damagedBetween(after, number uint64) *DamagedError {
	for _, g := range s.segments {
		if g.damaged != nil && g.number > after && (number == 0 || g.number < number) {
			return g.damaged
		}
	}
	return nil
}

// Indexed is the entry up to which the rows of every entry are on disk, in the
// segments' indexes.
func (s *Store) Indexed() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var last uint64
	if s.first > 0 {
		last = s.first - 1
	}
	for _, g := range s.segments {
		if !g.indexed() {
			break
		}
		last = g.last
	}
	return last
}

// PendingRows are the rows, of entries up to one, that are in no index on disk:
// a snapshot must keep them. Those of a key and kind are in order.
func (s *Store) PendingRows(upTo uint64) []Row {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var rows []Row
	for _, g := range s.segments {
		for _, r := range g.sortedRows() {
			if r.Index <= upTo {
				rows = append(rows, r)
			}
		}
	}
	return rows
}

// RestoreRows gives back what PendingRows returned for the same entry, before
// the entries after it are applied again. Rows of entries that the log does not
// have yet are to be added when it does.
func (s *Store) RestoreRows(upTo uint64, rows []Row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.covered = min(upTo, s.last)
	for _, g := range s.segments {
		if g.indexed() {
			s.covered = max(s.covered, g.last)
		} else {
			g.rows = map[rowKey][]Row{}
		}
	}
	for _, r := range rows {
		if g := s.segmentOf(r.Index); g != nil && !g.indexed() {
			s.addRows(g, []Row{r})
		}
	}
	s.wakeUp()
}
