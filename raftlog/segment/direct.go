package segment

import (
	"errors"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/vfs"
)

// direct writes large appends past the page cache. A write through it costs a
// large append most of its time: pages must be found, often such as the machine
// has not used for long, filled, and written out by the sync, which then waits for
// all of it.
//
// Whole blocks are written, so the one in which the records ended is written
// again, with the same in front of the end: it is kept for that. A reader may have
// that block in the page cache; the kernel drops it there before and after.
type direct struct {
	off bool     // the file system cannot
	seg *segment // the one that is written

	file vfs.DirectFile
	// What is written next goes to at: pieces, then what of buf is not in one yet.
	at     int64
	pieces [][]byte
	buf    []byte
	cut    int // of buf, in whole blocks
	// tail is what the block in which the records of seg end holds in front of that,
	// once that block was written directly: then the page cache has not got it. nil:
	// it was written otherwise.
	tail []byte
}

// begin tells whether an append is to be written directly, and can be: then the
// block in which it begins is in the buffer.
func (d *direct) begin(s *Store, p part) bool {
	var size int64
	for _, l := range p.logs {
		size += bytesOf(l)
	}
	if d.off || size < int64(s.o.DirectBytes) {
		return false
	}
	g := p.seg
	if d.file == nil {
		f, err := s.o.FS.OpenDirect(g.path)
		if err != nil {
			// Nothing depends on it, and nothing has been written. Want of descriptors
			// passes.
			d.off = !passes(err)
			if d.off && !errors.Is(err, errors.ErrUnsupported) {
				s.o.Logger.Warn("large appends go through the page cache: the log's file cannot be opened for direct writes", "error", err)
			}
			return false
		}
		d.file = f
	}
	if d.buf == nil {
		d.buf = vfs.Blocks(s.o.DirectBuffer / vfs.DirectAlign)
	}
	part := g.end % vfs.DirectAlign
	d.at = g.end - part
	d.buf, d.cut, d.pieces = d.buf[:part], 0, d.pieces[:0]
	if d.tail != nil {
		copy(d.buf, d.tail)
	} else if _, err := g.file.ReadAt(d.buf, d.at); err != nil {
		return false
	}
	return true
}

// write writes an append of which begin was true, as writeRecords does.
func (d *direct) write(s *Store, p part, chain uint32) (positions []uint32, end int64, last uint32, err error) {
	g := p.seg
	positions, end = g.positions, g.end
	for i, l := range p.logs {
		positions = append(positions, uint32(end/align))
		if chain, err = d.record(s, l, g.generation, chain, i); err != nil {
			return nil, 0, 0, err
		}
		end += bytesOf(l)
	}
	from := len(d.buf) &^ (vfs.DirectAlign - 1)
	tail := append(d.tail[:0], d.buf[from:]...)
	d.buf = append(d.buf, noughts[:-len(d.buf)&(vfs.DirectAlign-1)]...)
	if err := d.flush(); err != nil {
		return nil, 0, 0, err
	}
	d.tail = tail
	g.written, g.cached = max(g.written, d.at), 0
	return positions, end, chain, nil
}

func (d *direct) record(s *Store, l *raft.Log, generation uint64, chain uint32, batch int) (uint32, error) {
	var header [recordSize]byte
	h, sum := appendHeader(header[:0], l, s.sums, generation, chain, batch)
	if err := d.add(h); err != nil {
		return 0, err
	}
	data := l.Data
	if len(data) >= s.o.LargeData {
		var err error
		if data, err = d.inPlace(data); err != nil {
			return 0, err
		}
	}
	for _, b := range [][]byte{data, l.Extensions, noughts[:paddingOf(l)]} {
		if err := d.add(b); err != nil {
			return 0, err
		}
	}
	return sum, nil
}

// inPlace has the whole blocks of data written from where they lie, where they lie
// so that this can be, and gives what is left of it. To copy them first would cost
// as much as all else that is done with them here.
func (d *direct) inPlace(data []byte) ([]byte, error) {
	before := -len(d.buf) & (vfs.DirectAlign - 1)
	whole := (len(data) - before) &^ (vfs.DirectAlign - 1)
	if whole <= 0 || !vfs.Aligned(data[before:before+whole], 0) {
		return data, nil
	}
	if err := d.add(data[:before]); err != nil {
		return nil, err
	}
	d.pieces = append(d.pieces, d.buf[d.cut:], data[before:before+whole])
	d.cut = len(d.buf)
	return data[before+whole:], nil
}

// add copies to the buffer, and writes that when it is full.
func (d *direct) add(b []byte) error {
	for len(b) > 0 {
		if len(d.buf) == cap(d.buf) {
			if err := d.flush(); err != nil {
				return err
			}
		}
		n := copy(d.buf[len(d.buf):cap(d.buf)], b)
		d.buf, b = d.buf[:len(d.buf)+n], b[n:]
	}
	return nil
}

func (d *direct) flush() error {
	pieces := append(d.pieces, d.buf[d.cut:])
	n, err := d.file.WriteAt(d.at, pieces...)
	clear(pieces) // the memory is the callers' again
	d.at += int64(n)
	d.buf, d.cut, d.pieces = d.buf[:0], 0, pieces[:0]
	return err
}

// takeTail is the tail, for a write through the page cache, which then has it.
func (d *direct) takeTail() []byte {
	tail := d.tail
	d.tail = nil
	return tail
}

// DataAt is the place in its file that the data of an entry of so many bytes has
// where it is appended next. A large entry whose data lies as far behind a multiple
// of vfs.DirectAlign in memory as it does there need not be copied to be written.
func (s *Store) DataAt(size int) int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if g := s.active(); g.fits(g.end, len(g.positions), recordBytes(size)) {
		return g.end + recordSize
	}
	return headerSize + recordSize
}

// DataBehind is the place behind an entry of so many bytes whose data is at one.
func DataBehind(at int64, size int) int64 { return at + recordBytes(size) }

// leave is called before a segment is written: another's is not written any more.
func (d *direct) leave(g *segment) {
	if d.seg != g {
		d.forget()
		d.seg = g
	}
}

// forget closes the file, and forgets what is in it.
func (d *direct) forget() {
	if d.file != nil {
		_ = d.file.Close() // what counts has been synced
	}
	d.seg, d.file, d.tail = nil, nil, nil
}
