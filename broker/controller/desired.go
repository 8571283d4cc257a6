package controller

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/leat-dev/leat/api/admission"
	"github.com/leat-dev/leat/api/annotations"
	eventingv1 "github.com/leat-dev/leat/api/eventing/v1"
	messagingv1 "github.com/leat-dev/leat/api/messaging/v1"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/filter"
)

// member is a Trigger or Subscription as a member of a set.
type member struct {
	of  key // the Broker or channel
	sub channel.Subscription
}

// desired is what a Trigger or Subscription asks of a log; nil when it is gone.
func desired(obj any, gone bool, limits annotations.Limits) *member {
	if gone {
		return nil
	}
	switch o := obj.(type) {
	case *heldTrigger:
		namespace, name := o.BrokerKey()
		m := &member{of: key{kindBroker, namespace, name}, sub: subscription(o, limits)}
		m.sub.Filter = o.filter
		return m
	case *messagingv1.Subscription:
		return &member{of: channelKey(o), sub: subscription(o, limits)}
	}
	return nil
}

// channelKey is the channel of a Subscription.
func channelKey(s *messagingv1.Subscription) key {
	return key{s.Spec.Channel.Kind, s.Namespace, s.Spec.Channel.Name}
}

func subscription(o metav1.Object, limits annotations.Limits) channel.Subscription {
	// What is malformed was refused at admission; where it is there all the
	// same, the default holds.
	settings, _ := annotations.ParseDelivery(o.GetAnnotations(), limits)
	return channel.Subscription{
		UID: string(o.GetUID()), Generation: o.GetGeneration(), Engine: filter.Engine,
		Ordered: settings.Ordered, Start: start(settings.Start, o.GetCreationTimestamp()),
	}
}

// start fixes a duration back at the object's creation, so that it means the
// same at each look.
func start(s annotations.Start, created metav1.Time) channel.Start {
	switch s.At {
	case "ago":
		return channel.Start{At: "time", Time: created.Add(-s.Ago).UTC()}
	case "time":
		return channel.Start{At: "time", Time: s.Time.UTC()}
	default:
		return channel.Start{At: s.At, Offset: s.Offset}
	}
}

// filterSpec is the filter of a Trigger: filters override the older form.
func filterSpec(legacy *eventingv1.TriggerFilter, filters []eventingv1.SubscriptionsAPIFilter) filter.Spec {
	if len(filters) > 0 {
		return filter.Spec{Filters: filterNodes(filters)}
	}
	if legacy != nil && len(legacy.Attributes) > 0 {
		return filter.Spec{Attributes: legacy.Attributes}
	}
	return filter.Spec{}
}

func filterNodes(in []eventingv1.SubscriptionsAPIFilter) []filter.Node {
	if len(in) == 0 {
		return nil
	}
	out := make([]filter.Node, len(in))
	for i, f := range in {
		out[i] = filterNode(f)
	}
	return out
}

func filterNode(f eventingv1.SubscriptionsAPIFilter) filter.Node {
	n := filter.Node{
		Exact: f.Exact, Prefix: f.Prefix, Suffix: f.Suffix,
		All: filterNodes(f.All), Any: filterNodes(f.Any), CESQL: f.CESQL, Expr: f.Expr,
	}
	if f.Not != nil {
		not := filterNode(*f.Not)
		n.Not = &not
	}
	return n
}

// CheckFilter compiles filters for admission.
func CheckFilter(limits filter.Limits) admission.FilterChecker {
	return func(attributes map[string]string, filters []eventingv1.SubscriptionsAPIFilter) []admission.FilterFault {
		var faults []admission.FilterFault
		spec := filterSpec(&eventingv1.TriggerFilter{Attributes: attributes}, filters)
		for _, e := range limits.Check(spec) {
			detail := e.Reason
			if e.Line > 0 {
				detail = fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Reason)
			}
			faults = append(faults, admission.FilterFault{Path: e.Path, Value: e.Snippet, Detail: detail})
		}
		return faults
	}
}
