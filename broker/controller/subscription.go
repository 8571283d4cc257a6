package controller

import (
	"context"

	"github.com/leat-dev/leat/api/annotations"
	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	messagingv1 "github.com/leat-dev/leat/api/messaging/v1"
	"github.com/leat-dev/leat/broker/status"
	"github.com/leat-dev/leat/dispatcher"
)

// reconcileSubscription makes a Subscription what is asked for.
func (c *Controller) reconcileSubscription(ctx context.Context, k key) error {
	was := get[*messagingv1.Subscription](c.caches, k)
	if was == nil {
		c.targets.remove(k)
		c.refs.set(k, nil)
		return nil
	}
	s := was.DeepCopy()
	r := c.resolver(k)
	of := channelKey(s)
	r.refer(of.object())
	owner, exists := c.owner(of)
	var inherited *duckv1.DeliverySpec
	if exists {
		inherited = owner.delivery
	}
	delivery := merge(s.Spec.Delivery, inherited)
	to, unresolved := c.subscriptionAddresses(ctx, r, s, delivery)
	r.done()

	progress := c.sets.progress(k, of, string(s.UID))
	settings, _ := annotations.ParseDelivery(s.Annotations, c.o.Limits)
	if progress.ch != nil {
		target := dispatcher.Target{
			UID: string(s.UID), Kind: kindSubscription, Namespace: s.Namespace, Name: s.Name, Channel: of.name,
			URL: to.SubscriberURI, ReplyURL: to.ReplyURI, DeadLetterURL: to.DeadLetterSinkURI, Delivery: c.policy(delivery),
			MaxInFlight: settings.MaxInFlight, MaxWaiting: settings.MaxWaiting,
		}
		if s.Spec.Reply != nil && to.ReplyURI == "" {
			target.URL = "" // a reply that cannot be delivered would be lost
		}
		c.targets.set(k, progress.ch.ID().UID, target)
	} else {
		c.targets.remove(k)
	}

	var conds status.Conditions
	switch {
	case !exists:
		conds.No(messagingv1.SubscriptionChannelReady, status.Problemf("ChannelNotFound", "%s not found: create it, or delete this Subscription and name another", of))
	case progress.ch == nil:
		conds.No(messagingv1.SubscriptionChannelReady, status.Problemf("ChannelNotReady", "%s is not ready: see its conditions", of))
	default:
		conds.Yes(messagingv1.SubscriptionChannelReady)
	}
	conds.Check(messagingv1.SubscriptionReferencesResolved, unresolved)
	settling := c.subscribed(&conds, messagingv1.SubscriptionAddedToChannel, of, progress, settings.Start)
	if settling && len(conds.Failing()) == 0 {
		c.settling.add(k)
		return nil
	}
	c.settling.done(k)
	c.pauses.Tell(&conds, string(s.UID))
	s.Status.PhysicalSubscription = to
	s.Status.ObservedGeneration = s.Generation
	s.Status.SetConditions(c.now(), conds...)
	return writeStatus(ctx, c, kindSubscription, s, &was.Status, &s.Status)
}

// subscriptionAddresses resolves the references of a Subscription. The problem
// is the first that does not resolve; the others are resolved all the same.
func (c *Controller) subscriptionAddresses(ctx context.Context, r *resolver, s *messagingv1.Subscription, delivery *duckv1.DeliverySpec) (to messagingv1.PhysicalSubscription, first *status.Problem) {
	note := func(p *status.Problem) {
		if first == nil {
			first = p
		}
	}
	var p *status.Problem
	if s.Spec.Subscriber == nil {
		note(status.Problemf("NoSubscriber", "subscriber: there is none: set spec.subscriber"))
	} else {
		to.SubscriberURI, p = r.destination(ctx, s.Spec.Subscriber)
		note(p.Of("subscriber"))
	}
	if s.Spec.Reply != nil {
		to.ReplyURI, p = r.destination(ctx, s.Spec.Reply)
		note(p.Of("reply"))
	}
	to.DeadLetterSinkURI, p = r.deadLetterSink(ctx, delivery)
	note(p)
	return to, first
}
