package channel

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/raftlog"
)

// Log is all channels of this node. For now they live on one shard.
type Log struct {
	shard *Shard
}

// NewLog makes a log of a shard that has been bound to its group.
func NewLog(s *Shard) *Log { return &Log{shard: s} }

// ReadStats are those of all reads since the start.
func (l *Log) ReadStats() ReadStats { return l.shard.readStats() }

// Ensure makes a channel or brings its configuration up to date; nothing is
// written where it is. An error says what cannot be changed.
func (l *Log) Ensure(ctx context.Context, id ID, c Config) (Channel, error) {
	s := l.shard
	if c.Partitions == 0 {
		c.Partitions = 1
	}
	switch {
	case id.UID == "" || id.Kind == "" || id.Name == "":
		return nil, fmt.Errorf("channel %+v: kind, name and UID must be set", id)
	case c.Partitions < 1 || c.Partitions > s.o.MaxPartitions:
		return nil, fmt.Errorf("channel %s/%s: %d partitions, must be 1 to %d", id.Namespace, id.Name, c.Partitions, s.o.MaxPartitions)
	case c.RetentionAge < 0 || c.RetentionBytes < 0:
		return nil, fmt.Errorf("channel %s/%s: retention must not be negative", id.Namespace, id.Name)
	}
	if ch, ok := s.byUIDNow(id.UID); ok && ch.isAs(c) {
		return ch, nil
	}
	cmd := ensureCommand{id: id, config: c}
	for n := range c.Partitions {
		cmd.partitions = append(cmd.partitions, newPartition{number: uint32(n), homes: []interval{{from: 0, shard: s.o.Number}}})
	}
	r, err := s.propose(ctx, raftlog.Control, cmd.encode())
	if err != nil {
		return nil, fmt.Errorf("make channel %s %s/%s: %w", id.Kind, id.Namespace, id.Name, err)
	}
	return r.(*raftChannel), nil
}

// isAs says whether the channel has this configuration.
func (c *raftChannel) isAs(config Config) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.config == config && len(*c.parts.Load()) == config.Partitions
}

func (s *Shard) byUIDNow(uid string) (*raftChannel, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	ch, ok := s.byUID[uid]
	return ch, ok
}

// Get returns the channel with this UID.
func (l *Log) Get(uid string) (Channel, bool) {
	if ch, ok := l.shard.byUIDNow(uid); ok {
		return ch, true
	}
	return nil, false
}

// ByName returns the channel of this name, the latest where several had it.
func (l *Log) ByName(kind, namespace, n string) (Channel, bool) {
	l.shard.mu.RLock()
	defer l.shard.mu.RUnlock()
	same := l.shard.byName[name{kind, namespace, n}]
	if len(same) == 0 {
		return nil, false
	}
	return same[len(same)-1], true
}

// List returns all channels, in the order they were made.
func (l *Log) List() []Channel {
	all := l.shard.list()
	out := make([]Channel, len(all))
	for i, ch := range all {
		out[i] = ch
	}
	return out
}

func (s *Shard) list() []*raftChannel {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*raftChannel, 0, len(s.channels))
	for _, ch := range s.channels {
		all = append(all, ch)
	}
	slices.SortFunc(all, func(a, b *raftChannel) int { return int(int64(a.num) - int64(b.num)) })
	return all
}

// Drop removes a channel with all its events, cursors and dead letters. One
// that is not there is no error.
func (l *Log) Drop(ctx context.Context, uid string) error {
	ch, ok := l.shard.byUIDNow(uid)
	if !ok {
		return nil
	}
	if _, err := l.shard.propose(ctx, raftlog.Control, encodeDrop(ch.num)); err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("drop %v: %w", ch, err)
	}
	return nil
}

// propose makes an error that apply gave an error.
func (s *Shard) propose(ctx context.Context, class raftlog.Class, cmd []byte) (any, error) {
	return outcome(s.group.Propose(ctx, class, cmd))
}

func outcome(r any, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	if err, ok := r.(error); ok {
		return nil, err
	}
	return r, nil
}

// ID implements Channel.
func (c *raftChannel) ID() ID { return c.ident }

// Partitions implements Channel. The slice must not be modified.
func (c *raftChannel) Partitions() []Partition { return *c.parts.Load() }

// maxPooled is the largest buffer that is kept, in bytes.
const maxPooled = 1 << 20

// buffer is one for an append in the making, which is kept when it is done.
func (s *Shard) buffer() *[]byte {
	if buf, _ := s.buffers.Get().(*[]byte); buf != nil {
		return buf
	}
	return new([]byte)
}

func (s *Shard) keep(buf *[]byte) {
	if cap(*buf) <= maxPooled {
		s.buffers.Put(buf)
	}
}

// Append implements Channel.
func (c *raftChannel) Append(ctx context.Context, events []*event.Event) error {
	if len(events) == 0 {
		return nil
	}
	if err := c.appendable(); err != nil {
		return err
	}
	buf := c.shard.buffer()
	defer c.shard.keep(buf)
	var err error
	if g := c.shard.gatherer; g != nil && len(events) == 1 && len(events[0].Data) >= largeData {
		*buf = encodeHead((*buf)[:0], *c.parts.Load(), events[0])
		_, err = outcome(g.ProposeWith(ctx, raftlog.Events, *buf, events[0].Data))
	} else {
		*buf = encodeAppend((*buf)[:0], *c.parts.Load(), events)
		_, err = c.shard.propose(ctx, raftlog.Events, *buf)
	}
	if err != nil {
		return fmt.Errorf("append to %v: %w", c, err)
	}
	return nil
}

// largeData is from how many bytes on an event's data goes to the log from where
// it is.
const largeData = 4 << 10

// gatherer is a Group that takes commands of two pieces; *raftlog.Group is one.
type gatherer interface {
	ProposeWith(ctx context.Context, class raftlog.Class, cmd, data []byte) (any, error)
}

var _ gatherer = (*raftlog.Group)(nil)

// encodeHead makes an append of one event, but for the data that ends it.
func encodeHead(b []byte, parts []Partition, e *event.Event) []byte {
	p := parts[0]
	if len(parts) > 1 {
		p = parts[partitionOf(e.PartitionKey(), len(parts))]
	}
	return appendHead(append(b, kindAppend), p.(*raftPartition).key, e)
}

// appendable says why nothing can be appended now.
func (c *raftChannel) appendable() error {
	if c.gone.Load() {
		return fmt.Errorf("append to %v: %w", c, ErrNotFound)
	}
	if c.shard.overDisk.Load() {
		return fmt.Errorf("append to %v: the log has reached its bound on disk: %w", c, raftlog.ErrDiskFull)
	}
	return nil
}

// encodeAppend makes an append.
func encodeAppend(b []byte, parts []Partition, events []*event.Event) []byte {
	return encodeRuns(append(b, kindAppend), parts, events)
}

// encodeRuns writes one run for each partition concerned, in order.
func encodeRuns(b []byte, parts []Partition, events []*event.Event) []byte {
	if len(parts) == 1 {
		return appendEvents(b, parts[0].(*raftPartition), events)
	}
	byPart := make([][]*event.Event, len(parts))
	for _, e := range events {
		i := partitionOf(e.PartitionKey(), len(parts))
		byPart[i] = append(byPart[i], e)
	}
	for i, mine := range byPart {
		if len(mine) > 0 {
			b = appendEvents(b, parts[i].(*raftPartition), mine)
		}
	}
	return b
}

func appendEvents(b []byte, p *raftPartition, events []*event.Event) []byte {
	start := len(b)
	b = appendRun(b, p.key, len(events))
	for _, e := range events {
		b = appendRecord(b, e)
	}
	endRun(b, start)
	return b
}

// partitionOf is the partition of a key among n: FNV-1a of 64 bits with a
// final mix. It is part of the log's format, as order by key rests on it.
func partitionOf(key string, n int) int {
	h := uint64(14695981039346656037)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	return int(h % uint64(n))
}

// Commit implements Partition.
func (p *raftPartition) Commit(ctx context.Context, c Commit) error {
	if err := c.check(); err != nil {
		return fmt.Errorf("commit to %v: %w", p, err)
	}
	if _, err := p.ch.shard.propose(ctx, raftlog.Control, encodeCommit(p.key, &c)); err != nil {
		return fmt.Errorf("commit to %v: %w", p, err)
	}
	return nil
}
