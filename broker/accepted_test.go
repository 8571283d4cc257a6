package broker

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
)

// TestAcceptedIsTold: of what is in the log, requests and replies alike, and of
// nothing else.
func TestAcceptedIsTold(t *testing.T) {
	var told []string
	accepted := func(id channel.ID, events []*event.Event) {
		for _, e := range events {
			told = append(told, fmt.Sprintf("%s %s %s", id.Kind, id.Name, e.ID))
		}
	}
	w := newWorld(t, func(o *IngressOptions) { o.Accepted = accepted })
	w.post(brokerPath, "x", binary("Ce-Id", "one")...)
	w.post(channelPath, "x", binary("Ce-Id", "two")...)
	w.post(brokerPath, "x", "Ce-Id", "no event")
	w.broker.failing(func(context.Context) error { return errors.New("no room") })
	w.post(brokerPath, "x", binary("Ce-Id", "refused")...)
	w.broker.failing(nil)
	i := NewIngress(IngressOptions{Resolver: w.fakes, Accepted: accepted})
	reply := anEvent()
	reply.ID = "reply"
	if err := i.AcceptReply(t.Context(), w.broker, anOriginal(), reply); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(told), "[Broker b one Channel c two Broker b reply]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
