package controller

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	"github.com/leat-dev/leat/api/eventing/v1beta3"
	messagingv1 "github.com/leat-dev/leat/api/messaging/v1"
	"github.com/leat-dev/leat/broker/status"
)

// reconcileEventType says whether what an EventType refers to is there. One
// that was recorded goes with its broker.
func (c *Controller) reconcileEventType(ctx context.Context, k key) error {
	was := get[*v1beta3.EventType](c.caches, k)
	if was == nil {
		c.refs.set(k, nil)
		return nil
	}
	t := was.DeepCopy()
	r := c.resolver(k)
	var conds status.Conditions
	missing := (*status.Problem)(nil)
	if ref := t.Spec.Reference; ref == nil {
		conds.Add(v1beta3.ReferenceExists, metav1.ConditionTrue, "ReferenceNotSet", "spec.reference is not set")
	} else {
		missing = r.exists(ctx, ref)
		conds.Check(v1beta3.ReferenceExists, missing)
	}
	r.done()
	if missing != nil && missing.Reason == reasonNotFound && t.Labels[v1beta3.RecordedLabel] == "true" {
		return c.forget(ctx, t)
	}
	t.Status.ObservedGeneration = t.Generation
	t.Status.SetConditions(c.now(), conds...)
	return writeStatus(ctx, c, kindEventType, t, &was.Status, &t.Status)
}

// forget deletes an EventType that was recorded.
func (c *Controller) forget(ctx context.Context, t *v1beta3.EventType) error {
	uid := t.UID
	err := c.o.Client.Resource(resourceOf(kindEventType)).Namespace(t.Namespace).Delete(ctx, t.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete EventType %s/%s, whose broker is gone: %w", t.Namespace, t.Name, err)
	}
	return nil
}

// exists says what keeps an object from being there.
func (r *resolver) exists(ctx context.Context, ref *duckv1.KReference) *status.Problem {
	o := r.name(ref)
	r.refer(o)
	if !o.watched() {
		return r.c.foreign.look(ctx, o, ref.APIVersion).problem
	}
	k := key{o.kind, o.namespace, o.name}
	there := false
	switch o.kind {
	case kindBroker, kindChannel, kindInMemoryChannel:
		_, there = r.c.owner(k)
	case kindService:
		there = get[*corev1.Service](r.c.caches, k) != nil
	case kindSubscription:
		there = get[*messagingv1.Subscription](r.c.caches, k) != nil
	default:
		return status.Problemf("NoEvents", "a %s has no events of its own: refer to a Broker, a channel or a source", o.kind)
	}
	if !there {
		return notFound(o)
	}
	return nil
}
