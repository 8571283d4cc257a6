package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestResourcesTellOfAll: also of what has no log, and why.
func TestResourcesTellOfAll(t *testing.T) {
	in(t, func(w *world) {
		w.apply(broker("b", "") + "\n---\n" + trigger("t", toX) + "\n---\n" + `
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: lost}
spec: {broker: gone, subscriber: {uri: 'http://x/'}}
---
apiVersion: messaging.knative.dev/v1
kind: InMemoryChannel
metadata: {name: c}
---
apiVersion: messaging.knative.dev/v1
kind: Subscription
metadata: {name: s}
spec: {channel: {apiVersion: messaging.knative.dev/v1, kind: InMemoryChannel, name: c}, subscriber: {uri: 'http://169.254.169.254/'}}`)
		var got []string
		for _, r := range w.controller.Resources() {
			got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s/%s of %s/%s: %s %s", r.Kind, r.Namespace, r.Name, r.Of.Kind, r.Of.Name, r.Ready.Status, r.Ready.Reason)))
		}
		slices.Sort(got)
		w.expect("resources", strings.Join(got, "\n"), `
Broker default/b of /: True
InMemoryChannel default/c of /: True
Subscription default/s of Channel/c: False DestinationDenied
Trigger default/lost of Broker/gone: False BrokerNotFound
Trigger default/t of Broker/b: True`)
	})
}

// TestDeniedDestinationIsNotReady: what deliveries are refused to is known
// before the first event; it stays the target, so that events that come all the
// same are denied and kept, and do not wait without end.
func TestDeniedDestinationIsNotReady(t *testing.T) {
	in(t, func(w *world) {
		w.apply(broker("b", "") + "\n---\n" + trigger("t", "subscriber: {uri: 'http://169.254.169.254/'}"))
		w.expect("trigger", w.status("Trigger", "t"), `
Ready False DestinationDenied
SubscriberResolved False DestinationDenied subscriber: deliveries to it are refused; name another destination
subscriberUri http://169.254.169.254/`)
		w.expect("targets", w.dispatcher.show(), `Trigger default/t of b: url="http://169.254.169.254/" retry=10 exponential 200ms reply=func`)
		w.apply(trigger("t", toX+", delivery: {deadLetterSink: {uri: 'http://169.254.169.254/'}}"))
		w.expect("trigger", w.status("Trigger", "t"), `
DeadLetterSinkResolved False DestinationDenied dead letter sink: deliveries to it are refused; name another destination
Ready False DestinationDenied
subscriberUri http://x/
deadLetterSinkUri http://169.254.169.254/`)
		w.apply(trigger("t", toX))
		w.expect("trigger", w.status("Trigger", "t"), "Ready True\nsubscriberUri http://x/")
	})
}
