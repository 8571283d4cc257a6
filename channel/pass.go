package channel

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"

	"github.com/leat-dev/leat/raftlog"
)

// PassedError says that an offset lies in a damaged range that was passed by an
// explicit command: nothing will be read there, and reading goes on at Range.To.
type PassedError struct {
	Channel   ID
	Partition int
	Range     Range
}

func (e *PassedError) Error() string {
	return fmt.Sprintf("%s %s/%s, partition %d: offsets %d to %d were damaged, and have been passed by command",
		e.Channel.Kind, e.Channel.Namespace, e.Channel.Name, e.Partition, e.Range.From, e.Range.To-1)
}

// Place is where a record is damaged, as a *DamagedError has it.
type Place struct {
	File     string // its last element is compared
	Position int64
}

// Passer is a Partition whose damaged ranges can be passed.
type Passer interface {
	// Pass gives up the damaged range that begins at an offset, for good: what
	// has not been delivered of it is recorded as outcome Damaged, for each
	// subscription that has a term there, and reading goes on behind it. The
	// caller names the damage, so that no other is passed by mistake; one that is
	// in no file has the zero Place.
	Pass(ctx context.Context, offset uint64, place Place) (Range, error)
}

var _ Passer = (*raftPartition)(nil)

// ErrNotDamaged: what Pass is to give up is not the damage that the caller names.
var ErrNotDamaged = errors.New("this is not the damage there")

// maxPassed bounds the ranges of a partition that were passed. It is part of the
// format, as all members must refuse alike.
const maxPassed = 1 << 12

var errPassed = fmt.Errorf("a partition cannot have more than %d damaged ranges passed: let retention drop some", maxPassed)

// Pass implements Passer.
func (p *raftPartition) Pass(ctx context.Context, offset uint64, place Place) (Range, error) {
	_, err := p.Read(ctx, offset, 1, 1)
	d, ok := errors.AsType[*DamagedError](err)
	switch {
	case !ok && err != nil:
		return Range{}, fmt.Errorf("pass offset %d of %v: %w", offset, p, err)
	case !ok:
		return Range{}, fmt.Errorf("pass offset %d of %v: %w: it can be read", offset, p, ErrNotDamaged)
	case d.File == "" && place != Place{}, d.File != "" && (filepath.Base(d.File) != filepath.Base(place.File) || d.Position != place.Position):
		return Range{}, fmt.Errorf("pass offset %d of %v: %w, which is: %w", offset, p, ErrNotDamaged, d)
	}
	cmd := passCommand{partition: p.key, passed: Range{offset, min(d.Range.To, p.end.Load())}}
	cmd.outcomes = p.unseenOf(cmd.passed, fmt.Sprintf("passed by command: %v", d.Err))
	if _, err := p.ch.shard.propose(ctx, raftlog.Control, cmd.encode()); err != nil {
		return Range{}, fmt.Errorf("pass offset %d of %v: %w", offset, p, err)
	}
	return cmd.passed, nil
}

// unseenOf makes an outcome for each term with something undelivered in a range.
// What cannot be read cannot be matched, so all of it counts.
func (p *raftPartition) unseenOf(r Range, reason string) (out []Outcome) {
	for _, u := range p.waiting(r.From, r.To) {
		first, last := u.ranges[0].From, u.ranges[len(u.ranges)-1].To
		out = append(out, Outcome{
			UID: u.term.sub.UID, Kind: Damaged, Offset: first, Span: uint32(min(last-first, math.MaxUint32)),
			Count: width(u.ranges), Code: -1, Reason: clip(reason, maxReason),
		})
	}
	slices.SortFunc(out, func(a, b Outcome) int { return cmp.Or(cmp.Compare(a.UID, b.UID), cmp.Compare(a.Offset, b.Offset)) })
	return out
}

// passCommand gives up a damaged range. Result: nil.
type passCommand struct {
	partition uint32
	passed    Range
	outcomes  []Outcome
}

func (c *passCommand) encode() []byte {
	b := binary.AppendUvarint([]byte{kindPass}, uint64(c.partition))
	b = binary.AppendUvarint(b, c.passed.From)
	b = binary.AppendUvarint(b, c.passed.To)
	uids := make(uidTable)
	for i := range c.outcomes {
		uids.add(c.outcomes[i].UID)
	}
	b = uids.append(b)
	return appendOutcomes(b, uids, c.outcomes)
}

func decodePass(b []byte) (c passCommand, err error) {
	d := decoder{b: b}
	c.partition, c.passed = d.uint32(), Range{d.uvarint(), d.uvarint()}
	uids := d.uids()
	c.outcomes = d.outcomes(uids)
	return c, d.done()
}

// applyPass notes the range; cursors move by commits, as they always do.
func (s *Shard) applyPass(c *passCommand) error {
	p := s.parts[c.partition]
	if p == nil {
		return fmt.Errorf("pass: partition id %d: %w", c.partition, ErrNotFound)
	}
	passed := p.withPassed(Range{max(c.passed.From, p.floor.Load()), min(c.passed.To, p.next)})
	if len(passed) > maxPassed {
		return fmt.Errorf("pass: %v: %w", p, errPassed)
	}
	s.addOutcomes(p, len(c.outcomes))
	p.passed.Store(&passed)
	s.wake(p)
	return nil
}

// skipOutcomes notes in the index that a command's outcomes are none.
func (s *Shard) skipOutcomes(e *raftlog.Entry, ordinal int, partition uint32, n int) {
	if n > 0 && s.parts[partition] != nil {
		e.AddRow(partition, rowSkipped, e.Index<<ordinalBits|uint64(ordinal), 1, 0)
	}
}

// withPassed is what has been passed, and a range more: sorted, disjoint, joined
// where they touch, and without what lies below the floor.
func (p *raftPartition) withPassed(r Range) []Range {
	all := slices.Clone(p.passedRanges())
	if r.From < r.To {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Range) int { return cmp.Compare(a.From, b.From) })
	var out []Range
	floor := p.floor.Load()
	for _, r := range all {
		switch n := len(out); {
		case r.To <= floor:
		case n > 0 && out[n-1].To >= r.From:
			out[n-1].To = max(out[n-1].To, r.To)
		default:
			out = append(out, r)
		}
	}
	return out
}

func (p *raftPartition) passedRanges() []Range {
	if r := p.passed.Load(); r != nil {
		return *r
	}
	return nil
}

// passedAt is the error of an offset that has been passed.
func (p *raftPartition) passedAt(offset uint64) error {
	for _, r := range p.passedRanges() {
		if r.From <= offset && offset < r.To {
			return &PassedError{Channel: p.ch.ident, Partition: p.number, Range: r}
		}
	}
	return nil
}
