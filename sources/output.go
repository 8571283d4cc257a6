package sources

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/broker/status"
	"github.com/leat-dev/leat/channel"
)

// positions is what an output needs of channel.Producers.
type positions interface {
	AppendFrom(ctx context.Context, producer string, sequence uint64, events []*event.Event) error
	Position(producer string) uint64
}

var _ positions = channel.Producers(nil)

// output hands events to a channel. It is used by one adapter.
type output struct {
	o         *Options
	producer  string
	to        channel.Channel
	producers positions
	overrides map[string]string
	position  uint64
	// stalled is told why nothing can be handed over for now, and nil when it
	// can again.
	stalled func(*status.Problem)
}

// newOutput makes an output that goes on from the highest position that the
// object has anywhere: its sink may have been another.
func newOutput(o *Options, producer string, to channel.Channel, overrides map[string]string, stalled func(*status.Problem)) (*output, error) {
	p, ok := to.(positions)
	if !ok {
		return nil, fmt.Errorf("the log of %s %s/%s keeps no positions of producers", to.ID().Kind, to.ID().Namespace, to.ID().Name)
	}
	out := &output{o: o, producer: producer, to: to, producers: p, overrides: overrides, stalled: stalled, position: p.Position(producer)}
	for _, ch := range o.Log.List() {
		if other, ok := ch.(positions); ok {
			out.position = max(out.position, other.Position(producer))
		}
	}
	return out, nil
}

// Position implements Output.
func (o *output) Position() uint64 { return o.position }

// Hand implements Output.
func (o *output) Hand(ctx context.Context, sequence uint64, e *event.Event) error {
	if sequence <= o.position {
		return nil
	}
	for name, value := range o.overrides {
		e.SetExtension(name, event.Value{Str: value})
	}
	if err := o.o.Admit(o.to.ID(), e); err != nil {
		return &RefusedError{err}
	}
	wait := o.o.MinBackoff
	for try := 1; ; try++ {
		err := o.append(ctx, sequence, e)
		if err == nil {
			o.position = sequence
			o.stalled(nil)
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, channel.ErrNotFound) || try > 1 {
			o.stalled(status.Problemf("NotTaken", "the log of the sink does not take events, which wait: %v", err))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
		wait = min(2*wait, o.o.MaxBackoff)
	}
}

// append is one attempt. What is on its way is waited for, also by an adapter
// that is being stopped: the next one may hand over to another log, and has to
// know whether this one has the event.
func (o *output) append(ctx context.Context, sequence uint64, e *event.Event) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.o.AppendTimeout)
	defer cancel()
	return o.producers.AppendFrom(ctx, o.producer, sequence, []*event.Event{e})
}
