package operations

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/filter"
)

// start is where a partition's stream begins.
type start struct {
	channel.Partition
	offset uint64
}

func positionsOf(starts []start) Positions {
	p := Positions{}
	for _, s := range starts {
		p[s.Number()] = s.offset
	}
	return p
}

// startOffsets are those of all partitions, or the status to refuse with.
func startOffsets(ctx context.Context, ch channel.Channel, q query) ([]start, int, error) {
	partitions := ch.Partitions()
	if q.since == "offset" && len(partitions) > 1 {
		return nil, http.StatusBadRequest, fmt.Errorf("an offset means one event only where there is one partition, and here are %d: say a time, beginning, or positions such as 0:17,1:4", len(partitions))
	}
	for n := range q.positions {
		if n >= len(partitions) {
			return nil, http.StatusBadRequest, fmt.Errorf("there is no partition %d: there are %d, numbered from 0", n, len(partitions))
		}
	}
	starts := make([]start, 0, len(partitions))
	for _, p := range partitions {
		floor, next := p.Bounds()
		s := start{p, next}
		switch q.since {
		case "beginning":
			s.offset = floor
		case "offset":
			s.offset = max(q.offset, floor)
		case "positions":
			// Whoever goes on has to be told of what has gone in the meantime, so
			// that the floor is no start; nor is there a reader of what is beyond
			// the end.
			if s.offset = q.positions[p.Number()]; s.offset > next {
				return nil, http.StatusBadRequest, fmt.Errorf("partition %d ends before offset %d, with %d: these are positions in another log, or in one that has lost events", p.Number(), s.offset, next)
			}
			if _, named := q.positions[p.Number()]; !named {
				s.offset = floor
			}
		case "time":
			at, err := p.OffsetAt(ctx, q.start)
			if err != nil {
				return nil, http.StatusInternalServerError, err
			}
			s.offset = at
		}
		starts = append(starts, s)
	}
	return starts, 0, nil
}

// stream sends a partition's matching events from its start on, until ctx ends
// or, where it does not follow, the end is reached. What it has to leave out it
// says.
func (h *handler) stream(ctx context.Context, p start, q query, out chan<- batch) error {
	offset := p.offset
	view := filter.NewView(nil)
	for {
		events, err := p.Read(ctx, offset, h.ReadEvents, h.ReadBytes)
		if gap := h.gap(p, err); gap != nil {
			if err := send(ctx, out, batch{partition: p.Number(), from: offset, gap: gap}); err != nil {
				return err
			}
			offset = gap.To
			continue
		}
		if err != nil {
			return err
		}
		if len(events) == 0 {
			if !q.follow {
				return nil
			}
			if err := p.Wait(ctx, offset, noTerms); err != nil {
				return err
			}
			continue
		}
		offset = events[len(events)-1].Offset + 1
		if events = q.matching(view, events); len(events) == 0 {
			continue
		}
		if err := send(ctx, out, batch{partition: p.Number(), events: events}); err != nil {
			return err
		}
	}
}

// gap is what a reader has to leave out after an error; nil where it cannot go
// on.
func (h *handler) gap(p start, err error) *Gap {
	if errors.Is(err, channel.ErrExpired) {
		floor, _ := p.Bounds() // retention was faster than this reader
		return &Gap{To: floor, Reason: GapExpired}
	}
	if passed := (*channel.PassedError)(nil); errors.As(err, &passed) {
		return &Gap{To: passed.Range.To, Reason: GapDamaged}
	}
	return nil
}

func send(ctx context.Context, out chan<- batch, b batch) error {
	select {
	case out <- b:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// noTerms makes Wait deaf to changes of terms.
const noTerms = ^uint64(0)
