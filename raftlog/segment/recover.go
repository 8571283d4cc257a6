package segment

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
)

// Torn is the end of a write that a crash interrupted: it was never
// acknowledged, and was cut off.
type Torn struct {
	File   string
	Offset int64  // bytes from the file's begin
	Index  uint64 // of the entry that was being written
}

// Open opens the log in a directory, which is made when absent. Segments that
// have their index are taken by it: their records are checked when they are
// read. The others are read whole. A log of which an acknowledged record is
// damaged is refused with a *DamagedError; nothing has been changed then.
func Open(o Options) (*Store, error) {
	s, err := load(o)
	if err != nil {
		return nil, err
	}
	go s.run()
	s.wakeUp()
	return s, nil
}

// load is Open without the upkeep in the background.
func load(o Options) (*Store, error) {
	o = o.withDefaults()
	if o.SegmentBytes < minSegment || o.SegmentBytes%headerSize != 0 || o.FirstBytes < minSegment || o.FirstBytes%headerSize != 0 {
		return nil, fmt.Errorf("segments of %d bytes, the first of %d: both must be multiples of %d, and at least %d", o.SegmentBytes, o.FirstBytes, headerSize, minSegment)
	}
	s := &Store{
		o: o, reader: newReader(o.FS, o.OpenFiles, o.IndexCache), refs: map[rowKey][]*segment{},
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	s.changed = sync.NewCond(&s.mu)
	if err := s.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the log in %s: %w", o.Dir, err), s.closeFiles())
	}
	return s, nil
}

func (s *Store) open() error {
	if err := s.o.FS.MkdirAll(s.o.Dir); err != nil {
		return err
	}
	if err := s.openState(); err != nil {
		return err
	}
	if s.state.cut.number != 0 {
		if err := s.finishCut(s.state.cut); err != nil {
			return fmt.Errorf("finish the deletion of a suffix: %w", err)
		}
	}
	if err := s.listFiles(); err != nil {
		return err
	}
	wipes, err := s.readSegments()
	if err != nil {
		return err
	}
	// The log is whole. Only from here on is it changed.
	for _, w := range wipes {
		if err := w.do(); err != nil {
			return err
		}
	}
	if !s.state.clean {
		if err := s.settleEnd(); err != nil {
			return err
		}
	}
	if len(s.segments) == 0 {
		g, err := s.makeSegment(s.o.FirstBytes)
		if err != nil {
			return err
		}
		s.segments = []*segment{g}
	}
	s.covered = s.Indexed()
	next := s.state
	next.clean = false
	return s.writeState(next)
}

// openState reads what the directory means, or begins a log where there is none.
func (s *Store) openState() error {
	path := s.path(stateFile)
	slots, body, err := openSlots(s.o.FS, path, stateMagic)
	if errors.Is(err, fs.ErrNotExist) {
		return s.begin(path)
	}
	if err != nil {
		return err
	}
	s.slots = slots
	if s.state, err = decodeState(body); err != nil {
		return &DamagedError{File: path, Offset: slotHeader, Reason: err.Error()}
	}
	return nil
}

func (s *Store) begin(path string) error {
	segments, _, err := s.files()
	if err != nil {
		return err
	}
	if len(segments) > 0 {
		return &DamagedError{File: path, Reason: fmt.Sprintf("the file is missing, but there are segments (%s and %d more)", segments[0], len(segments)-1)}
	}
	s.state, s.created = logState{floor: 1}, true
	s.slots, err = createSlots(s.o.FS, path, stateMagic, s.state.encode())
	return err
}

// listFiles finds what is not the log's.
func (s *Store) listFiles() error {
	segments, temporary, err := s.files()
	if err != nil {
		return err
	}
	for _, path := range temporary {
		if err := s.remove(path); err != nil {
			return err
		}
	}
	var ours []string
	for n := s.state.floor; n <= s.state.top; n++ {
		path := s.path(segmentName(n))
		if !slices.Contains(segments, path) {
			return &DamagedError{File: path, Reason: fmt.Sprintf("the file is missing: segments %d to %d make up the log", s.state.floor, s.state.top)}
		}
		ours = append(ours, path)
	}
	for _, path := range segments {
		if slices.Contains(ours, path) {
			continue
		}
		renamed, err := s.wasRenamed(path)
		if err != nil {
			return err
		}
		if !renamed {
			s.spares = append(s.spares, path)
		} else if err := s.remove(path); err != nil {
			return err
		}
	}
	return nil
}

// wasRenamed tells whether a file that is not the log's was about to get
// another name, which its header has. A crash may have left it with both: to
// write it again would then be to write into the log.
func (s *Store) wasRenamed(path string) (bool, error) {
	f, err := s.o.FS.Open(path)
	if err != nil {
		return false, err
	}
	b := make([]byte, headerBytes)
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	h, err := parseFileHeader(b[:n])
	return err == nil && s.path(segmentName(h.number)) != path, nil
}

// wipe clears what is left of an interrupted write.
type wipe struct {
	seg      *segment
	from, to int64
}

func (w wipe) do() error {
	if _, err := w.seg.file.WriteAt(make([]byte, w.to-w.from), w.from); err != nil {
		return fmt.Errorf("cut off %s at byte %d: %w", w.seg.path, w.from, err)
	}
	if err := w.seg.file.Datasync(); err != nil {
		return fmt.Errorf("cut off %s at byte %d: sync: %w", w.seg.path, w.from, err)
	}
	return nil
}

// settleEnd makes the log's last write durable. It reads back, but whoever wrote
// it may have died, or failed, before it was synced: then it is in the page cache
// alone, and what raft builds upon it would be lost with it in a power cut. It is
// written again, because a kernel whose sync has failed takes the pages for clean.
func (s *Store) settleEnd() error {
	for i := len(s.segments) - 1; i >= 0; i-- {
		g := s.segments[i]
		if g.file == nil {
			return nil // it has its index: all was synced before that was written
		}
		if len(g.positions) == 0 {
			continue
		}
		r := &window{seg: g}
		last := int64(g.positions[len(g.positions)-1]) * align
		b, err := r.bytes(last, recordSize)
		if err != nil {
			return err
		}
		h, err := parseRecordHeader(b)
		if err != nil {
			return fmt.Errorf("read the last record of %s again: %w", g.path, err)
		}
		first := len(g.positions) - 1 - min(int(h.batch), len(g.positions)-1)
		from := int64(g.positions[first]) * align
		if b, err = r.bytes(from, g.end-from); err != nil {
			return err
		}
		if _, err := g.file.WriteAt(b, from); err != nil {
			return fmt.Errorf("write the end of %s again: %w", g.path, err)
		}
		if err := g.file.Datasync(); err != nil {
			return fmt.Errorf("write the end of %s again: sync: %w", g.path, err)
		}
		return nil
	}
	return nil
}

// readSegments reads all segments, and divides them into those that have entries
// and those that were made ahead. It changes nothing; it returns what must be
// wiped if it finds no damage.
func (s *Store) readSegments() ([]wipe, error) {
	var wipes []wipe
	var ended *segment // the last one with a record
	for n := s.state.floor; n <= s.state.top; n++ {
		g, err := s.openSegment(n)
		if err != nil {
			return nil, err
		}
		s.segments = append(s.segments, g) // so that its file is closed
		w, err := s.readSegment(g)
		if err != nil {
			return nil, err
		}
		if w != nil {
			wipes = append(wipes, *w)
			s.torn = append(s.torn, Torn{File: g.path, Offset: w.from, Index: s.last + 1})
		}
		if g.last < g.first {
			continue
		}
		ended = g
	}
	if err := s.checkDurable(ended); err != nil {
		return nil, err
	}
	return wipes, s.divide(ended)
}

// divide tells the segments that were made ahead from those in use.
func (s *Store) divide(ended *segment) error {
	if s.state.first > s.last {
		return &DamagedError{File: s.path(stateFile), Offset: slotHeader, First: s.last + 1,
			Reason: fmt.Sprintf("the log begins with entry %d, but the last one found is %d", s.state.first, s.last)}
	}
	used := 0
	for i, g := range s.segments {
		if g == ended || g.number == s.state.durable.number || i == 0 {
			used = i + 1
		}
	}
	if used > 0 && s.segments[used-1].indexed() {
		used++ // a segment with an index takes no appends; there was a next one
	}
	if used > len(s.segments) {
		g := s.segments[used-2]
		return &DamagedError{File: g.path, Offset: g.end, First: g.last + 1, Reason: "the segment has an index, but there is none after it"}
	}
	s.ready = slices.Clone(s.segments[used:])
	s.segments = s.segments[:used:used]
	for i, g := range s.segments {
		g.sealed = i < used-1
		if s.first == 0 && g.first <= g.last {
			s.first = max(g.first, s.state.first)
		}
	}
	return nil
}

// checkDurable compares the log's end with the place up to which it was known to
// be synced.
func (s *Store) checkDurable(ended *segment) error {
	end := place{s.state.floor, headerSize}
	path := s.path(segmentName(s.state.floor))
	if ended != nil {
		end, path = place{ended.number, ended.end}, ended.path
	}
	if end.before(s.state.durable) && s.state.durable != (place{s.state.durable.number, headerSize}) {
		return &DamagedError{File: path, Offset: end.at, First: s.last + 1,
			Reason: fmt.Sprintf("the log ends here, but it was synced up to byte %d of segment %d", s.state.durable.at, s.state.durable.number)}
	}
	return nil
}

// openSegment opens a segment's file and reads its header.
func (s *Store) openSegment(n uint64) (_ *segment, err error) {
	path := s.path(segmentName(n))
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
	read, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	h, err := parseFileHeader(b[:read])
	switch {
	case err != nil:
		return nil, &DamagedError{File: path, Reason: err.Error()}
	case h.number != n:
		return nil, &DamagedError{File: path, Reason: fmt.Sprintf("its header says that it is %s", filepath.Base(segmentName(h.number)))}
	case size < h.size:
		return nil, &DamagedError{File: path, Offset: size, Reason: fmt.Sprintf("the file ends here; its header says that it has %d bytes", h.size)}
	}
	return newSegment(path, h, size, f), nil
}

// readSegment takes a segment by its index, or by its records. It goes on from
// s.last and s.chain.
func (s *Store) readSegment(g *segment) (*wipe, error) {
	g.first, g.last, g.chain = s.last+1, s.last, s.chain
	if g.number <= s.state.indexed {
		x, err := openIndex(g, readFrom(g.file))
		switch {
		case err == nil && s.last != 0 && x.foot.first != s.last+1:
			return nil, &DamagedError{File: g.path, Offset: g.size - footerSize, First: s.last + 1, Last: x.foot.first - 1,
				Reason: fmt.Sprintf("the segment begins with entry %d, the one before ends with %d", x.foot.first, s.last)}
		case err == nil:
			return nil, s.takeIndexed(g, x)
		case !errors.As(err, &g.damaged):
			return nil, err
		}
	}
	w, err := s.scan(g)
	if g.damaged != nil {
		g.damaged.First, g.damaged.Last = g.first, g.last
		s.o.Logger.Error("the index of a segment is damaged: its entries can be read, but its rows cannot be found", "error", g.damaged)
		if err == nil && w != nil {
			// It was sealed: an interrupted write cannot be.
			err = &DamagedError{File: g.path, Offset: w.from, First: g.last + 1, Reason: "a record does not read back, nor does the segment's index"}
		}
	}
	s.last, s.chain = g.last, g.chain
	return w, err
}

func (s *Store) takeIndexed(g *segment, x *segIndex) error {
	g.index, g.positions, g.rows = x, nil, nil
	g.first, g.last, g.end, g.chain = x.foot.first, x.foot.last, x.foot.end, x.foot.chain
	s.last, s.chain = g.last, g.chain
	s.refer(g)
	f := g.file
	g.file = nil
	return f.Close()
}
