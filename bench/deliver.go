//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/leat-dev/leat/bench/load"
	"github.com/leat-dev/leat/bench/proc"
	"github.com/leat-dev/leat/bench/server"
	"github.com/leat-dev/leat/bench/stats"
	"github.com/leat-dev/leat/bench/table"
)

const (
	window = 256
	fan    = 10
	// halvesEach is how many turns at half of the relay's rate there are for each turn
	// of other work: one long wait in a turn of two seconds is its p99.
	halvesEach = 3
)

// way is one from the client to the subscriber.
type way struct {
	server        *proc.Group
	address, path string
	event         load.Event
	topics        []*load.Topic
	next          *int // number of the next event
}

// deliverPart measures the way from publishing to delivery.
func deliverPart(ctx context.Context, b *bench) (err error) {
	sink, err := load.NewSink()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	relayed := sink.Topic("relay")
	relay, err := b.startCeiling(ctx, relayed.URL)
	if err != nil {
		return err
	}
	defer relay.Kill()
	null, err := b.startCeiling(ctx, "")
	if err != nil {
		return err
	}
	defer null.Kill()
	s, err := b.startLeat(ctx, "deliver")
	if err != nil {
		return err
	}
	defer s.Kill()
	event := load.Event{Data: load.Payload(b.size, "")}
	ways := map[string]way{
		"relay": {relay.Group, relay.address, "/", event, []*load.Topic{relayed}, new(int)},
		"leat":  {s.Group, s.Address, server.Path("one"), event, nil, new(int)},
		"fan":   {s.Group, s.Address, server.Path("fan"), event, nil, new(int)},
	}
	if err := subscribe(ctx, s, sink, ways, "leat", "one", 1); err != nil {
		return err
	}
	if err := subscribe(ctx, s, sink, ways, "fan", "fan", fan); err != nil {
		return err
	}
	if err := s.Ready(ctx, 1+fan); err != nil {
		return err
	}
	for _, w := range ways {
		if _, err := w.endToEnd(ctx, 64, warmUp); err != nil {
			return err
		}
	}
	steps := []step{
		{"http deliveries", null.Group, func(ctx context.Context) (stats.Sample, error) {
			sent, err := load.Send(ctx, load.Plan{Address: null.address, Conns: window, Length: b.length, Request: load.Binary(null.address, "/", event)})
			return stats.Of(sent.Events, sent.Took, sent.Latencies), err
		}},
		b.endToEnd("relay", ways["relay"]),
		b.endToEnd("deliver", ways["leat"]),
		b.endToEnd("fan-out", ways["fan"]),
	}
	b.deliverRows()
	if err := b.turns(ctx, steps); err != nil {
		return err
	}
	return b.repeat(ctx, b.runs*halvesEach, []step{
		b.sync("sync beside", disks[0], 4<<10),
		b.half("relay at half", ways["relay"], b.halfRelay, 0),
		b.half("deliver at half", ways["leat"], b.halfRelay, 0),
	})
}

// subscribe makes a broker with n triggers that take everything.
func subscribe(ctx context.Context, s *server.Server, sink *load.Sink, ways map[string]way, name, broker string, n int) error {
	if err := s.Broker(ctx, broker); err != nil {
		return err
	}
	w := ways[name]
	var triggers []server.Trigger
	for i := range n {
		t := sink.Topic(fmt.Sprintf("%s-%d", broker, i))
		w.topics = append(w.topics, t)
		triggers = append(triggers, server.Trigger{Name: fmt.Sprintf("%s-%d", broker, i), Broker: broker, Subscriber: t.URL})
	}
	ways[name] = w
	return s.Create(ctx, triggers...)
}

// endToEnd sends for a while, and waits until each event has come to each
// topic. The rate is that of the deliveries.
func (w way) endToEnd(ctx context.Context, conns int, length time.Duration) (stats.Sample, error) {
	sent, took, err := w.send(ctx, load.Plan{Conns: conns, Length: length}, nil)
	if err != nil {
		return stats.Sample{}, err
	}
	return stats.Of(sent.Events*len(w.topics), took, sent.Latencies), nil
}

// send sends what is planned, and waits until all of it has come everywhere.
func (w way) send(ctx context.Context, p load.Plan, stamps *load.Stamps) (load.Sent, time.Duration, error) {
	for _, t := range w.topics {
		t.Expect(*w.next, stamps)
	}
	p.Address, p.First, p.Stamps = w.address, *w.next, stamps
	p.Request = load.Binary(w.address, w.path, w.event)
	began := time.Now()
	sent, err := load.Send(ctx, p)
	*w.next += sent.Events
	if err != nil {
		return sent, 0, err
	}
	for _, t := range w.topics {
		if err := t.Await(ctx, sent.Events); err != nil {
			return sent, 0, err
		}
	}
	return sent, time.Since(began), nil
}

func (b *bench) endToEnd(key string, w way) step {
	return step{key, w.server, func(ctx context.Context) (stats.Sample, error) { return w.endToEnd(ctx, window, b.length) }}
}

// half sends at a fixed rate; latencies are those from when an event was due
// until it was delivered. Those of the first while are a sample of their own.
func (b *bench) half(key string, w way, rate func() float64, first time.Duration) step {
	return step{key, w.server, func(ctx context.Context) (stats.Sample, error) {
		length := first + b.length
		stamps := load.NewStamps(*w.next, int(rate()*length.Seconds())+1)
		sent, took, err := w.send(ctx, load.Plan{Conns: window, Length: length, Rate: rate()}, stamps)
		if err != nil {
			return stats.Sample{}, err
		}
		latencies := w.topics[0].Latencies()
		if n := min(int(rate()*first.Seconds()), len(latencies)); n > 0 {
			b.samples[atFirst(key)] = append(b.samples[atFirst(key)], stats.Of(n, first, latencies[:n:n]))
			latencies = latencies[n:]
		}
		return stats.Of(sent.Events, took, latencies), nil
	}}
}

// atFirst is the key of the sample of a step's first while.
func atFirst(key string) string { return key + ", at first" }

// halfRelay is half of the relay's rate, its median.
func (b *bench) halfRelay() float64 { return b.median("relay").Rate / 2 }

func (b *bench) deliverRows() {
	b.rate("net/http as a relay, W=256", "relay")
	b.rate("HTTP in, one trigger, HTTP out, W=256", "deliver",
		b.atLeast(1.5, "deliver", "relay", "net/http's relay"),
		b.atMost(6, " s", "server CPU for 100k", b.serverCPU("deliver")))
	b.rate("net/http as a relay, at half of its rate: from due to delivered", "relay at half")
	b.rate("HTTP in, one trigger, HTTP out, at half of the relay's rate: from due to delivered", "deliver at half",
		func() table.Check {
			return table.Check{Name: "p50", Value: b.latency("deliver at half", p50), Bound: b.latency("sync beside", p50) + 1, AtMost: true, Unit: " ms"}
		},
		func() table.Check {
			return table.Check{Name: "p99", Value: b.latency("deliver at half", p99), Bound: 4*b.latency("sync beside", p99) + 4, AtMost: true, Unit: " ms"}
		})
	b.rate(fmt.Sprintf("fan-out to %d triggers that all match, W=256: deliveries", fan), "fan-out",
		b.atLeast(1, "fan-out", "http deliveries", "net/http answering 202"))
}
