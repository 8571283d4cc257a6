package metamorphic

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/dispatcher"
	"github.com/leat-dev/leat/filter"
)

// step does one random thing.
func (w *world) step() {
	c := w.channels[oneOf(w, channelNames...)]
	of := []struct {
		name   string
		weight int
		do     func()
	}{
		{"append", 25, func() { w.append(c) }},
		{"writers", 10, func() { w.background(c, 1+w.rnd.IntN(15)) }},
		{"sleep", 15, func() { time.Sleep(time.Duration(w.rnd.IntN(2000)) * time.Millisecond) }},
		{"long sleep", 2, func() { time.Sleep(time.Duration(1+w.rnd.IntN(15)) * time.Minute) }},
		{"subscribe", 6, func() { w.subscribe(c) }},
		{"change subscription", 6, func() { w.changeSubscription(c) }},
		{"target", 5, func() { w.changeTarget(c) }},
		{"subscriber up or down", 7, func() { w.upOrDown(c) }},
		{"snapshot", 3, w.snapshot},
		{"check", 4, w.check},
		{"clock", 1, func() { w.clock.by.Store(w.rnd.Int64N(int64(2*time.Minute)) - int64(time.Minute)) }},
		{"new channel", 1, func() { w.replace(c) }},
		{"restart", 4, w.restart},
		{"kill", 3, func() { w.crash(false) }},
		{"power cut", 3, func() { w.crash(true) }},
		{"power cut to come", 4, func() { w.life.disk.cutAfter(1 + w.rnd.IntN(40)) }},
		{"failing disk", 2, func() { w.life.disk.failAfter(1+w.rnd.IntN(40), faults[w.rnd.IntN(len(faults))]) }},
		{"full disk", 2, func() { w.life.disk.bound(w.rnd.Int64N(400 << 10)) }},
		{"room on the disk", 3, func() { w.life.disk.SetCapacity(unbounded) }},
	}
	sum := 0
	for _, o := range of {
		sum += o.weight
	}
	n := w.rnd.IntN(sum)
	for _, o := range of {
		if n -= o.weight; n < 0 {
			w.note("%s %s", o.name, c.id.UID)
			o.do()
			break
		}
	}
	w.harvest()
	if w.life.over() {
		w.note("the machine has stopped")
		w.crash(false)
	}
}

func (w *world) events(n int) []*Event {
	out := make([]*Event, n)
	size := oneOf(w, 10, 200, 3000)
	for i := range out {
		w.eventsMade++
		id := fmt.Sprintf("e%d", w.eventsMade)
		out[i] = &Event{
			ID: id, Type: oneOf(w, "a", "b", "c"), Source: fmt.Sprintf("/k/%d", w.rnd.IntN(6)),
			Data: bytes.Repeat([]byte(id), 1+w.rnd.IntN(size)/len(id)),
		}
	}
	return out
}

func (w *world) append(c *channelModel) {
	_ = w.appendBatch(context.Background(), w.life, c.ch, w.newBatch(c, w.events(1+w.rnd.IntN(20))...)) // the model has it
}

func (w *world) snapshot() {
	if err := w.life.group.Snapshot(); err != nil && !w.life.disk.faulty.Load() && !w.life.over() {
		w.t.Errorf("snapshot: %v", err)
	}
}

// subscribe makes a subscription, or takes one away.
func (w *world) subscribe(c *channelModel) {
	subs := maps.Clone(c.subs)
	if len(subs) > 4 || len(subs) > 0 && w.rnd.IntN(4) == 0 {
		uid := c.uids()[w.rnd.IntN(len(subs))]
		delete(subs, uid)
		w.set(c, subs)
		w.life.d.RemoveTarget(uid)
		for _, p := range c.parts {
			delete(p.letters, uid)
		}
		return
	}
	w.subsMade++
	uid := fmt.Sprintf("s%d", w.subsMade)
	if w.rnd.IntN(5) == 0 && len(c.targets) > 0 { // one that may have been there before
		all := slices.Sorted(maps.Keys(c.targets))
		uid = all[w.rnd.IntN(len(all))]
		if _, there := subs[uid]; there {
			return
		}
		c.anew[uid] = true
	}
	subs[uid] = channel.Subscription{
		UID: uid, Engine: filter.Engine, Filter: w.filter(c), Ordered: w.rnd.IntN(3) == 0, Start: w.start(c),
	}
	t := dispatcher.Target{
		UID: uid, Kind: "Trigger", Namespace: "default", Name: uid, Channel: c.id.Name, URL: "sub://" + uid,
		MaxInFlight: 1 + w.rnd.IntN(w.o.window), MaxWaiting: 1 + w.rnd.IntN(60),
		Delivery: dispatcher.Policy{Retry: w.rnd.IntN(4), Delay: time.Duration(1+w.rnd.IntN(300)) * time.Millisecond, Timeout: time.Second},
	}
	if w.rnd.IntN(2) == 0 {
		t.DeadLetterURL = "dead://" + uid
	}
	c.targets[uid] = t
	if w.rnd.IntN(2) == 0 {
		w.life.d.SetTarget(w.life.target(c, t))
		w.set(c, subs)
	} else {
		w.set(c, subs)
		w.life.d.SetTarget(w.life.target(c, t))
	}
}

func (w *world) filter(c *channelModel) []byte {
	f := filterModel{typ: oneOf(w, "", "", "a", "b", "r"), source: oneOf(w, "", "", "/k/", "/k/1", "/k/2")}
	b := f.canonical()
	c.filters[string(b)] = f
	return b
}

func (w *world) start(c *channelModel) channel.Start {
	switch w.rnd.IntN(5) {
	case 0:
		return channel.Start{At: "beginning"}
	case 1:
		return channel.Start{At: "offset", Offset: w.rnd.Uint64N(uint64(len(c.parts[0].places) + 1))}
	case 2:
		return channel.Start{At: "time", Time: w.clock.Now().Add(-time.Duration(w.rnd.IntN(120)) * time.Second)}
	}
	return channel.Start{At: "end"}
}

// changeSubscription gives one another filter, order or start.
func (w *world) changeSubscription(c *channelModel) {
	if len(c.subs) == 0 {
		return
	}
	subs := maps.Clone(c.subs)
	s := subs[c.uids()[w.rnd.IntN(len(subs))]]
	switch w.rnd.IntN(5) {
	case 0:
		s.Ordered = !s.Ordered
	case 1:
		old := s.Start
		if s.Start = w.start(c); s.Start.At != old.At || s.Start.Offset != old.Offset || !s.Start.Time.Equal(old.Time) {
			c.anew[s.UID] = true
		}
	default:
		s.Filter = w.filter(c)
	}
	subs[s.UID] = s
	w.set(c, subs)
}

// set makes a set of subscriptions the one in force.
func (w *world) set(c *channelModel, subs map[string]channel.Subscription) {
	begin := w.now()
	for uid, s := range subs {
		old, ok := c.subs[uid]
		if !ok || old.Start.At != s.Start.At || old.Start.Offset != s.Start.Offset || !old.Start.Time.Equal(s.Start.Time) {
			c.begins[uid] = append(c.begins[uid], begin)
		}
	}
	c.settings = append(c.settings, setting{begin: begin, done: math.MaxInt64, subs: subs})
	c.subs = subs
	c.version += 1 + uint64(w.rnd.IntN(3))
	list := slices.Collect(maps.Values(subs))
	slices.SortFunc(list, func(a, b channel.Subscription) int { return strings.Compare(a.UID, b.UID) })
	w.must("set the subscriptions", func() error {
		return c.ch.SetSubscriptions(context.Background(), c.version, list)
	})
	c.settings[len(c.settings)-1].done = w.now()
	for uid, all := range c.begins {
		c.begins[uid] = all[len(all)-1:] // what was broken off before can come no more
	}
	for _, s := range list {
		w.note("  set %d: %s %s ordered %v start %+v", c.version, s.UID, s.Filter, s.Ordered, s.Start)
	}
	w.absorbAll(c)
}

func (w *world) changeTarget(c *channelModel) {
	if len(c.subs) == 0 {
		return
	}
	t := c.targets[c.uids()[w.rnd.IntN(len(c.subs))]]
	switch {
	case t.URL == "":
		t.URL = "sub://" + t.UID
	case w.rnd.IntN(2) == 0:
		t.URL = ""
	default:
		t.MaxInFlight = 1 + w.rnd.IntN(w.o.window)
	}
	c.targets[t.UID] = t
	w.life.d.SetTarget(w.life.target(c, t))
}

func (w *world) upOrDown(c *channelModel) {
	if len(c.subs) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.of(c.uids()[w.rnd.IntN(len(c.subs))])
	m.down = !m.down
}

// replace drops a channel and makes another of its name.
func (w *world) replace(c *channelModel) {
	w.life.writers.Wait()
	c.made = false // a crash may find it there or not
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := w.life.d.Detach(ctx, c.id.UID); err != nil && !w.life.disk.faulty.Load() && !w.life.over() {
		w.t.Errorf("detach: %v", err)
	}
	for uid := range c.targets {
		w.life.d.RemoveTarget(uid)
	}
	w.must("drop "+c.id.UID, func() error { return w.life.log.Drop(context.Background(), c.id.UID) })
	w.newChannel(c.id.Name)
}
