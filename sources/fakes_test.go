package sources

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/broker/controller"
	"github.com/leat-dev/leat/broker/status"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/dispatcher"
)

// fakeLog is channels in memory that keep events and positions.
type fakeLog struct {
	mu       sync.Mutex
	channels map[string]*fakeChannel
}

func (l *fakeLog) Ensure(_ context.Context, id channel.ID, _ channel.Config) (channel.Channel, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.channels[id.UID] == nil {
		l.channels[id.UID] = &fakeChannel{log: l, id: id, positions: map[string]uint64{}}
	}
	return l.channels[id.UID], nil
}

func (l *fakeLog) Drop(_ context.Context, uid string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.channels, uid)
	return nil
}

func (l *fakeLog) Get(uid string) (channel.Channel, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ch, ok := l.channels[uid]
	if !ok {
		return nil, false
	}
	return ch, true
}

func (l *fakeLog) List() []channel.Channel {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []channel.Channel
	for _, uid := range slices.Sorted(maps.Keys(l.channels)) {
		all = append(all, l.channels[uid])
	}
	return all
}

// show is what the channels have, one line each.
func (l *fakeLog) show() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []string
	for _, uid := range slices.Sorted(maps.Keys(l.channels)) {
		ch := l.channels[uid]
		line := ch.id.Kind + " " + uid + ":"
		for _, s := range ch.subs {
			line += " >" + s.UID
		}
		for _, e := range ch.events {
			line += " " + e.ID
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

type fakeChannel struct {
	channel.Channel // what is not needed here

	log       *fakeLog
	id        channel.ID
	events    []*event.Event
	positions map[string]uint64
	subs      []channel.Subscription
	refuse    error
	slow      time.Duration // an append is answered so long after it is on its way
}

func (c *fakeChannel) ID() channel.ID { return c.id }

func (c *fakeChannel) AppendFrom(ctx context.Context, producer string, sequence uint64, events []*event.Event) error {
	if c.slow == 0 {
		return c.append(producer, sequence, events)
	}
	// What is on its way is applied, also where nobody waits for it any more.
	answer := make(chan error, 1)
	time.AfterFunc(c.slow, func() { answer <- c.append(producer, sequence, events) })
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *fakeChannel) append(producer string, sequence uint64, events []*event.Event) error {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	if c.refuse != nil {
		return c.refuse
	}
	if c.log.channels[c.id.UID] != c {
		return channel.ErrNotFound
	}
	if sequence > c.positions[producer] {
		c.positions[producer] = sequence
		c.events = append(c.events, events...)
	}
	return nil
}

func (c *fakeChannel) Position(producer string) uint64 {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	return c.positions[producer]
}

func (c *fakeChannel) SetSubscriptions(_ context.Context, _ uint64, subs []channel.Subscription) error {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	c.subs = subs
	return nil
}

func (c *fakeChannel) ChangeSubscriptions(context.Context, uint64, uint64, []channel.Subscription, []string) error {
	return channel.ErrStale // a source gives the whole set
}

// fakeDispatcher notes what it is told.
type fakeDispatcher struct {
	mu       sync.Mutex
	attached map[string]bool
	targets  map[string]dispatcher.Target
	status   dispatcher.Status // of all
}

func (d *fakeDispatcher) Paused() map[string]dispatcher.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	paused := map[string]dispatcher.Status{}
	for uid := range d.attached {
		if d.status.Paused {
			paused[uid] = d.status
		}
	}
	return paused
}

func (d *fakeDispatcher) Attach(ch channel.Channel) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.attached[ch.ID().UID] = true
}

func (d *fakeDispatcher) Detach(_ context.Context, uid string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.attached, uid)
	return nil
}

func (d *fakeDispatcher) SetTarget(t dispatcher.Target) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.targets[t.UID] = t
}

func (d *fakeDispatcher) RemoveTarget(uid string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.targets, uid)
}

func (d *fakeDispatcher) show() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var lines []string
	for _, uid := range slices.Sorted(maps.Keys(d.targets)) {
		t := d.targets[uid]
		lines = append(lines, fmt.Sprintf("%s %s/%s url=%q retry=%d attached=%v", t.Kind, t.Namespace, t.Name, t.URL, t.Delivery.Retry, d.attached[uid]))
	}
	return strings.Join(lines, "\n")
}

// fakeSinks resolves a reference to the channel whose UID is its name.
type fakeSinks struct {
	log     *fakeLog
	changed func(namespace, name string)
}

func (s *fakeSinks) Resolve(_ context.Context, _, _ string, d *duckv1.Destination) (controller.Sink, *status.Problem) {
	if d.Ref == nil {
		return controller.Sink{URL: d.URI}, nil
	}
	ch, ok := s.log.Get(d.Ref.Name)
	if !ok {
		return controller.Sink{}, status.Problemf("NotFound", "%s not found", d.Ref.Name)
	}
	return controller.Sink{URL: "http://leat/" + d.Ref.Name, Channel: ch}, nil
}

func (s *fakeSinks) Forget(string, string) {}

// counter is an adapter that hands over a number whenever it is told to.
type counter struct {
	w    *world
	name string
}

func (c *counter) Run(ctx context.Context, out Output) error {
	c.w.note(c.name + " begins after " + fmt.Sprint(out.Position()))
	defer c.w.note(c.name + " ends")
	for {
		select {
		case <-ctx.Done():
			return nil
		case what := <-c.w.tell:
			switch what {
			case "fail":
				return errors.New("no more")
			case "panic":
				panic("out of paper")
			case "end":
				return nil
			}
			n := out.Position() + 1
			if what == "again" {
				n--
			}
			if err := out.Hand(ctx, n, &event.Event{ID: fmt.Sprint(n), Source: "/s", Type: what}); err != nil {
				return err
			}
		}
	}
}
