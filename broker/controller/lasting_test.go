package controller

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/dispatcher"
)

func TestLogThatFails(t *testing.T) {
	in(t, func(w *world) {
		w.log.refuse = errors.New("disk on fire")
		w.apply(broker("b", ""))
		w.expect("broker", w.status("Broker", "b"), `
Addressable Unknown LogUnavailable the log cannot be opened: disk on fire
FilterReady Unknown LogUnavailable the log cannot be opened: disk on fire
IngressReady Unknown LogUnavailable the log cannot be opened: disk on fire
Ready False LogUnavailable
TriggerChannelReady False LogUnavailable the log cannot be opened: disk on fire`)
		w.log.mu.Lock()
		w.log.refuse = nil
		w.log.before = func(uint64, []channel.Subscription) error { return errors.New("no quorum") }
		w.log.mu.Unlock()
		w.wait(2 * time.Minute)
		w.apply(trigger("t", toX))
		w.expect("trigger", w.status("Trigger", "t"), `
Ready False LogUnavailable
SubscriptionReady False LogUnavailable the log of Broker default/b could not be told: no quorum; it is tried again
subscriberUri http://x/`)
		w.log.mu.Lock()
		w.log.before = nil
		w.log.mu.Unlock()
		w.wait(2 * time.Minute)
		w.expect("trigger", w.status("Trigger", "t"), "Ready True\nsubscriberUri http://x/")
	})
}

func TestIdleWritesNothing(t *testing.T) {
	in(t, func(w *world) {
		w.apply(broker("b", ""))
		for i := range 20 {
			w.api.apply(t, trigger(fmt.Sprintf("t%d", i), toX))
		}
		w.wait(time.Minute)
		if n := len(w.api.written()); n != 21 {
			t.Errorf("%d statuses were written for 21 objects", n)
		}
		sets, told := w.log.sets, w.dispatcher.told
		w.wait(time.Hour)
		if written := w.api.written(); len(written) > 0 || w.log.sets != sets || w.dispatcher.told != told {
			t.Errorf("idle, but %v were written, the log was told %d times, the dispatcher %d times", written, w.log.sets-sets, w.dispatcher.told-told)
		}
	})
}

// TestRestart: what is there stays as it is; what went while nobody looked is
// dropped; and no log is told of a part of its subscriptions.
func TestRestart(t *testing.T) {
	in(t, func(w *world) {
		w.apply(broker("b", "") + "\n---\n" + broker("gone", "") + "\n---\n" + trigger("t1", toX) + "\n---\n" + trigger("t2", toX) +
			"\n---\n" + trigger("t3", "subscriber: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: b}}"))
		w.stop()
		w.api.remove(key{kindBroker, "default", "gone"}.object())
		w.api.remove(key{kindTrigger, "default", "t2"}.object())
		w.api.written()
		w.log.before = func(_ uint64, subs []channel.Subscription) error {
			if len(subs) != 2 {
				t.Errorf("the log was given %d subscriptions", len(subs))
			}
			return nil
		}
		w.dispatcher = newFakeDispatcher()
		w.start()
		w.expect("log", w.log.subscriptions("b-1"), "t1-3 end\nt3-5 end")
		w.expect("dropped", strings.Join(w.log.dropped, " "), "gone-2")
		w.expect("targets", w.dispatcher.show(), `
Trigger default/t1 of b: url="http://x/" retry=10 exponential 200ms reply=func
Trigger default/t3 of b: url="http://leat:8080/default/b" retry=10 exponential 200ms reply=func`)
		if written := w.api.written(); len(written) > 0 {
			t.Errorf("a restart wrote %v", written)
		}
	})
}

// TestRestartAfterADeletion: the deletion was the last write of its kind, and
// nothing that is there now has a version as high.
func TestRestartAfterADeletion(t *testing.T) {
	in(t, func(w *world) {
		w.apply(broker("b", "") + "\n---\n" + trigger("t1", toX) + "\n---\n" + trigger("t2", toX))
		w.remove("Trigger", "t2")
		w.stop()
		w.start()
		w.apply(trigger("t1", toX+", filter: {attributes: {type: z}}"))
		w.expect("trigger", w.status("Trigger", "t1"), "Ready True\nsubscriberUri http://x/")
		w.stop()
		w.api.remove(key{kindTrigger, "default", "t1"}.object())
		w.start()
		w.expect("log", w.log.subscriptions("b-1"), "")
	})
}

func TestRestartWithoutChange(t *testing.T) {
	in(t, func(w *world) {
		w.apply(broker("b", "") + "\n---\n" + trigger("t", toX))
		was := w.log.subscriptions("b-1")
		for range 3 {
			w.stop()
			w.start()
			w.expect("log", w.log.subscriptions("b-1"), was)
			w.expect("trigger", w.status("Trigger", "t"), "Ready True\nsubscriberUri http://x/")
		}
	})
}

func TestPausedDeliveriesAreShown(t *testing.T) {
	in(t, func(w *world) {
		w.apply(broker("b", "") + "\n---\n" + trigger("t", toX))
		set := func(s dispatcher.Status) {
			w.dispatcher.mu.Lock()
			w.dispatcher.status["t-2"] = s
			w.dispatcher.mu.Unlock()
			w.wait(11 * time.Second)
		}
		set(dispatcher.Status{Paused: true, Reason: dispatcher.ReasonMaxWaiting, Message: "1000 events wait"})
		w.expect("paused", w.status("Trigger", "t"), `
Delivering False Warning MaxWaiting 1000 events wait
Ready True
subscriberUri http://x/`)
		set(dispatcher.Status{})
		w.expect("going on", w.status("Trigger", "t"), "Ready True\nsubscriberUri http://x/")
	})
}

func TestDependency(t *testing.T) {
	in(t, func(w *world) {
		w.apply(broker("b", "") + `
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: t, annotations: {knative.dev/dependency: '{"apiVersion":"serving.knative.dev/v1","kind":"Service","name":"hello"}'}}
spec: {broker: b, subscriber: {uri: 'http://x/'}}`)
		w.expect("trigger", w.status("Trigger", "t"), `
DependencyReady False NotFound dependency: Service default/hello not found
Ready False NotFound
subscriberUri http://x/`)
		w.apply("apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: hello}\nstatus: {conditions: [{type: Ready, status: 'True'}]}")
		w.wait(10 * time.Second)
		w.expect("trigger", w.status("Trigger", "t"), "Ready True\nsubscriberUri http://x/")
	})
}

func TestPartitionsAndRetention(t *testing.T) {
	in(t, func(w *world) {
		w.apply("apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: b, annotations: {leat.dev/partitions: '3', leat.dev/retention: P1D, leat.dev/retention-bytes: 1Mi}}")
		if d := cmp.Diff(channel.Config{Partitions: 3, RetentionAge: 24 * time.Hour, RetentionBytes: 1 << 20}, w.log.channels["b-1"].config); d != "" {
			t.Error(d)
		}
		w.apply("apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: t, annotations: {leat.dev/start-from: '12'}}\nspec: {broker: b, subscriber: {uri: 'http://x/'}}")
		w.expect("trigger", w.status("Trigger", "t"), `
Ready False InvalidStartFrom
SubscriptionReady False InvalidStartFrom leat.dev/start-from=12: an offset says where to start in one partition, but Broker default/b has 3: give a time
subscriberUri http://x/`)
	})
}

// TestManyTriggers: that each of 10,000 triggers comes by itself does not make
// each of them cost a look at all the others.
func TestManyTriggers(t *testing.T) {
	const n = 10_000
	in(t, func(w *world) {
		w.apply(broker("b", ""))
		w.log.mu.Lock()
		w.log.takes = time.Microsecond
		w.log.given = 0
		w.log.mu.Unlock()
		w.api.written()
		for i := range n {
			w.api.apply(t, trigger(fmt.Sprintf("t%d", i), toX))
			time.Sleep(time.Millisecond)
		}
		w.wait(time.Second)
		if got := len(w.log.channels["b-1"].subs); got != n {
			t.Errorf("the log has %d", got)
		}
		w.log.mu.Lock()
		given := w.log.given
		w.log.mu.Unlock()
		if given > 2*n {
			t.Errorf("the log was given %d subscriptions for %d changes", given, n)
		}
		if written := len(w.api.written()); written != n {
			t.Errorf("%d statuses were written for %d triggers", written, n)
		}
		t.Logf("%d triggers: the log was told %d times, %d subscriptions in all", n, w.log.sets, given)
	})
}
