package broker

import (
	"context"
	"errors"
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

// TestBorrowedBodiesHaveTheirShare: also what has come in a buffer of its connection
// leaves room for other channels.
func TestBorrowedBodiesHaveTheirShare(t *testing.T) {
	var b bodies
	b.init(1<<20, mediumBody)
	large, small := make([]byte, 10<<10), make([]byte, 100)
	borrow := func(of string, whole []byte) (*body, error) {
		into := &body{of: of}
		return into, b.borrow(into, whole, len(whole) > smallBody, 1<<20)
	}
	first, err := borrow("one", large)
	if err != nil {
		t.Fatal(err)
	}
	var refused *refusal
	if _, err := borrow("one", large); !errors.As(err, &refused) || refused.status != http.StatusTooManyRequests {
		t.Errorf("a second large one: %v", err)
	}
	held := []*body{first}
	for of, whole := range map[string][]byte{"one": small, "two": large} {
		into, err := borrow(of, whole)
		if err != nil {
			t.Errorf("%d bytes for %s: %v", len(whole), of, err)
		}
		held = append(held, into)
	}
	for _, into := range held {
		b.release(into)
	}
	if again, err := borrow("one", large); err != nil {
		t.Errorf("when all are done: %v", err)
	} else {
		b.release(again)
	}
	if n := b.used.Load(); n != 0 || len(b.shares) != 0 {
		t.Errorf("%d bytes are held, and %v", n, b.shares)
	}
}
