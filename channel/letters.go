package channel

import (
	"context"
	"errors"
	"fmt"

	"github.com/leat-dev/leat/raftlog"
)

// addLetter gives a dead letter its place; the subscription gets its log with
// the first one. p.ch.mu is held.
func (s *Shard) addLetter(p *raftPartition, h *holder, size uint32) {
	l := h.letters
	if l == nil {
		s.mu.Lock()
		l = &letterLog{p: p, key: s.newKey(), uid: h.uid}
		s.letters[l.key] = l
		s.mu.Unlock()
		h.letters = l
	}
	l.next++
	l.newCount++
	l.newBytes += size
	if !l.isTouched {
		l.isTouched = true
		s.touchedLetters = append(s.touchedLetters, l)
	}
}

// lettersOf is a subscription's dead letter log; nil where it has none.
func (p *raftPartition) lettersOf(uid string) (*letterLog, error) {
	p.ch.mu.RLock()
	defer p.ch.mu.RUnlock()
	h := p.subs[uid]
	if h == nil {
		return nil, fmt.Errorf("%v has no subscription %s: %w", p, uid, ErrNotFound)
	}
	return h.letters, nil
}

// DeadLetterBounds implements History.
func (p *raftPartition) DeadLetterBounds(uid string) (floor, next uint64) {
	l, err := p.lettersOf(uid)
	if err != nil || l == nil {
		return 0, 0
	}
	floor = l.floor.Load()
	return floor, max(floor, l.end.Load())
}

// DeadLetters implements Partition. Positions below the floor are passed over.
func (p *raftPartition) DeadLetters(ctx context.Context, uid string, from uint64, limit int) ([]DeadLetter, error) {
	l, err := p.lettersOf(uid)
	if err != nil || l == nil {
		return nil, err
	}
	floor, end := l.floor.Load(), l.end.Load()
	var out []DeadLetter
	for at := max(from, floor); at < end && len(out) < limit; {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		row, ok, err := p.row(l.key, rowDeadLetters, at)
		if err != nil || !ok {
			return out, err
		}
		at = max(at, row.Base)
		letters, e, err := p.lettersIn(row, uid)
		if err != nil {
			return out, fmt.Errorf("dead letters of subscription %s from %d on: %w", uid, at, err)
		}
		for ; at < row.Base+uint64(row.Count) && len(out) < limit; at++ {
			letter, err := letters[at-row.Base].decode()
			if err != nil {
				return out, p.damaged(letter.Offset, letter.Offset+1, err)
			}
			letter.Position, letter.Time = at, e.Time
			out = append(out, letter)
		}
	}
	return out, nil
}

// row finds a row of what was published; there is none where its subscription or
// channel has ended since.
func (p *raftPartition) row(key uint32, kind uint8, at uint64) (raftlog.Row, bool, error) {
	row, ok, err := p.ch.shard.group.Find(key, kind, at)
	if err != nil {
		err = fmt.Errorf("find row %d of kind %d of %v: %w", at, kind, p, err)
	}
	return row, ok, err
}

// lettersIn are the dead letters of a row.
func (p *raftPartition) lettersIn(row raftlog.Row, uid string) ([]rawLetter, *raftlog.Entry, error) {
	e, err := p.ch.shard.group.ReadEntry(row.Index)
	if err != nil {
		return nil, nil, err
	}
	var letters []rawLetter
	for _, cmd := range e.Commands {
		if len(cmd) == 0 || cmd[0] != kindCommit {
			continue
		}
		c, err := decodeCommit(cmd[1:])
		if err != nil || c.partition != p.key {
			continue
		}
		for _, l := range c.letters {
			if l.letter.UID == uid {
				letters = append(letters, l)
			}
		}
	}
	// Where a subscription ended and came back within the entry, the last ones
	// are of the log that is there now.
	n := int(row.Count)
	if len(letters) < n {
		return nil, nil, errors.New("the entry has fewer dead letters than its index")
	}
	return letters[len(letters)-n:], e, nil
}

// Outcomes implements History.
func (p *raftPartition) Outcomes(ctx context.Context, from uint64, limit int) ([]Outcome, uint64, error) {
	end := p.outcomes.Load()
	var out []Outcome
	for from < end && len(out) < limit {
		if err := ctx.Err(); err != nil {
			return nil, from, context.Cause(ctx)
		}
		row, ok, err := p.row(p.key, rowOutcomes, from)
		if err != nil || !ok {
			return out, from, err
		}
		from = max(from, row.Base) // those before went with their events
		all, err := p.outcomesIn(row)
		if err != nil {
			return out, from, fmt.Errorf("outcomes of %v from %d on: %w", p, from, err)
		}
		n := min(limit-len(out), len(all)-int(from-row.Base))
		out = append(out, all[from-row.Base:][:n]...)
		from += uint64(n)
	}
	return out, from, nil
}

// outcomesIn are the outcomes of a row.
func (p *raftPartition) outcomesIn(row raftlog.Row) ([]Outcome, error) {
	e, err := p.ch.shard.group.ReadEntry(row.Index)
	if err != nil {
		return nil, err
	}
	all := p.outcomesBut(e, nil)
	if len(all) > int(row.Count) { // some have been refused
		refused, err := p.skippedIn(e)
		if err != nil {
			return nil, err
		}
		all = p.outcomesBut(e, refused)
	}
	if len(all) != int(row.Count) {
		return nil, fmt.Errorf("entry %d has %d outcomes, the index says %d", row.Index, len(all), row.Count)
	}
	return all, nil
}

// outcomesBut are the outcomes of an entry's commands, but for some.
func (p *raftPartition) outcomesBut(e *raftlog.Entry, refused map[int]bool) (all []Outcome) {
	for i, cmd := range e.Commands {
		if !refused[i] {
			all = append(all, p.outcomesOf(cmd)...)
		}
	}
	return all
}

// outcomesOf are a command's outcomes of the partition.
func (p *raftPartition) outcomesOf(cmd []byte) []Outcome {
	if len(cmd) == 0 {
		return nil
	}
	switch cmd[0] {
	case kindCommit:
		if c, err := decodeCommit(cmd[1:]); err == nil && c.partition == p.key {
			return c.outcomes
		}
	case kindFloor:
		if c, err := decodeFloor(cmd[1:]); err == nil && c.partition == p.key {
			return c.outcomes
		}
	case kindPass:
		if c, err := decodePass(cmd[1:]); err == nil && c.partition == p.key {
			return c.outcomes
		}
	}
	return nil
}

// skippedIn are the places of an entry's commands that the index says were not
// taken.
func (p *raftPartition) skippedIn(e *raftlog.Entry) (map[int]bool, error) {
	places := make(map[int]bool)
	for at := e.Index << ordinalBits; ; {
		row, ok, err := p.ch.shard.group.Find(p.key, rowSkipped, at)
		if err != nil {
			return nil, err
		}
		if !ok || row.Index != e.Index {
			return places, nil
		}
		end := row.Base + uint64(row.Count)
		for ; at < end; at++ {
			if at >= row.Base {
				places[int(at-e.Index<<ordinalBits)] = true
			}
		}
	}
}
