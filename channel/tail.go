package channel

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/leat-dev/leat/raftlog"
)

// run is the events of one partition in one entry.
type run struct {
	partition *raftPartition
	base      uint64
	count     uint32
	time      int64
	// content is nil once the run has left memory.
	content atomic.Pointer[runContent]
}

// runContent is what a run says, decoded when first asked for, once for all.
type runContent struct {
	// held counts who holds the content: the tail or the cache that the run is in,
	// and readers. With the last one memory is given back, unless somebody has kept
	// an event.
	held atomic.Int64
	kept atomic.Bool

	// mu is held to take raw, which is nil once that has been done.
	mu  sync.Mutex
	raw [][]byte // of each append in the entry, in order
	// in is what raw lies in, and held for that, where its memory is used again.
	in   *raftlog.Buffer
	once sync.Once
	// Set by once, and shared from then on.
	events []Stored
	sizes  []uint32 // of the records
	// err is why the first record that cannot be decoded cannot; such have no
	// event.
	err error
	// memory is what the events lie in, and those that were read from disk before
	// they are decoded.
	memory *memory
}

// newContent makes the content of a run that is about to be in memory; raw has room
// for what it is of.
func newContent(in *raftlog.Buffer, raw [][]byte) *runContent {
	c := &runContent{in: in, raw: raw}
	c.held.Store(1)
	return c
}

// add is called while the run is not visible to anyone.
func (r *run) add(raw rawRun) {
	c := r.content.Load()
	c.raw = append(c.raw, raw.records)
	r.count += raw.count
}

func (r *run) end() uint64 { return r.base + uint64(r.count) }

// hold keeps what raw lies in as it is, until leave or decode.
func (c *runContent) hold() {
	if c.in != nil {
		c.in.Hold()
	}
}

// take gives raw, once.
func (c *runContent) take() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	raw := c.raw
	c.raw = nil
	return raw
}

// decode sets the events and their sizes. It says no where the run has left memory
// without having been decoded. The content is held.
func (c *runContent) decode(m *memories, r *run) bool {
	c.once.Do(func() {
		raw := c.take()
		if raw == nil {
			return
		}
		switch {
		case c.in != nil: // it is used again, and not only for this
			c.memory = m.copied(raw, int(r.count))
			c.in.Release()
		case c.memory == nil:
			c.memory = m.take(0, int(r.count))
		}
		c.decodeAll(raw, r)
	})
	return c.events != nil
}

// decodeAll makes the events of all records.
func (c *runContent) decodeAll(raw [][]byte, r *run) {
	m := c.memory
	for _, rest := range raw {
		for len(rest) > 0 {
			i := len(m.stored)
			offset := r.base + uint64(i)
			record, next, err := nextRecord(rest)
			e := &m.events[i]
			if err == nil {
				m.extensions, err = e.FromRecord(record, m.extensions)
			}
			if err != nil {
				if e = nil; c.err == nil {
					c.err = fmt.Errorf("decode the record of offset %d: %w", offset, err)
				}
			}
			m.stored = append(m.stored, Stored{Offset: offset, Time: r.time, Event: e, in: c})
			m.sizes = append(m.sizes, uint32(len(record)))
			rest = next
		}
	}
	c.events, c.sizes = m.stored, m.sizes
}

// leave is for a run that leaves memory.
func (r *run) leave() {
	c := r.content.Swap(nil)
	if c == nil {
		return
	}
	if raw := c.take(); raw != nil && c.in != nil {
		c.in.Release()
	}
	c.release()
}

// partitionTail is a partition's runs in memory, in order and without a gap up
// to the end. Whoever changes it holds the lock of the shard's tail; readers take
// none: what is published is a slice whose elements are never overwritten.
type partitionTail struct {
	runs atomic.Pointer[[]*run]
}

func (t *partitionTail) load() []*run {
	if p := t.runs.Load(); p != nil {
		return *p
	}
	return nil
}

func (t *partitionTail) push(r *run) {
	runs := append(t.load(), r)
	t.runs.Store(&runs)
}

// pop evicts the oldest run.
func (t *partitionTail) pop(r *run) {
	if runs := t.load(); len(runs) > 0 && runs[0] == r {
		rest := runs[1:]
		if len(rest) == 0 {
			rest = nil // an idle partition holds no memory
		}
		t.runs.Store(&rest)
	}
	r.leave()
}

func (t *partitionTail) clear() {
	for _, r := range t.load() {
		r.leave()
	}
	t.runs.Store(nil)
}

// find is the position of the run that holds offset, if it is in memory.
func find(runs []*run, offset uint64) (int, bool) {
	i, ok := slices.BinarySearchFunc(runs, offset, func(r *run, offset uint64) int {
		switch {
		case r.end() <= offset:
			return -1
		case r.base > offset:
			return 1
		}
		return 0
	})
	return i, ok
}

// tail is the recent entries of a shard, bounded in bytes.
type tail struct {
	// mu is held by whoever changes this, or which runs the partitions' tails have:
	// Apply, and forget.
	mu      sync.Mutex
	limit   int64
	bytes   int64
	entries []tailEntry
	first   int // those before are gone
}

type tailEntry struct {
	runs  []*run
	bytes int64
}

// decodedSize is what an event takes beside its record when it is decoded,
// roughly, in bytes.
const decodedSize = 512

// add takes in the runs of an entry, which they keep in memory (a Buffer until they
// have been decoded), and evicts the oldest entries beyond the limit, but never the newest one: the index
// learns of an entry only after it has been applied. mu is held.
func (t *tail) add(e *raftlog.Entry, runs []*run) {
	size := e.Memory()
	for _, r := range runs {
		size += int64(r.count) * decodedSize
	}
	t.entries = append(t.entries, tailEntry{runs: runs, bytes: size})
	t.bytes += size
	t.evict(t.limit)
	if t.first > len(t.entries)/2 {
		t.entries = slices.Delete(t.entries, 0, t.first)
		t.first = 0
	}
}

// evict drops the oldest entries beyond a limit, but not the newest.
func (t *tail) evict(limit int64) {
	for t.bytes > limit && t.first < len(t.entries)-1 {
		old := &t.entries[t.first]
		for _, r := range old.runs {
			r.partition.tail.pop(r)
		}
		t.bytes -= old.bytes
		*old = tailEntry{}
		t.first++
	}
}

// forget drops all but the newest entry, and gives what they took.
func (t *tail) forget() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.bytes
	t.evict(0)
	t.entries = slices.Clone(t.entries[t.first:])
	t.first = 0
	return before - t.bytes
}

// clear drops a partition's runs.
func (t *tail) clear(p *raftPartition) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p.tail.clear()
}

// reset begins anew.
func (t *tail) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bytes, t.entries, t.first = 0, nil, 0
}

// Room is how many bytes of recent events there is room for in memory, beside those
// that are there.
func (l *Log) Room() int64 {
	t := &l.shard.tail
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(0, t.limit-t.bytes)
}

// Forget drops the recent events that are kept in memory, but for the newest
// entry's, and gives the bytes that are free thereby. Who has yet to read one
// reads it from the disk.
func (l *Log) Forget() int64 { return l.shard.tail.forget() + l.shard.memories.forget() }
