package server

import (
	"context"
	"log/slog"

	"github.com/leat-dev/leat/api/admission"
	"github.com/leat-dev/leat/apiserver"
	"github.com/leat-dev/leat/broker"
	"github.com/leat-dev/leat/broker/controller"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/cmd/leat/settings"
	"github.com/leat-dev/leat/dispatcher"
	"github.com/leat-dev/leat/sources"
	"github.com/leat-dev/leat/sources/ping"
)

// startSources runs the sources of events, by what the controller of brokers
// and channels knows of their sinks.
func startSources(ctx context.Context, s settings.Server, a *apiserver.Server, c *controller.Controller, log *channel.Log, d *dispatcher.Dispatcher, i *broker.Ingress, logger *slog.Logger, fail context.CancelCauseFunc, stops *stack) error {
	client, _, err := controller.Connect(a.LoopbackConfig())
	if err != nil {
		return err
	}
	all, err := sources.New(sources.Options{
		Client: client, Kinds: ping.Kinds(ping.Options{LateAfter: s.SourceLateAfter, MaxBehind: s.SourceMaxBehind, ClockInterval: s.SourceClockInterval}),
		Sinks: func(kind string, changed func(namespace, name string)) sources.Resolver {
			return c.Sinks(kind, changed)
		},
		Log: log, Dispatcher: d, Admit: i.Admit,
		Delivery:      controller.Policy(admission.DefaultDelivery(), s.DeliveryTimeout),
		AppendTimeout: s.AppendTimeout, Workers: s.SourceWorkers, MinBackoff: s.SourceMinBackoff, MaxBackoff: s.SourceMaxBackoff,
		DetachTimeout: s.DetachTimeout, PauseInterval: s.PauseInterval, Logger: logger,
	})
	if err != nil {
		return err
	}
	stops.push("sources", run(ctx, "sources", fail, all.Run))
	return nil
}
