package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
)

// memory is a server that keeps what it is sent, but loses some.
type memory struct {
	loses func(n int) bool
	err   error

	mu     sync.Mutex
	events [][]byte
	n      int
	more   chan struct{}
}

func newMemory() *memory { return &memory{more: make(chan struct{}, 1)} }

func (m *memory) publish(_ context.Context, _ int, payload []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n++
	if m.loses == nil || !m.loses(m.n) {
		m.events = append(m.events, payload)
	}
	select {
	case m.more <- struct{}{}:
	default:
	}
	return m.err
}

func (m *memory) stored(context.Context) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.events), nil
}

// consume hands on each event twice, as a server may.
func (m *memory) consume(ctx context.Context, each func([]byte)) error {
	for at := 0; ; {
		m.mu.Lock()
		events := m.events[at:]
		at = len(m.events)
		m.mu.Unlock()
		for _, e := range events {
			each(e)
			each(e)
		}
		select {
		case <-m.more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *memory) close() {}

func TestAllEventsAreCounted(t *testing.T) {
	for _, deliver := range []bool{false, true} {
		m := newMemory()
		l := &load{client: m, options: options{window: 4, size: 100, length: 20 * time.Millisecond, deliver: deliver}}
		r, err := l.run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if r.Events == 0 || r.Events != len(m.events) || len(r.Latencies) != r.Events || len(m.events[0]) != 100 {
			t.Errorf("deliver=%v: %d events and %d latencies of %d that were sent", deliver, r.Events, len(r.Latencies), len(m.events))
		}
	}
}

func TestALostEventIsNoticed(t *testing.T) {
	for _, deliver := range []bool{false, true} {
		m := newMemory()
		m.loses = func(n int) bool { return n == 3 }
		l := &load{client: m, options: options{window: 4, size: 100, length: 20 * time.Millisecond, deliver: deliver}, patience: 50 * time.Millisecond}
		if _, err := l.run(t.Context()); err == nil || !strings.Contains(err.Error(), "events") {
			t.Errorf("deliver=%v: %v", deliver, err)
		}
	}
}

func TestARefusedEventIsNoticed(t *testing.T) {
	m := newMemory()
	m.err = errors.New("full")
	l := &load{client: m, options: options{window: 1, length: time.Hour}}
	if _, err := l.run(t.Context()); !errors.Is(err, m.err) {
		t.Errorf("got %v", err)
	}
}
