package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/hashicorp/raft"
)

// DeleteRange implements raft.LogStore, exactly: a suffix (a follower's
// conflict), a prefix, or everything (after an installed snapshot, when the
// next entry may have any index). When it returns, what was deleted cannot come
// back.
func (s *Store) DeleteRange(first, last uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	end := s.lastLocked()
	if s.first == 0 || last < s.first || first > end || first > last {
		return nil
	}
	err := errors.New("it would leave a hole in the log")
	switch {
	case first <= s.first && last >= end:
		err = s.deleteAll()
	case last >= end:
		err = s.truncate(first - 1)
	case first <= s.first:
		err = s.dropPrefix(last + 1)
	}
	if err != nil {
		return fmt.Errorf("delete entries %d to %d: %w", first, last, err)
	}
	return nil
}

// deletingFile stands while the whole log is being deleted, so that a crash in
// between cannot leave a part of it.
const deletingFile = "deleting"

func (s *Store) deleteAll() error {
	if err := writeFile(s.o.FS, filepath.Join(s.o.Dir, deletingFile), []byte("all\n")); err != nil {
		return err
	}
	if err := s.closeFiles(); err != nil {
		return err
	}
	return s.finishDeleting()
}

func (s *Store) finishDeleting() error {
	for _, ext := range []string{segmentSuffix, indexSuffix} {
		for _, path := range list(s.o.FS, s.o.Dir, ext) {
			if err := s.removeFile(path); err != nil {
				return err
			}
		}
	}
	if err := s.removeFile(filepath.Join(s.o.Dir, firstFile)); err != nil {
		return err
	}
	if err := s.o.FS.SyncDir(s.o.Dir); err != nil {
		return err
	}
	if err := s.removeFile(filepath.Join(s.o.Dir, deletingFile)); err != nil {
		return err
	}
	return s.o.FS.SyncDir(s.o.Dir)
}

// truncate cuts the log behind an entry. Segments go from the end, so that a
// crash leaves a shorter log, never a hole; the one that is cut in the middle is
// written anew and put in place in one step.
func (s *Store) truncate(last uint64) error {
	for n := len(s.segments) - 1; n > 0 && s.segments[n].first > last; n-- {
		if err := s.remove(s.segments[n]); err != nil {
			return err
		}
		s.segments = s.segments[:n]
		if err := s.o.FS.SyncDir(s.o.Dir); err != nil {
			return err
		}
	}
	n := len(s.segments) - 1
	g, err := s.rewrite(s.segments[n], last)
	if err != nil {
		return err
	}
	old := s.segments[n]
	s.segments[n] = g
	return old.close(s.cache)
}

// rewrite copies a segment up to an entry into a new file that takes its place.
func (s *Store) rewrite(old *segment, last uint64) (*segment, error) {
	temporary := old.path + temporaryExt
	f, err := s.o.FS.Create(temporary)
	if err != nil {
		return nil, err
	}
	if err := fill(f, old.size); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	g := &segment{path: old.path, file: f, size: old.size, generation: newGeneration(), first: old.first, last: old.first - 1,
		end: headerSize, positions: []uint32{}, rows: map[rowKey][]Row{}, covered: min(old.covered, last)}
	var b []byte
	for i := old.first; i <= last; i++ {
		at, err := old.place(i)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		h, payload, err := old.readRecord(at)
		if err != nil {
			return nil, errors.Join(&DamagedError{File: old.path, Offset: at, First: i, Last: i, Reason: err.Error()}, f.Close())
		}
		var l raft.Log
		h.fill(&l, payload)
		b, g.chain = appendRecord(b[:0], &l, g.generation, g.chain, 0)
		if _, err := f.WriteAt(b, g.end); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		g.positions = append(g.positions, uint32(g.end/align))
		g.end += int64(len(b))
		g.last = i
	}
	for _, r := range old.sortedRows() {
		if r.Index <= last {
			g.addRows([]Row{r})
		}
	}
	if _, err := f.WriteAt(fileHeader{g.generation, g.first, 0}.append(nil), 0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := f.Datasync(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := s.removeFile(indexPath(old.path)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := s.o.FS.Rename(temporary, old.path); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return g, s.o.FS.SyncDir(s.o.Dir)
}

func (g *segment) place(index uint64) (int64, error) {
	if g.positions != nil {
		return int64(g.positions[index-g.first]) * align, nil
	}
	return g.index.position(index)
}

// dropPrefix drops what lies wholly below an entry, and remembers the entry
// where it lies inside a segment.
func (s *Store) dropPrefix(first uint64) error {
	if err := s.writeFirst(first); err != nil {
		return err
	}
	s.first = first
	return s.dropSegments(first)
}

// DropBefore drops the sealed segments of which every entry lies below an
// index. Retention uses it; the log's first index moves.
func (s *Store) DropBefore(index uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	return s.dropSegments(index)
}

// dropSegments removes from the begin, so that a crash leaves no hole. A file
// that can be written again is kept aside.
func (s *Store) dropSegments(index uint64) error {
	for len(s.segments) > 1 && s.segments[0].sealed && s.segments[0].last < index {
		g := s.segments[0]
		if err := s.recycle(g); err != nil {
			return err
		}
		s.segments = s.segments[1:]
		s.first = max(s.first, s.segments[0].first)
	}
	return s.o.FS.SyncDir(s.o.Dir)
}

func (s *Store) recycle(g *segment) error {
	if len(list(s.o.FS, s.o.Dir, recycledExt)) >= s.o.Recycle || g.size != s.o.SegmentBytes {
		return s.remove(g)
	}
	if err := g.close(s.cache); err != nil {
		return err
	}
	if err := s.removeFile(indexPath(g.path)); err != nil {
		return err
	}
	return s.o.FS.Rename(g.path, strings.TrimSuffix(g.path, segmentSuffix)+recycledExt)
}

func (s *Store) remove(g *segment) error {
	if err := g.close(s.cache); err != nil {
		return err
	}
	if err := s.removeFile(indexPath(g.path)); err != nil {
		return err
	}
	return s.removeFile(g.path)
}

func (s *Store) removeFile(path string) error {
	if err := s.o.FS.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
