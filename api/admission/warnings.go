package admission

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	eventingv1 "github.com/leat-dev/leat/api/eventing/v1"
	messagingv1 "github.com/leat-dev/leat/api/messaging/v1"
)

func warnBroker(obj *unstructured.Unstructured) []string {
	b, errs := decode[eventingv1.Broker](obj)
	if len(errs) > 0 {
		return nil
	}
	var w []string
	if class := b.Annotations[eventingv1.ClassAnnotation]; class != eventingv1.ClassLeat {
		w = append(w, fmt.Sprintf("class %s is served as class %s: by Leat's own log", class, eventingv1.ClassLeat))
	}
	if b.Spec.Config != nil {
		w = append(w, "spec.config is kept, but not read: retention and partitions are annotations under leat.dev/")
	}
	return append(w, warnDeliverySpec("spec.delivery", b.Spec.Delivery)...)
}

func warnTrigger(obj *unstructured.Unstructured) []string {
	t, errs := decode[eventingv1.Trigger](obj)
	if len(errs) > 0 {
		return nil
	}
	var w []string
	if t.Spec.Filter != nil && len(t.Spec.Filter.Attributes) > 0 && len(t.Spec.Filters) > 0 {
		w = append(w, "spec.filter has no effect beside spec.filters")
	}
	w = append(w, warnDestination("spec.subscriber", &t.Spec.Subscriber)...)
	return append(w, warnDeliverySpec("spec.delivery", t.Spec.Delivery)...)
}

func warnSubscription(obj *unstructured.Unstructured) []string {
	s, errs := decode[messagingv1.Subscription](obj)
	if len(errs) > 0 {
		return nil
	}
	w := warnDestination("spec.subscriber", s.Spec.Subscriber)
	w = append(w, warnDestination("spec.reply", s.Spec.Reply)...)
	return append(w, warnDeliverySpec("spec.delivery", s.Spec.Delivery)...)
}

func warnDelivery(obj *unstructured.Unstructured) []string {
	c, errs := decode[messagingv1.InMemoryChannel](obj) // a Channel has the same
	if len(errs) > 0 {
		return nil
	}
	return warnDeliverySpec("spec.delivery", c.Spec.Delivery)
}

func warnDeliverySpec(path string, d *duckv1.DeliverySpec) []string {
	if d == nil {
		return nil
	}
	return warnDestination(path+".deadLetterSink", d.DeadLetterSink)
}

func warnDestination(path string, d *duckv1.Destination) []string {
	if d == nil {
		return nil
	}
	var w []string
	if d.CACerts != nil {
		w = append(w, path+".CACerts is not used: the system's certificates are")
	}
	if d.Audience != nil {
		w = append(w, path+".audience is not used: requests carry no token")
	}
	if hasCredentials(d.URI) {
		w = append(w, path+".uri holds credentials, which everyone who can read this object sees")
	}
	return w
}
