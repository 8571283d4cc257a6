package server

import (
	"context"
	"log/slog"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/apiserver"
	"github.com/leat-dev/leat/broker/controller"
	"github.com/leat-dev/leat/broker/eventtypes"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/cmd/leat/settings"
)

// recorder records the types of events; without a Recorder it does nothing.
type recorder struct{ *eventtypes.Recorder }

func newRecorder(s settings.Server, logger *slog.Logger) recorder {
	if !s.RecordEventTypes {
		return recorder{}
	}
	return recorder{eventtypes.New(eventtypes.Options{
		MaxPerBroker: s.MaxEventTypes, Rate: float64(s.EventTypeRate), Queue: s.EventTypeQueue, MaxBrokers: s.EventTypeBrokers,
		MaxText: int(s.EventTypeBytes), Backoff: s.EventTypeBackoff, Logger: logger,
	})}
}

func (r recorder) observe(id channel.ID, events []*event.Event) {
	if r.Recorder != nil {
		r.Observe(id, events)
	}
}

// knows says whether there is no use in observing these.
func (r recorder) knows(id channel.ID, events []*event.Event) bool {
	return r.Recorder == nil || r.Knows(id, events)
}

// start writes what is observed to the API.
func (r recorder) start(ctx context.Context, a *apiserver.Server, fail context.CancelCauseFunc, stops *stack) error {
	if r.Recorder == nil {
		return nil
	}
	client, _, err := controller.Connect(a.LoopbackConfig())
	if err != nil {
		return err
	}
	stops.push("event types", run(ctx, "event types", fail, func(ctx context.Context) error { return r.Run(ctx, client) }))
	return nil
}
