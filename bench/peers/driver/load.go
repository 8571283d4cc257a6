package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// load is what is published, and what has come back of it.
type load struct {
	client
	options
	patience time.Duration // how long events are waited for; 30 s when 0

	next     atomic.Int64
	mu       sync.Mutex
	seen     []bool // by the event's number
	distinct atomic.Int64
}

// digits is how many digits of a payload are the event's number.
const digits = 12

func (l *load) run(ctx context.Context) (report, error) {
	if l.patience == 0 {
		l.patience = 30 * time.Second
	}
	consumed := make(chan error, 1)
	consuming, stop := context.WithCancel(ctx)
	defer stop()
	if l.deliver {
		go func() { consumed <- l.consume(consuming, l.received) }()
	} else {
		consumed <- nil
	}
	start := time.Now()
	latencies, err := l.publishAll(ctx, start)
	if err != nil {
		return report{}, err
	}
	if l.deliver {
		if err := l.awaitAll(ctx, len(latencies), consumed); err != nil {
			return report{}, err
		}
	}
	took := time.Since(start)
	stop()
	if err := <-consumed; err != nil && !errors.Is(err, context.Canceled) {
		return report{}, err
	}
	if !l.deliver {
		if err := l.allStored(ctx, len(latencies)); err != nil {
			return report{}, err
		}
	}
	return report{Events: len(latencies), Seconds: took.Seconds(), Latencies: latencies}, nil
}

func (l *load) publishAll(ctx context.Context, start time.Time) ([]uint32, error) {
	latencies := make([][]uint32, l.window)
	errs := make([]error, l.window)
	var workers sync.WaitGroup
	for i := range l.window {
		workers.Go(func() {
			for errs[i] == nil && time.Since(start) < l.length {
				// Another each time: a client may still hold the last one.
				payload := bytes.Repeat([]byte("x"), max(digits, l.size))
				copy(payload, fmt.Appendf(nil, "%0*d", digits, l.next.Add(1)-1))
				began := time.Now()
				errs[i] = l.publish(ctx, i, payload)
				latencies[i] = append(latencies[i], uint32(time.Since(began).Microseconds()))
			}
		})
	}
	workers.Wait()
	var all []uint32
	for _, l := range latencies {
		all = append(all, l...)
	}
	return all, errors.Join(errs...)
}

func (l *load) received(payload []byte) {
	n, err := strconv.Atoi(string(payload[:min(digits, len(payload))]))
	if err != nil {
		return // not one of these; it is then missing in the end
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for n >= len(l.seen) {
		l.seen = append(l.seen, false)
	}
	if !l.seen[n] {
		l.seen[n] = true
		l.distinct.Add(1)
	}
}

func (l *load) awaitAll(ctx context.Context, n int, consumed chan error) error {
	ctx, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	for int(l.distinct.Load()) < n {
		select {
		case <-time.After(time.Millisecond):
		case err := <-consumed:
			return fmt.Errorf("consume: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("%d of %d events were consumed", l.distinct.Load(), n)
		}
	}
	return nil
}

// allStored waits until the server says that it has all events: some count
// late.
func (l *load) allStored(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	for {
		stored, err := l.stored(ctx)
		if err != nil {
			return err
		}
		if stored == n {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%d events are stored, %d were sent", stored, n)
		}
	}
}
