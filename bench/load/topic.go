//go:build linux

package load

import (
	"context"
	"fmt"
	"math/bits"
	"sync"
	"time"
)

// Topic is what a sink has received for one subscription.
type Topic struct {
	// URL is the subscriber's address.
	URL string

	mu        sync.Mutex
	first     int
	seen      []uint64 // a bit for each number from first on
	distinct  int
	again     int
	stamps    *Stamps
	latencies []time.Duration
}

// Expect begins a new count, of the events from the number first on; stamps
// may be nil. What comes of earlier ones, being delivered again, is not
// counted.
func (t *Topic) Expect(first int, stamps *Stamps) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.first, t.stamps = first, stamps
	t.seen, t.latencies = nil, nil
	t.distinct, t.again = 0, 0
}

func (t *Topic) deliver(number int, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := number - t.first
	if i < 0 {
		return
	}
	for i/64 >= len(t.seen) {
		t.seen = append(t.seen, 0)
	}
	bit := uint64(1) << (i % 64)
	if t.seen[i/64]&bit != 0 {
		t.again++
		return
	}
	t.seen[i/64] |= bit
	t.distinct++
	if due, ok := t.stamps.Get(number); ok {
		t.latencies = append(t.latencies, now.Sub(due))
	}
}

// Received is how many of the expected events have come, and how often one
// came again.
func (t *Topic) Received() (distinct, again int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.distinct, t.again
}

// Span is the lowest and the highest number of those that have come.
func (t *Topic) Span() (lowest, highest int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, word := range t.seen {
		if word == 0 {
			continue
		}
		if !ok {
			lowest = t.first + i*64 + bits.TrailingZeros64(word)
		}
		highest, ok = t.first+i*64+63-bits.LeadingZeros64(word), true
	}
	return lowest, highest, ok
}

// Latencies are those from when an event was due until it had come.
func (t *Topic) Latencies() []time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]time.Duration(nil), t.latencies...)
}

// Await waits until n events have come: each of the n that were sent, as no
// event counts twice. It gives up when none has come for a while.
func (t *Topic) Await(ctx context.Context, n int) error {
	const giveUp = 30 * time.Second
	last, since := -1, time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		distinct, _ := t.Received()
		if distinct >= n {
			return nil
		}
		if distinct != last {
			last, since = distinct, time.Now()
		}
		if time.Since(since) > giveUp {
			return fmt.Errorf("%d of %d events came to %s", distinct, n, t.URL)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
