//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/leat-dev/leat/bench/load"
	"github.com/leat-dev/leat/bench/server"
	"github.com/leat-dev/leat/bench/stats"
)

// kind is a kind of filter: which filter the n-th trigger has, and an event
// that it alone matches.
type kind struct {
	name   string
	filter func(n int) map[string]any
	event  func(n, size int) load.Event
}

func kinds() []kind {
	name := func(n int) string { return fmt.Sprintf("item-%06d", n) }
	return []kind{
		{"equality", func(n int) map[string]any { return map[string]any{"exact": map[string]any{"type": name(n)}} },
			func(n, size int) load.Event { return load.Event{Type: name(n), Data: load.Payload(size, "")} }},
		{"prefix", func(n int) map[string]any { return map[string]any{"prefix": map[string]any{"subject": name(n) + "/"}} },
			func(n, size int) load.Event { return load.Event{Subject: name(n) + "/a", Data: load.Payload(size, "")} }},
		{"expr on an attribute", func(n int) map[string]any {
			return map[string]any{"expr": fmt.Sprintf("subject == '%s' && type startsWith 'bench.'", name(n))}
		},
			func(n, size int) load.Event { return load.Event{Subject: name(n), Data: load.Payload(size, "")} }},
		{"expr on data", func(n int) map[string]any { return map[string]any{"expr": fmt.Sprintf("data.key == '%s'", name(n))} },
			func(n, size int) load.Event {
				return load.Event{Data: load.Payload(size, fmt.Sprintf(`"key":"%s",`, name(n)))}
			}},
	}
}

// filtersPart measures many triggers of which one matches, and how soon a
// change of them holds.
func filtersPart(ctx context.Context, b *bench) (err error) {
	sink, err := load.NewSink()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	for _, k := range kinds() {
		if err := b.filterKind(ctx, sink, k); err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
	}
	if len(b.changes) == 0 {
		return nil
	}
	slices.Sort(b.changes)
	b.samples["change"] = []stats.Sample{{Rate: math.NaN(), P50: stats.Percentile(b.changes, 50), P99: b.changes[len(b.changes)-1], ServerCPU: math.NaN(), ClientCPU: math.NaN()}}
	b.rate(fmt.Sprintf("a change of %d triggers, from the request to the API until it holds (p50, and the longest of %d)", b.triggers, len(b.changes)), "change",
		b.atMost(50, " ms", "at most", func() float64 { return b.latency("change", p99) }))
	return nil
}

func (b *bench) filterKind(ctx context.Context, sink *load.Sink, k kind) error {
	progress("%d triggers: %s", b.triggers, k.name)
	s, err := b.startLeat(ctx, "filters-"+strings.ReplaceAll(k.name, " ", "-"))
	if err != nil {
		return err
	}
	defer s.Kill()
	trigger := func(broker string, n int, t *load.Topic) server.Trigger {
		return server.Trigger{Name: fmt.Sprintf("%s-%06d", broker, n), Broker: broker, Subscriber: t.URL, Filter: k.filter(n)}
	}
	ways := map[string]way{}
	for _, broker := range []string{"one", "many"} {
		if err := s.Broker(ctx, broker); err != nil {
			return err
		}
		t := sink.Topic(strings.ReplaceAll(k.name, " ", "-") + "-" + broker)
		ways[broker] = way{s.Group, s.Address, server.Path(broker), k.event(0, b.size), []*load.Topic{t}, new(int)}
	}
	others := sink.Topic("others") // to which nothing may come
	triggers := []server.Trigger{trigger("one", 0, ways["one"].topics[0]), trigger("many", 0, ways["many"].topics[0])}
	for n := 1; n < b.triggers; n++ {
		triggers = append(triggers, trigger("many", n, others))
	}
	if err := s.Create(ctx, triggers...); err != nil {
		return err
	}
	if err := s.Ready(ctx, len(triggers)); err != nil {
		return err
	}
	for _, w := range ways {
		if _, err := w.endToEnd(ctx, window, warmUp); err != nil {
			return err
		}
	}
	b.rate(fmt.Sprintf("%d triggers, one of which matches: %s", b.triggers, k.name), k.name+" many",
		b.atLeast(0.7, k.name+" many", k.name+" one", "one trigger"))
	if err := b.turns(ctx, []step{b.endToEnd(k.name+" one", ways["one"]), b.endToEnd(k.name+" many", ways["many"])}); err != nil {
		return err
	}
	t := sink.Topic(strings.ReplaceAll(k.name, " ", "-") + "-new")
	for n := b.triggers; n < b.triggers+2*b.runs; n++ {
		if err := b.change(ctx, s, ways["many"], trigger("many", n, t), t, k.event(n, b.size)); err != nil {
			return fmt.Errorf("a change of the triggers: %w", err)
		}
	}
	if n, _ := others.Received(); n > 0 {
		return fmt.Errorf("%d events came to triggers that do not match them", n)
	}
	return nil
}

// change makes a trigger and deletes it, while events that it matches are
// sent one after another, and notes how long after each request to the API an
// event was sent that it did not yet hold for.
func (b *bench) change(ctx context.Context, s *server.Server, w way, t server.Trigger, topic *load.Topic, event load.Event) error {
	const room = 1 << 20
	from := *w.next
	*w.next += room
	stamps := load.NewStamps(from, room)
	topic.Expect(from, stamps)
	sending, stop := context.WithCancel(ctx)
	defer stop()
	sent := make(chan error, 1)
	go func() {
		_, err := load.Send(sending, load.Plan{Address: w.address, Conns: 1, Length: patience, First: from, Stamps: stamps,
			Request: load.Binary(w.address, w.path, event)})
		sent <- err
	}()
	created := time.Now()
	if err := s.Create(ctx, t); err != nil {
		return err
	}
	if err := topic.Await(ctx, 200); err != nil {
		return err
	}
	deleted := time.Now()
	if err := s.Delete(ctx, t.Name); err != nil {
		return err
	}
	if err := quiet(ctx, topic); err != nil {
		return err
	}
	stop()
	if err := <-sent; !errors.Is(err, context.Canceled) {
		return fmt.Errorf("the events came to an end too early: %w", err)
	}
	lowest, highest, _ := topic.Span()
	first, known := stamps.Get(lowest)
	last, alsoKnown := stamps.Get(highest)
	if !known || !alsoKnown {
		return fmt.Errorf("events %d and %d came, which were not sent", lowest, highest)
	}
	b.changes = append(b.changes, max(0, first.Sub(created)), max(0, last.Sub(deleted)))
	return nil
}

// patience bounds what is waited for.
const patience = time.Minute

// quiet waits until nothing has come to a topic for a while.
func quiet(ctx context.Context, t *load.Topic) error {
	const enough = 250 * time.Millisecond
	last, _ := t.Received()
	for since := time.Now(); time.Since(since) < enough; {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
		if n, _ := t.Received(); n != last {
			last, since = n, time.Now()
		}
	}
	return nil
}
