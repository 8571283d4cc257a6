package channel

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/raftlog"
)

// moveFloor moves a floor up to an offset by records in the log. What
// subscriptions have not seen below it is counted first, and the count is
// written with the floor that passes it.
func (s *Shard) moveFloor(ctx context.Context, t store, to uint64, reason string) error {
	floor, end := t.bounds()
	to = min(to, end)
	if t.l != nil {
		return s.moveLetters(ctx, t, floor, to, reason)
	}
	to = s.patience(t.p, to)
	for floor < to {
		step, err := s.stepFloor(ctx, t, floor, to, reason)
		if err != nil {
			return err
		}
		floor = step
	}
	return nil
}

// stepFloor moves a partition's floor by one record, and returns where to. The
// subscriptions do not change meanwhile: one that is made to begin in the past
// would not be among those whose loss is counted.
func (s *Shard) stepFloor(ctx context.Context, t store, floor, to uint64, reason string) (uint64, error) {
	release, err := t.p.ch.lockSubscriptions(ctx)
	if err != nil {
		return floor, fmt.Errorf("retention of %v: %w", t.p, err)
	}
	defer release()
	step := to
	waiting := t.p.waiting(floor, to)
	if len(waiting) > 0 {
		step = min(to, floor+s.o.RetentionStep)
	}
	outcomes, err := s.expired(ctx, t.p, waiting, floor, step, reason)
	if err != nil {
		return floor, fmt.Errorf("retention of %v: %w", t.p, err)
	}
	return step, s.proposeFloor(ctx, t, step, outcomes)
}

func (s *Shard) proposeFloor(ctx context.Context, t store, floor uint64, outcomes []Outcome) error {
	cmd := floorCommand{key: t.key, partition: t.p.key, floor: floor, outcomes: outcomes}
	_, err := s.propose(ctx, raftlog.Control, cmd.encode())
	switch {
	case errors.Is(err, ErrNotFound): // dropped meanwhile
		return nil
	case err != nil:
		return fmt.Errorf("move the floor of %v to %d: %w", t.p, floor, err)
	}
	if s.o.Expired != nil {
		for _, o := range outcomes {
			s.o.Expired(t.p.ch.ident, o.UID, t.l != nil, o.Count)
		}
	}
	return nil
}

// moveLetters drops dead letters, with an outcome that counts them.
func (s *Shard) moveLetters(ctx context.Context, t store, floor, to uint64, reason string) error {
	if to <= floor {
		return nil
	}
	n := uint32(min(to-floor, math.MaxUint32))
	outcome := Outcome{
		UID: t.l.uid, Kind: Expired, Offset: t.p.floor.Load(), Span: 1, Count: n,
		Reason: fmt.Sprintf("dead letters %d to %d: %s", floor, to-1, reason),
	}
	return s.proposeFloor(ctx, t, to, []Outcome{outcome})
}

// patience lets a floor stop, for one pass, at the position up to which
// deliveries are known to have come: the dispatcher's next commit is likely to
// say that it is further on.
func (s *Shard) patience(p *raftPartition, to uint64) uint64 {
	scan := p.scan.Load()
	if scan >= to || !p.anyTerm(scan, to) {
		delete(s.retention.seen, p.key)
		return to
	}
	if seen, ok := s.retention.seen[p.key]; ok && seen == scan {
		return to
	}
	s.retention.seen[p.key] = scan
	return scan
}

// anyTerm says whether a live term covers any of [from, to).
func (p *raftPartition) anyTerm(from, to uint64) bool {
	p.ch.mu.RLock()
	defer p.ch.mu.RUnlock()
	for _, h := range p.subs {
		for _, t := range h.terms {
			if t.from < to && from < t.to {
				return true
			}
		}
	}
	return false
}

// unseen is what a subscription has not been delivered, or is not known to
// have been, within one term.
type unseen struct {
	term   *term
	ranges []Range

	match func(*event.Event) bool // nil: whatever is in the ranges counts
	note  string
	count uint32
}

// waiting lists what would go unseen with [from, to).
func (p *raftPartition) waiting(from, to uint64) []*unseen {
	p.ch.mu.RLock()
	defer p.ch.mu.RUnlock()
	var out []*unseen
	scan := p.scan.Load()
	for _, h := range p.subs {
		if h.low(scan) >= to {
			continue
		}
		open := h.openRanges(scan, from, to)
		for _, t := range h.terms {
			if ranges := cut(open, t.from, t.to); len(ranges) > 0 {
				out = append(out, &unseen{term: t, ranges: ranges})
			}
		}
	}
	return out
}

// openRanges is what of [from, to) is not done.
func (h *holder) openRanges(scan, from, to uint64) []Range {
	if h.cursor == nil {
		return cut([]Range{{scan, to}}, from, to)
	}
	var open []Range
	at := h.cursor.Low
	for _, r := range h.cursor.Done {
		open = append(open, Range{at, r.From})
		at = r.To
	}
	// Above Next an attached one may have something open too: the scan's position
	// moves by commits of others, and only its lowest open event has to be stored.
	return cut(append(open, Range{at, to}), from, to)
}

// cut is what of the ranges lies in [from, to).
func cut(ranges []Range, from, to uint64) []Range {
	var out []Range
	for _, r := range ranges {
		if r = (Range{max(r.From, from), min(r.To, to)}); r.From < r.To {
			out = append(out, r)
		}
	}
	return out
}

const (
	expireEvents = 512
	expireBytes  = 4 << 20
)

// expired counts, for each that waits, the events of [from, to) that match it.
// What cannot be read or judged counts.
func (s *Shard) expired(ctx context.Context, p *raftPartition, waiting []*unseen, from, to uint64, reason string) ([]Outcome, error) {
	if len(waiting) == 0 {
		return nil, nil
	}
	for _, u := range waiting {
		u.ranges = cut(u.ranges, from, to)
		match, err := s.o.Compile(u.term.sub.Filter, u.term.sub.Engine)
		if err != nil {
			u.note = "; its filter cannot be judged, so all count"
			match = nil
		}
		u.match = match
	}
	for at := from; at < to; {
		stored, err := p.Read(ctx, at, int(min(expireEvents, to-at)), expireBytes)
		if passed, ok := errors.AsType[*PassedError](err); ok { // counted when it was passed
			at = passed.Range.To
			continue
		}
		if d, ok := errors.AsType[*DamagedError](err); ok {
			lost := Range{at, min(max(d.Range.To, at+1), to)}
			for _, u := range waiting {
				u.count += width(cut(u.ranges, lost.From, lost.To))
			}
			at = lost.To
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(stored) == 0 {
			break
		}
		for i := range stored {
			for _, u := range waiting {
				if u.has(stored[i].Offset) && (u.match == nil || u.match(stored[i].Event)) {
					u.count++
				}
			}
		}
		at += uint64(len(stored))
	}
	var out []Outcome
	for _, u := range waiting {
		if u.count > 0 {
			first, last := u.ranges[0].From, u.ranges[len(u.ranges)-1].To
			out = append(out, Outcome{
				UID: u.term.sub.UID, Kind: Expired, Offset: first, Span: uint32(min(last-first, math.MaxUint32)),
				Count: u.count, Reason: reason + u.note,
			})
		}
	}
	return out, nil
}

func (u *unseen) has(offset uint64) bool {
	for _, r := range u.ranges {
		if r.From <= offset && offset < r.To {
			return true
		}
	}
	return false
}

func width(ranges []Range) uint32 {
	n := uint64(0)
	for _, r := range ranges {
		n += r.To - r.From
	}
	return uint32(min(n, math.MaxUint32))
}
