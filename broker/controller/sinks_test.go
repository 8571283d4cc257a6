package controller

import (
	"context"
	"testing"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	"github.com/leat-dev/leat/channel"
)

// TestSinksOfOthers: another controller's destinations are resolved, and it is
// told to look again when what they refer to comes, changes or goes.
func TestSinksOfOthers(t *testing.T) {
	in(t, func(w *world) {
		told := make(chan string, 16)
		sinks := w.controller.Sinks("PingSource", func(namespace, name string) { told <- namespace + "/" + name })
		look := func(d duckv1.Destination) (string, string) {
			t.Helper()
			sink, problem := sinks.Resolve(context.Background(), "default", "tick", &d)
			if problem != nil {
				return problem.Reason + ": " + problem.Message, ""
			}
			if sink.Channel == nil {
				return sink.URL, ""
			}
			return sink.URL, sink.Channel.ID().UID
		}
		expect := func(d duckv1.Destination, address, log string) {
			t.Helper()
			if a, l := look(d); a != address || l != log {
				t.Errorf("got %q, log %q, want %q, log %q", a, l, address, log)
			}
		}
		again := func(want bool) {
			t.Helper()
			select {
			case who := <-told:
				if !want || who != "default/tick" {
					t.Errorf("%s was told to look again", who)
				}
			default:
				if want {
					t.Error("nobody was told to look again")
				}
			}
			for len(told) > 0 {
				<-told
			}
		}
		to := duckv1.Destination{Ref: &duckv1.KReference{APIVersion: "eventing.knative.dev/v1", Kind: "Broker", Name: "b"}}
		expect(to, "NotFound: Broker default/b not found", "")
		w.apply("apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: b}")
		again(true)
		expect(to, "http://leat:8080/default/b", "b-1")
		below := to
		below.URI = "/below"
		expect(below, "http://leat:8080/below", "") // not the broker's address, so not its log
		w.remove("Broker", "b")
		again(true)
		expect(to, "NotFound: Broker default/b not found", "")

		expect(duckv1.Destination{URI: "http://elsewhere/"}, "http://elsewhere/", "")
		w.apply("apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: b}")
		again(false) // it refers to it no more
		expect(to, "http://leat:8080/default/b", "b-2")
		sinks.Forget("default", "tick")
		w.remove("Broker", "b")
		again(false)
	})
}

// TestLogsOfOtherKindsAreNotOrphans: what another controller keeps is not
// dropped for want of a Broker.
func TestLogsOfOtherKindsAreNotOrphans(t *testing.T) {
	in(t, func(w *world) {
		w.stop()
		for _, kind := range []string{"Broker", "PingSource"} {
			id := channel.ID{Kind: kind, Namespace: "default", Name: "orphan", UID: "orphan-" + kind}
			if _, err := w.log.Ensure(context.Background(), id, channel.Config{Partitions: 1}); err != nil {
				t.Fatal(err)
			}
		}
		w.start()
		if _, ok := w.log.Get("orphan-Broker"); ok {
			t.Error("the log of a Broker that is gone is still there")
		}
		if _, ok := w.log.Get("orphan-PingSource"); !ok {
			t.Error("the log of another kind was dropped")
		}
	})
}
