package admission

import (
	"maps"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"

	eventingv1 "github.com/leat-dev/leat/api/eventing/v1"
	messagingv1 "github.com/leat-dev/leat/api/messaging/v1"
)

// Defaults work on what was sent, whatever its shape: a value of the wrong
// type is left for validation to refuse.

func defaultBroker(obj, old *unstructured.Unstructured) {
	class := eventingv1.ClassLeat
	if old != nil {
		if was := old.GetAnnotations()[eventingv1.ClassAnnotation]; was != "" {
			class = was // the class cannot be changed, so an absent one means the old one
		}
	}
	annotate(obj, eventingv1.ClassAnnotation, class)
	spec := ensure(obj.Object, "spec")
	defaultDelivery(spec, obj.GetNamespace())
}

func defaultTrigger(obj, _ *unstructured.Unstructured) {
	namespace := obj.GetNamespace()
	spec := ensure(obj.Object, "spec")
	if _, ok := spec["filter"]; !ok && spec != nil {
		spec["filter"] = map[string]any{}
	}
	defaultDestination(spec, "subscriber", namespace)
	if delivery, ok := spec["delivery"].(map[string]any); ok {
		defaultDestination(delivery, "deadLetterSink", namespace)
	}
	name, _ := spec["broker"].(string)
	if ref, ok := spec["brokerRef"].(map[string]any); ok {
		defaultNamespace(ref, namespace)
		name, _ = ref["name"].(string)
	}
	if name == "" || len(validation.IsValidLabelValue(name)) > 0 {
		return // a longer name is no label
	}
	labels := obj.GetLabels()
	if labels[eventingv1.BrokerLabel] == name {
		return
	}
	labels = maps.Clone(labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[eventingv1.BrokerLabel] = name
	obj.SetLabels(labels)
}

func defaultChannel(obj, old *unstructured.Unstructured) {
	annotate(obj, messagingv1.SubscribableAnnotation, messagingv1.SubscribableVersion)
	spec := ensure(obj.Object, "spec")
	if _, ok := spec["channelTemplate"]; !ok && spec != nil {
		spec["channelTemplate"] = map[string]any{
			"apiVersion": messagingv1.GroupVersion().String(),
			"kind":       "InMemoryChannel",
		}
		if old != nil {
			if was, ok, _ := unstructured.NestedMap(old.Object, "spec", "channelTemplate"); ok {
				spec["channelTemplate"] = was // it cannot be changed, so an absent one means the old one
			}
		}
	}
	if inner, ok, _ := unstructured.NestedFieldNoCopy(obj.Object, "spec", "channelTemplate", "spec", "delivery"); ok && inner != nil {
		if delivery, ok := inner.(map[string]any); ok {
			defaultDestination(delivery, "deadLetterSink", obj.GetNamespace())
		}
		if spec["delivery"] == nil {
			return // the template's holds
		}
	}
	defaultDelivery(spec, obj.GetNamespace())
}

func defaultInMemoryChannel(obj, _ *unstructured.Unstructured) {
	annotate(obj, messagingv1.SubscribableAnnotation, messagingv1.SubscribableVersion)
	defaultDelivery(ensure(obj.Object, "spec"), obj.GetNamespace())
}

func defaultSubscription(obj, _ *unstructured.Unstructured) {
	namespace := obj.GetNamespace()
	spec, ok := obj.Object["spec"].(map[string]any)
	if !ok {
		return
	}
	defaultDestination(spec, "subscriber", namespace)
	defaultDestination(spec, "reply", namespace)
	if delivery, ok := spec["delivery"].(map[string]any); ok {
		defaultDestination(delivery, "deadLetterSink", namespace)
	}
}

// defaultDelivery sets the delivery of a Broker or channel, where it has none.
func defaultDelivery(spec map[string]any, namespace string) {
	if spec == nil {
		return
	}
	if given, ok := spec["delivery"]; ok && given != nil {
		if delivery, ok := given.(map[string]any); ok {
			defaultDestination(delivery, "deadLetterSink", namespace)
		}
		return
	}
	d := DefaultDelivery()
	spec["delivery"] = map[string]any{
		"retry":         int64(*d.Retry),
		"backoffPolicy": string(*d.BackoffPolicy),
		"backoffDelay":  *d.BackoffDelay,
	}
}

func defaultDestination(parent map[string]any, name, namespace string) {
	destination, ok := parent[name].(map[string]any)
	if !ok {
		return
	}
	if ref, ok := destination["ref"].(map[string]any); ok {
		defaultNamespace(ref, namespace)
	}
}

func defaultNamespace(ref map[string]any, namespace string) {
	if n, ok := ref["namespace"]; (!ok || n == "") && namespace != "" {
		ref["namespace"] = namespace
	}
}

// ensure is the object under name, made where it is absent, nil where
// something else is there.
func ensure(parent map[string]any, name string) map[string]any {
	v, ok := parent[name]
	if !ok || v == nil {
		child := map[string]any{}
		parent[name] = child
		return child
	}
	child, _ := v.(map[string]any)
	return child
}

// annotate sets an annotation that is absent or empty.
func annotate(obj *unstructured.Unstructured, name, value string) {
	all := obj.GetAnnotations()
	if all[name] != "" {
		return
	}
	all = maps.Clone(all)
	if all == nil {
		all = map[string]string{}
	}
	all[name] = value
	obj.SetAnnotations(all)
}
