package broker

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestOneChannelLeavesRoomForOthers: large bodies sent to one broker, whose log
// takes its time, are refused with 429 when they hold its share of the memory; a
// small event is not, nor is a large one to another. When they are done, the
// broker takes large ones again.
func TestOneChannelLeavesRoomForOthers(t *testing.T) {
	const bodies, fit = 12, 2
	w := newWorld(t, func(o *IngressOptions) { o.MaxBodyMemory, o.MaxChannelMemory = 64<<20, fit<<20 })
	large := strings.Repeat("x", 900<<10)
	leave := make(chan struct{})
	w.broker.failing(func(context.Context) error { <-leave; return nil })
	answers := make(chan answer, bodies)
	var wg sync.WaitGroup
	for range bodies {
		wg.Go(func() { answers <- w.post(brokerPath, large, binary()...) })
	}
	for range bodies - fit {
		var a answer
		select {
		case a = <-answers:
		case <-time.After(10 * time.Second):
			close(leave)
			t.Fatal("one channel has taken more than its share")
		}
		if a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") != "1" || !strings.Contains(a.problem.Reason, "send again later") {
			t.Errorf("%d, Retry-After %q: %s", a.status, a.header.Get("Retry-After"), a.body)
		}
	}
	w.accepted(channelPath, large, binary()...)
	small := make(chan answer)
	go func() { small <- w.post(brokerPath, "x", binary()...) }()
	close(leave)
	if a := <-small; a.status != http.StatusAccepted {
		t.Errorf("a small one: %d %s", a.status, a.body)
	}
	wg.Wait()
	close(answers)
	for a := range answers {
		if a.status != http.StatusAccepted && a.status != http.StatusTooManyRequests {
			t.Errorf("at last: %d %s", a.status, a.body)
		}
	}
	w.broker.failing(nil)
	w.accepted(brokerPath, large, binary()...)
}
