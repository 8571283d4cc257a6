// Package segment keeps a raft log in segments of fixed size: allocated ahead,
// recycled, synced with one write and one fdatasync an append. It implements
// raft's log, stable and snapshot stores. The formats, and what each crash
// leaves behind, are in raftlog's DESIGN.md.
package segment

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/vfs"
)

// Options configure a Store.
type Options struct {
	FS           vfs.FS
	Dir          string
	SegmentBytes int64 // 64 MiB
	IndexCache   int   // blocks of 4 KiB of segment indexes kept in memory; 256
	Recycle      int   // dropped segments kept to be written again; 2
	Logger       *slog.Logger
}

// Store is a raft log in segments. One goroutine at a time appends and deletes;
// reading is safe beside that.
type Store struct {
	o     Options
	cache *blockCache
	ahead *preparer

	// mu guards what follows. Appending holds it only to publish.
	mu       sync.RWMutex
	segments []*segment // by first index; the last one takes appends
	first    uint64     // logical first index; 0 while empty
	failed   error      // the first failed write: nothing is written after it
	torn     []Torn

	buf []byte // the writer's
}

// Torn is the end of a write that a crash interrupted: it was never
// acknowledged, and was cut off.
type Torn struct {
	File   string
	Offset int64
	Index  uint64 // of the entry that was being written
}

var (
	_ raft.LogStore          = (*Store)(nil)
	_ raft.MonotonicLogStore = (*Store)(nil)
)

// segment is one file. Positions are in memory until its index is on disk.
type segment struct {
	path       string
	file       vfs.File
	generation uint64
	first      uint64
	last       uint64 // first-1 while empty
	end        int64  // where the next record goes
	size       int64
	chain      uint32 // checksum of the last record's header
	positions  []uint32
	rows       map[rowKey][]Row // each in order of its offsets
	covered    uint64           // entries up to here have their rows
	sealed     bool
	index      *indexFile
}

// Open opens the log in a directory, which is made when absent. A *DamagedError
// refuses a log of which an acknowledged record is damaged; nothing has been
// changed then.
func Open(o Options) (*Store, error) {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.IndexCache == 0 {
		o.IndexCache = 256
	}
	if o.Recycle == 0 {
		o.Recycle = 2
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := o.FS.MkdirAll(o.Dir); err != nil {
		return nil, err
	}
	s := &Store{o: o, cache: newBlockCache(o.IndexCache)}
	if err := s.recover(); err != nil {
		return nil, errors.Join(err, s.closeFiles())
	}
	s.ahead = newPreparer(o)
	s.ahead.start()
	for _, t := range s.torn {
		o.Logger.Info("an interrupted write was cut off", "file", t.File, "byte", t.Offset, "entry", t.Index)
	}
	return s, nil
}

// Recovered lists what Open cut off.
func (s *Store) Recovered() []Torn { return s.torn }

// IsMonotonic implements raft.MonotonicLogStore: entries follow each other
// without a gap.
func (s *Store) IsMonotonic() bool { return true }

// FirstIndex implements raft.LogStore. 0: the log is empty.
func (s *Store) FirstIndex() (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.first, nil
}

// LastIndex implements raft.LogStore. 0: the log is empty.
func (s *Store) LastIndex() (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.lastLocked(), nil
}

func (s *Store) lastLocked() uint64 {
	if s.first == 0 {
		return 0
	}
	return s.segments[len(s.segments)-1].last
}

// GetLog implements raft.LogStore: it reads exactly the record and checks it.
func (s *Store) GetLog(index uint64, l *raft.Log) error {
	seg, at, err := s.locate(index)
	if err != nil {
		return err
	}
	h, payload, err := seg.readRecord(at)
	if err == nil && h.index != index {
		err = fmt.Errorf("entry %d is there instead of %d", h.index, index)
	}
	if err == nil {
		h.fill(l, payload)
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.segmentOf(index) != seg {
		return raft.ErrLogNotFound // dropped, and perhaps written again, meanwhile
	}
	return &DamagedError{File: seg.path, Offset: at, First: index, Last: index, Reason: err.Error()}
}

// locate finds a record. It is read without the lock, so that a slow read holds
// up no append.
func (s *Store) locate(index uint64) (*segment, int64, error) {
	s.mu.RLock()
	seg := s.segmentOf(index)
	if seg == nil {
		s.mu.RUnlock()
		return nil, 0, raft.ErrLogNotFound
	}
	if seg.positions != nil {
		at := int64(seg.positions[index-seg.first]) * align
		s.mu.RUnlock()
		return seg, at, nil
	}
	x := seg.index
	s.mu.RUnlock()
	at, err := x.position(index)
	return seg, at, err
}

// segmentOf returns the segment that holds an entry; nil: none.
func (s *Store) segmentOf(index uint64) *segment {
	if s.first == 0 || index < s.first || index > s.lastLocked() {
		return nil
	}
	i, ok := slices.BinarySearchFunc(s.segments, index, func(g *segment, x uint64) int { return cmp.Compare(g.first, x) })
	if !ok {
		i--
	}
	return s.segments[i]
}

// guess is how much of a record is read at once: most are no larger.
const guess = 4096

func (g *segment) readRecord(at int64) (recordHeader, []byte, error) {
	b := make([]byte, min(guess, g.size-at))
	if _, err := g.file.ReadAt(b, at); err != nil {
		return recordHeader{}, nil, err
	}
	h, err := parseRecordHeader(b)
	if err != nil {
		return h, nil, err
	}
	if h.generation != g.generation {
		return h, nil, fmt.Errorf("the record is of generation %x, the file of %x", h.generation, g.generation)
	}
	if at+h.size() > g.size {
		return h, nil, fmt.Errorf("the record's length (%d) runs past the file's end", h.length)
	}
	if n := recordSize + int(h.length); n > len(b) {
		whole := make([]byte, n)
		copied := copy(whole, b)
		if _, err := g.file.ReadAt(whole[copied:], at+int64(copied)); err != nil {
			return h, nil, err
		}
		b = whole
	}
	payload := b[recordSize : recordSize+h.length : recordSize+h.length]
	return h, payload, h.checkPayload(payload)
}

// StoreLog implements raft.LogStore.
func (s *Store) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore: one write and one sync for what fits into
// the current segment. After a failed write or sync every later call fails.
func (s *Store) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	if err := s.writable(logs); err != nil {
		return err
	}
	for len(logs) > 0 {
		n, err := s.appendSome(logs)
		if err != nil {
			s.mu.Lock()
			s.failed = fmt.Errorf("the log in %s failed before and takes no more writes: %w", s.o.Dir, err)
			s.mu.Unlock()
			return fmt.Errorf("append entries %d to %d: %w", logs[0].Index, logs[len(logs)-1].Index, err)
		}
		logs = logs[n:]
	}
	return nil
}

func (s *Store) writable(logs []*raft.Log) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.failed != nil {
		return s.failed
	}
	next := logs[0].Index
	if last := s.lastLocked(); last != 0 && next != last+1 {
		return fmt.Errorf("append entry %d: the log ends with %d", next, last)
	}
	for i, l := range logs {
		if l.Index != next+uint64(i) {
			return fmt.Errorf("append entry %d after %d", l.Index, next+uint64(i)-1)
		}
		if n := recordBytes(len(l.Data) + len(l.Extensions)); n > s.o.SegmentBytes-headerSize {
			return fmt.Errorf("append entry %d: its %d bytes do not fit into a segment of %d", l.Index, n, s.o.SegmentBytes)
		}
	}
	return nil
}

// appendSome writes as many logs as fit into the segment that takes appends,
// after moving on to the next where not one fits.
func (s *Store) appendSome(logs []*raft.Log) (int, error) {
	seg, err := s.current(logs[0])
	if err != nil {
		return 0, err
	}
	s.buf = s.buf[:0]
	chain, positions := seg.chain, seg.positions
	n := 0
	for _, l := range logs {
		if seg.end+int64(len(s.buf))+recordBytes(len(l.Data)+len(l.Extensions)) > seg.size {
			break
		}
		positions = append(positions, uint32((seg.end+int64(len(s.buf)))/align))
		s.buf, chain = appendRecord(s.buf, l, seg.generation, chain, n)
		n++
	}
	if _, err := seg.file.WriteAt(s.buf, seg.end); err != nil {
		return 0, fmt.Errorf("write %s: %w", seg.path, err)
	}
	if err := seg.file.Datasync(); err != nil {
		return 0, fmt.Errorf("sync %s: %w", seg.path, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	seg.end += int64(len(s.buf))
	seg.chain, seg.positions = chain, positions
	seg.last = logs[n-1].Index
	if s.first == 0 {
		s.first = logs[0].Index
	}
	if cap(s.buf) > maxBuffer {
		s.buf = nil
	}
	return n, nil
}

// maxBuffer is the largest write buffer that is kept between appends, in bytes.
const maxBuffer = 4 << 20

// current is the segment that takes a log: the last one, or the next.
func (s *Store) current(l *raft.Log) (*segment, error) {
	s.mu.RLock()
	var seg *segment
	if len(s.segments) > 0 {
		seg = s.segments[len(s.segments)-1]
	}
	s.mu.RUnlock()
	if seg != nil && seg.end+recordBytes(len(l.Data)+len(l.Extensions)) <= seg.size && seg.last+1 == l.Index {
		return seg, nil
	}
	if seg != nil && seg.last < seg.first && seg.last+1 != l.Index {
		if err := s.dropEmpty(seg); err != nil {
			return nil, err
		}
		seg = nil
	}
	next, err := s.activate(l.Index, seg)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if seg != nil {
		seg.sealed = true
	}
	s.segments = append(s.segments, next)
	return next, s.writeIndexes()
}

// dropEmpty removes a segment that was begun for an entry that never came.
func (s *Store) dropEmpty(g *segment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.remove(g); err != nil {
		return err
	}
	s.segments = s.segments[:len(s.segments)-1]
	return nil
}

// activate turns the prepared file into the segment that begins with an entry.
func (s *Store) activate(first uint64, before *segment) (*segment, error) {
	p, err := s.ahead.take()
	if err != nil {
		return nil, fmt.Errorf("next segment: %w", err)
	}
	g := &segment{
		path: filepath.Join(s.o.Dir, segmentName(first)), file: p.file, generation: p.generation, size: p.size,
		first: first, last: first - 1, covered: first - 1, end: headerSize, positions: []uint32{}, rows: map[rowKey][]Row{},
	}
	if before != nil {
		g.chain = before.chain
	}
	if _, err := g.file.WriteAt(fileHeader{g.generation, g.first, g.chain}.append(nil), 0); err != nil {
		return nil, fmt.Errorf("write the header of %s: %w", p.path, err)
	}
	if err := g.file.Datasync(); err != nil {
		return nil, fmt.Errorf("sync %s: %w", p.path, err)
	}
	if err := s.o.FS.Rename(p.path, g.path); err != nil {
		return nil, err
	}
	if err := s.o.FS.SyncDir(s.o.Dir); err != nil {
		return nil, fmt.Errorf("sync %s: %w", s.o.Dir, err)
	}
	return g, nil
}

// Room is how many bytes of entries can be appended for sure: what is left of
// the current segment, or the whole of the next one where that exists.
func (s *Store) Room() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var room int64
	if n := len(s.segments); n > 0 {
		room = s.segments[n-1].size - s.segments[n-1].end
	}
	if s.ahead.ready() {
		room = max(room, s.o.SegmentBytes-headerSize)
	}
	return room - recordSize
}

// Ready says why the next segment does not exist, if it does not and making it
// has failed. It is tried again.
func (s *Store) Ready() error { return s.ahead.err() }

// Segments describes the segments, oldest first.
func (s *Store) Segments() []Info {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]Info, len(s.segments))
	for i, g := range s.segments {
		out[i] = Info{Path: g.path, First: g.first, Last: g.last, Bytes: g.size, Sealed: g.sealed}
		if g.last < g.first {
			out[i].Last = 0
		}
		if g.index != nil {
			for _, x := range g.index.groups {
				out[i].Summaries = append(out[i].Summaries, x.Summary)
			}
			continue
		}
		for _, x := range groupRows(g.sortedRows()) {
			out[i].Summaries = append(out[i].Summaries, x.Summary)
		}
	}
	return out
}

// Close waits for the preparation of the next segment and closes the files.
func (s *Store) Close() error {
	s.ahead.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = errors.New("the log is closed")
	}
	return s.closeFiles()
}

func (s *Store) closeFiles() error {
	var errs []error
	for _, g := range s.segments {
		errs = append(errs, g.close(s.cache))
	}
	s.segments, s.first = nil, 0
	return errors.Join(errs...)
}

func (g *segment) close(c *blockCache) error {
	err := g.file.Close()
	if g.index != nil {
		c.forget(g.index)
		err = errors.Join(err, g.index.file.Close())
	}
	return err
}
