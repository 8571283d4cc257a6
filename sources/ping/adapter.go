package ping

import (
	"context"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/sources"
)

// LateExtension marks the event of a tick that comes late.
const LateExtension = "leatlate"

// adapter hands over the ticks of one object.
type adapter struct {
	*Options
	schedule *Schedule
	since    time.Time // ticks up to here are none of this schedule's
	event    func(tick time.Time) *event.Event
}

var _ sources.Adapter = (*adapter)(nil)

// Run implements sources.Adapter.
func (a *adapter) Run(ctx context.Context, out sources.Output) error {
	last := a.since
	if p := out.Position(); p > 0 {
		if at := time.UnixMilli(int64(p)); at.After(last) {
			last = at
		}
	}
	if missed := a.schedule.Latest(last, a.Now()); !missed.IsZero() {
		if err := a.hand(ctx, out, missed, true); err != nil {
			return err
		}
		last = missed
	}
	for {
		tick := a.schedule.Next(last)
		if err := a.wait(ctx, tick); err != nil {
			return err
		}
		behind := a.Now().Sub(tick)
		if behind > a.MaxBehind {
			tick = a.schedule.Latest(last, a.Now())
		}
		if err := a.hand(ctx, out, tick, behind > a.LateAfter); err != nil {
			return err
		}
		last = tick
	}
}

// hand hands over the event of a tick.
func (a *adapter) hand(ctx context.Context, out sources.Output, tick time.Time, late bool) error {
	e := a.event(tick)
	if late {
		e.SetExtension(LateExtension, event.BooleanValue(true))
	}
	return out.Hand(ctx, uint64(tick.UnixMilli()), e)
}

// wait returns when the clock has reached a time, which is never where that is
// zero; or with ctx's error.
func (a *adapter) wait(ctx context.Context, until time.Time) error {
	for {
		left := a.ClockInterval
		if !until.IsZero() {
			left = min(until.Sub(a.Now()), a.ClockInterval)
		}
		if left <= 0 {
			return context.Cause(ctx)
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}
