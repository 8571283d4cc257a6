package controller

import (
	"fmt"
	"testing"
	"time"
)

func eventType(name, metadata, spec string) string {
	return fmt.Sprintf("apiVersion: eventing.knative.dev/v1beta3\nkind: EventType\nmetadata: {name: %s%s}\nspec: {%sattributes: [{name: type, required: true, value: x}, {name: source, required: true}, {name: specversion, required: true}, {name: id, required: true}]}", name, metadata, spec)
}

func TestEventTypesFollowTheirReference(t *testing.T) {
	in(t, func(w *world) {
		ref := func(r string) string { return "reference: {" + r + "}, " }
		for r, want := range map[string]string{
			"": "Ready True",
			ref("apiVersion: eventing.knative.dev/v1, kind: Broker, name: none"):                 "Ready False NotFound\nReferenceExists False NotFound Broker default/none not found",
			ref("apiVersion: eventing.knative.dev/v1, kind: Trigger, name: t"):                   "Ready False NoEvents\nReferenceExists False NoEvents a Trigger has no events of its own: refer to a Broker, a channel or a source",
			ref("apiVersion: messaging.knative.dev/v1, kind: InMemoryChannel, name: none"):       "Ready False NotFound\nReferenceExists False NotFound InMemoryChannel default/none not found",
			ref("apiVersion: v1, kind: Service, name: none"):                                     "Ready False NotFound\nReferenceExists False NotFound Service default/none not found",
			ref("apiVersion: messaging.knative.dev/v1, kind: Subscription, name: none"):          "Ready False NotFound\nReferenceExists False NotFound Subscription default/none not found",
			ref("apiVersion: serving.knative.dev/v1, kind: Service, name: none"):                 "Ready False NotFound\nReferenceExists False NotFound Service default/none not found",
			ref("apiVersion: eventing.knative.dev/v1, kind: Broker, name: none, namespace: far"): "Ready False NotFound\nReferenceExists False NotFound Broker far/none not found",
		} {
			w.apply(eventType("e", "", r))
			w.expect(r, w.status("EventType", "e"), want)
		}
		w.apply(eventType("e", "", ref("apiVersion: eventing.knative.dev/v1, kind: Broker, name: b")))
		w.apply(broker("b", ""))
		w.expect("it comes", w.status("EventType", "e"), "Ready True")
		w.api.written()
		w.wait(time.Minute)
		w.expect("idle", fmt.Sprint(w.api.written()), "[]")
		w.remove("Broker", "b")
		w.expect("it goes", w.status("EventType", "e"), "Ready False NotFound\nReferenceExists False NotFound Broker default/b not found")
	})
}

// TestRecordedTypesGoWithTheirBroker: but not those that somebody wrote.
func TestRecordedTypesGoWithTheirBroker(t *testing.T) {
	in(t, func(w *world) {
		const ref = "reference: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: b}, "
		w.apply(broker("b", ""))
		w.apply(eventType("recorded", ", labels: {eventing.leat.dev/recorded: 'true'}", ref) + "\n---\n" + eventType("written", "", ref))
		w.expect("recorded", w.status("EventType", "recorded"), "Ready True")
		w.remove("Broker", "b")
		w.api.mu.Lock()
		gone := w.api.objects[key{kindEventType, "default", "recorded"}.object()] == nil
		w.api.mu.Unlock()
		if !gone {
			t.Error("it is still there")
		}
		w.expect("written", w.status("EventType", "written"), "Ready False NotFound\nReferenceExists False NotFound Broker default/b not found")
	})
}
