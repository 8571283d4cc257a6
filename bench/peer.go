//go:build linux

package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/leat-dev/leat/bench/peers"
	"github.com/leat-dev/leat/bench/stats"
	"github.com/leat-dev/leat/bench/table"
)

// peerKey is the key of what a peer does.
func peerKey(peer, work string) string { return peer + ": " + work }

// peerPart measures a peer. Where it cannot be had, its row says why.
func peerPart(ctx context.Context, b *bench, name string) error {
	p, err := peers.Named(name)
	if err != nil {
		return err
	}
	m, err := b.machine()
	if err != nil {
		return err
	}
	progress("installing %s", p.Title)
	if err := p.Install(ctx, m); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		b.add(func() table.Row { return table.Row{Work: p.Title, Note: fmt.Sprintf("not available: %v", err)} })
		return nil
	}
	s, err := p.Start(ctx, m, filepath.Join(b.dir, "peer-"+name))
	if err != nil {
		return err
	}
	defer func() { s.Kill() }()
	work := func(key string, w peers.Work) step {
		w.Size, w.Length = b.size, b.length
		return step{peerKey(name, key), s.Group, func(ctx context.Context) (stats.Sample, error) { return s.Do(ctx, w) }}
	}
	if _, err := s.Do(ctx, peers.Work{Window: window, Size: b.size, Length: b.length}); err != nil { // to warm up
		return err
	}
	events := 0
	steps := []step{}
	note := ""
	if !p.Synced {
		note = ", not synced"
	}
	for _, w := range []int{1, 16, window, batch * batches} {
		key := fmt.Sprintf("publish W=%d", w)
		steps = append(steps, work(key, peers.Work{Window: w}))
		b.rate(fmt.Sprintf("%s: publish, W=%d%s", p.Title, w, note), peerKey(name, key))
	}
	steps = append(steps, work("deliver", peers.Work{Window: window, Deliver: true}))
	b.rate(fmt.Sprintf("%s: end to end, W=%d%s", p.Title, window, note), peerKey(name, "deliver"))
	if err := b.turns(ctx, steps); err != nil {
		return err
	}
	for _, st := range steps {
		for _, sample := range b.samples[st.key] {
			events += sample.Events
		}
	}
	if err := s.Restart(ctx); err != nil {
		return err
	}
	key := peerKey(name, "restart")
	b.note(key, s.Started.Seconds())
	b.figure(fmt.Sprintf("%s: start to ready, %d events, killed", p.Title, events), key, " s")
	return nil
}

func (b *bench) machine() (peers.Machine, error) {
	cache, err := filepath.Abs(b.cache)
	if err != nil {
		return peers.Machine{}, err
	}
	driver, err := filepath.Abs(filepath.Join("bench", "peers", "driver"))
	return peers.Machine{Cache: cache, Driver: driver, Install: b.install}, err
}
