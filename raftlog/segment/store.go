// Package segment keeps a raft log in segments: files of one size that are made
// ahead, written once and recycled. An append is one write and one fdatasync.
// The package implements raft's log, stable and snapshot stores. The formats,
// and what each crash leaves behind, are in raftlog's DESIGN.md.
package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/vfs"
)

// Names of the files in a log's directory, beside stateFile.
const (
	segmentSuffix   = ".seg"
	temporarySuffix = ".tmp"
)

func segmentName(number uint64) string { return fmt.Sprintf("%016x%s", number, segmentSuffix) }

// Options configure a Store.
type Options struct {
	FS  vfs.FS
	Dir string
	// SegmentBytes is the size of a segment's file; 64 MiB. It grows when the
	// segment's index does not fit.
	SegmentBytes int64
	// FirstBytes is the size of a new log's first segment, so that a new log
	// opens fast; 8 MiB, and at most SegmentBytes.
	FirstBytes int64
	Ahead      int // segments that are made ahead; 1
	Recycle    int // dropped segments that are kept to be written again; 2
	IndexCache int // blocks of 4 KiB of segments' indexes in memory; 1024
	OpenFiles  int // sealed segments with a file open; 64
	// LargeData is the size of an entry's data, in bytes, from which on it is
	// written from where it is: to copy it first would cost more than the calls of
	// its own that this takes; 64 KiB.
	LargeData int
	// DirectBytes is the size of an append, in bytes, from which on it is written
	// past the page cache, where the file system can: below, what is gained there is
	// less than that whole blocks are written; 320 KiB. DirectBuffer is the memory
	// for that, in bytes, a multiple of vfs.DirectAlign: an append that is larger is
	// several writes; a bit more than 1 MiB.
	DirectBytes, DirectBuffer int
	// Logger is told of failures in the background, which Ready reports as well,
	// and of what Open found damaged but could do without.
	Logger *slog.Logger
	// Failed is told, once, of the failed write after which nothing is written
	// any more. It is called with locks held, and must return at once.
	Failed func(error)
}

func (o Options) withDefaults() Options {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&o.Ahead, 1)
	set(&o.Recycle, 2)
	set(&o.IndexCache, 1024)
	set(&o.OpenFiles, 64)
	set(&o.LargeData, 64<<10)
	set(&o.DirectBytes, 320<<10)
	set(&o.DirectBuffer, 1<<20+4*vfs.DirectAlign) // an entry of 1 MiB with what is around it
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.FirstBytes == 0 {
		o.FirstBytes = 8 << 20
	}
	o.FirstBytes = min(o.FirstBytes, o.SegmentBytes)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Failed == nil {
		o.Failed = func(error) {}
	}
	return o
}

// minSegment holds the header, the footer and some records.
const minSegment = 4 * headerSize

// Store is a raft log in segments. One goroutine at a time appends and deletes;
// all other methods may be called beside that.
//
// Locks are taken in the order writer, upkeep, mu.
type Store struct {
	o       Options
	reader  *reader
	torn    []Torn
	created bool

	writer sync.Mutex // held by StoreLogs and DeleteRange
	buf    []byte     // the writer's
	small  int        // small writes that followed each other, up to smallRow; the writer's
	direct direct     // the writer's
	sums   []Sum      // of the entry that is being written; the writer's

	// upkeep is held while the directory's meaning changes: by the background
	// goroutine for a step, by deletion, by Close.
	upkeep sync.Mutex
	slots  *slotFile
	state  logState
	spares []string // paths of files that may be written again

	mu       sync.RWMutex
	segments []*segment // by number; the last one takes appends
	ready    []*segment // made ahead
	first    uint64     // logical first index; 0 while the log is empty
	last     uint64
	chain    uint32 // checksum of the last record's header
	// deletions counts the deletions: what was read beside one may be something else.
	deletions uint64
	covered   uint64                // entries up to here have had their rows
	rowRoom   []Row                 // room for those of a segment; nil: there is none
	refs      map[rowKey][]*segment // segments whose index has rows of the key
	failed    error                 // the first failed write: nothing is written after it
	closed    bool
	notReady  error     // why the next segment could not be made
	tried     time.Time // when
	attempts  uint64    // at making it
	want      int       // segments ahead that an append waits for
	changed   *sync.Cond

	wake chan struct{}
	stop chan struct{}
	done chan struct{}
}

var (
	_ raft.LogStore          = (*Store)(nil)
	_ raft.MonotonicLogStore = (*Store)(nil)
)

// segment is one file. Positions and rows are in memory until its index is on
// disk; the file is kept open as long.
type segment struct {
	number, generation uint64
	path               string
	file               vfs.File // nil once indexed
	size               int64
	first, last        uint64 // last is first-1 while empty
	end                int64  // where the next record goes
	written            int64  // space up to here has been written before; the writer's
	cached             int64  // blocks that begin in front of this are likely in the page cache; the writer's
	chain              uint32 // checksum of the header of the last record
	sealed             bool

	positions []uint32         // in units of align
	rows      map[rowKey][]Row // each in order of its offsets
	index     *segIndex        // nil: not on disk, or damaged
	damaged   *DamagedError    // the index was on disk, and is damaged
}

// rowKey names the rows that are ordered among each other.
type rowKey struct {
	key  uint32
	kind uint8
}

func newSegment(path string, h fileHeader, size int64, f vfs.File) *segment {
	return &segment{
		number: h.number, generation: h.generation, path: path, file: f, size: size,
		first: 1, end: headerSize, positions: []uint32{}, rows: map[rowKey][]Row{},
	}
}

// indexed tells whether the rows of all entries are known to be on disk.
func (g *segment) indexed() bool { return g.index != nil || g.damaged != nil }

// Recovered lists what Open cut off.
func (s *Store) Recovered() []Torn { return s.torn }

// Created tells whether Open found nothing in the directory and began a log there.
func (s *Store) Created() bool { return s.created }

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
	return s.last, nil
}

// GetLog implements raft.LogStore: it reads exactly the record, and checks it.
// l keeps a buffer of its own. The error is raft.ErrLogNotFound for an entry
// that is not in the log, and a *DamagedError for one that does not read back.
func (s *Store) GetLog(index uint64, l *raft.Log) error {
	return s.ReadLog(index, l, func(size int) []byte { return make([]byte, size) })
}

// ReadLog does the same with memory of the caller's, of the size of the record,
// which l's data lies in. Where it has to read more than once, it asks anew, and has
// no more to do with what it was given before.
func (s *Store) ReadLog(index uint64, l *raft.Log, room func(size int) []byte) error {
	for {
		deletions, err := s.getLog(index, l, room)
		if err == nil {
			return nil
		}
		s.mu.RLock()
		same, closed := s.deletions == deletions, s.closed
		s.mu.RUnlock()
		if closed || same && !errors.Is(err, fs.ErrClosed) {
			return err
		}
		// What was read may have been deleted, and written again, or the segment
		// has got its index and is read through other files now.
	}
}

func (s *Store) getLog(index uint64, l *raft.Log, room func(size int) []byte) (deletions uint64, err error) {
	s.mu.RLock()
	deletions = s.deletions
	seg := s.segmentOf(index)
	if seg == nil {
		s.mu.RUnlock()
		return deletions, raft.ErrLogNotFound
	}
	read, indexed := readFrom(seg.file), seg.index != nil
	var at, size int64
	if !indexed {
		at, size = seg.place(index)
	}
	s.mu.RUnlock()
	if indexed {
		read = func(b []byte, at int64) error { return s.reader.readAt(seg, b, at) }
		at, size, err = s.reader.place(seg, index)
		if damaged := (*DamagedError)(nil); errors.As(err, &damaged) {
			at, size, err = s.reader.walk(seg, index, damaged)
		}
		if err != nil {
			return deletions, err
		}
	}
	return deletions, readLog(seg, read, index, at, room(int(size)), l)
}

func readFrom(f vfs.File) func(b []byte, at int64) error {
	return func(b []byte, at int64) error {
		_, err := f.ReadAt(b, at)
		return err
	}
}

// readLog reads the record of an entry into b.
func readLog(g *segment, read func([]byte, int64) error, index uint64, at int64, b []byte, l *raft.Log) error {
	if err := read(b, at); err != nil {
		return fmt.Errorf("read %s at byte %d: %w", g.path, at, err)
	}
	h, payload, err := parseRecord(b, g.generation)
	if err == nil && h.index != index {
		err = fmt.Errorf("entry %d is there instead", h.index)
	}
	if err != nil {
		return &DamagedError{File: g.path, Offset: at, First: index, Last: index, Reason: err.Error()}
	}
	h.fill(l, payload)
	return nil
}

// parseRecord reads the record that b begins with, and checks it.
func parseRecord(b []byte, generation uint64) (recordHeader, []byte, error) {
	h, err := parseRecordHeader(b)
	if err != nil {
		return h, nil, err
	}
	if h.generation != generation {
		return h, nil, fmt.Errorf("the record is of generation %x, the file of %x", h.generation, generation)
	}
	if h.size() > int64(len(b)) {
		return h, nil, fmt.Errorf("the record's length %d is too large", h.length)
	}
	payload := b[recordSize : recordSize+h.length : recordSize+h.length]
	return h, payload, h.checkPayload(payload)
}

// place is where the record of an entry lies, and how long it is.
func (g *segment) place(index uint64) (at, size int64) {
	i := index - g.first
	at = int64(g.positions[i]) * align
	if i+1 < uint64(len(g.positions)) {
		return at, int64(g.positions[i+1])*align - at
	}
	return at, g.end - at
}

// segmentOf returns the segment that holds an entry; nil: none.
func (s *Store) segmentOf(index uint64) *segment {
	if s.first == 0 || index < s.first || index > s.last {
		return nil
	}
	// An empty segment begins where the next one does.
	i := sort.Search(len(s.segments), func(i int) bool { return s.segments[i].first > index })
	return s.segments[i-1]
}

func (s *Store) active() *segment { return s.segments[len(s.segments)-1] }

// Ready says why the next segment does not exist, if it does not and making it
// has failed: most likely the disk is full. It is tried again.
func (s *Store) Ready() error {
	s.mu.RLock()
	err, tried := s.failed, s.tried
	if err == nil && s.notReady != nil {
		err = fmt.Errorf("%w: %w", ErrFull, s.notReady)
	}
	s.mu.RUnlock()
	if err != nil && time.Since(tried) > retryAfter {
		s.wakeUp()
	}
	return err
}

// retryAfter is how long a segment that could not be made is not tried again.
const retryAfter = 200 * time.Millisecond

// Room is how many bytes of one entry can be appended for sure: what is left of
// the current segment, or the whole of the next one where that exists.
func (s *Store) Room() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	room := s.active().room()
	for _, g := range s.ready {
		room = max(room, g.room())
	}
	return max(0, room)
}

// Size is how many segments have or take entries, and their bytes on disk.
func (s *Store) Size() (segments int, bytes int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, g := range s.segments {
		bytes += g.size
	}
	return len(s.segments), bytes
}

// Segments describes the segments that have or take entries, oldest first.
func (s *Store) Segments() []Info {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]Info, len(s.segments))
	for i, g := range s.segments {
		out[i] = Info{Path: g.path, First: g.first, Last: g.last, Bytes: g.size, Sealed: g.sealed, Damaged: g.damaged != nil}
		if g.last < g.first {
			out[i].Last = 0
		}
		if !g.sealed {
			out[i].Bytes = g.end
		}
		groups := []group(nil)
		if g.index != nil {
			groups = g.index.groups
		} else {
			groups = g.pendingGroups()
		}
		for _, x := range groups {
			out[i].Summaries = append(out[i].Summaries, x.Summary)
		}
	}
	return out
}

// fail keeps the first failed write; nothing is written after it. What fails
// because the log is being closed counts as well: Close must not note an end
// that was not reached.
func (s *Store) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil || s.failed == ErrClosed {
		s.failed = fmt.Errorf("the log in %s failed before and takes no more writes: %w", s.o.Dir, err)
		if !errors.Is(err, errStopping) {
			s.o.Failed(err)
		}
	}
	s.changed.Broadcast()
}

// Close ends the upkeep in the background, notes where the log ends, and closes
// the files. Other methods must not be called after it.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	if s.failed == nil {
		s.failed = ErrClosed
	}
	s.changed.Broadcast()
	s.mu.Unlock()
	close(s.stop)
	<-s.done
	s.writer.Lock()
	defer s.writer.Unlock()
	s.direct.forget()
	s.upkeep.Lock()
	defer s.upkeep.Unlock()
	s.mu.RLock()
	whole := s.failed == ErrClosed // now that nothing is being written
	s.mu.RUnlock()
	var err error
	if whole {
		next := s.state
		next.clean = true
		err = s.writeState(next)
	}
	return errors.Join(err, s.closeFiles())
}

func (s *Store) closeFiles() error {
	var errs []error
	for _, list := range [][]*segment{s.segments, s.ready} {
		for _, g := range list {
			if g.file != nil {
				errs = append(errs, g.file.Close())
			}
		}
	}
	if s.slots != nil {
		errs = append(errs, s.slots.close())
	}
	s.reader.close()
	return errors.Join(errs...)
}

func (s *Store) path(name string) string { return filepath.Join(s.o.Dir, name) }

// files lists the directory's segment files, and its left-over temporary ones.
func (s *Store) files() (segments, temporary []string, err error) {
	entries, err := s.o.FS.ReadDir(s.o.Dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case strings.HasSuffix(name, segmentSuffix):
			segments = append(segments, s.path(name))
		case strings.HasSuffix(name, temporarySuffix):
			temporary = append(temporary, s.path(name))
		}
	}
	return segments, temporary, nil
}
