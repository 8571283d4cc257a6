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
)

// few is what many events are held against.
const few = 10_000

// backlog measures a server that has many events.
type backlog struct {
	*bench
	*server.Server
	sink *load.Sink
	next int   // number of the next event
	kept int   // events that were there when it was started again
	most int64 // memory, in bytes, since there is a backlog
}

func backlogPart(ctx context.Context, b *bench) (err error) {
	l := &backlog{bench: b}
	if l.sink, err = load.NewSink(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.sink.Close()) }()
	if l.Server, err = b.startLeat(ctx, "backlog"); err != nil {
		return err
	}
	defer func() { l.Kill() }() // the one that runs by then
	if err := l.Broker(ctx, "many"); err != nil {
		return err
	}
	defer l.rows() // which name what was stored
	for _, measure := range []func(context.Context) error{l.fill, l.restarts, l.read, l.drain} {
		if err := measure(ctx); err != nil {
			return err
		}
	}
	return nil
}

// fill stores the events, and measures how fast single ones are taken then, in turns
// with a server that has few.
func (l *backlog) fill(ctx context.Context) error {
	early := &backlog{bench: l.bench}
	var err error
	if early.Server, err = l.startLeat(ctx, "few"); err != nil {
		return err
	}
	defer early.Kill()
	if err := early.Broker(ctx, "many"); err != nil {
		return err
	}
	if err := errors.Join(early.store(ctx, few), l.store(ctx, l.backlog)); err != nil {
		return err
	}
	for _, each := range []*backlog{early, l} {
		if _, err := each.publish(ctx, warmUp); err != nil {
			return err
		}
	}
	if err := l.turns(ctx, []step{early.publishing("publish after few"), l.publishing("publish after many")}); err != nil {
		return err
	}
	return l.resident()
}

// resident keeps the most memory that the server was seen to have.
func (l *backlog) resident() error {
	n, err := l.Resident()
	l.most = max(l.most, n)
	return err
}

func (l *backlog) store(ctx context.Context, n int) error {
	if n <= 0 {
		return nil
	}
	progress("storing %d events", n)
	sent, err := load.Send(ctx, load.Plan{Address: l.Address, Conns: batches, Limit: (n + batch - 1) / batch, First: l.next,
		Request: load.Batch(l.Address, server.Path("many"), batch, load.Event{Data: load.Payload(l.size, "")})})
	if err != nil {
		return err
	}
	l.next += sent.Events
	return nil
}

func (l *backlog) publishing(key string) step {
	return step{key, l.Group, func(ctx context.Context) (stats.Sample, error) { return l.publish(ctx, l.length) }}
}

func (l *backlog) publish(ctx context.Context, length time.Duration) (stats.Sample, error) {
	sent, err := load.Send(ctx, load.Plan{Address: l.Address, Conns: window, Length: length, First: l.next, Request: l.request()})
	l.next += sent.Events
	return stats.Of(sent.Events, sent.Took, sent.Latencies), err
}

func (l *backlog) request() load.Request {
	return load.Binary(l.Address, server.Path("many"), load.Event{Data: load.Payload(l.size, "")})
}

// restarts stops the server, in both ways, and starts it again: none of what
// it has answered may be missing then.
func (l *backlog) restarts(ctx context.Context) error {
	l.kept = l.next
	for _, way := range []struct {
		key string
		end func()
	}{
		{"start clean", func() { l.Stop() }}, // of the server that runs then
		{"start killed", func() { l.Kill() }},
	} {
		for range l.runs {
			progress(way.key)
			way.end()
			s, err := l.startLeat(ctx, "backlog")
			if err != nil {
				return err
			}
			l.Server = s
			l.note(way.key, l.Started.Seconds())
			if err := l.resident(); err != nil {
				return err
			}
		}
		stored, err := l.Stored(ctx, "many")
		if err != nil {
			return err
		}
		if stored != l.next {
			return fmt.Errorf("%s: the broker has %d events, %d were sent", way.key, stored, l.next)
		}
	}
	return nil
}
