package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/dispatcher"
)

// world is a controller between an API and an engine, all in memory.
type world struct {
	t          testing.TB
	api        *fakeAPI
	log        *fakeLog
	dispatcher *fakeDispatcher
	registry   *Registry
	controller *Controller
	stop       func()
}

// begin makes a world in which a controller runs. It has to be called in a
// bubble of synctest, where time passes only in wait.
func begin(t testing.TB) *world {
	w := &world{t: t, api: newFakeAPI(), log: newFakeLog(), dispatcher: newFakeDispatcher()}
	w.start()
	return w
}

// knownKinds maps the kinds that the tests make up.
type knownKinds struct{ *meta.DefaultRESTMapper }

func (knownKinds) Reset() {}

func (w *world) start() {
	w.t.Helper()
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(schema.GroupVersionKind{Group: "serving.knative.dev", Version: "v1", Kind: "Service"}, meta.RESTScopeNamespace)
	w.registry = NewRegistry(w.log)
	c, err := New(Options{
		Client: w.api, Mapper: knownKinds{mapper}, Log: w.log, Dispatcher: w.dispatcher, Registry: w.registry, BaseURL: "http://leat:8080/",
		Denies: func(url string) string {
			if strings.Contains(url, "169.254.") {
				return "deliveries to it are refused"
			}
			return ""
		},
		AcceptReply: func(context.Context, channel.Channel, *dispatcher.Original, *event.Event) error { return nil },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.controller = c
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.Run(ctx); !errors.Is(err, context.Canceled) {
			w.t.Errorf("Run: %v", err)
		}
	}()
	if err := c.WaitSynced(ctx); err != nil {
		w.t.Fatal(err)
	}
	w.stop = func() { cancel(); <-done }
	w.wait(2 * time.Second)
}

// wait lets time pass.
func (w *world) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// apply applies objects and waits until all has settled.
func (w *world) apply(text string) {
	w.t.Helper()
	w.api.apply(w.t, text)
	w.wait(2 * time.Second)
}

func (w *world) remove(kind, name string) {
	w.t.Helper()
	o := key{kind, "default", name}.object()
	w.api.remove(o)
	w.wait(2 * time.Second)
}

func (w *world) get(kind, name string) *unstructured.Unstructured {
	w.t.Helper()
	w.api.mu.Lock()
	defer w.api.mu.Unlock()
	u := w.api.objects[key{kind, "default", name}.object()]
	if u == nil {
		w.t.Fatalf("no %s %s", kind, name)
	}
	return u.DeepCopy()
}

// status shows an object's status: what is not true first in full.
func (w *world) status(kind, name string) string {
	w.t.Helper()
	u := w.get(kind, name)
	var lines []string
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range conditions {
		c := c.(map[string]any)
		if c["status"] == "True" && c["type"] != "Ready" {
			continue
		}
		line := fmt.Sprintf("%s %s", c["type"], c["status"])
		for _, field := range []string{"severity", "reason", "message"} {
			if v, ok := c[field]; ok && (c["type"] != "Ready" || field == "reason") {
				line += fmt.Sprintf(" %s", v)
			}
		}
		lines = append(lines, line)
	}
	for _, path := range []string{"address.url", "subscriberUri", "deadLetterSinkUri", "physicalSubscription.subscriberUri", "physicalSubscription.replyUri", "physicalSubscription.deadLetterSinkUri"} {
		if v, ok, _ := unstructured.NestedString(u.Object, append([]string{"status"}, strings.Split(path, ".")...)...); ok {
			lines = append(lines, path+" "+v)
		}
	}
	return strings.Join(lines, "\n")
}

func (w *world) expect(what, got, want string) {
	w.t.Helper()
	if d := cmp.Diff(strings.TrimSpace(want), strings.TrimSpace(got)); d != "" {
		w.t.Errorf("%s: -want +got\n%s", what, d)
	}
}

func in(t *testing.T, script func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := begin(t)
		defer func() { w.stop() }()
		script(w)
	})
}

func broker(name, rest string) string {
	return "apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: " + name + "}\n" + rest
}

func trigger(name, rest string) string {
	return "apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: " + name + "}\nspec: {broker: b, " + rest + "}"
}

const toX = "subscriber: {uri: 'http://x/'}"

func TestTriggerFromBeginningToEnd(t *testing.T) {
	in(t, func(w *world) {
		w.apply(broker("b", "") + "\n---\n" + `
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: t, annotations: {leat.dev/max-in-flight: "7", leat.dev/delivery-order: ordered, leat.dev/start-from: -PT1H}}
spec: {broker: b, filters: [{exact: {type: x}}], subscriber: {uri: 'http://x/'}}`)
		w.expect("broker", w.status("Broker", "b"), `
Ready True
address.url http://leat:8080/default/b`)
		w.expect("trigger", w.status("Trigger", "t"), `
Ready True
subscriberUri http://x/`)
		w.expect("log", w.log.subscriptions("b-1"), `t-2 time 2023-11-14T21:13:22Z ordered {"filters":[{"exact":{"type":"x"}}]}`)
		w.expect("targets", w.dispatcher.show(), `Trigger default/t of b: url="http://x/" retry=10 exponential 200ms reply=func max=7/0`)
		if _, ok := w.registry.Broker("default", "b"); !ok {
			t.Error("the registry does not know the broker")
		}

		w.remove("Trigger", "t")
		w.expect("log", w.log.subscriptions("b-1"), "")
		w.expect("targets", w.dispatcher.show(), "")

		w.remove("Broker", "b")
		w.expect("log", w.log.subscriptions("b-1"), "no log")
		if len(w.dispatcher.attached) > 0 {
			t.Error("the dispatcher still follows the log")
		}
		if _, ok := w.registry.Broker("default", "b"); ok {
			t.Error("the registry still knows the broker")
		}
	})
}

func TestTriggerWithoutBroker(t *testing.T) {
	in(t, func(w *world) {
		w.apply(trigger("t", toX))
		w.expect("trigger", w.status("Trigger", "t"), `
BrokerReady False BrokerNotFound Broker default/b not found: create it, or delete this Trigger and name another
Ready False BrokerNotFound
SubscriptionReady Unknown NoLog there is no log yet for Broker default/b
subscriberUri http://x/`)
		w.apply(broker("b", ""))
		w.expect("trigger", w.status("Trigger", "t"), "Ready True\nsubscriberUri http://x/")
		w.remove("Broker", "b")
		w.expect("targets", w.dispatcher.show(), "")
		w.apply(broker("b", ""))
		w.expect("trigger", w.status("Trigger", "t"), "Ready True\nsubscriberUri http://x/")
		w.expect("log", w.log.subscriptions("b-3"), "t-1 end")
		w.expect("dropped", strings.Join(w.log.dropped, " "), "b-2")
	})
}

func TestSubscriberComesAndGoes(t *testing.T) {
	in(t, func(w *world) {
		w.apply(broker("b", "") + "\n---\n" + trigger("t", "subscriber: {ref: {apiVersion: v1, kind: Service, name: orders}, uri: 'in?x=1'}"))
		w.expect("trigger", w.status("Trigger", "t"), `
Ready False NotFound
SubscriberResolved False NotFound subscriber: Service default/orders not found`)
		w.expect("targets", w.dispatcher.show(), `Trigger default/t of b: url="" retry=10 exponential 200ms reply=func`)
		w.expect("log", w.log.subscriptions("b-1"), "t-2 end") // it has its term all the same

		service := func(rest string) string {
			return "apiVersion: v1\nkind: Service\nmetadata: {name: orders" + rest
		}
		w.apply(service("}\nspec: {type: ClusterIP}"))
		w.expect("trigger", w.status("Trigger", "t"), `
Ready False NoAddress
SubscriberResolved False NoAddress subscriber: Service default/orders has no address: set its annotation leat.dev/url, or make it of type ExternalName`)
		w.apply(service(", annotations: {leat.dev/url: 'http://orders:1/base/'}}"))
		w.expect("trigger", w.status("Trigger", "t"), "Ready True\nsubscriberUri http://orders:1/base/in?x=1")
		w.expect("targets", w.dispatcher.show(), `Trigger default/t of b: url="http://orders:1/base/in?x=1" retry=10 exponential 200ms reply=func`)
		w.remove("Service", "orders")
		w.expect("targets", w.dispatcher.show(), `Trigger default/t of b: url="" retry=10 exponential 200ms reply=func`)
	})
}

func TestAddresses(t *testing.T) {
	in(t, func(w *world) {
		w.apply(broker("b", "") + "\n---\n" + broker("other", "") + `
---
apiVersion: messaging.knative.dev/v1
kind: Channel
metadata: {name: c}
---
apiVersion: messaging.knative.dev/v1
kind: Subscription
metadata: {name: s}
spec: {channel: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: c}, subscriber: {uri: 'http://x/'}}
---
apiVersion: v1
kind: Service
metadata: {name: plain}
spec: {type: ExternalName, externalName: orders.example}
---
apiVersion: v1
kind: Service
metadata: {name: port}
spec: {type: ExternalName, externalName: orders.example, ports: [{port: 8081}]}
---
apiVersion: v1
kind: Service
metadata: {name: secure}
spec: {type: ExternalName, externalName: orders.example, ports: [{name: https, port: 8443}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere, namespace: far, annotations: {leat.dev/url: 'https://far/x'}}
---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: hello}
status: {address: {url: 'http://hello.default'}}
---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: cold}`)
		for ref, want := range map[string]string{
			"apiVersion: eventing.knative.dev/v1, kind: Broker, name: other":              "http://leat:8080/default/other",
			"apiVersion: messaging.knative.dev/v1, kind: Channel, name: c":                "http://leat:8080/channels/default/c",
			"apiVersion: messaging.knative.dev/v1, kind: Subscription, name: s":           "http://leat:8080/channels/default/c",
			"group: eventing.knative.dev, kind: Broker, name: other":                      "http://leat:8080/default/other",
			"apiVersion: v1, kind: Service, name: plain":                                  "http://orders.example/",
			"apiVersion: v1, kind: Service, name: port":                                   "http://orders.example:8081/",
			"apiVersion: v1, kind: Service, name: secure":                                 "https://orders.example:8443/",
			"apiVersion: v1, kind: Service, name: elsewhere, namespace: far":              "https://far/x",
			"apiVersion: serving.knative.dev/v1, kind: Service, name: hello":              "http://hello.default",
			"apiVersion: serving.knative.dev/v1, kind: Service, name: cold":               "NoAddress subscriber: Service default/cold: it has no status.address.url yet",
			"apiVersion: serving.knative.dev/v1, kind: Service, name: none":               "NotFound subscriber: Service default/none not found",
			"apiVersion: eventing.knative.dev/v1, kind: Trigger, name: t":                 "NoAddress subscriber: a Trigger has no address that takes events: refer to another object, or use uri",
			"apiVersion: what.example/v1, kind: Thing, name: none":                        `KindNotServed subscriber: Thing default/none: the kind is not served (no matches for kind "Thing" in version "what.example/v1"): correct the reference, or install the kind`,
			"apiVersion: serving.knative.dev/v1, kind: Service, name: cold, address: web": `NoAddress subscriber: Service default/cold: it has no address named "web" in status.addresses`,
		} {
			w.apply(trigger("t", "subscriber: {ref: {"+ref+"}}"))
			got := w.status("Trigger", "t")
			if strings.HasPrefix(want, "http") {
				want = "Ready True\nsubscriberUri " + want
			} else {
				want = "Ready False " + strings.Fields(want)[0] + "\nSubscriberResolved False " + want
			}
			w.expect(ref, got, want)
		}

		w.apply(trigger("t", "subscriber: {ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: cold}}"))
		w.apply("apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: cold}\nstatus: {address: {url: 'http://cold'}}")
		w.wait(10 * time.Second) // it is looked up from time to time
		w.expect("cold", w.status("Trigger", "t"), "Ready True\nsubscriberUri http://cold")
	})
}

func TestDeliveryIsInherited(t *testing.T) {
	in(t, func(w *world) {
		w.apply(broker("b", "spec: {delivery: {retry: 3, backoffPolicy: linear, backoffDelay: PT1S, deadLetterSink: {uri: 'http://dead/'}}}"))
		w.apply(trigger("keeps", toX) + "\n---\n" +
			trigger("replaces", toX+", delivery: {retry: 1, backoffDelay: PT0S}") + "\n---\n" +
			trigger("sinks", toX+", delivery: {deadLetterSink: {ref: {apiVersion: v1, kind: Service, name: none}}}"))
		w.expect("targets", w.dispatcher.show(), `
Trigger default/keeps of b: url="http://x/" retry=3 linear 1s dead-letters=http://dead/ reply=func
Trigger default/replaces of b: url="http://x/" retry=1 exponential 1ns dead-letters=http://dead/ reply=func
Trigger default/sinks of b: url="http://x/" retry=0 exponential 0s reply=func`)
		w.expect("broker", w.status("Broker", "b"), "Ready True\naddress.url http://leat:8080/default/b\ndeadLetterSinkUri http://dead/")
		w.expect("replaces", w.status("Trigger", "replaces"), "Ready True\nsubscriberUri http://x/\ndeadLetterSinkUri http://dead/")
		w.expect("sinks", w.status("Trigger", "sinks"), `
DeadLetterSinkResolved False NotFound dead letter sink: Service default/none not found
Ready False NotFound
subscriberUri http://x/`)

		w.apply(broker("b", "spec: {delivery: {retry: 4}}"))
		w.expect("targets", w.dispatcher.show(), `
Trigger default/keeps of b: url="http://x/" retry=4 exponential 0s reply=func
Trigger default/replaces of b: url="http://x/" retry=1 exponential 1ns reply=func
Trigger default/sinks of b: url="http://x/" retry=0 exponential 0s reply=func`)
	})
}

func TestSubscription(t *testing.T) {
	in(t, func(w *world) {
		w.apply(`
apiVersion: messaging.knative.dev/v1
kind: Subscription
metadata: {name: s}
spec:
  channel: {apiVersion: messaging.knative.dev/v1, kind: InMemoryChannel, name: c}
  subscriber: {uri: 'http://x/'}
  reply: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: b}}`)
		w.expect("subscription", w.status("Subscription", "s"), `
AddedToChannel Unknown NoLog there is no log yet for InMemoryChannel default/c
ChannelReady False ChannelNotFound InMemoryChannel default/c not found: create it, or delete this Subscription and name another
Ready False ChannelNotFound
ReferencesResolved False NotFound reply: Broker default/b not found
physicalSubscription.subscriberUri http://x/`)

		w.apply("apiVersion: messaging.knative.dev/v1\nkind: InMemoryChannel\nmetadata: {name: c}\nspec: {delivery: {retry: 2, deadLetterSink: {uri: 'http://dead/'}}}")
		w.expect("targets", w.dispatcher.show(), `Subscription default/s of c: url="" retry=2 exponential 0s dead-letters=http://dead/`)

		w.apply(broker("b", ""))
		w.expect("subscription", w.status("Subscription", "s"), `
Ready True
physicalSubscription.subscriberUri http://x/
physicalSubscription.replyUri http://leat:8080/default/b
physicalSubscription.deadLetterSinkUri http://dead/`)
		w.expect("targets", w.dispatcher.show(), `Subscription default/s of c: url="http://x/" retry=2 exponential 0s dead-letters=http://dead/ reply=http://leat:8080/default/b`)
		w.expect("channel", w.status("InMemoryChannel", "c"), "Ready True\naddress.url http://leat:8080/channels/default/c\ndeadLetterSinkUri http://dead/")
		subscribers, _, _ := unstructured.NestedSlice(w.get("InMemoryChannel", "c").Object, "status", "subscribers")
		w.expect("subscribers", fmt.Sprint(subscribers), "[map[observedGeneration:1 ready:True uid:s-1]]")
		w.expect("log", w.log.subscriptions("c-2"), "s-1 end")
	})
}

func TestTwoChannelsOfOneName(t *testing.T) {
	in(t, func(w *world) {
		w.apply("apiVersion: messaging.knative.dev/v1\nkind: Channel\nmetadata: {name: c}")
		w.apply("apiVersion: messaging.knative.dev/v1\nkind: InMemoryChannel\nmetadata: {name: c}")
		w.expect("the first", w.status("Channel", "c"), "Ready True\naddress.url http://leat:8080/channels/default/c")
		w.expect("the second", w.status("InMemoryChannel", "c"), `
Addressable Unknown NameTaken the Channel default/c has the address that this one would have: delete one of them, or choose another name
ChannelServiceReady False NameTaken the Channel default/c has the address that this one would have: delete one of them, or choose another name
Ready False NameTaken`)
		w.remove("Channel", "c")
		w.expect("the second", w.status("InMemoryChannel", "c"), "Ready True\naddress.url http://leat:8080/channels/default/c")
		w.expect("dropped", strings.Join(w.log.dropped, " "), "c-1")
	})
}

// TestShelvedLogComesBack: while the deliveries of a log that is not in charge
// of its path still end, it comes into charge: it is followed again.
func TestShelvedLogComesBack(t *testing.T) {
	in(t, func(w *world) {
		w.dispatcher.drain = 10 * time.Second
		w.apply("apiVersion: messaging.knative.dev/v1\nkind: Channel\nmetadata: {name: c}")
		if _, err := w.log.Ensure(t.Context(), channel.ID{Kind: "Channel", Namespace: "default", Name: "c", UID: "c-2"}, channel.Config{Partitions: 1}); err != nil {
			t.Fatal(err)
		}
		w.apply("apiVersion: messaging.knative.dev/v1\nkind: InMemoryChannel\nmetadata: {name: c}")
		w.remove("Channel", "c")
		w.expect("the second", w.status("InMemoryChannel", "c"), "Ready True\naddress.url http://leat:8080/channels/default/c")
		w.wait(time.Minute)
		if !w.dispatcher.attached["c-2"] || w.dispatcher.attached["c-1"] {
			t.Errorf("the dispatcher follows %v", w.dispatcher.attached)
		}
		if ch, ok := w.registry.Channel("default", "c"); !ok || ch.ID().UID != "c-2" {
			t.Error("the registry does not offer the log")
		}
	})
}

// TestReadyMeansThatTheLogHasIt: not before each partition has applied a
// version that covers the Trigger.
func TestReadyMeansThatTheLogHasIt(t *testing.T) {
	in(t, func(w *world) {
		w.apply(broker("b", ""))
		release := make(chan struct{})
		w.log.mu.Lock()
		w.log.before = func(uint64, []channel.Subscription) error { <-release; return nil }
		w.log.mu.Unlock()
		w.apply(trigger("t", toX))
		w.expect("while the log is told", w.status("Trigger", "t"), `
Ready Unknown Subscribing
SubscriptionReady Unknown Subscribing the log of Broker default/b is being told
subscriberUri http://x/`)
		close(release)
		w.wait(time.Second)
		w.expect("afterwards", w.status("Trigger", "t"), "Ready True\nsubscriberUri http://x/")

		was := w.log.sets
		w.apply(trigger("t", "subscriber: {uri: 'http://y/'}"))
		w.expect("another subscriber", w.status("Trigger", "t"), "Ready True\nsubscriberUri http://y/")
		if w.log.sets != was {
			t.Errorf("the log was told of a change that does not concern it")
		}
		w.apply(trigger("t", toX+", filter: {attributes: {type: z}}"))
		w.expect("log", w.log.subscriptions("b-1"), `t-2 end {"filter":{"attributes":{"type":"z"}}}`)
	})
}

// TestEveryVersionCoversItsMembers: what a log is given at a version is exactly
// what the API held then, or a later state of it.
func TestEveryVersionCoversItsMembers(t *testing.T) {
	in(t, func(w *world) {
		w.log.before = func(version uint64, subs []channel.Subscription) error {
			w.api.mu.Lock()
			defer w.api.mu.Unlock()
			has := map[string]bool{}
			for _, s := range subs {
				has[s.UID] = true
			}
			want := map[string]bool{}
			for _, e := range w.api.history[:version] {
				if u := e.Object.(*unstructured.Unstructured); u.GetKind() == kindTrigger {
					want[string(u.GetUID())] = e.Type != watch.Deleted
				}
			}
			for uid, there := range want {
				if has[uid] != there {
					t.Errorf("at version %d: %s is in the set: %v, but it is there: %v", version, uid, has[uid], there)
				}
			}
			return nil
		}
		w.apply(broker("b", ""))
		for i := range 100 {
			w.api.apply(t, trigger(fmt.Sprintf("t%d", i), toX))
			if i%3 == 0 {
				w.api.remove(key{kindTrigger, "default", fmt.Sprintf("t%d", i/2)}.object())
			}
			if i%7 == 0 {
				w.wait(3 * time.Millisecond)
			}
		}
		w.wait(2 * time.Second)
		for i := 50; i < 100; i++ {
			w.expect("trigger", w.status("Trigger", fmt.Sprintf("t%d", i)), "Ready True\nsubscriberUri http://x/")
		}
	})
}
