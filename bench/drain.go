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

// drain has live traffic delivered to a subscription that is not behind, alone
// and beside another one that begins with the first event of all.
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
	if err := l.pairs(ctx, l.half(liveAlone, live, rate, beginning), l.half(liveBeside, live, rate, beginning)); err != nil {
		return err
	}
	return l.measure(ctx, step{"drain alone", l.Group, l.drainAlone})
}

const (
	liveAlone  = "live alone"
	liveBeside = "live beside a drain"
)

// beginning is the first while of live traffic, which has rows of its own: a drain
// that finds nobody beside it takes all there is, until the next look at how long
// deliveries wait has it give way.
const beginning = 300 * time.Millisecond

// pairsEach is how many pairs of turns there are, alone and beside a drain, for
// each turn of other work: one long wait in a turn of two seconds is its p99.
const pairsEach = 8

// pairs measures live traffic alone and beside a drain in alternation, as a
// machine is not the same for long; which comes first alternates, too.
func (l *backlog) pairs(ctx context.Context, alone, beside step) error {
	n := l.runs * pairsEach
	for i := range n {
		progress("pair %d of %d: %s, %s", i+1, n, alone.key, beside.key)
		turns := []func() error{
			func() error { return l.measure(ctx, alone) },
			func() error { return l.beside(ctx, i, beside) },
		}
		if i%2 == 1 {
			turns[0], turns[1] = turns[1], turns[0]
		}
		for _, turn := range turns {
			if err := errors.Join(turn(), l.resident()); err != nil {
				return err
			}
		}
	}
	return nil
}

// beside measures a step beside a new subscription that begins with the first
// event, and has that deleted after it.
func (l *backlog) beside(ctx context.Context, i int, s step) error {
	name := fmt.Sprintf("behind-%d", i)
	behind, stored := l.sink.Topic(name), l.next
	if err := l.startDrain(ctx, name, behind); err != nil {
		return err
	}
	began := time.Now()
	before, _ := behind.Received()
	if err := l.measure(ctx, s); err != nil {
		return err
	}
	n, _ := behind.Received()
	l.samples["drain beside"] = append(l.samples["drain beside"], stats.Of(n-before, time.Since(began), nil))
	if n >= stored {
		return fmt.Errorf("the drain of %d events ended while live traffic was measured beside it: give it more with -backlog", stored)
	}
	if err := l.Delete(ctx, name); err != nil {
		return err
	}
	return l.settled(ctx, behind)
}

// startDrain makes a subscription that begins with the first event, and waits
// until that has come.
func (l *backlog) startDrain(ctx context.Context, name string, topic *load.Topic) error {
	topic.Expect(0, nil)
	if err := l.Create(ctx, server.Trigger{Name: name, Broker: "many", Subscriber: topic.URL,
		Annotations: map[string]any{"leat.dev/start-from": "beginning"}}); err != nil {
		return err
	}
	return topic.Await(ctx, 1)
}

// settled waits until nothing has come to a topic for a while.
func (l *backlog) settled(ctx context.Context, topic *load.Topic) error {
	const quiet = 200 * time.Millisecond
	tick := time.NewTicker(quiet)
	defer tick.Stop()
	for last := -1; ; {
		n, again := topic.Received()
		if n+again == last {
			return nil
		}
		last = n + again
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// drainAlone is a drain of all events with nothing beside it.
func (l *backlog) drainAlone(ctx context.Context) (stats.Sample, error) {
	progress("draining %d events", l.next)
	behind := l.sink.Topic("behind")
	began := time.Now()
	if err := l.startDrain(ctx, "behind", behind); err != nil {
		return stats.Sample{}, err
	}
	done := make(chan error, 1)
	go func() { done <- behind.Await(ctx, l.next) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return stats.Of(l.next, time.Since(began), nil), err
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
	b.rate("live traffic at half of the relay's rate, alone", liveAlone)
	b.rate("live traffic at the same rate, beside a subscription that is drained", liveBeside,
		b.atLeast(0.8, liveBeside, liveAlone, "that alone"), b.p99Beside)
	b.rate(fmt.Sprintf("live traffic, alone, in the first %v of its turns", beginning), atFirst(liveAlone))
	b.rate(fmt.Sprintf("live traffic, beside a drain that had no other beside it before, in the first %v", beginning), atFirst(liveBeside))
	b.rate("that subscription, drained over HTTP beside the live traffic", "drain beside")
	b.rate("the same, with nothing beside it", "drain alone")
	b.note("memory backlog", float64(l.most)/1e6)
	b.figure(fmt.Sprintf("memory, with a backlog of %.1f GB: the most, after restarts and while it is drained", float64(l.next)*float64(b.size)/1e9), "memory backlog", " MB",
		b.atMost(250, " MB", "", b.value("memory backlog")))
}

// p99Beside holds the p99 of live traffic against that of the same alone, pair by
// pair.
func (b *bench) p99Beside() table.Check {
	return table.Check{Name: "of p99 alone", Bound: 1.2, AtMost: true,
		Value: stats.Ratio(b.samples[liveBeside], b.samples[liveAlone], func(s stats.Sample) float64 { return float64(s.P99) })}
}
