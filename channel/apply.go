package channel

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/leat-dev/leat/raftlog"
)

// Apply implements raftlog.Machine. The results are nil or the *raftChannel
// that was made, or an error: ErrNotFound of what was dropped, ErrStale of a
// change of subscriptions, or a refusal to shrink or grow a channel. An append
// to a partition that exists is never refused.
func (s *Shard) Apply(e *raftlog.Entry) []any {
	s.lastTime.Store(max(s.lastTime.Load(), e.Time))
	var results []any // mostly none says anything
	set := func(i int, r any) {
		if results == nil {
			results = make([]any, len(e.Commands))
		}
		results[i] = r
	}
	for i, cmd := range e.Commands {
		if s.broken == nil {
			s.broken = s.unknown(e, i, cmd)
		}
		if s.broken != nil {
			set(i, s.broken)
			continue
		}
		r, err := s.applyOne(e, i, cmd)
		if err != nil {
			set(i, fmt.Errorf("entry %d, command %d: %w", e.Index, i, err))
			continue
		}
		if r != nil {
			set(i, r)
		}
	}
	s.publish(e)
	return results
}

// unknown: a command of a later version can be neither applied nor passed over
// without becoming another log than the other members'. Nothing more is
// applied; what is there can be read.
func (s *Shard) unknown(e *raftlog.Entry, i int, cmd []byte) error {
	if len(cmd) > 0 && cmd[0] >= kindEnsure && cmd[0] <= kindPass {
		return nil
	}
	kind := 0
	if len(cmd) > 0 {
		kind = int(cmd[0])
	}
	return fmt.Errorf("shard %d stands still at entry %d, command %d: kind %d is not known to this version; run the version that wrote it",
		s.o.Number, e.Index, i, kind)
}

func (s *Shard) applyOne(e *raftlog.Entry, ordinal int, cmd []byte) (any, error) {
	body := cmd[1:]
	switch cmd[0] {
	case kindAppend:
		return nil, s.applyAppend(e, body)
	case kindProduce:
		return nil, s.applyProduce(e, ordinal, body)
	case kindCommit:
		c, err := decodeCommit(body)
		if err != nil {
			return nil, err
		}
		return nil, s.applyCommit(&c)
	case kindTerms:
		c, err := decodeTerms(body)
		if err != nil {
			return nil, err
		}
		return nil, s.applyTerms(&c)
	case kindFloor:
		c, err := decodeFloor(body)
		if err != nil {
			return nil, err
		}
		return nil, s.applyFloor(&c)
	case kindPass:
		c, err := decodePass(body)
		if err != nil {
			return nil, err
		}
		if err := s.applyPass(&c); err != nil {
			s.skipOutcomes(e, ordinal, c.partition, len(c.outcomes))
			return nil, err
		}
		return nil, nil
	case kindEnsure:
		c, err := decodeEnsure(body)
		if err != nil {
			return nil, err
		}
		return s.applyEnsure(&c)
	case kindDrop:
		num, err := decodeDrop(body)
		if err != nil {
			return nil, err
		}
		return nil, s.applyDrop(num)
	}
	return nil, errFormat
}

// applyAppend looks at the whole command before it takes any of it.
func (s *Shard) applyAppend(e *raftlog.Entry, body []byte) error {
	var err error
	if s.runs, err = splitRuns(s.runs[:0], body); err != nil {
		return fmt.Errorf("append: %w", err)
	}
	defer clear(s.runs)
	for _, r := range s.runs {
		if s.parts[r.partition] == nil {
			return fmt.Errorf("append: partition id %d: %w", r.partition, ErrNotFound)
		}
	}
	for _, r := range s.runs {
		p := s.parts[r.partition]
		if p.open == nil {
			p.open = &run{partition: p, base: p.next, time: e.Time}
			p.open.content.Store(newContent(e.Buffer, s.room()))
		}
		p.open.add(r)
		p.openBytes += uint32(len(r.records))
		p.next += uint64(r.count)
		s.touch(p)
	}
	return nil
}

// The room in which runs gather what they are made of, that is kept for later
// entries: for so many partitions at once, and so many appends to each.
const (
	mostRooms = 16
	mostRoom  = 4096
)

// room is some for a run in the making.
func (s *Shard) room() (r [][]byte) {
	if n := len(s.rooms); n > 0 {
		r, s.rooms = s.rooms[n-1], s.rooms[:n-1]
	}
	return r
}

// fit gives a run that is complete as little room as it needs: it may be kept for
// long.
func (s *Shard) fit(c *runContent) {
	room := c.raw
	c.raw = slices.Clone(room)
	if clear(room); cap(room) <= mostRoom && len(s.rooms) < mostRooms {
		s.rooms = append(s.rooms, room[:0])
	}
}

func (s *Shard) touch(p *raftPartition) {
	if !p.isTouched {
		p.isTouched = true
		s.touched = append(s.touched, p)
	}
}

// wake tells those who wait that the partition's terms have changed.
func (s *Shard) wake(p *raftPartition) {
	if !p.isWoken {
		p.isWoken = true
		s.woken = append(s.woken, p)
	}
}

// index tells the log where an entry's events, outcomes and dead letters lie.
func (s *Shard) index(e *raftlog.Entry) {
	for _, p := range s.touched {
		if p.newOutcomes > 0 {
			e.AddRow(p.key, rowOutcomes, p.outcomes.Load(), p.newOutcomes, 0)
		}
		if p.open != nil {
			e.AddRow(p.key, rowEvents, p.open.base, p.open.count, p.openBytes)
		}
	}
	for _, l := range s.touchedLetters {
		e.AddRow(l.key, rowDeadLetters, l.next-uint64(l.newCount), l.newCount, l.newBytes)
	}
	e.IndexRows()
}

// publish makes an entry's events visible, after all else in it: whoever sees
// an event can see the terms that hold for it, and finds it in the index.
func (s *Shard) publish(e *raftlog.Entry) {
	s.index(e)
	s.show(e)
	for i, p := range s.woken {
		p.isWoken = false
		end, changes := p.end.Load(), p.ch.changes.Load()
		if p.ch.gone.Load() {
			end = math.MaxUint64
		}
		p.notice.wake(end, changes)
		s.woken[i] = nil
	}
	s.woken = s.woken[:0]
}

// show moves the ends of partitions and dead letter logs, in memory first.
func (s *Shard) show(e *raftlog.Entry) {
	s.tail.mu.Lock()
	defer s.tail.mu.Unlock()
	var runs []*run
	for i, p := range s.touched {
		p.outcomes.Add(uint64(p.newOutcomes))
		p.newOutcomes = 0
		if p.open != nil {
			c := p.open.content.Load()
			s.fit(c)
			if !p.ch.gone.Load() {
				c.hold()
				p.tail.push(p.open)
				runs = append(runs, p.open)
			}
			p.open, p.openBytes = nil, 0
			p.end.Store(p.next)
			s.wake(p)
		}
		p.isTouched = false
		s.touched[i] = nil
	}
	s.touched = s.touched[:0]
	for i, l := range s.touchedLetters {
		l.newCount, l.newBytes, l.isTouched = 0, 0, false
		l.end.Store(l.next)
		s.touchedLetters[i] = nil
	}
	s.touchedLetters = s.touchedLetters[:0]
	if len(runs) > 0 {
		s.tail.add(e, runs)
	}
}

var (
	errShrink  = errors.New("a channel's partitions cannot become fewer")
	errOrdered = errors.New("a channel cannot get more partitions while a subscription asks for delivery in order: its keys would move")
)

func (s *Shard) applyEnsure(c *ensureCommand) (any, error) {
	ch := s.byUID[c.id.UID]
	if ch != nil {
		have := len(*ch.parts.Load())
		if c.config.Partitions < have {
			return nil, fmt.Errorf("%v has %d partitions, %d are asked for: %w", ch, have, c.config.Partitions, errShrink)
		}
		if c.config.Partitions > have && ch.hasOrdered() {
			return nil, fmt.Errorf("%v: %w", ch, errOrdered)
		}
	}
	isNew := ch == nil
	if isNew {
		ch = s.newChannel(s.newKey(), c.id, c.config)
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if isNew {
		s.addChannel(ch)
	}
	ch.config = c.config
	have := make(map[int]bool)
	for _, p := range *ch.parts.Load() {
		have[p.Number()] = true
	}
	for _, n := range c.partitions {
		if have[int(n.number)] {
			continue
		}
		have[int(n.number)] = true
		p := s.addPartition(ch, s.newKey(), int(n.number), n.homes)
		for _, sub := range ch.subs {
			p.openTerm(sub, true, 0, ch.changes.Load())
		}
	}
	return ch, nil
}

func (c *raftChannel) hasOrdered() bool {
	for _, sub := range c.subs {
		if sub.Ordered {
			return true
		}
	}
	return false
}

func (s *Shard) applyDrop(num uint32) error {
	ch := s.channels[num]
	if ch == nil {
		return fmt.Errorf("drop: channel id %d: %w", num, ErrNotFound)
	}
	ch.gone.Store(true)
	s.mu.Lock()
	s.removeChannel(ch)
	s.mu.Unlock()
	for _, p := range ch.partitions() {
		s.tail.clear(p)
		s.wake(p)
	}
	return nil
}
