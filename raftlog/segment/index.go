package segment

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"sync"

	"github.com/leat-dev/leat/raftlog/vfs"
)

// A segment's index is a file beside it: a header of indexHeader bytes, then a
// stream cut into blocks of blockData bytes, each followed by its checksum. The
// stream holds the summaries, the rows sorted by key, kind and base, and the
// position of each record.
const (
	indexMagic    = "LEATIDX1"
	indexHeader   = 64
	blockData     = 4092
	blockSize     = blockData + 4
	summaryBytes  = 56
	rowBytes      = 40
	positionBytes = 4
)

// group is the rows of one key and kind in an index.
type group struct {
	Summary
	start, count uint32 // rows
}

// indexFile is the index of a sealed segment. Groups are in memory, the rest is
// read when asked for.
type indexFile struct {
	file   vfs.File
	path   string
	head   indexHead
	groups []group
	cache  *blockCache
}

type indexHead struct {
	generation, first, last uint64
	rows, groups            uint32
}

func (h indexHead) append(b []byte) []byte {
	start := len(b)
	b = append(b, indexMagic...)
	b = binary.LittleEndian.AppendUint32(b, 1) // version
	b = binary.LittleEndian.AppendUint32(b, h.rows)
	b = binary.LittleEndian.AppendUint32(b, h.groups)
	b = binary.LittleEndian.AppendUint64(b, h.generation)
	b = binary.LittleEndian.AppendUint64(b, h.first)
	b = binary.LittleEndian.AppendUint64(b, h.last)
	b = append(b, make([]byte, indexHeader-4-(len(b)-start))...)
	return binary.LittleEndian.AppendUint32(b, checksum(b[start:]))
}

func parseIndexHead(b []byte) (h indexHead, err error) {
	switch {
	case len(b) < indexHeader:
		return h, fmt.Errorf("the index's header is cut short at %d bytes", len(b))
	case string(b[:8]) != indexMagic:
		return h, fmt.Errorf("the index's header does not begin with %q", indexMagic)
	case checksum(b[:indexHeader-4]) != binary.LittleEndian.Uint32(b[indexHeader-4:]):
		return h, errors.New("the index's header has a wrong checksum")
	case binary.LittleEndian.Uint32(b[8:]) != 1:
		return h, fmt.Errorf("index version %d is not known here; was it written by a newer version?", binary.LittleEndian.Uint32(b[8:]))
	}
	le := binary.LittleEndian
	h = indexHead{rows: le.Uint32(b[12:]), groups: le.Uint32(b[16:]), generation: le.Uint64(b[20:]), first: le.Uint64(b[28:]), last: le.Uint64(b[36:])}
	if h.last < h.first {
		return h, fmt.Errorf("the index's header covers entries %d to %d", h.first, h.last)
	}
	return h, nil
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
	return Row{Key: le.Uint32(b), Kind: b[4], Base: le.Uint64(b[8:]), Count: le.Uint32(b[16:]), Bytes: le.Uint32(b[20:]), Index: le.Uint64(b[24:]), Time: int64(le.Uint64(b[32:]))}
}

func appendGroup(b []byte, g group) []byte {
	b = binary.LittleEndian.AppendUint32(b, g.Key)
	b = append(b, g.Kind, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, g.First)
	b = binary.LittleEndian.AppendUint64(b, g.Last)
	b = binary.LittleEndian.AppendUint64(b, g.Bytes)
	b = binary.LittleEndian.AppendUint64(b, uint64(g.MinTime))
	b = binary.LittleEndian.AppendUint64(b, uint64(g.MaxTime))
	b = binary.LittleEndian.AppendUint32(b, g.start)
	return binary.LittleEndian.AppendUint32(b, g.count)
}

func parseGroup(b []byte) group {
	le := binary.LittleEndian
	return group{
		Summary: Summary{Key: le.Uint32(b), Kind: b[4], First: le.Uint64(b[8:]), Last: le.Uint64(b[16:]), Bytes: le.Uint64(b[24:]), MinTime: int64(le.Uint64(b[32:])), MaxTime: int64(le.Uint64(b[40:]))},
		start:   le.Uint32(b[48:]), count: le.Uint32(b[52:]),
	}
}

func compareRows(a, b Row) int {
	return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Base, b.Base))
}

// groupRows summarizes sorted rows.
func groupRows(rows []Row) []group {
	var groups []group
	for i, r := range rows {
		last := r.Base + uint64(max(r.Count, 1)) - 1
		if n := len(groups); n > 0 && groups[n-1].Key == r.Key && groups[n-1].Kind == r.Kind {
			g := &groups[n-1]
			g.Last, g.Bytes, g.count = last, g.Bytes+uint64(r.Bytes), g.count+1
			g.MinTime, g.MaxTime = min(g.MinTime, r.Time), max(g.MaxTime, r.Time)
			continue
		}
		groups = append(groups, group{
			Summary: Summary{Key: r.Key, Kind: r.Kind, First: r.Base, Last: last, Bytes: uint64(r.Bytes), MinTime: r.Time, MaxTime: r.Time},
			start:   uint32(i), count: 1,
		})
	}
	return groups
}

// writeIndex makes a segment's index durable, in one step. rows are sorted in
// place.
func writeIndex(fs vfs.FS, path string, head indexHead, rows []Row, positions []uint32) error {
	slices.SortFunc(rows, compareRows)
	groups := groupRows(rows)
	head.rows, head.groups = uint32(len(rows)), uint32(len(groups))
	stream := make([]byte, 0, len(groups)*summaryBytes+len(rows)*rowBytes+len(positions)*positionBytes)
	for _, g := range groups {
		stream = appendGroup(stream, g)
	}
	for _, r := range rows {
		stream = appendRow(stream, r)
	}
	for _, p := range positions {
		stream = binary.LittleEndian.AppendUint32(stream, p)
	}
	out := head.append(make([]byte, 0, indexHeader+len(stream)+len(stream)/blockData*4+8))
	for block := range slices.Chunk(stream, blockData) {
		out = append(out, block...)
		out = append(out, make([]byte, blockData-len(block))...)
		out = binary.LittleEndian.AppendUint32(out, checksum(out[len(out)-blockData:]))
	}
	return writeFile(fs, path, out)
}

// writeFile puts a file in place in one durable step.
func writeFile(fs vfs.FS, path string, content []byte) error {
	temporary := path + ".tmp"
	f, err := fs.Create(temporary)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(content, 0); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Datasync(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := fs.Rename(temporary, path); err != nil {
		return err
	}
	return fs.SyncDir(filepath.Dir(path))
}

// openIndex reads an index's header and groups.
func openIndex(fs vfs.FS, path string, cache *blockCache) (_ *indexFile, err error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	b := make([]byte, indexHeader)
	if n, err := f.ReadAt(b, 0); err != nil {
		return nil, &DamagedError{File: path, Offset: int64(n), Reason: "the index's header cannot be read: " + err.Error()}
	}
	x := &indexFile{file: f, path: path, cache: cache}
	if x.head, err = parseIndexHead(b); err != nil {
		return nil, &DamagedError{File: path, Reason: err.Error()}
	}
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	stream := int64(x.head.groups)*summaryBytes + int64(x.head.rows)*rowBytes + int64(x.head.last-x.head.first+1)*positionBytes
	if want := indexHeader + (stream+blockData-1)/blockData*blockSize; size != want {
		return nil, &DamagedError{File: path, Offset: size, Reason: fmt.Sprintf("the index has %d bytes, not %d", size, want)}
	}
	raw, err := x.read(0, int(x.head.groups)*summaryBytes)
	if err != nil {
		return nil, err
	}
	for b := range slices.Chunk(raw, summaryBytes) {
		x.groups = append(x.groups, parseGroup(b))
	}
	return x, nil
}

// read returns bytes of the stream, from checked blocks.
func (x *indexFile) read(at int64, n int) ([]byte, error) {
	out := make([]byte, 0, n)
	for len(out) < n {
		number := at / blockData
		block, err := x.cache.get(x, number)
		if err != nil {
			return nil, err
		}
		from := int(at % blockData)
		take := min(n-len(out), blockData-from)
		out = append(out, block[from:from+take]...)
		at += int64(take)
	}
	return out, nil
}

func (x *indexFile) readBlock(number int64) ([]byte, error) {
	b := make([]byte, blockSize)
	at := indexHeader + number*blockSize
	if _, err := x.file.ReadAt(b, at); err != nil {
		return nil, &DamagedError{File: x.path, Offset: at, First: x.head.first, Last: x.head.last, Reason: "the index cannot be read: " + err.Error()}
	}
	if checksum(b[:blockData]) != binary.LittleEndian.Uint32(b[blockData:]) {
		return nil, &DamagedError{File: x.path, Offset: at, First: x.head.first, Last: x.head.last, Reason: "a block of the index has a wrong checksum"}
	}
	return b[:blockData], nil
}

func (x *indexFile) row(i uint32) (Row, error) {
	b, err := x.read(int64(x.head.groups)*summaryBytes+int64(i)*rowBytes, rowBytes)
	if err != nil {
		return Row{}, err
	}
	return parseRow(b), nil
}

// position is where the record of an entry lies in the segment.
func (x *indexFile) position(index uint64) (int64, error) {
	at := int64(x.head.groups)*summaryBytes + int64(x.head.rows)*rowBytes + int64(index-x.head.first)*positionBytes
	b, err := x.read(at, positionBytes)
	if err != nil {
		return 0, err
	}
	return int64(binary.LittleEndian.Uint32(b)) * align, nil
}

func (x *indexFile) group(key uint32, kind uint8) (group, bool) {
	i, ok := slices.BinarySearchFunc(x.groups, Row{Key: key, Kind: kind}, func(g group, r Row) int {
		return cmp.Or(cmp.Compare(g.Key, r.Key), cmp.Compare(g.Kind, r.Kind))
	})
	if !ok {
		return group{}, false
	}
	return x.groups[i], true
}

// find returns the first row of a group that is not before what is looked for.
func (x *indexFile) find(key uint32, kind uint8, before func(Row) bool) (Row, bool, error) {
	g, ok := x.group(key, kind)
	if !ok {
		return Row{}, false, nil
	}
	var failed error
	i := sort.Search(int(g.count), func(i int) bool {
		r, err := x.row(g.start + uint32(i))
		if err != nil {
			failed = err
			return true
		}
		return !before(r)
	})
	if failed != nil || i == int(g.count) {
		return Row{}, false, failed
	}
	r, err := x.row(g.start + uint32(i))
	return r, err == nil, err
}

// blockCache keeps the blocks of indexes that were read last.
type blockCache struct {
	mu     sync.Mutex
	max    int
	blocks map[blockKey][]byte
	order  []blockKey // oldest first
}

type blockKey struct {
	index  *indexFile
	number int64
}

func newBlockCache(max int) *blockCache {
	return &blockCache{max: max, blocks: map[blockKey][]byte{}}
}

func (c *blockCache) get(x *indexFile, number int64) ([]byte, error) {
	k := blockKey{x, number}
	c.mu.Lock()
	b, ok := c.blocks[k]
	c.mu.Unlock()
	if ok {
		return b, nil
	}
	b, err := x.readBlock(number)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.blocks[k]; !ok {
		c.blocks[k] = b
		c.order = append(c.order, k)
		if len(c.order) > c.max {
			delete(c.blocks, c.order[0])
			c.order = c.order[1:]
		}
	}
	return b, nil
}

// forget drops the blocks of an index that is closed.
func (c *blockCache) forget(x *indexFile) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.order = slices.DeleteFunc(c.order, func(k blockKey) bool {
		if k.index != x {
			return false
		}
		delete(c.blocks, k)
		return true
	})
}
