package controller

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	eventingv1 "github.com/leat-dev/leat/api/eventing/v1"
	messagingv1 "github.com/leat-dev/leat/api/messaging/v1"
	"github.com/leat-dev/leat/broker/operations"
)

// Resources are the Brokers, channels, Triggers and Subscriptions that there
// are, with what their conditions say.
func (c *Controller) Resources() []operations.Resource {
	var all []operations.Resource
	for _, kind := range []string{kindBroker, kindChannel, kindInMemoryChannel, kindTrigger, kindSubscription} {
		for _, v := range c.caches.informers[kind].GetStore().List() {
			if r, ok := asResource(kind, v); ok {
				all = append(all, r)
			}
		}
	}
	return all
}

func asResource(kind string, v any) (operations.Resource, bool) {
	switch o := v.(type) {
	case *eventingv1.Broker:
		return describe(kind, o, &o.Status.Status, nil), true
	case *messagingv1.Channel:
		return describe(kind, o, &o.Status.Status, nil), true
	case *messagingv1.InMemoryChannel:
		return describe(kind, o, &o.Status.Status, nil), true
	case *heldTrigger:
		namespace, name := o.BrokerKey()
		return describe(kind, o, &o.Status.Status, &key{kindBroker, namespace, name}), true
	case *messagingv1.Subscription:
		of := channelKey(o)
		return describe(kind, o, &o.Status.Status, &of), true
	}
	return operations.Resource{}, false
}

func describe(kind string, o metav1.Object, s *duckv1.Status, of *key) operations.Resource {
	r := operations.Resource{UID: string(o.GetUID()), Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName()}
	if of != nil {
		r.Of = operations.Name{Kind: logKind(of.kind), Namespace: of.namespace, Name: of.name}
	}
	ready := s.GetCondition(duckv1.Ready)
	if ready == nil || s.ObservedGeneration != o.GetGeneration() {
		r.Ready = operations.Ready{Status: string(metav1.ConditionUnknown), Reason: "NotReconciled", Message: "it has not been looked at yet"}
		return r
	}
	r.Ready = operations.Ready{Status: string(ready.Status), Reason: ready.Reason, Message: ready.Message}
	return r
}
