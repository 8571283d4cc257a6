package segment

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"
)

// A sealed segment ends in its index: behind the records a stream, cut into
// blocks of blockData bytes, each followed by its checksum; at the file's end a
// footer. The stream holds the groups, the rows sorted by key, kind and base,
// and the position of each record.
const (
	indexMagic    = "LEATIDX1"
	footerSize    = 128
	footerBytes   = 8 + 4 + 4 + 4 + 4 + 8*6 + 4 // what of the footer is used
	blockData     = 4092
	blockSize     = blockData + 4
	groupBytes    = 56
	rowBytes      = 40
	positionBytes = 4
)

// group is the rows of one key and kind in an index.
type group struct {
	Summary
	start, count uint32 // rows
}

// segIndex is the index of a sealed segment. Groups are in memory, the rest is
// read when asked for.
type segIndex struct {
	path   string
	foot   footer
	groups []group
}

type footer struct {
	rows, groups            uint32
	chain                   uint32 // checksum of the header of the last record
	generation, first, last uint64 // last is first-1 where there is no record
	end                     int64  // of the records
	body                    int64  // where the stream begins
	number                  uint64
}

func (h footer) append(b []byte) []byte {
	start := len(b)
	b = append(b, indexMagic...)
	b = binary.LittleEndian.AppendUint32(b, 1) // version
	b = binary.LittleEndian.AppendUint32(b, h.rows)
	b = binary.LittleEndian.AppendUint32(b, h.groups)
	b = binary.LittleEndian.AppendUint32(b, h.chain)
	for _, v := range []uint64{h.number, h.generation, h.first, h.last, uint64(h.end), uint64(h.body)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = binary.LittleEndian.AppendUint32(b, checksum(b[start:]))
	return append(b, make([]byte, footerSize-(len(b)-start))...)
}

func parseFooter(b []byte) (h footer, err error) {
	le := binary.LittleEndian
	switch {
	case len(b) < footerBytes:
		return h, fmt.Errorf("the index's footer is cut short at %d bytes", len(b))
	case string(b[:8]) != indexMagic:
		return h, fmt.Errorf("the index's footer does not begin with %q", indexMagic)
	case checksum(b[:footerBytes-4]) != le.Uint32(b[footerBytes-4:]):
		return h, errors.New("the index's footer has a wrong checksum")
	case le.Uint32(b[8:]) != 1:
		return h, fmt.Errorf("index version %d is not known here; was it written by a newer version?", le.Uint32(b[8:]))
	}
	h = footer{
		rows: le.Uint32(b[12:]), groups: le.Uint32(b[16:]), chain: le.Uint32(b[20:]), number: le.Uint64(b[24:]), generation: le.Uint64(b[32:]),
		first: le.Uint64(b[40:]), last: le.Uint64(b[48:]), end: int64(le.Uint64(b[56:])), body: int64(le.Uint64(b[64:])),
	}
	if h.last+1 < h.first || h.end < headerSize || h.body < h.end || h.last+1-h.first > uint64(h.end/recordSize) {
		return h, errors.New("the index's footer contradicts itself")
	}
	return h, nil
}

// entries is how many records the segment has.
func (h footer) entries() int64 { return int64(h.last + 1 - h.first) }

func (h footer) rowsAt() int64 { return int64(h.groups) * groupBytes }

func (h footer) positionsAt() int64 { return h.rowsAt() + int64(h.rows)*rowBytes }

// bodyBytes is the size of the stream with its checksums.
func (h footer) bodyBytes() int64 {
	stream := h.positionsAt() + h.entries()*positionBytes
	return (stream + blockData - 1) / blockData * blockSize
}

func appendRow(b []byte, r Row) []byte {
	b = binary.LittleEndian.AppendUint32(b, r.Key)
	b = append(b, r.Kind, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, r.Base)
	b = binary.LittleEndian.AppendUint32(b, r.Count)
	b = binary.LittleEndian.AppendUint32(b, r.Bytes)
	b = binary.LittleEndian.AppendUint64(b, r.Index)
	return binary.LittleEndian.AppendUint64(b, uint64(r.Time))
}

func parseRow(b []byte) Row {
	le := binary.LittleEndian
	return Row{
		Key: le.Uint32(b), Kind: b[4], Base: le.Uint64(b[8:]), Count: le.Uint32(b[16:]),
		Bytes: le.Uint32(b[20:]), Index: le.Uint64(b[24:]), Time: int64(le.Uint64(b[32:])),
	}
}

func appendGroup(b []byte, g group) []byte {
	b = binary.LittleEndian.AppendUint32(b, g.Key)
	b = append(b, g.Kind, 0, 0, 0)
	for _, v := range []uint64{g.First, g.Last, g.Bytes, uint64(g.MinTime), uint64(g.MaxTime)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = binary.LittleEndian.AppendUint32(b, g.start)
	return binary.LittleEndian.AppendUint32(b, g.count)
}

func parseGroup(b []byte) group {
	le := binary.LittleEndian
	return group{
		Summary: Summary{
			Key: le.Uint32(b), Kind: b[4], First: le.Uint64(b[8:]), Last: le.Uint64(b[16:]), Bytes: le.Uint64(b[24:]),
			MinTime: int64(le.Uint64(b[32:])), MaxTime: int64(le.Uint64(b[40:])),
		},
		start: le.Uint32(b[48:]), count: le.Uint32(b[52:]),
	}
}

func compareRows(a, b Row) int {
	return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Base, b.Base), cmp.Compare(a.Index, b.Index))
}

// end is the offset behind the row's last.
func (r Row) end() uint64 { return r.Base + uint64(max(r.Count, 1)) }

// groupRows summarizes sorted rows.
func groupRows(rows []Row) []group {
	var groups []group
	for i, r := range rows {
		if n := len(groups); n > 0 && groups[n-1].Key == r.Key && groups[n-1].Kind == r.Kind {
			g := &groups[n-1]
			g.Last, g.Bytes, g.count = max(g.Last, r.end()-1), g.Bytes+uint64(r.Bytes), g.count+1
			g.MinTime, g.MaxTime = min(g.MinTime, r.Time), max(g.MaxTime, r.Time)
			continue
		}
		groups = append(groups, group{
			Summary: Summary{Key: r.Key, Kind: r.Kind, First: r.Base, Last: r.end() - 1, Bytes: uint64(r.Bytes), MinTime: r.Time, MaxTime: r.Time},
			start:   uint32(i), count: 1,
		})
	}
	return groups
}

// encodeIndex makes the blocks of an index; foot's counts are filled in. rows
// are sorted.
func encodeIndex(foot footer, rows []Row, positions []uint32) (*segIndex, []byte) {
	x := &segIndex{foot: foot, groups: groupRows(rows)}
	x.foot.rows, x.foot.groups = uint32(len(rows)), uint32(len(x.groups))
	stream := make([]byte, 0, len(x.groups)*groupBytes+len(rows)*rowBytes+len(positions)*positionBytes)
	for _, g := range x.groups {
		stream = appendGroup(stream, g)
	}
	for _, r := range rows {
		stream = appendRow(stream, r)
	}
	for _, p := range positions {
		stream = binary.LittleEndian.AppendUint32(stream, p)
	}
	out := make([]byte, 0, x.foot.bodyBytes())
	for block := range slices.Chunk(stream, blockData) {
		start := len(out)
		out = append(out, block...)
		out = append(out, make([]byte, blockData-len(block))...)
		out = binary.LittleEndian.AppendUint32(out, checksum(out[start:]))
	}
	return x, out
}

// openIndex reads the footer and the groups of an index from a file of size
// bytes. What does not read back is a *DamagedError.
func openIndex(g *segment, readAt func(b []byte, at int64) error) (*segIndex, error) {
	at := g.size - footerSize
	damaged := func(reason string) error { return &DamagedError{File: g.path, Offset: at, Reason: reason} }
	b := make([]byte, footerSize)
	if err := readAt(b, at); err != nil {
		return nil, fmt.Errorf("read %s: %w", g.path, err)
	}
	foot, err := parseFooter(b)
	switch {
	case err != nil:
		return nil, damaged(err.Error())
	case foot.number != g.number || foot.generation != g.generation:
		return nil, damaged(fmt.Sprintf("the index is of segment %d, generation %x", foot.number, foot.generation))
	case foot.body > at || foot.bodyBytes() > at-foot.body:
		return nil, damaged("the index runs past the file's end")
	}
	x := &segIndex{path: g.path, foot: foot}
	read := func(number int64) ([]byte, error) { return x.readBlock(readAt, number) }
	raw, err := x.read(read, 0, int(foot.rowsAt()))
	if err != nil {
		return nil, err
	}
	for b := range slices.Chunk(raw, groupBytes) {
		x.groups = append(x.groups, parseGroup(b))
	}
	for _, g := range x.groups {
		if uint64(g.start)+uint64(g.count) > uint64(foot.rows) {
			return nil, damaged("a group of the index runs past its rows")
		}
	}
	return x, nil
}

func (x *segIndex) readBlock(readAt func(b []byte, at int64) error, number int64) ([]byte, error) {
	b := make([]byte, blockSize)
	at := x.foot.body + number*blockSize
	if err := readAt(b, at); err != nil {
		return nil, fmt.Errorf("read the index of %s: %w", x.path, err)
	}
	if checksum(b[:blockData]) != binary.LittleEndian.Uint32(b[blockData:]) {
		return nil, &DamagedError{File: x.path, Offset: at, First: x.foot.first, Last: x.foot.last, Reason: "a block of the index has a wrong checksum"}
	}
	return b[:blockData], nil
}

// read returns n bytes of the stream, from checked blocks.
func (x *segIndex) read(block func(number int64) ([]byte, error), at int64, n int) ([]byte, error) {
	out := make([]byte, 0, n)
	for len(out) < n {
		b, err := block(at / blockData)
		if err != nil {
			return nil, err
		}
		from := int(at % blockData)
		take := min(n-len(out), blockData-from)
		out = append(out, b[from:from+take]...)
		at += int64(take)
	}
	return out, nil
}

func (x *segIndex) group(k rowKey) (group, bool) {
	i, ok := slices.BinarySearchFunc(x.groups, k, func(g group, k rowKey) int {
		return cmp.Or(cmp.Compare(g.Key, k.key), cmp.Compare(g.Kind, k.kind))
	})
	if !ok {
		return group{}, false
	}
	return x.groups[i], true
}

// row reads one row.
func (r *reader) row(g *segment, i uint32) (Row, error) {
	x := g.index
	b, err := x.read(func(n int64) ([]byte, error) { return r.block(g, n) }, x.foot.rowsAt()+int64(i)*rowBytes, rowBytes)
	if err != nil {
		return Row{}, err
	}
	return parseRow(b), nil
}

// find returns the first row of a group that is not before what is looked for,
// and whether it is the group's first.
func (r *reader) find(seg *segment, g group, before func(Row) bool) (row Row, first bool, err error) {
	var failed error
	i := sort.Search(int(g.count), func(i int) bool {
		row, err := r.row(seg, g.start+uint32(i))
		if err != nil {
			failed = err
			return true
		}
		return !before(row)
	})
	if failed != nil {
		return Row{}, false, failed
	}
	row, err = r.row(seg, g.start+uint32(min(i, int(g.count)-1)))
	return row, i == 0, err
}

// rows reads all of a segment's rows.
func (r *reader) rows(g *segment) ([]Row, error) {
	rows := make([]Row, 0, g.index.foot.rows)
	for i := range g.index.foot.rows {
		row, err := r.row(g, i)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// place is where the record of an entry lies, and how long it is.
func (r *reader) place(g *segment, index uint64) (at, size int64, err error) {
	x := g.index
	n := 2
	if index == x.foot.last {
		n = 1
	}
	b, err := x.read(func(n int64) ([]byte, error) { return r.block(g, n) }, x.foot.positionsAt()+int64(index-x.foot.first)*positionBytes, n*positionBytes)
	if err != nil {
		return 0, 0, err
	}
	at = int64(binary.LittleEndian.Uint32(b)) * align
	end := x.foot.end
	if n == 2 {
		end = int64(binary.LittleEndian.Uint32(b[positionBytes:])) * align
	}
	if at < headerSize || end < at+recordSize || end > x.foot.end {
		return 0, 0, &DamagedError{File: g.path, Offset: x.foot.body, First: index, Last: index, Reason: fmt.Sprintf("the index places a record at %d to %d", at, end)}
	}
	return at, end - at, nil
}

// walk finds a record from header to header, where the index cannot tell. When
// a header on the way does not read back either, the index's damage stays the
// answer.
func (r *reader) walk(g *segment, index uint64, damaged *DamagedError) (at, size int64, err error) {
	b := make([]byte, recordSize)
	at = headerSize
	for i := g.first; i <= index; i++ {
		if at+recordSize > g.end {
			return 0, 0, damaged
		}
		if err := r.readAt(g, b, at); err != nil {
			return 0, 0, fmt.Errorf("read %s at byte %d: %w", g.path, at, err)
		}
		h, err := parseRecordHeader(b)
		if err != nil || h.generation != g.generation || h.index != i || at+h.size() > g.end {
			return 0, 0, damaged
		}
		if size = h.size(); i < index {
			at += size
		}
	}
	return at, size, nil
}
