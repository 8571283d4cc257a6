package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/dispatcher"
)

// fakeLog is channels in memory that hold no events.
type fakeLog struct {
	mu       sync.Mutex
	channels map[string]*fakeChannel
	dropped  []string
	sets     int // how often subscriptions were set or changed
	given    int // how many subscriptions it was given in all
	// takes is how long each subscription that is given takes.
	takes time.Duration
	// before is called before a set is taken; an error refuses it.
	before func(version uint64, subs []channel.Subscription) error
	// refuse is what Ensure answers.
	refuse error
}

func newFakeLog() *fakeLog { return &fakeLog{channels: map[string]*fakeChannel{}} }

func (l *fakeLog) Ensure(_ context.Context, id channel.ID, c channel.Config) (channel.Channel, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != nil {
		return nil, l.refuse
	}
	ch := l.channels[id.UID]
	if ch == nil {
		ch = &fakeChannel{log: l, id: id}
		l.channels[id.UID] = ch
	}
	ch.config = c
	for n := len(ch.parts); n < c.Partitions; n++ {
		ch.parts = append(ch.parts, &fakePartition{ch: ch, number: n})
	}
	return ch, nil
}

func (l *fakeLog) Drop(_ context.Context, uid string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.channels[uid] != nil {
		delete(l.channels, uid)
		l.dropped = append(l.dropped, uid)
	}
	return nil
}

func (l *fakeLog) Get(uid string) (channel.Channel, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ch, ok := l.channels[uid]
	return ch, ok
}

func (l *fakeLog) List() []channel.Channel {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []channel.Channel
	for _, ch := range l.channels {
		all = append(all, ch)
	}
	return all
}

func (l *fakeLog) ByName(kind, namespace, name string) (channel.Channel, bool) {
	for _, ch := range l.List() {
		if id := ch.ID(); id.Kind == kind && id.Namespace == namespace && id.Name == name {
			return ch, true
		}
	}
	return nil, false
}

// subscriptions shows what the log of a UID has, one line each.
func (l *fakeLog) subscriptions(uid string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	ch := l.channels[uid]
	if ch == nil {
		return "no log"
	}
	var lines []string
	for _, s := range ch.subs {
		line := s.UID + " " + s.Start.At
		if s.Start.At == "time" {
			line += " " + s.Start.Time.Format(time.RFC3339)
		}
		if s.Start.Offset > 0 {
			line += fmt.Sprintf(" %d", s.Start.Offset)
		}
		if s.Ordered {
			line += " ordered"
		}
		lines = append(lines, strings.TrimSpace(line+" "+string(s.Filter)))
	}
	return strings.Join(lines, "\n")
}

type fakeChannel struct {
	channel.Channel // what is not needed here

	log     *fakeLog
	id      channel.ID
	config  channel.Config
	parts   []channel.Partition
	subs    []channel.Subscription
	version atomic.Uint64
}

func (c *fakeChannel) ID() channel.ID { return c.id }

func (c *fakeChannel) Partitions() []channel.Partition {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	return slices.Clone(c.parts)
}

func (c *fakeChannel) SetSubscriptions(_ context.Context, version uint64, subs []channel.Subscription) error {
	return c.take(version, len(subs), subs, func(now uint64) bool { return version >= now })
}

func (c *fakeChannel) ChangeSubscriptions(_ context.Context, from, version uint64, changed []channel.Subscription, gone []string) error {
	c.log.mu.Lock()
	subs := slices.DeleteFunc(slices.Clone(c.subs), func(s channel.Subscription) bool {
		return slices.Contains(gone, s.UID) || slices.ContainsFunc(changed, func(x channel.Subscription) bool { return x.UID == s.UID })
	})
	c.log.mu.Unlock()
	subs = append(subs, changed...)
	slices.SortFunc(subs, func(a, b channel.Subscription) int { return strings.Compare(a.UID, b.UID) })
	return c.take(version, len(changed), subs, func(now uint64) bool { return from == now })
}

// take makes subs the set, of which some were given, where the version before
// fits.
func (c *fakeChannel) take(version uint64, given int, subs []channel.Subscription, fits func(now uint64) bool) error {
	c.log.mu.Lock()
	c.log.sets++
	c.log.given += given
	before, takes := c.log.before, time.Duration(given)*c.log.takes
	c.log.mu.Unlock()
	if takes > 0 {
		time.Sleep(takes)
	}
	if before != nil {
		if err := before(version, subs); err != nil {
			return err
		}
	}
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	if now := c.version.Load(); !fits(now) {
		return fmt.Errorf("version %d is applied: %w", now, channel.ErrStale)
	}
	c.subs = subs
	c.version.Store(version)
	return nil
}

type fakePartition struct {
	channel.Partition // what is not needed here

	ch     *fakeChannel
	number int
}

func (p *fakePartition) Number() int     { return p.number }
func (p *fakePartition) Version() uint64 { return p.ch.version.Load() }

// fakeDispatcher notes what it is told.
type fakeDispatcher struct {
	mu       sync.Mutex
	attached map[string]bool
	targets  map[string]dispatcher.Target
	told     int
	status   map[string]dispatcher.Status
	drain    time.Duration // what Detach takes
}

func newFakeDispatcher() *fakeDispatcher {
	return &fakeDispatcher{attached: map[string]bool{}, targets: map[string]dispatcher.Target{}, status: map[string]dispatcher.Status{}}
}

func (d *fakeDispatcher) Attach(ch channel.Channel) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.attached[ch.ID().UID] = true
}

func (d *fakeDispatcher) Detach(_ context.Context, uid string) error {
	time.Sleep(d.drain)
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.attached, uid)
	return nil
}

func (d *fakeDispatcher) SetTarget(t dispatcher.Target) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told++
	d.targets[t.UID] = t
}

func (d *fakeDispatcher) RemoveTarget(uid string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told++
	delete(d.targets, uid)
}

func (d *fakeDispatcher) Paused() map[string]dispatcher.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	paused := maps.Clone(d.status)
	maps.DeleteFunc(paused, func(_ string, s dispatcher.Status) bool { return !s.Paused })
	return paused
}

// show is the targets, one line each.
func (d *fakeDispatcher) show() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var lines []string
	for _, uid := range slices.Sorted(maps.Keys(d.targets)) {
		t := d.targets[uid]
		p := t.Delivery
		line := fmt.Sprintf("%s %s/%s of %s: url=%q", t.Kind, t.Namespace, t.Name, t.Channel, t.URL)
		line += fmt.Sprintf(" retry=%d %s %v", p.Retry, p.Backoff, p.Delay)
		if t.DeadLetterURL != "" {
			line += " dead-letters=" + t.DeadLetterURL
		}
		if t.ReplyURL != "" {
			line += " reply=" + t.ReplyURL
		}
		if t.Reply != nil {
			line += " reply=func"
		}
		if t.MaxInFlight+t.MaxWaiting > 0 {
			line += fmt.Sprintf(" max=%d/%d", t.MaxInFlight, t.MaxWaiting)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}
