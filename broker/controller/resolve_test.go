package controller

import (
	"sync"
	"testing"
	"time"
)

// TestReferenceThatComesDuringALook: what comes to be after a reconcile has
// seen that it is not there, and before that one ends, is not missed. Here the
// look at another object takes a second; and it is the first look of a server,
// which finds the status as it has to be and writes none.
func TestReferenceThatComesDuringALook(t *testing.T) {
	in(t, func(w *world) {
		w.apply(`
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: t}
spec:
  broker: b
  subscriber: {ref: {apiVersion: v1, kind: Service, name: s}}
  delivery: {deadLetterSink: {ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: slow}}}`)
		w.stop()
		var once sync.Once
		w.api.got = func(name string) {
			if name == "slow" {
				once.Do(func() {
					w.api.apply(t, "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {type: ExternalName, externalName: example.com}")
					time.Sleep(time.Second)
				})
			}
		}
		w.start()
		w.wait(time.Minute)
		w.expect("the Trigger", w.status("Trigger", "t"), `
BrokerReady False BrokerNotFound Broker default/b not found: create it, or delete this Trigger and name another
DeadLetterSinkResolved False NotFound dead letter sink: Service default/slow not found
Ready False BrokerNotFound
SubscriptionReady Unknown NoLog there is no log yet for Broker default/b
subscriberUri http://example.com/`)
	})
}

// TestReferenceThatGoesBeforeTheEcho: what comes and is gone again before the
// status that tells of it has come back by the watch. The Trigger is seen with the
// status of before then, which is right again, but is not what is stored.
func TestReferenceThatGoesBeforeTheEcho(t *testing.T) {
	in(t, func(w *world) {
		w.apply(broker("b", "") + "\n---\n" + trigger("t", "subscriber: {ref: {apiVersion: v1, kind: Service, name: s}}"))
		const missing = "Ready False NotFound\nSubscriberResolved False NotFound subscriber: Service default/s not found"
		w.expect("before", w.status("Trigger", "t"), missing)
		w.api.hold("triggers")
		w.apply("apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {type: ExternalName, externalName: example.com}")
		w.expect("while it is there", w.status("Trigger", "t"), "Ready True\nsubscriberUri http://example.com/")
		w.remove("Service", "s")
		w.api.hold("")
		w.wait(time.Minute)
		w.expect("when it is gone", w.status("Trigger", "t"), missing)
	})
}
