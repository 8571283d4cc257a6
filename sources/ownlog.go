package sources

import (
	"context"
	"fmt"

	"github.com/leat-dev/leat/broker/controller"
	"github.com/leat-dev/leat/broker/status"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/dispatcher"
	"github.com/leat-dev/leat/filter"
)

// outlet is the channel that takes a source's events: that of its sink, else
// one of its own, which is made; nil while the sink does not resolve. What is
// in its own from before goes to the sink of now.
func (c *Controller) outlet(ctx context.Context, k key, uid string, sink controller.Sink, unresolved *status.Problem) (channel.Channel, *status.Problem) {
	own, ok := c.o.Log.Get(uid)
	if !ok && (unresolved != nil || sink.Channel != nil) {
		return sink.Channel, nil
	}
	if !ok {
		var err error
		own, err = c.o.Log.Ensure(ctx, channel.ID{Kind: k.kind, Namespace: k.namespace, Name: k.name, UID: uid}, channel.Config{Partitions: 1})
		if err != nil {
			return nil, status.Problemf("LogUnavailable", "the log of the source cannot be opened: %v", err)
		}
	}
	// The set never changes, so any version that stays the same will do.
	if err := own.SetSubscriptions(ctx, 1, []channel.Subscription{{UID: uid, Engine: filter.Engine, Start: channel.Start{At: "beginning"}}}); err != nil {
		return nil, status.Problemf("LogUnavailable", "the log of the source cannot be told its sink: %v", err)
	}
	c.o.Dispatcher.SetTarget(dispatcher.Target{
		UID: uid, Kind: k.kind, Namespace: k.namespace, Name: k.name, Channel: k.name, URL: sink.URL, Delivery: c.o.Delivery,
	})
	c.o.Dispatcher.Attach(own)
	if unresolved != nil || sink.Channel != nil {
		return sink.Channel, nil
	}
	return own, nil
}

// dropOthers drops the logs of objects that had this name and are gone; of all
// where uid is empty.
func (c *Controller) dropOthers(ctx context.Context, k key, uid string) error {
	for _, ch := range c.o.Log.List() {
		id := ch.ID()
		if id.Kind != k.kind || id.Namespace != k.namespace || id.Name != k.name || id.UID == uid {
			continue
		}
		c.o.Dispatcher.RemoveTarget(id.UID)
		detach, cancel := context.WithTimeout(ctx, c.o.DetachTimeout)
		err := c.o.Dispatcher.Detach(detach, id.UID)
		cancel()
		if err != nil {
			c.o.Logger.Info("the last cursors of a deleted source are lost with its log", "object", k.String(), "error", err)
		}
		if err := c.o.Log.Drop(ctx, id.UID); err != nil {
			return fmt.Errorf("drop the log of %v: %w", k, err)
		}
	}
	return nil
}

// owners are the objects that have a log, by its UID: those that are gone, too.
func (c *Controller) owners() map[string]key {
	all := map[string]key{}
	for _, ch := range c.o.Log.List() {
		id := ch.ID()
		if _, ok := c.kinds[id.Kind]; ok {
			all[id.UID] = key{id.Kind, id.Namespace, id.Name}
		}
	}
	return all
}
