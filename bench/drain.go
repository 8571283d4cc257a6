//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/leat-dev/leat/bench/load"
	"github.com/leat-dev/leat/bench/server"
	"github.com/leat-dev/leat/bench/stats"
	"github.com/leat-dev/leat/bench/table"
)

// read reads all events, as leat tail does: to show one, and to show all.
func (l *backlog) read(ctx context.Context) error {
	tail := func(key, filter string, shown int) step {
		return step{key, l.Group, func(ctx context.Context) (stats.Sample, error) {
			began := time.Now()
			n, err := l.Tail(ctx, "many", filter)
			if err == nil && n != shown {
				err = fmt.Errorf("%d events were shown, not %d", n, shown)
			}
			return stats.Of(l.next, time.Since(began), nil), err
		}}
	}
	if err := l.turns(ctx, []step{tail("read", fmt.Sprintf("id=%012d", l.next-1), 1)}); err != nil {
		return err
	}
	progress("showing %d events", l.next)
	return l.measure(ctx, tail("show", "", l.next)) // once: it takes its time
}

// drain has a subscription that begins with the first event, while others come
// and are delivered to one that is not behind.
func (l *backlog) drain(ctx context.Context) error {
	rate, err := l.liveRate(ctx)
	if err != nil {
		return err
	}
	topic := l.sink.Topic("live")
	if err := l.Create(ctx, server.Trigger{Name: "live", Broker: "many", Subscriber: topic.URL}); err != nil {
		return err
	}
	if err := l.Ready(ctx, 1); err != nil {
		return err
	}
	live := way{l.Group, l.Address, server.Path("many"), load.Event{Data: load.Payload(l.size, "")}, []*load.Topic{topic}, &l.next}
	// Before and after, as a machine is not the same for long.
	alone := l.half("live alone", live, rate)
	if err := l.turns(ctx, []step{alone}); err != nil {
		return err
	}
	behind := l.sink.Topic("behind")
	behind.Expect(0, nil)
	stored := l.next
	progress("draining %d events", stored)
	began := time.Now()
	if err := l.Create(ctx, server.Trigger{Name: "behind", Broker: "many", Subscriber: behind.URL,
		Annotations: map[string]any{"leat.dev/start-from": "beginning"}}); err != nil {
		return err
	}
	beside := l.half("live beside a drain", live, rate)
	for range l.runs * turnsBeside {
		if err := errors.Join(l.measure(ctx, beside), l.resident()); err != nil {
			return err
		}
		if n, _ := behind.Received(); n >= stored {
			return fmt.Errorf("the drain of %d events ended while live traffic was measured beside it: give it more with -backlog", stored)
		}
	}
	n, _ := behind.Received()
	l.samples["drain beside"] = []stats.Sample{stats.Of(n, time.Since(began), nil)}
	if err := l.measure(ctx, step{"drain alone", l.Group, func(ctx context.Context) (stats.Sample, error) {
		return l.drainRest(ctx, behind)
	}}); err != nil {
		return err
	}
	if err := l.Delete(ctx, "behind"); err != nil {
		return err
	}
	return l.turns(ctx, []step{alone})
}

// turnsBeside is how many turns there are beside a drain for each one without: a
// part of the drain, whatever its length.
const turnsBeside = 3

// drainRest is the drain with nothing beside it, to its end.
func (l *backlog) drainRest(ctx context.Context, behind *load.Topic) (stats.Sample, error) {
	progress("draining the rest")
	began := time.Now()
	before, _ := behind.Received()
	done := make(chan error, 1)
	go func() { done <- behind.Await(ctx, l.next) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return stats.Of(l.next-before, time.Since(began), nil), err
		case <-tick.C:
			if err := l.resident(); err != nil {
				return stats.Sample{}, errors.Join(err, <-done)
			}
		}
	}
}

// liveRate is half of what the relay passes on.
func (l *backlog) liveRate(ctx context.Context) (func() float64, error) {
	if len(l.samples["relay"]) > 0 {
		return l.halfRelay, nil
	}
	topic := l.sink.Topic("relay")
	relay, err := l.startCeiling(ctx, topic.URL)
	if err != nil {
		return nil, err
	}
	defer relay.Kill()
	w := way{relay.Group, relay.address, "/", load.Event{Data: load.Payload(l.size, "")}, []*load.Topic{topic}, new(int)}
	s, err := w.endToEnd(ctx, window, l.length)
	return func() float64 { return s.Rate / 2 }, err
}

func (l *backlog) rows() {
	b := l.bench
	b.rate(fmt.Sprintf("publish, W=%d, after %d events", window, few), "publish after few")
	b.rate(fmt.Sprintf("publish, W=%d, after %d events", window, b.backlog), "publish after many",
		b.atLeast(0.9, "publish after many", "publish after few", fmt.Sprintf("that after %d", few)))
	b.figure(fmt.Sprintf("start to ready, %d events, stopped", l.kept), "start clean", " s", b.atMost(1, " s", "", b.value("start clean")))
	b.figure(fmt.Sprintf("start to ready, %d events, killed", l.kept), "start killed", " s", b.atMost(2, " s", "", b.value("start killed")))
	b.rate("backlog read in process, as leat tail --since with a filter does", "read", func() table.Check {
		return table.Check{Name: "a second", Value: b.median("read").Rate, Bound: 200_000}
	})
	b.rate("backlog read and shown, as leat tail --since does", "show")
	b.rate("live traffic at half of the relay's rate, alone", "live alone")
	b.rate("live traffic at the same rate, beside a subscription that is drained", "live beside a drain",
		b.atLeast(0.8, "live beside a drain", "live alone", "that alone"),
		func() table.Check {
			return table.Check{Name: "of p99 alone", Value: b.latency("live beside a drain", p99) / b.latency("live alone", p99), Bound: 1.2, AtMost: true}
		})
	b.rate("that subscription, drained over HTTP beside the live traffic", "drain beside")
	b.rate("the same, with nothing beside it", "drain alone")
	b.note("memory backlog", float64(l.most)/1e6)
	b.figure(fmt.Sprintf("memory, with a backlog of %.1f GB: the most, after restarts and while it is drained", float64(l.next)*float64(b.size)/1e9), "memory backlog", " MB",
		b.atMost(250, " MB", "", b.value("memory backlog")))
}
