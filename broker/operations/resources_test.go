package operations

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/leat-dev/leat/dispatcher"
)

// outline is a status without its figures: what is there, and why it is not ready.
func outline(s Status) string {
	var lines []string
	line := func(indent, kind, name string, r Ready) {
		lines = append(lines, strings.TrimRight(fmt.Sprintf("%s%s/%s %s %s", indent, kind, name, r.Status, r.Reason), " "))
	}
	for _, ch := range s.Channels {
		line("", ch.Kind, ch.Name, ch.Ready)
		for _, sub := range ch.Subscriptions {
			line("  ", sub.Kind, sub.Name, sub.Ready)
		}
	}
	return strings.Join(lines, "\n")
}

// TestStatusShowsWhatWasAskedFor: what has no log, or is of something that is
// not there, is not hidden.
func TestStatusShowsWhatWasAskedFor(t *testing.T) {
	w := newWorld(t)
	yes, no := Ready{Status: "True"}, func(reason string) Ready { return Ready{Status: "False", Reason: reason, Message: "so it is"} }
	of := func(kind, name string) Name { return Name{kind, "default", name} }
	w.asked = []Resource{
		{UID: "1", Kind: "Broker", Namespace: "default", Name: "b", Ready: yes},
		{UID: "2", Kind: "Channel", Namespace: "default", Name: "c", Ready: yes},
		{UID: "3", Kind: "InMemoryChannel", Namespace: "default", Name: "c", Ready: no("NameTaken")},
		{UID: "4", Kind: "Broker", Namespace: "other", Name: "full", Ready: no("LogUnavailable")},
		{UID: "t1", Kind: "Trigger", Namespace: "default", Name: "works", Of: of("Broker", "b"), Ready: yes},
		{UID: "t2", Kind: "Trigger", Namespace: "default", Name: "early", Of: of("Broker", "b"), Ready: no("Subscribing")},
		{UID: "t3", Kind: "Trigger", Namespace: "default", Name: "lost", Of: of("Broker", "gone"), Ready: no("BrokerNotFound")},
		{UID: "t4", Kind: "Trigger", Namespace: "other", Name: "from-afar", Of: of("Broker", "b"), Ready: no("SubscriberNotFound")},
		{UID: "s1", Kind: "Subscription", Namespace: "default", Name: "lost", Of: of("Channel", "gone"), Ready: no("ChannelNotFound")},
	}
	w.statuses = []dispatcher.SubscriptionStatus{trigger("t1", "works", dispatcher.Status{}, dispatcher.PartitionStatus{}), trigger("t4", "from-afar", dispatcher.Status{}, dispatcher.PartitionStatus{})}
	w.statuses[1].Target.Namespace = "other"
	for path, want := range map[string]string{
		"/status": `
Broker/b True
  Trigger/works True
  Trigger/from-afar False SubscriberNotFound
  Trigger/early False Subscribing
Channel/c True
Broker/gone False NotFound
  Trigger/lost False BrokerNotFound
Channel/gone False NotFound
  Subscription/lost False ChannelNotFound
InMemoryChannel/c False NameTaken
Broker/full False LogUnavailable`,
		"/namespaces/other/status":                `Broker/full False LogUnavailable`,
		"/namespaces/default/brokers/gone/status": "Broker/gone False NotFound\n  Trigger/lost False BrokerNotFound",
		"/namespaces/default/channels/c/status":   "Channel/c True\nInMemoryChannel/c False NameTaken",
	} {
		var s Status
		w.object(path, "Status", &s)
		if diff := cmp.Diff(strings.TrimSpace(want), outline(s)); diff != "" {
			t.Errorf("%s: -want +got\n%s", path, diff)
		}
	}
	w.refused("/namespaces/default/brokers/never/status", http.StatusNotFound)
}
