package server

import (
	"context"
	"log/slog"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/leat-dev/leat/api/event"
	eventingv1 "github.com/leat-dev/leat/api/eventing/v1"
	"github.com/leat-dev/leat/apiserver"
	"github.com/leat-dev/leat/broker/controller"
	"github.com/leat-dev/leat/broker/system"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/cmd/leat/server/metrics"
	"github.com/leat-dev/leat/cmd/leat/settings"
	"github.com/leat-dev/leat/raftlog/kv"
)

// systemBroker is what the API keeps from being deleted.
func systemBroker() apiserver.Permanent {
	return apiserver.Permanent{
		GroupResource: schema.GroupResource{Group: eventingv1.GroupName, Resource: "brokers"},
		Namespace:     system.Namespace, Name: system.Name,
		Reason: "it is the system broker, on which every write to the API appears",
	}
}

// startSystem has the writes to the API appear on the system broker.
func startSystem(ctx context.Context, s settings.Server, l listeners, meta *kv.Store, a *apiserver.Server, r *controller.Registry, recorder recorder, m *metrics.Metrics, logger *slog.Logger, fail context.CancelCauseFunc, stops *stack) error {
	p, err := system.New(system.Options{
		History: meta, Plain: a.Plain, Source: l.apiURL(),
		Channel:      func() (channel.Channel, bool) { return r.Broker(system.Namespace, system.Name) },
		MaxDataBytes: int(s.SystemMaxDataBytes), StatusBurst: s.SystemStatusBurst, StatusInterval: s.SystemStatusInterval,
		PacedObjects: s.SystemPacedObjects, ChunkBytes: int(s.SystemChunkBytes), MaxSkipped: uint64(s.SystemMaxSkipped),
		Gather: gather(s), MinBackoff: s.SystemMinBackoff, MaxBackoff: s.SystemMaxBackoff,
		Published: func(id channel.ID, events []*event.Event, revision uint64) {
			m.Published(id, events, revision)
			recorder.observe(id, events)
		},
		Logger: logger,
	})
	if err != nil {
		return err
	}
	stops.push("system broker", run(ctx, "system broker", fail, p.Run))
	return nil
}
