package controller

import (
	"context"
	"time"

	"github.com/leat-dev/leat/api/admission"
	"github.com/leat-dev/leat/api/annotations"
	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	"github.com/leat-dev/leat/api/event"
	eventingv1 "github.com/leat-dev/leat/api/eventing/v1"
	"github.com/leat-dev/leat/broker/status"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/dispatcher"
)

// reconcileTrigger makes a Trigger what is asked for.
func (c *Controller) reconcileTrigger(ctx context.Context, k key) error {
	was := get[*heldTrigger](c.caches, k)
	if was == nil {
		c.targets.remove(k)
		c.refs.set(k, nil)
		c.settling.done(k)
		return nil
	}
	t := was.DeepCopy()
	r := c.resolver(k)
	namespace, name := t.BrokerKey()
	of := key{kindBroker, namespace, name}
	r.refer(of.object())
	broker, exists := c.owner(of)
	var inherited *duckv1.DeliverySpec
	if exists {
		inherited = broker.delivery
	}
	delivery := merge(t.Spec.Delivery, inherited)

	subscriber, unresolved := r.destination(ctx, &t.Spec.Subscriber)
	sink, sinkProblem := r.deadLetterSink(ctx, delivery)
	dependency := r.dependency(ctx, t)
	r.done()

	progress := c.sets.progress(k, of, string(t.UID))
	settings, _ := annotations.ParseDelivery(t.Annotations, c.o.Limits)
	if ch := progress.ch; ch != nil {
		c.targets.set(k, ch.ID().UID, dispatcher.Target{
			UID: string(t.UID), Kind: kindTrigger, Namespace: t.Namespace, Name: t.Name, Channel: name,
			URL: subscriber, DeadLetterURL: sink, Delivery: c.policy(delivery),
			Reply: func(ctx context.Context, original *dispatcher.Original, reply *event.Event) error {
				return c.o.AcceptReply(ctx, ch, original, reply)
			},
			MaxInFlight: settings.MaxInFlight, MaxWaiting: settings.MaxWaiting,
		})
	} else {
		c.targets.remove(k)
	}

	var conds status.Conditions
	switch {
	case !exists:
		conds.No(eventingv1.TriggerBrokerReady, status.Problemf("BrokerNotFound", "Broker %s/%s not found: create it, or delete this Trigger and name another", namespace, name))
	case progress.ch == nil:
		conds.No(eventingv1.TriggerBrokerReady, status.Problemf("BrokerNotReady", "Broker %s/%s is not ready: see its conditions", namespace, name))
	default:
		conds.Yes(eventingv1.TriggerBrokerReady)
	}
	conds.Check(eventingv1.TriggerDependencyReady, dependency)
	conds.Check(eventingv1.TriggerSubscriberResolved, unresolved.Of("subscriber"))
	deadLetterSink(&conds, eventingv1.TriggerDeadLetterSinkResolved, delivery, sinkProblem)
	settling := c.subscribed(&conds, eventingv1.TriggerSubscriptionReady, of, progress, settings.Start)
	if settling && len(conds.Failing()) == 0 {
		c.settling.add(k)
		return nil
	}
	c.settling.done(k)
	c.pauses.Tell(&conds, string(t.UID))
	t.Status.SubscriberURI = subscriber
	t.Status.DeadLetterSinkURI = sink
	t.Status.ObservedGeneration = t.Generation
	t.Status.SetConditions(c.now(), conds...)
	return writeStatus(ctx, c, kindTrigger, t, &was.Status, &t.Status)
}

// subscribed says whether the log has a Trigger or Subscription. It is
// settling while the log is being told and is likely to have it in no time.
func (c *Controller) subscribed(conds *status.Conditions, kind string, of key, p progress, start annotations.Start) (settling bool) {
	switch {
	case p.ch == nil:
		conds.Unknown(kind, status.Problemf("NoLog", "there is no log yet for %s", of))
	case p.err != nil:
		conds.No(kind, status.Problemf("LogUnavailable", "the log of %s could not be told: %v; it is tried again", of, p.err))
	case !p.live:
		conds.Unknown(kind, status.Problemf("Subscribing", "the log of %s is being told", of))
		return time.Since(p.since) < c.o.Settle
	case start.At == "offset" && partitions(p.ch) > 1:
		conds.No(kind, status.Problemf("InvalidStartFrom", "%s=%d: an offset says where to start in one partition, but %s has %d: give a time",
			annotations.StartFrom, start.Offset, of, partitions(p.ch)))
	default:
		conds.Yes(kind)
	}
	return false
}

func partitions(ch channel.Channel) int { return len(ch.Partitions()) }

// dependency says what the object that a Trigger depends on lacks.
func (r *resolver) dependency(ctx context.Context, t *eventingv1.Trigger) *status.Problem {
	ref, err := admission.Dependency(t)
	if err != nil {
		return status.Problemf("InvalidDependency", "annotation %s: %v", eventingv1.DependencyAnnotation, err)
	}
	if ref == nil {
		return nil
	}
	o := r.name(ref)
	r.refer(o)
	return r.c.foreign.ready(ctx, o, ref.APIVersion).Of("dependency")
}
