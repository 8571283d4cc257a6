package segment

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// rowKey names the rows that are ordered among each other.
type rowKey struct {
	key  uint32
	kind uint8
}

func (g *segment) addRows(rows []Row) {
	for _, r := range rows {
		k := rowKey{r.Key, r.Kind}
		g.rows[k] = append(g.rows[k], r)
	}
}

func (g *segment) sortedRows() []Row {
	var all []Row
	for _, rows := range g.rows {
		all = append(all, rows...)
	}
	slices.SortFunc(all, compareRows)
	return all
}

// AddRows says which rows an entry has, once it is applied. It is called for
// each entry, in order; a sealed segment whose entries are all covered gets its
// index.
func (s *Store) AddRows(index uint64, rows []Row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.segmentOf(index)
	if g == nil || g.index != nil || index <= g.covered {
		return
	}
	g.addRows(rows)
	g.covered = index
	if g.sealed && g.covered == g.last {
		if err := s.writeIndexes(); err != nil {
			s.o.Logger.Error("the index of a segment cannot be written; it is tried again", "segment", g.path, "error", err)
		}
	}
}

// writeIndexes gives an index to each sealed segment that is wholly covered.
// One that cannot be written stays in memory and is tried again with the next.
func (s *Store) writeIndexes() error {
	for _, g := range s.segments {
		if !g.sealed || g.index != nil || g.covered != g.last || g.positions == nil {
			continue
		}
		path := indexPath(g.path)
		head := indexHead{generation: g.generation, first: g.first, last: g.last}
		if err := writeIndex(s.o.FS, path, head, g.sortedRows(), g.positions); err != nil {
			s.o.Logger.Warn("the index of a segment cannot be written; it is tried again", "segment", g.path, "error", err)
			return nil
		}
		x, err := openIndex(s.o.FS, path, s.cache)
		if err != nil {
			return fmt.Errorf("read back the index just written: %w", err)
		}
		g.index, g.rows, g.positions = x, nil, nil
	}
	return nil
}

func indexPath(segment string) string {
	return strings.TrimSuffix(segment, segmentSuffix) + indexSuffix
}

// Find returns the row that covers an offset, or else the first row after it.
func (s *Store) Find(key uint32, kind uint8, offset uint64) (Row, bool, error) {
	return s.find(key, kind, func(r Row) bool { return r.Base+uint64(max(r.Count, 1)) <= offset })
}

// FindTime returns the first row whose entry's time is t or later.
func (s *Store) FindTime(key uint32, kind uint8, t int64) (Row, bool, error) {
	return s.find(key, kind, func(r Row) bool { return r.Time < t })
}

// find returns the first row of a key and kind that is not before what is
// looked for. before is monotonic over the rows of a key and kind, which are in
// order across segments, and within one.
func (s *Store) find(key uint32, kind uint8, before func(Row) bool) (Row, bool, error) {
	k := rowKey{key, kind}
	s.mu.RLock()
	// The last row of a segment, being before, rules the segment out.
	start := sort.Search(len(s.segments), func(i int) bool {
		for ; i < len(s.segments); i++ { // a segment without such rows says nothing
			if last, ok := s.segments[i].lastRow(k); ok {
				return !before(last)
			}
		}
		return true
	})
	// Indexes are read without the lock, so that a slow read holds up no append.
	var index *indexFile
	var rows []Row
	for _, g := range s.segments[start:] {
		if _, ok := g.lastRow(k); ok {
			index, rows = g.index, g.rows[k]
			break // its last row is not before
		}
	}
	s.mu.RUnlock()
	if index != nil {
		return index.find(key, kind, before)
	}
	i := sort.Search(len(rows), func(i int) bool { return !before(rows[i]) })
	if i == len(rows) {
		return Row{}, false, nil
	}
	return rows[i], true, nil
}

// lastRow is a row that ends where the last one of a key and kind does.
func (g *segment) lastRow(k rowKey) (Row, bool) {
	if g.index != nil {
		x, ok := g.index.group(k.key, k.kind)
		return Row{Base: x.Last, Count: 1, Time: x.MaxTime}, ok
	}
	rows := g.rows[k]
	if len(rows) == 0 {
		return Row{}, false
	}
	return rows[len(rows)-1], true
}

// Indexed is the entry up to which every segment has its index on disk.
func (s *Store) Indexed() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var last uint64
	for _, g := range s.segments {
		if g.index == nil {
			break
		}
		last = g.last
	}
	return last
}

// PendingRows are the rows, of entries up to one, that are in no index on disk:
// a snapshot must keep them.
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
// the entries after it are applied again. indexed is what Indexed was then: a
// segment up to there that has no index has lost it, and is refused.
func (s *Store) RestoreRows(upTo, indexed uint64, rows []Row) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.segments {
		if g.index != nil || g.first > upTo {
			continue
		}
		if g.first <= indexed {
			return &DamagedError{File: indexPath(g.path), First: g.first, Last: g.last, Reason: "the index of this segment was on disk, and is missing or damaged"}
		}
		g.rows = map[rowKey][]Row{}
		for _, r := range rows {
			if r.Index >= g.first && r.Index <= g.last {
				g.addRows([]Row{r})
			}
		}
		g.covered = min(upTo, g.last)
	}
	return s.writeIndexes()
}
