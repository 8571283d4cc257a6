package channel

import (
	"cmp"
	"container/list"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/raftlog"
)

// Producers is what a Channel of the log in this package offers to those who
// append from something they can read again from a known place: a history, a
// partition of a foreign log, a list of ticks. The place is kept with the
// events, by the same entry, so that each is appended exactly once over
// retries and restarts. A backend that cannot does without.
type Producers interface {
	// AppendFrom is Append by a producer: where sequence is above the producer's
	// position, the events are appended and the position becomes sequence, both
	// or neither; otherwise nothing happens, and it is no error. Without events
	// only the position moves. After an error that leaves the outcome unknown it
	// may be called again as it was, and nothing else may be until the outcome is
	// known. A producer appends from one place at a time: of two calls at once,
	// the one with the lower sequence may be dropped.
	AppendFrom(ctx context.Context, producer string, sequence uint64, events []*event.Event) error
	// AppendAfter is AppendFrom by a producer whose events need not end where they
	// did in an earlier attempt, which may still be on its way: they are what
	// comes after a position up to sequence. ErrStale where the position is
	// neither that nor sequence or above: read it, and go on from there.
	//
	// A channel keeps the positions of Options.MaxProducers producers. Beyond
	// that the one that has not been used for the longest time is forgotten.
	AppendAfter(ctx context.Context, producer string, after, sequence uint64, events []*event.Event) error
	// Position is the sequence of the producer's last append that is applied, 0
	// where there is none.
	Position(producer string) uint64
}

var _ Producers = (*raftChannel)(nil)

// maxProducerName bounds a producer's name, in bytes.
const maxProducerName = 253

// AppendFrom implements Producers.
func (c *raftChannel) AppendFrom(ctx context.Context, producer string, sequence uint64, events []*event.Event) error {
	return c.produce(ctx, producer, produceCommand{sequence: sequence}, events)
}

// AppendAfter implements Producers.
func (c *raftChannel) AppendAfter(ctx context.Context, producer string, after, sequence uint64, events []*event.Event) error {
	return c.produce(ctx, producer, produceCommand{isAfter: true, after: after, sequence: sequence}, events)
}

func (c *raftChannel) produce(ctx context.Context, producer string, cmd produceCommand, events []*event.Event) error {
	sequence := cmd.sequence
	switch {
	case producer == "" || len(producer) > maxProducerName:
		return fmt.Errorf("append to %v: the producer's name must have 1 to %d bytes, not %d", c, maxProducerName, len(producer))
	case sequence == 0:
		return fmt.Errorf("append to %v: producer %q: a sequence begins with 1; 0 stands for no position", c, producer)
	}
	if err := c.appendable(); err != nil {
		return err
	}
	if sequence <= c.Position(producer) {
		return nil
	}
	cmd.channel, cmd.producer, cmd.keep = c.num, producer, uint32(c.shard.o.MaxProducers)
	b := cmd.encode()
	if len(events) > 0 {
		b = encodeRuns(b, *c.parts.Load(), events)
	}
	if _, err := c.shard.propose(ctx, raftlog.Events, b); err != nil {
		return fmt.Errorf("append to %v: producer %q, sequence %d: %w", c, producer, sequence, err)
	}
	return nil
}

// Position implements Producers.
func (c *raftChannel) Position(producer string) uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.producers.position(producer)
}

// produceCommand is an append with a producer's position; the runs follow it,
// as in an append. The bound is part of the command, for members may be
// configured differently. Result: nil, also where it was dropped, or ErrStale.
type produceCommand struct {
	channel  uint32
	producer string
	sequence uint64
	keep     uint32
	isAfter  bool // after is the position that it rests on
	after    uint64
	runs     []byte
}

func (c *produceCommand) encode() []byte {
	b := binary.AppendUvarint([]byte{kindProduce}, uint64(c.channel))
	b = appendString(b, c.producer)
	b = binary.AppendUvarint(b, c.sequence)
	b = binary.AppendUvarint(b, uint64(c.keep))
	if c.isAfter {
		b = binary.AppendUvarint(append(b, 1), c.after)
	} else {
		b = append(b, 0)
	}
	return append(b, c.runs...)
}

func decodeProduce(b []byte) (c produceCommand, err error) {
	d := decoder{b: b}
	c = produceCommand{channel: d.uint32(), producer: d.string(), sequence: d.uvarint(), keep: d.uint32(), isAfter: d.byte() == 1}
	if c.isAfter {
		c.after = d.uvarint()
	}
	c.runs = d.b
	return c, d.err
}

// applyProduce takes the runs and the position, or neither. Of what is not
// taken, readers of the entry learn by the index.
func (s *Shard) applyProduce(e *raftlog.Entry, ordinal int, body []byte) error {
	c, err := decodeProduce(body)
	if err != nil {
		return fmt.Errorf("append of a producer: %w", err)
	}
	ch := s.channels[c.channel]
	if ch == nil {
		return fmt.Errorf("append of producer %q: channel id %d: %w", c.producer, c.channel, ErrNotFound)
	}
	position := ch.producers.position(c.producer)
	if c.sequence <= position {
		s.skip(e, ordinal, c.runs)
		return nil
	}
	if c.isAfter && c.after != position {
		s.skip(e, ordinal, c.runs)
		return fmt.Errorf("append of producer %q after %d: its position is %d: %w", c.producer, c.after, position, ErrStale)
	}
	if err := s.applyAppend(e, c.runs); err != nil {
		s.skip(e, ordinal, c.runs)
		return fmt.Errorf("producer %q, sequence %d: %w", c.producer, c.sequence, err)
	}
	ch.mu.Lock()
	ch.producers.set(c.producer, c.sequence, int(c.keep))
	ch.mu.Unlock()
	return nil
}

// ordinalBits is how much of a skipped row's base is the command's place in its
// entry; the rest is the entry's index.
const ordinalBits = 24

// skip notes in the index that a command's runs are no part of their partitions.
func (s *Shard) skip(e *raftlog.Entry, ordinal int, body []byte) {
	runs, _ := splitRuns(nil, body)
	slices.SortFunc(runs, func(a, b rawRun) int { return cmp.Compare(a.partition, b.partition) })
	runs = slices.CompactFunc(runs, func(a, b rawRun) bool { return a.partition == b.partition })
	for _, r := range runs {
		if s.parts[r.partition] != nil {
			e.AddRow(r.partition, rowSkipped, e.Index<<ordinalBits|uint64(ordinal), 1, 0)
		}
	}
}

// entryRuns are the runs of a partition in an entry, given the number of events
// that the index says it has there.
func (p *raftPartition) entryRuns(e *raftlog.Entry, count uint32) ([]rawRun, error) {
	var all []placedRun
	total := uint32(0)
	for i, cmd := range e.Commands {
		for _, r := range runsOf(cmd) {
			if r.partition == p.key {
				all = append(all, placedRun{r, i})
				total += r.count
			}
		}
	}
	// A run has at least one event, so only where there are more than the index
	// says has any been skipped.
	at := e.Index << ordinalBits
	for total > count {
		row, ok, err := p.ch.shard.group.Find(p.key, rowSkipped, at)
		if err != nil {
			return nil, err
		}
		if !ok || row.Index != e.Index {
			break
		}
		end := row.Base + uint64(row.Count)
		all = slices.DeleteFunc(all, func(r placedRun) bool {
			ordinal := e.Index<<ordinalBits | uint64(r.command)
			skipped := row.Base <= ordinal && ordinal < end
			if skipped {
				total -= r.count
			}
			return skipped
		})
		at = end
	}
	if total != count {
		return nil, fmt.Errorf("entry %d has %d events of the partition, the index says %d", e.Index, total, count)
	}
	runs := make([]rawRun, len(all))
	for i, r := range all {
		runs[i] = r.rawRun
	}
	return runs, nil
}

// placedRun is a run and the place of its command in the entry.
type placedRun struct {
	rawRun
	command int
}

// runsOf are the runs in a command, none where apply refused it for its form.
func runsOf(cmd []byte) []rawRun {
	if len(cmd) == 0 {
		return nil
	}
	body := cmd[1:]
	switch cmd[0] {
	case kindAppend:
	case kindProduce:
		c, err := decodeProduce(body)
		if err != nil {
			return nil
		}
		body = c.runs
	default:
		return nil
	}
	runs, _ := splitRuns(nil, body)
	return runs
}

// producers are the positions of a channel's producers, the one used last at
// the end. A nil *producers has none; set is Apply's.
type producers struct {
	byName map[string]*list.Element
	order  list.List // of producerPosition
}

type producerPosition struct {
	name     string
	sequence uint64
}

func (p *producers) position(name string) uint64 {
	if e := p.byName[name]; e != nil {
		return e.Value.(producerPosition).sequence
	}
	return 0
}

// ownProducers begins the names of the server's own producers, which are few:
// they are never forgotten, because what they read again is a whole history.
const ownProducers = "leat.dev/"

// set notes a producer's position, and forgets those used longest ago beyond
// the number to keep.
func (p *producers) set(name string, sequence uint64, keep int) {
	if p.byName == nil {
		p.byName = make(map[string]*list.Element)
	}
	if e := p.byName[name]; e != nil {
		e.Value = producerPosition{name, sequence}
		p.order.MoveToBack(e)
	} else {
		p.byName[name] = p.order.PushBack(producerPosition{name, sequence})
	}
	for e := p.order.Front(); e != p.order.Back() && p.order.Len() > max(keep, 1); {
		oldest, next := e.Value.(producerPosition), e.Next()
		if !strings.HasPrefix(oldest.name, ownProducers) {
			p.order.Remove(e)
			delete(p.byName, oldest.name)
		}
		e = next
	}
}

// list gives the positions in their order of use.
func (p *producers) list() []producerPosition {
	var all []producerPosition
	for e := p.order.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value.(producerPosition))
	}
	return all
}

func appendProducers(b []byte, all []producerPosition) []byte {
	b = binary.AppendUvarint(b, uint64(len(all)))
	for _, p := range all {
		b = appendString(b, p.name)
		b = binary.AppendUvarint(b, p.sequence)
	}
	return b
}

// producers reads positions; a name that comes twice is not what Write wrote.
func (d *decoder) producers(into *producers) {
	for n := d.count(); n > 0 && d.err == nil; n-- {
		name, sequence := d.string(), d.uvarint()
		if into.byName[name] != nil {
			d.fail("a producer is named twice")
			return
		}
		into.set(name, sequence, into.order.Len()+1)
	}
}
