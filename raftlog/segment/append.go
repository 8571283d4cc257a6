package segment

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/vfs"
)

// StoreLog implements raft.LogStore.
func (s *Store) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// part is what of an append goes into one segment.
type part struct {
	seg  *segment
	logs []*raft.Log
}

// StoreLogs implements raft.LogStore: one write (more around large data) and one
// sync, and one more for each segment that the logs run over into. An error before the first write
// (an index out of order, an entry that is too large, ErrFull) leaves the log
// as it was; after a failed write or sync every later call fails, because what
// is on disk is not known any more.
func (s *Store) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	s.writer.Lock()
	defer s.writer.Unlock()
	return s.store(logs)
}

// StoreSummed is StoreLog for an entry of whose data parts are summed already, in
// their order.
func (s *Store) StoreSummed(l *raft.Log, parts []Sum) error {
	s.writer.Lock()
	defer s.writer.Unlock()
	s.sums = parts
	defer func() { s.sums = nil }()
	return s.store([]*raft.Log{l})
}

func (s *Store) store(logs []*raft.Log) error {
	if err := s.admit(logs); err != nil {
		return err
	}
	parts, err := s.plan(logs)
	if err != nil {
		return fmt.Errorf("append entries %d to %d: %w", logs[0].Index, logs[len(logs)-1].Index, err)
	}
	for _, p := range parts {
		if err := s.write(p); err != nil {
			err = fmt.Errorf("append entries %d to %d: %w", logs[0].Index, logs[len(logs)-1].Index, err)
			s.fail(err)
			return err
		}
	}
	return nil
}

func (s *Store) admit(logs []*raft.Log) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.failed != nil {
		return s.failed
	}
	next := logs[0].Index
	if next == 0 || s.last != 0 && next != s.last+1 {
		return fmt.Errorf("append entry %d: the log in %s ends with %d; delete it first to begin elsewhere", next, s.o.Dir, s.last)
	}
	for i, l := range logs {
		if l.Index != next+uint64(i) {
			return fmt.Errorf("append entry %d after %d: entries must follow each other", l.Index, next+uint64(i)-1)
		}
		if n, most := int64(len(l.Data)+len(l.Extensions)), s.MaxEntry(); n > most {
			return fmt.Errorf("append entry %d: its %d bytes do not fit into a segment, which takes %d", l.Index, n, most)
		}
	}
	return nil
}

// MaxEntry is how many bytes one entry may have, whatever room there is.
func (s *Store) MaxEntry() int64 {
	return min(s.o.SegmentBytes-headerSize-footerSize-recordSize, maxPayload) &^ (align - 1)
}

func bytesOf(l *raft.Log) int64 { return recordBytes(len(l.Data) + len(l.Extensions)) }

// indexBytes estimates what an entry adds to its segment's index. An index that
// turns out larger makes the file grow.
const indexBytes = positionBytes + rowBytes + 4

// fits says whether a record goes into a segment, given what is in it already.
// The index has its room, but an empty segment takes whatever fits at all.
func (g *segment) fits(end int64, entries int, record int64) bool {
	if entries == 0 {
		return end+record <= g.size-footerSize
	}
	return end+record+int64(entries+1)*indexBytes+2*blockSize <= g.size-footerSize
}

// room is the largest entry, in bytes, that fits behind those that are there.
func (g *segment) room() int64 {
	room := g.size - footerSize - g.end - recordSize - align
	if n := len(g.positions); n > 0 {
		room -= int64(n+1)*indexBytes + 2*blockSize
	}
	return room
}

// plan distributes logs over the segments that there are, waiting for more where
// they are being made. It writes nothing.
func (s *Store) plan(logs []*raft.Log) ([]part, error) {
	s.mu.RLock()
	g := s.active()
	end, entries := g.end, len(g.positions)
	s.mu.RUnlock()
	var parts []part
	for next := 0; ; next++ {
		n := 0
		for n < len(logs) && g.fits(end, entries, bytesOf(logs[n])) {
			end += bytesOf(logs[n])
			entries++
			n++
		}
		parts = append(parts, part{seg: g, logs: logs[:n]})
		if logs = logs[n:]; len(logs) == 0 {
			return parts, nil
		}
		var err error
		if g, err = s.waitReady(next); err != nil {
			return nil, err
		}
		end, entries = g.end, 0
	}
}

// waitReady returns the segment that was made ahead as number n, counted from 0;
// where it does not exist it is tried once more.
func (s *Store) waitReady(n int) (*segment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want = n + 1
	defer func() { s.want = 0 }()
	before := s.attempts
	for len(s.ready) <= n {
		switch {
		case s.failed != nil:
			return nil, s.failed
		case s.notReady != nil && s.attempts > before:
			return nil, fmt.Errorf("%w: %w", ErrFull, s.notReady)
		}
		s.wakeUp()
		s.changed.Wait()
	}
	return s.ready[n], nil
}

// Reserve waits until a segment that was made ahead exists: it takes any entry.
// The error is ErrFull, wrapped, where it cannot be made for want of space.
func (s *Store) Reserve() error {
	s.writer.Lock()
	defer s.writer.Unlock()
	_, err := s.waitReady(0)
	return err
}

// write appends to one segment, after moving on to it.
func (s *Store) write(p part) error {
	g := p.seg
	s.direct.leave(g)
	s.mu.Lock()
	if g != s.active() {
		s.moveOn(g)
	}
	chain := s.chain
	s.mu.Unlock()
	if len(p.logs) == 0 {
		return nil
	}
	positions, end, chain, err := s.writeRecords(p, chain)
	if err != nil {
		return fmt.Errorf("write %s: %w", g.path, err)
	}
	if err := g.file.Datasync(); err != nil {
		return fmt.Errorf("sync %s: %w", g.path, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(g.positions) == 0 {
		g.first = p.logs[0].Index
	}
	g.positions, g.end = positions, end
	g.last, g.chain = p.logs[len(p.logs)-1].Index, chain
	s.last, s.chain = g.last, chain
	if s.first == 0 {
		s.first = p.logs[0].Index
		s.covered = max(s.covered, s.first-1)
	}
	if cap(s.buf) > maxBuffer {
		s.buf = nil
	}
	return nil
}

// writeRecords writes the records of an append, as one write or several, of which
// none counts before they are synced. It returns the segment's positions with
// theirs, where they end, and the last one's checksum.
func (s *Store) writeRecords(p part, chain uint32) (positions []uint32, end int64, last uint32, err error) {
	if s.direct.begin(s, p) {
		positions, end, last, err = s.direct.write(s, p, chain)
		if !errors.Is(err, errors.ErrUnsupported) {
			return positions, end, last, err
		}
		s.direct.forget()
		s.direct.off = true
	}
	return s.writeCached(p, chain)
}

// writeCached writes an append through the page cache: large data with a call of
// its own, from where it is.
func (s *Store) writeCached(p part, chain uint32) (positions []uint32, end int64, last uint32, err error) {
	g := p.seg
	positions = g.positions
	s.buf = append(s.buf[:0], s.direct.takeTail()...) // goes to end
	end = g.end - int64(len(s.buf))
	put := func(b []byte) error {
		_, err := g.file.WriteAt(b, end)
		end += int64(len(b))
		return err
	}
	for i, l := range p.logs {
		positions = append(positions, uint32((end+int64(len(s.buf)))/align))
		if len(l.Data) < s.o.LargeData {
			s.buf, chain = appendRecord(s.buf, l, s.sums, g.generation, chain, i)
			continue
		}
		s.buf, chain = appendHeader(s.buf, l, s.sums, g.generation, chain, i)
		if err := put(s.buf); err != nil {
			return nil, 0, 0, err
		}
		if err := put(l.Data); err != nil {
			return nil, 0, 0, err
		}
		s.buf = appendEnd(s.buf[:0], l)
	}
	records := end + int64(len(s.buf))
	s.buf = s.clearAhead(g, records, s.buf)
	s.buf = wholeBlock(g, end, s.buf)
	if err := put(s.buf); err != nil {
		return nil, 0, 0, err
	}
	g.written, g.cached = max(g.written, end), max(g.cached, end)
	return positions, records, chain, nil
}

// smallWrite is the largest write, in bytes, that clears space ahead of itself
// when smallRow of them have followed each other, and clearBytes how much.
const (
	smallWrite = 64 << 10
	smallRow   = 4
	clearBytes = 256 << 10
)

// clearAhead adds zeros to a small write, up to end, that begins new space. A sync into space
// that has never been written commits the file system's journal as well, which
// costs a small write as much time again: so many small writes go by one that
// clears the way for them. For large ones it is less than writing all twice costs,
// and a small one among them would clear what they write again at once.
func (s *Store) clearAhead(g *segment, end int64, b []byte) []byte {
	if end-g.end > smallWrite {
		s.small = 0
		return b
	}
	if s.small < smallRow {
		s.small++
	}
	if end <= g.written || s.small < smallRow {
		return b
	}
	to := min((end+clearBytes)&^(headerSize-1), g.size-footerSize)
	n := max(0, int(to-end))
	b = slices.Grow(b, n)
	clear(b[len(b) : len(b)+n])
	return b[:len(b)+n]
}

// wholeBlock makes a write's end that of a block, where the block has been written
// before and may not be in the page cache: else the kernel would read it first.
func wholeBlock(g *segment, at int64, b []byte) []byte {
	part := (at + int64(len(b))) % vfs.DirectAlign
	block := at + int64(len(b)) - part
	if part == 0 || block < g.cached || block >= g.written {
		return b
	}
	return append(b, noughts[:vfs.DirectAlign-part]...)
}

var noughts [vfs.DirectAlign]byte

// maxBuffer is the largest write buffer that is kept between appends, in bytes.
const maxBuffer = 4 << 20

// moveOn makes the next segment the one that takes appends.
func (s *Store) moveOn(g *segment) {
	s.active().sealed = true
	g.first, g.last = s.last+1, s.last
	s.segments = append(s.segments, g)
	s.ready = s.ready[1:]
	s.wakeUp()
}
