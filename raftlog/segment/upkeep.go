package segment

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/leat-dev/leat/raftlog/vfs"
)

// wakeUp asks for upkeep; it never waits.
func (s *Store) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run does, away from the appends: make segments ahead, write the indexes of
// sealed ones, remove what is left over.
func (s *Store) run() {
	defer close(s.done)
	for {
		select {
		case <-s.stop:
			return
		case <-s.wake:
		}
		s.keepUp()
	}
}

func (s *Store) keepUp() {
	for s.wantsReady() {
		s.upkeep.Lock()
		err := s.prepare(s.o.SegmentBytes)
		s.upkeep.Unlock()
		if err != nil {
			break
		}
	}
	for s.step("write the index of a segment", s.writeNextIndex) {
	}
	s.step("remove a dropped segment", s.removeSpares)
}

// step does one thing under the lock; it reports whether there may be more.
func (s *Store) step(what string, do func() (bool, error)) bool {
	s.upkeep.Lock()
	more, err := do()
	s.upkeep.Unlock()
	if err != nil {
		s.o.Logger.Error("log upkeep failed", "dir", s.o.Dir, "step", what, "error", err)
		if !passes(err) {
			s.fail(fmt.Errorf("%s: %w", what, err))
		}
		return false
	}
	return more && !s.stopping()
}

func (s *Store) stopping() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

func (s *Store) wantsReady() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.ready) < max(s.o.Ahead, s.want) && s.failed == nil && !s.stopping()
}

// prepare makes the next segment, and tells who waits. upkeep is held.
func (s *Store) prepare(size int64) error {
	g, err := s.makeSegment(size)
	s.mu.Lock()
	s.attempts++
	s.notReady, s.tried = err, time.Now()
	if err == nil {
		s.ready = append(s.ready, g)
	}
	s.changed.Broadcast()
	s.mu.Unlock()
	if err != nil && !errors.Is(err, errStopping) && !passes(err) {
		s.fail(err)
	}
	return err
}

var errStopping = errors.New("the log is being closed")

// makeSegment makes segment top+1 of a dropped file, or else of a new one. It
// belongs to the log once the log's state says so.
func (s *Store) makeSegment(size int64) (*segment, error) {
	h := fileHeader{number: s.state.top + 1, generation: newGeneration(), size: size}
	from, f, err := s.recycled(size)
	recycled := f != nil
	if err == nil && !recycled {
		from = s.path("next" + temporarySuffix)
		f, err = s.create(from, size)
	}
	if err != nil {
		return nil, fmt.Errorf("make segment %d in %s: %w", h.number, s.o.Dir, err)
	}
	g := newSegment(s.path(segmentName(h.number)), h, size, f)
	if recycled {
		g.written = size
	}
	if err := s.adopt(g, from, h); err != nil {
		return nil, errors.Join(fmt.Errorf("make segment %d in %s: %w", h.number, s.o.Dir, err), f.Close())
	}
	return g, nil
}

// adopt gives a file its header and its name, and takes it into the log.
func (s *Store) adopt(g *segment, from string, h fileHeader) error {
	if _, err := g.file.WriteAt(h.append(make([]byte, 0, headerBytes)), 0); err != nil {
		return err
	}
	if err := g.file.Datasync(); err != nil {
		return err
	}
	if err := s.o.FS.Rename(from, g.path); err != nil {
		return err
	}
	s.spares = slices.DeleteFunc(s.spares, func(p string) bool { return p == from || p == g.path })
	if err := s.o.FS.SyncDir(s.o.Dir); err != nil {
		return err
	}
	next := s.state
	next.top = h.number
	return s.writeState(next)
}

// recycled opens a dropped file. What is in it is of another generation. Its
// size is made the wanted one; a file that is too small is of no use.
func (s *Store) recycled(size int64) (string, vfs.File, error) {
	for _, path := range s.spares {
		f, err := s.o.FS.OpenReadWrite(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", nil, err
		}
		has, err := f.Size()
		if err == nil && has >= size {
			if has > size {
				err = f.Truncate(size)
			}
			if err == nil {
				return path, f, nil
			}
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return "", nil, err
		}
	}
	return "", nil, nil
}

// create makes a file that has all its space, which reads as zeros.
func (s *Store) create(path string, size int64) (vfs.File, error) {
	f, err := s.o.FS.Create(path)
	if err != nil {
		return nil, err
	}
	err = f.Preallocate(size)
	if err == nil {
		err = f.Datasync()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), s.remove(path))
	}
	return f, nil
}

// fillChunk is how much is written at once when space is wiped.
const fillChunk = 1 << 20

// fill writes zeros.
func (s *Store) fill(f vfs.File, from, to int64) error {
	zeros := make([]byte, max(0, min(fillChunk, to-from)))
	for at := from; at < to; at += int64(len(zeros)) {
		if s.stopping() {
			return errStopping
		}
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), to-at)], at); err != nil {
			return err
		}
	}
	return f.Datasync()
}

// newGeneration tells one life of a file from all others. It cannot be guessed,
// so that no event's content can pass for a record.
func newGeneration() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:]) | 1
}

func (s *Store) remove(path string) error {
	if err := s.o.FS.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// removeSpares removes what need not be kept for later.
func (s *Store) removeSpares() (bool, error) {
	for len(s.spares) > s.o.Recycle {
		if err := s.remove(s.spares[0]); err != nil {
			return false, err
		}
		s.spares = s.spares[1:]
	}
	return false, nil
}

// writeState makes a new state durable, with the place up to which the log is
// known to be synced. upkeep is held.
func (s *Store) writeState(next logState) error {
	if next.cut.number == 0 {
		s.mu.RLock()
		if p := s.synced(); p.number >= next.floor {
			next.durable = p
		}
		s.mu.RUnlock()
	}
	if err := s.slots.write(next.encode()); err != nil {
		// Whatever the reason, which state a restart finds is not known now.
		s.fail(err)
		return err
	}
	s.state = next
	return nil
}

// synced is the end of the last record: all before it is synced. mu is held.
func (s *Store) synced() place {
	var p place
	for i := len(s.segments) - 1; i >= 0; i-- {
		// Where there is no record at all, the first segment's begin.
		if g := s.segments[i]; g.first <= g.last || i == 0 {
			p = place{g.number, g.end}
			break
		}
	}
	return p
}

// writeNextIndex writes the index of the first segment that can have one.
func (s *Store) writeNextIndex() (bool, error) {
	g, rows := s.nextToIndex()
	if g == nil {
		return false, nil
	}
	s.mu.RLock()
	foot := g.footer()
	s.mu.RUnlock()
	slices.SortStableFunc(rows, compareRows)
	x, body := encodeIndex(foot, rows, g.positions)
	x.path = g.path
	size, err := putIndex(g, x.foot, body)
	if err != nil {
		return false, fmt.Errorf("%s: %w", g.path, err)
	}
	next := s.state
	next.indexed = g.number
	if err := s.writeState(next); err != nil {
		return false, err
	}
	s.mu.Lock()
	g.size = size
	s.keepRoom(g)
	g.index, g.rows, g.positions = x, nil, nil
	file := g.file
	g.file = nil
	s.refer(g)
	s.mu.Unlock()
	s.reader.files.put(g, file)
	return true, nil
}

// footer is that of a segment whose records are all there, without the counts of
// its index.
func (g *segment) footer() footer {
	return footer{
		number: g.number, generation: g.generation, first: g.first, last: g.last, end: g.end,
		body: (g.end + headerSize - 1) &^ (headerSize - 1), chain: g.chain,
	}
}

// nextToIndex finds the segment after the indexed ones, where it is sealed and
// all its entries have had their rows, and those.
func (s *Store) nextToIndex() (*segment, []Row) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.failed != nil {
		return nil, nil
	}
	for _, g := range s.segments {
		if g.number <= s.state.indexed {
			continue
		}
		if g.sealed && g.number == s.state.indexed+1 && s.covered >= g.last {
			return g, g.allRows()
		}
		break
	}
	return nil, nil
}

// putIndex writes an index behind a segment's records, making the file larger
// where it must be. It returns the file's size.
func putIndex(g *segment, foot footer, body []byte) (int64, error) {
	size := g.size
	if need := foot.body + int64(len(body)) + footerSize; need > size {
		size = (need + headerSize - 1) &^ (headerSize - 1)
		if err := g.file.Preallocate(size); err != nil {
			return 0, fmt.Errorf("make room for the index: %w", err)
		}
	}
	if _, err := g.file.WriteAt(body, foot.body); err != nil {
		return 0, fmt.Errorf("write the index: %w", err)
	}
	if _, err := g.file.WriteAt(foot.append(make([]byte, 0, footerSize)), size-footerSize); err != nil {
		return 0, fmt.Errorf("write the index's footer: %w", err)
	}
	if err := g.file.Datasync(); err != nil {
		return 0, fmt.Errorf("sync the index: %w", err)
	}
	return size, nil
}
