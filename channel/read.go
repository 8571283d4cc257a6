package channel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/segment"
)

// Channel implements Partition.
func (p *raftPartition) Channel() ID { return p.ch.ident }

// Number implements Partition.
func (p *raftPartition) Number() int { return p.number }

// Bounds implements Partition.
func (p *raftPartition) Bounds() (floor, next uint64) {
	// In this order: the floor never passes an end seen later.
	floor = p.floor.Load()
	return floor, max(p.end.Load(), floor)
}

// Version implements Partition.
func (p *raftPartition) Version() uint64 { return p.ch.version.Load() }

// Scan implements Partition.
func (p *raftPartition) Scan() uint64 { return p.scan.Load() }

// Wait implements Partition.
func (p *raftPartition) Wait(ctx context.Context, offset, termsVersion uint64) error {
	for {
		wake := p.notice.wait(offset, termsVersion)
		if p.ch.gone.Load() {
			return fmt.Errorf("wait for %v: %w", p, ErrNotFound)
		}
		if p.end.Load() > offset || p.ch.changes.Load() > termsVersion {
			return nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Read implements Partition.
func (p *raftPartition) Read(ctx context.Context, offset uint64, limit, maxBytes int) ([]Stored, error) {
	b := batch{max: limit, maxBytes: maxBytes}
	err := p.read(ctx, &b, offset)
	return b.events, err
}

// Lend implements Lender.
func (p *raftPartition) Lend(ctx context.Context, offset uint64, limit, maxBytes int, l *Loan) error {
	l.Return()
	b := batch{max: limit, maxBytes: maxBytes, loan: l}
	err := p.read(ctx, &b, offset)
	if err != nil {
		l.Return()
	}
	l.Events = b.events
	return err
}

func (p *raftPartition) read(ctx context.Context, b *batch, offset uint64) error {
	for !b.full() {
		if err := ctx.Err(); err != nil {
			return b.or(context.Cause(ctx))
		}
		if p.ch.gone.Load() {
			return b.or(fmt.Errorf("read %v: %w", p, ErrNotFound))
		}
		if floor := p.floor.Load(); offset < floor {
			return b.or(fmt.Errorf("read %v at offset %d, floor %d: %w", p, offset, floor, ErrExpired))
		}
		end := p.end.Load()
		if offset >= end {
			break
		}
		if err := p.passedAt(offset); err != nil {
			return b.or(err)
		}
		next, inMemory, err := p.readTail(b, offset)
		if inMemory {
			p.ch.shard.tailReads.hits.Add(1)
		} else if err == nil {
			p.ch.shard.tailReads.misses.Add(1)
			next, err = p.readDisk(b, offset)
		}
		if err != nil {
			if p.floor.Load() > offset {
				continue // retention has passed it meanwhile, and dropped what was to be read
			}
			return b.or(err)
		}
		offset = next
	}
	return nil
}

// batch gathers events up to its bounds. A batch out of one run shares the
// run's slice.
type batch struct {
	max, maxBytes int
	bytes         int
	events        []Stored
	enough        bool
	loan          *Loan // nil: the events are for as long as somebody likes
}

func (b *batch) full() bool { return b.enough || len(b.events) >= b.max }

// or is an error where there is nothing to return instead.
func (b *batch) or(err error) error {
	if len(b.events) > 0 {
		return nil
	}
	return err
}

func (b *batch) add(events []Stored, sizes []uint32) {
	n := 0
	for n < len(events) && len(b.events)+n < b.max {
		if b.bytes += int(sizes[n]); b.bytes > b.maxBytes && len(b.events)+n > 0 {
			b.enough = true
			break
		}
		n++
	}
	switch l := b.loan; {
	case b.events == nil:
		b.events = events[:n:n] // a later append copies
	case l != nil:
		if len(l.room) == 0 {
			l.room = append(l.room, b.events...)
		}
		l.room = append(l.room, events[:n]...)
		b.events = l.room
	default:
		b.events = append(b.events, events[:n]...)
	}
}

// hold takes over a hold on what the batch has events of.
func (b *batch) hold(c *runContent) {
	if b.loan != nil {
		b.loan.of = append(b.loan.of, c)
		return
	}
	c.kept.Store(true)
	c.release()
}

// takeFrom adds a decoded run's events from offset on, as many as the batch may hold,
// and returns the offset after the run's readable ones. It ends a hold on c.
func (p *raftPartition) takeFrom(b *batch, c *runContent, r *run, offset uint64) (uint64, error) {
	defer b.hold(c)
	from, to := int(offset-r.base), len(c.events)
	if from >= to {
		return 0, p.damaged(offset, r.end(), fmt.Errorf("the entry has %d records where its index has %d", to, r.count))
	}
	if c.err != nil { // some have no event
		if c.events[from].Event == nil {
			return 0, p.damaged(offset, offset+1, c.err)
		}
		if n := slices.IndexFunc(c.events[from:], func(s Stored) bool { return s.Event == nil }); n > 0 {
			to = from + n
		}
	}
	b.add(c.events[from:to], c.sizes[from:to])
	return r.base + uint64(to), nil
}

// readTail reads what is in memory; it says no where offset is not.
func (p *raftPartition) readTail(b *batch, offset uint64) (uint64, bool, error) {
	runs := p.tail.load()
	i, ok := find(runs, offset)
	if !ok {
		return offset, false, nil
	}
	began := offset
	for ; i < len(runs) && !b.full(); i++ {
		c := runs[i].content.Load()
		if c == nil || !c.acquire() {
			return offset, offset > began, nil // evicted just now
		}
		if !c.decode(&p.ch.shard.memories, runs[i]) {
			c.release()
			return offset, offset > began, nil // the same
		}
		next, err := p.takeFrom(b, c, runs[i], offset)
		if err != nil {
			return offset, true, err
		}
		offset = next
		if offset < runs[i].end() {
			break
		}
	}
	return offset, true, nil
}

// readDisk reads one entry's events through the shared cache.
func (p *raftPartition) readDisk(b *batch, offset uint64) (uint64, error) {
	s := p.ch.shard
	row, ok, err := s.group.Find(p.key, rowEvents, offset)
	if err != nil {
		return 0, fmt.Errorf("find offset %d of %v: %w", offset, p, err)
	}
	if floor := p.floor.Load(); offset < floor {
		return offset, nil // it has moved meanwhile: Read says so
	}
	if !ok {
		return 0, p.damaged(offset, p.end.Load(), errors.New("the log's index ends before the partition"))
	}
	if row.Base > offset {
		return 0, p.damaged(offset, row.Base, errors.New("the log's index has a gap"))
	}
	r, c, err := s.cache.get(row, func() (*run, int64, error) { return p.load(row) })
	if err != nil {
		return 0, p.damagedBy(offset, row, err)
	}
	return p.takeFrom(b, c, r, offset)
}

// load reads and decodes a run from disk, and says what it takes in memory.
func (p *raftPartition) load(row raftlog.Row) (*run, int64, error) {
	s := p.ch.shard
	var in *memory
	e, err := s.group.ReadEntryInto(row.Index, func(size int) []byte {
		if in != nil {
			in.free()
		}
		in = s.memories.take(size, int(row.Count))
		return in.bytes
	})
	if err != nil {
		return nil, 0, err
	}
	runs, err := p.entryRuns(e, row.Count)
	if err != nil {
		return nil, 0, err
	}
	r := &run{partition: p, base: row.Base, time: e.Time}
	c := newContent(nil, nil)
	r.content.Store(c)
	whole, mine := 0, 0
	for _, cmd := range e.Commands {
		whole += len(cmd)
	}
	for _, raw := range runs {
		mine += len(raw.records)
		r.add(raw)
	}
	if c.memory = in; in != nil && mine < whole/2 {
		// Most of the entry is of no use here: do not keep it in memory.
		c.memory, whole = s.memories.copied(c.raw, int(r.count)), mine
		in.free()
	}
	c.decode(&s.memories, r)
	// Memory that is used again may have more room than this run needs.
	return r, max(int64(whole)+int64(r.count)*decodedSize, c.memory.size()), nil
}

func (p *raftPartition) damaged(from, to uint64, err error) error {
	return &DamagedError{Channel: p.ch.ident, Partition: p.number, Range: Range{from, to}, Position: -1, Err: err}
}

// damagedBy tells an entry that cannot be read for what it says from one that
// could not be read this time.
func (p *raftPartition) damagedBy(offset uint64, row raftlog.Row, err error) error {
	d, ok := errors.AsType[*segment.DamagedError](err)
	if !ok {
		return fmt.Errorf("read %v at offset %d: %w", p, offset, err)
	}
	return &DamagedError{
		Channel: p.ch.ident, Partition: p.number, Range: Range{offset, row.Base + uint64(row.Count)},
		File: d.File, Position: d.Offset, Err: err,
	}
}

// OffsetAt implements Partition.
func (p *raftPartition) OffsetAt(_ context.Context, t time.Time) (uint64, error) {
	at := t.UnixMicro()
	floor, end := p.Bounds()
	// The tail first: the index learns of an entry only after it was applied.
	runs := p.tail.load()
	if len(runs) > 0 && runs[0].time < at {
		i, _ := slices.BinarySearchFunc(runs, at, func(r *run, at int64) int {
			if r.time < at {
				return -1
			}
			return 1
		})
		if i == len(runs) {
			return max(end, runs[i-1].end()), nil
		}
		return max(floor, runs[i].base), nil
	}
	if len(runs) > 0 {
		end = min(end, runs[0].base)
	}
	row, ok, err := p.ch.shard.group.FindTime(p.key, rowEvents, at)
	if err != nil {
		return 0, fmt.Errorf("find %v of %v: %w", t.UTC(), p, err)
	}
	if ok {
		end = min(end, row.Base)
	}
	return max(floor, end), nil
}
