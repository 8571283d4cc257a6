package segment

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/vfs"
)

// FileCheck is what reading the whole of a file has found.
type FileCheck struct {
	Path string
	Kind string // "state", "segment", "snapshot" or "votes"
	// Bytes and Records were read. First and Last are the entries found, 0 where
	// there are none.
	Bytes       int64
	Records     int
	First, Last uint64
	Damages     []Damage
	// Torn is where the end of an interrupted write begins, which the next start
	// cuts off; 0: there is none. Nothing in it was ever acknowledged.
	Torn int64
}

// Damage is a piece of a file that does not read back.
type Damage struct {
	Offset int64 // bytes from the file's begin
	// First and Last are the entries that are lost or in doubt; 0: none, or not
	// known which.
	First, Last uint64
	Reason      string
	// Rows are what the index says of the entries. Where Indexed is not set that
	// is not known: the segment has no index that reads back.
	Rows    []Row
	Indexed bool
}

// VerifyOptions say what is verified.
type VerifyOptions struct {
	FS  vfs.FS
	Dir string
	// Each is called for each whole record, in order; may be nil. The log is
	// valid until it returns.
	Each func(*raft.Log)
}

// Verify reads every record and every index of a log that nobody has open, and
// changes nothing. It goes on behind what is damaged, and calls report for each
// file; an error of it, or of the file system, ends it.
func Verify(ctx context.Context, o VerifyOptions, report func(FileCheck) error) error {
	path := (&Store{o: Options{Dir: o.Dir}}).path
	body, check, err := verifySlots(o.FS, path(stateFile), stateMagic, "state")
	if err != nil {
		return err
	}
	var state logState
	if body != nil {
		if state, err = decodeState(body); err != nil {
			check.Damages = append(check.Damages, Damage{Offset: slotHeader, Reason: err.Error()})
			body = nil
		}
	}
	if err := report(check); err != nil {
		return err
	}
	if body == nil {
		return nil // which files are the log's is not known
	}
	v := verifier{o: o}
	for n := state.floor; n <= state.top; n++ {
		piece := piece{path: path(segmentName(n)), number: n, indexed: n <= state.indexed}
		switch {
		case n < state.durable.number:
			piece.synced = headerSize // what is there, and more was written later
		case n == state.durable.number:
			piece.synced = state.durable.at
			if state.clean {
				piece.end = max(state.durable.at, headerSize)
			}
		case state.clean:
			piece.end = headerSize
		}
		check, err := v.segment(ctx, piece)
		if err != nil {
			return err
		}
		if err := report(check); err != nil {
			return err
		}
	}
	return nil
}

// Verify reads every record and every index of an open log, as it was when it
// was called; see the function Verify. What is dropped meanwhile is not
// reported.
func (s *Store) Verify(ctx context.Context, report func(FileCheck) error) error {
	s.mu.RLock()
	var pieces []piece
	for _, g := range s.segments {
		p := piece{path: g.path, number: g.number, indexed: g.indexed(), end: g.end, of: g}
		if !p.indexed {
			p.rows = g.allRows()
		}
		pieces = append(pieces, p)
	}
	deletions := s.deletions
	s.mu.RUnlock()
	v := verifier{o: VerifyOptions{FS: s.o.FS, Dir: s.o.Dir}}
	for _, p := range pieces {
		check, err := v.segment(ctx, p)
		s.mu.RLock()
		gone := s.deletions != deletions && !slices.Contains(s.segments, p.of)
		s.mu.RUnlock()
		if gone {
			v.known = false
			continue
		}
		if err != nil {
			return err
		}
		if err := report(check); err != nil {
			return err
		}
	}
	return nil
}

// piece is a segment's file, with what is known of it.
type piece struct {
	path    string
	number  uint64
	indexed bool
	end     int64 // of its records; 0: not known
	synced  int64 // its records were synced up to here, at least
	of      *segment
	rows    []Row // where there is no index yet
}

// verifier goes through segments in order.
type verifier struct {
	o VerifyOptions
	// known: last is the entry before the next record, chain its header's sum.
	// Behind damage the chain is not known (0 is none).
	known, chained bool
	last           uint64
	chain          uint32
}

func (v *verifier) segment(ctx context.Context, p piece) (check FileCheck, err error) {
	check = FileCheck{Path: p.path, Kind: "segment"}
	f, err := v.o.FS.Open(p.path)
	if err != nil {
		return check, fmt.Errorf("verify %s: %w", p.path, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return check, fmt.Errorf("verify %s: %w", p.path, err)
	}
	b := make([]byte, headerBytes)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return check, fmt.Errorf("verify %s: %w", p.path, err)
	}
	h, err := parseFileHeader(b[:n])
	if err == nil && h.number != p.number {
		err = fmt.Errorf("its header says that it is %s", segmentName(h.number))
	}
	if err == nil && size < h.size {
		err = fmt.Errorf("the file has %d bytes, its header says %d", size, h.size)
	}
	if err != nil {
		check.Damages = []Damage{{Reason: err.Error()}}
		v.known, v.chained = false, false
		return check, nil
	}
	g := newSegment(p.path, h, size, f)
	s := scanner{v: v, p: p, g: g, window: window{seg: g}, check: &check, indexed: !p.indexed && p.of != nil, rows: p.rows}
	if p.indexed {
		if err := s.index(); err != nil {
			return check, err
		}
	}
	if err := s.records(ctx); err != nil {
		return check, fmt.Errorf("verify %s: %w", p.path, err)
	}
	s.blame()
	return check, nil
}

// scanner reads one segment.
type scanner struct {
	v       *verifier
	p       piece
	g       *segment
	window  window
	check   *FileCheck
	rows    []Row
	indexed bool // rows are what was recorded of this segment
	end     int64
	first   uint64 // as the index has them; 0: not known
	last    uint64
}

// index reads all of a segment's index.
func (s *scanner) index() error {
	read := readFrom(s.g.file)
	x, err := openIndex(s.g, read)
	damaged := (*DamagedError)(nil)
	if err == nil {
		s.end, s.first, s.last = x.foot.end, x.foot.first, x.foot.last
		s.check.Bytes += x.foot.bodyBytes() + footerSize
		block := func(n int64) ([]byte, error) { return x.readBlock(read, n) }
		// The whole stream, the positions included.
		var stream []byte
		if stream, err = x.read(block, 0, int(x.foot.positionsAt()+x.foot.entries()*positionBytes)); err == nil {
			for row := range slices.Chunk(stream[x.foot.rowsAt():x.foot.positionsAt()], rowBytes) {
				s.rows = append(s.rows, parseRow(row))
			}
			s.indexed = true
			return nil
		}
	}
	if !errors.As(err, &damaged) {
		return err
	}
	s.check.Damages = append(s.check.Damages, Damage{Offset: damaged.Offset, Reason: damaged.Reason + ": its entries can be read, but what is in it cannot be found"})
	return nil
}

// records reads the records up to their end.
func (s *scanner) records(ctx context.Context) error {
	if s.end == 0 {
		s.end = s.p.end
	}
	limit := s.end
	if limit == 0 {
		limit = s.g.size
	}
	at := int64(headerSize)
	for at+recordSize <= limit {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		next, err := s.record(at, limit)
		if err != nil {
			return err
		}
		if next == 0 {
			break // nothing more has been written
		}
		at = next
	}
	s.check.Bytes += min(at, limit)
	if s.last != 0 && s.v.known && s.v.last < s.last {
		s.damage(at, s.v.last+1, s.last, "the segment's index has entries that are not there")
		s.v.last, s.v.chained = s.last, false
	}
	return nil
}

// record reads one record and returns where the next one begins; 0: there is
// none.
func (s *scanner) record(at, limit int64) (int64, error) {
	b, err := s.window.bytes(at, recordSize)
	if err != nil {
		return 0, err
	}
	h, bad := parseRecordHeader(b)
	if bad == nil && h.generation != s.g.generation {
		bad = fmt.Errorf("the record is of generation %x, the file of %x", h.generation, s.g.generation)
	}
	if bad == nil && at+h.size() > limit {
		bad = fmt.Errorf("the record runs past byte %d, where the records end", limit)
	}
	if bad != nil {
		return s.gap(at, limit, bad)
	}
	if b, err = s.window.bytes(at, h.size()); err != nil {
		return 0, err
	}
	payload := b[recordSize : recordSize+int64(h.length)]
	bad = h.checkPayload(payload)
	if bad != nil && s.end == 0 && at >= s.p.synced {
		return s.gap(at, limit, bad) // it may be the last write's
	}
	v := s.v
	switch {
	case bad != nil:
		s.damage(at, h.index, h.index, bad.Error())
	case v.known && h.index != v.last+1:
		s.damage(at, v.last+1, max(h.index, v.last+2)-1, fmt.Sprintf("entry %d is there instead of entry %d", h.index, v.last+1))
	case v.known && v.chained && h.chain != v.chain:
		s.damage(at, h.index, h.index, fmt.Sprintf("the record is chained to %08x, the one before is %08x", h.chain, v.chain))
	}
	if bad == nil {
		s.check.Records++
		if v.o.Each != nil {
			var l raft.Log
			h.fill(&l, slices.Clone(payload))
			v.o.Each(&l)
		}
	}
	if s.check.First == 0 {
		s.check.First = h.index
	}
	s.check.Last = h.index
	v.known, v.chained, v.last, v.chain = true, true, h.index, h.sum
	return at + h.size(), nil
}

// gap finds where whole records go on behind a bad one, and tells damage from
// the end of an interrupted write.
func (s *scanner) gap(at, limit int64, bad error) (int64, error) {
	var first uint64
	if s.v.known {
		first = s.v.last + 1
	} else if s.first != 0 && s.check.First == 0 {
		first = s.first
	}
	next, h, err := s.window.nextHeader(at+align, s.g.generation)
	if err != nil {
		return 0, err
	}
	if next != 0 && next < limit && (s.end != 0 || at < s.p.synced || first == 0 || h.index-uint64(h.batch) > first) {
		s.damage(at, first, h.index-1, bad.Error())
		s.v.known, s.v.chained, s.v.last = true, false, h.index-1
		return next, nil
	}
	if s.end != 0 || at < s.p.synced && s.p.synced > headerSize {
		s.damage(at, first, s.last, bad.Error())
		if s.v.known && s.last != 0 {
			s.v.last = s.last
		} else {
			s.v.known = false
		}
		s.v.chained = false
		return 0, nil
	}
	b, err := s.window.bytes(at, recordSize)
	if err != nil {
		return 0, err
	}
	if next != 0 || plausible(b, s.g.generation) {
		s.check.Torn = at
	}
	return 0, nil
}

func (s *scanner) damage(at int64, first, last uint64, reason string) {
	s.check.Damages = append(s.check.Damages, Damage{Offset: at, First: first, Last: last, Reason: reason})
}

// blame says which rows each damage concerns.
func (s *scanner) blame() {
	for i := range s.check.Damages {
		d := &s.check.Damages[i]
		if d.Indexed = s.indexed; !s.indexed {
			continue
		}
		for _, r := range s.rows {
			if d.First != 0 && r.Index >= d.First && (d.Last == 0 || r.Index <= d.Last) {
				d.Rows = append(d.Rows, r)
			}
		}
	}
}
