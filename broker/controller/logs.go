package controller

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/leat-dev/leat/api/annotations"
	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	eventingv1 "github.com/leat-dev/leat/api/eventing/v1"
	messagingv1 "github.com/leat-dev/leat/api/messaging/v1"
	"github.com/leat-dev/leat/broker/status"
	"github.com/leat-dev/leat/channel"
)

// owner is a Broker, Channel or InMemoryChannel as the owner of a log.
type owner struct {
	k           key
	uid         string
	created     time.Time
	annotations map[string]string
	delivery    *duckv1.DeliverySpec
}

// owner is the owner of a log by its name; false where there is none.
func (c *Controller) owner(k key) (*owner, bool) {
	var o metav1.Object
	var delivery *duckv1.DeliverySpec
	switch k.kind {
	case kindBroker:
		b := get[*eventingv1.Broker](c.caches, k)
		if b == nil {
			return nil, false
		}
		o, delivery = b, b.Spec.Delivery
	case kindChannel:
		ch := get[*messagingv1.Channel](c.caches, k)
		if ch == nil {
			return nil, false
		}
		o, delivery = ch, ch.Spec.Delivery
		if t := ch.Spec.ChannelTemplate; delivery == nil && t != nil && t.Spec != nil {
			delivery = t.Spec.Delivery
		}
	case kindInMemoryChannel:
		ch := get[*messagingv1.InMemoryChannel](c.caches, k)
		if ch == nil {
			return nil, false
		}
		o, delivery = ch, ch.Spec.Delivery
	default:
		return nil, false
	}
	return &owner{
		k: k, uid: string(o.GetUID()), created: o.GetCreationTimestamp().Time,
		annotations: o.GetAnnotations(), delivery: delivery,
	}, true
}

// twin is the channel of the other kind that has the same path.
func twin(k key) (key, bool) {
	switch k.kind {
	case kindChannel:
		k.kind = kindInMemoryChannel
	case kindInMemoryChannel:
		k.kind = kindChannel
	default:
		return key{}, false
	}
	return k, true
}

// taken says whether an owner's path belongs to another: the one that has a
// log has it, else the older one.
func (c *Controller) taken(o *owner) *status.Problem {
	k, ok := twin(o.k)
	if !ok {
		return nil
	}
	other, ok := c.owner(k)
	if !ok {
		return nil
	}
	_, mine := c.o.Log.Get(o.uid)
	_, theirs := c.o.Log.Get(other.uid)
	first := mine
	if mine == theirs {
		first = o.created.Before(other.created) || o.created.Equal(other.created) && o.uid < other.uid
	}
	if first {
		return nil
	}
	return status.Problemf("NameTaken", "the %s has the address that this one would have: delete one of them, or choose another name", other.k)
}

// ensure makes the log of an owner what is asked for. The problem is what
// keeps the owner from having a log; an error is to be tried again.
func (c *Controller) ensure(ctx context.Context, k key) (*status.Problem, error) {
	o, ok := c.owner(k)
	if !ok {
		c.detach(k)
		return nil, nil
	}
	if p := c.taken(o); p != nil {
		c.sets.attach(k, nil)
		if _, ok := c.o.Log.Get(o.uid); ok {
			c.shelve(o.uid)
		}
		return p, nil
	}
	// What is malformed was refused at admission.
	settings, _ := annotations.ParseLog(o.annotations, c.o.Limits)
	ch, err := c.o.Log.Ensure(ctx, channel.ID{Kind: logKind(k.kind), Namespace: k.namespace, Name: k.name, UID: o.uid}, channel.Config{
		Partitions: max(settings.Partitions, 1), RetentionAge: settings.Retention, RetentionBytes: settings.RetentionBytes,
	})
	if err != nil {
		return status.Problemf("LogUnavailable", "the log cannot be opened: %v", err), err
	}
	before, fresh := c.sets.attach(k, ch)
	if before != "" {
		c.forsake(before)
	}
	c.o.Registry.undoom(o.uid)
	c.o.Dispatcher.Attach(ch)
	if fresh {
		c.scheduleFlush(k)
		c.enqueueDependents(k.object())
	}
	return nil, nil
}

// detach ends the service of a log, and drops it where its owner is gone.
func (c *Controller) detach(k key) {
	before, _ := c.sets.attach(k, nil)
	if before != "" {
		c.forsake(before)
		c.enqueueDependents(k.object())
	}
}

// deliveries are those of the owners, as last seen.
type deliveries struct {
	mu sync.Mutex
	of map[key]*duckv1.DeliverySpec
}

// changed notes an owner's delivery and says whether it is another.
func (d *deliveries) changed(k key, is *duckv1.DeliverySpec) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	was, ok := d.of[k]
	if ok && equality.Semantic.DeepEqual(was, is) {
		return false
	}
	if d.of == nil {
		d.of = map[key]*duckv1.DeliverySpec{}
	}
	d.of[k] = is
	return true
}

func (d *deliveries) forget(k key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.of, k)
}

// reconcileLog makes a Broker or channel what is asked for.
func (c *Controller) reconcileLog(ctx context.Context, k key) error {
	o, ok := c.owner(k)
	if !ok {
		c.detach(k)
		c.given.forget(k)
		c.refs.set(k, nil)
		c.enqueueDependents(k.object())
		return nil
	}
	unavailable, err := c.ensure(ctx, k)
	r := c.resolver(k)
	sink, sinkProblem := r.deadLetterSink(ctx, o.delivery)
	r.done()
	if c.given.changed(k, o.delivery) {
		c.enqueueDependents(k.object())
	}
	if wrong := c.writeLogStatus(ctx, o, unavailable, sink, sinkProblem); wrong != nil {
		return wrong
	}
	return err
}

// logStatus is the part of a status that all owners share.
func (c *Controller) logStatus(o *owner, ready []string, sinkKind string, unavailable *status.Problem, sinkProblem *status.Problem) (status.Conditions, duckv1.AddressStatus) {
	var conds status.Conditions
	var at duckv1.AddressStatus
	for i, kind := range ready {
		switch {
		case unavailable == nil:
			conds.Yes(kind)
		case i == 0:
			conds.No(kind, unavailable)
		default:
			conds.Unknown(kind, unavailable)
		}
	}
	if unavailable == nil {
		scheme := c.base.Scheme
		at.Address = &duckv1.Addressable{Name: &scheme, URL: c.address(o.k)}
	}
	deadLetterSink(&conds, sinkKind, o.delivery, sinkProblem)
	return conds, at
}

func (c *Controller) writeLogStatus(ctx context.Context, o *owner, unavailable *status.Problem, sink string, sinkProblem *status.Problem) error {
	k := o.k
	switch k.kind {
	case kindBroker:
		was := get[*eventingv1.Broker](c.caches, k)
		if was == nil {
			return nil
		}
		is := was.DeepCopy()
		conds, at := c.logStatus(o, []string{
			eventingv1.BrokerTriggerChannelReady, eventingv1.BrokerIngressReady, eventingv1.BrokerFilterReady, eventingv1.BrokerAddressable,
		}, eventingv1.BrokerDeadLetterSinkResolved, unavailable, sinkProblem)
		is.Status.AddressStatus, is.Status.DeadLetterSinkURI = at, sink
		is.Status.ObservedGeneration = is.Generation
		is.Status.SetConditions(c.now(), conds...)
		return writeStatus(ctx, c, k.kind, is, &was.Status, &is.Status)
	case kindChannel:
		was := get[*messagingv1.Channel](c.caches, k)
		if was == nil {
			return nil
		}
		is := was.DeepCopy()
		conds, at := c.logStatus(o, []string{messagingv1.ChannelBackingChannelReady, messagingv1.ChannelAddressable},
			messagingv1.ChannelDeadLetterSinkResolved, unavailable, sinkProblem)
		is.Status.AddressStatus, is.Status.DeadLetterSinkURI = at, sink
		is.Status.Subscribers = c.sets.subscribers(k, c.o.MaxListed)
		is.Status.ObservedGeneration = is.Generation
		is.Status.SetConditions(c.now(), conds...)
		return writeStatus(ctx, c, k.kind, is, &was.Status, &is.Status)
	default:
		was := get[*messagingv1.InMemoryChannel](c.caches, k)
		if was == nil {
			return nil
		}
		is := was.DeepCopy()
		conds, at := c.logStatus(o, []string{messagingv1.ChannelChannelServiceReady, messagingv1.ChannelAddressable},
			messagingv1.ChannelDeadLetterSinkResolved, unavailable, sinkProblem)
		is.Status.AddressStatus, is.Status.DeadLetterSinkURI = at, sink
		is.Status.Subscribers = c.sets.subscribers(k, c.o.MaxListed)
		is.Status.ObservedGeneration = is.Generation
		is.Status.SetConditions(c.now(), conds...)
		return writeStatus(ctx, c, k.kind, is, &was.Status, &is.Status)
	}
}
