package metamorphic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/dispatcher"
	"github.com/leat-dev/leat/filter"
	"github.com/leat-dev/leat/raftlog"
)

// Event is a CloudEvent.
type Event = event.Event

// fate is what an append was answered with.
type fate uint8

const (
	pending fate = iota
	acked
	refused // nothing was written
	unknown
)

// sent is an event that was appended, or was to be.
type sent struct {
	ev       *Event
	c        *channelModel
	batch    []*sent // appended together, in order
	from, to int64   // when the append began and ended; math.MaxInt64: not yet
	fate     fate
	place    *place // nil: it has not been read from the log
}

// place is an offset, with what was read there.
type place struct {
	off   uint64
	sent  *sent // nil: retention passed it before it was read
	time  int64
	terms []channel.Term // all that ever covered it, as the log said
}

// filterModel is a filter in its plainest form.
type filterModel struct{ typ, source string }

func (f filterModel) matches(e *Event) bool {
	return (f.typ == "" || f.typ == e.Type) && (f.source == "" || strings.HasPrefix(e.Source, f.source))
}

func (f filterModel) canonical() []byte {
	var all []filter.Node
	if f.typ != "" {
		all = append(all, filter.Node{Exact: map[string]string{"type": f.typ}})
	}
	if f.source != "" {
		all = append(all, filter.Node{Prefix: map[string]string{"source": f.source}})
	}
	if len(all) == 0 {
		return nil
	}
	return filter.Spec{Filters: all}.Canonical()
}

// setting is a set of subscriptions, and when it came into force: at some time
// from begin on, and by done at the latest.
type setting struct {
	begin, done int64
	subs        map[string]channel.Subscription
}

// channelModel is what a channel means.
type channelModel struct {
	id      channel.ID
	made    bool
	ch      channel.Channel // of this life
	parts   []*partModel
	version uint64

	settings []setting
	subs     map[string]channel.Subscription // the set in force
	targets  map[string]dispatcher.Target
	filters  map[string]filterModel // by canonical form
	begins   map[string][]int64     // when a subscription was to be started anew; all but the last may not have come to be
	began    map[string]int64       // the earliest of them that the log's present life of it may be
	anew     map[string]bool        // it was, so not all that it got can be told apart
	started  map[string]uint64      // the terms version of its present life
}

type partModel struct {
	n       int
	places  []*place // by offset
	floor   uint64
	letters map[string]*lettersModel

	outcomes uint64 // position up to which they were read
	expired  map[string]int
	lost     bool // some outcomes were gone before they were read
}

type lettersModel struct {
	floor, next uint64
	ids         map[string]bool // of the originals
	lost        bool            // some were gone before they were read
}

func (c *channelModel) uids() []string { return slices.Sorted(maps.Keys(c.subs)) }

func (w *world) newChannel(n string) *channelModel {
	w.channelsMade++
	c := &channelModel{
		id:   channel.ID{Kind: "Broker", Namespace: "default", Name: n, UID: fmt.Sprintf("%s-%d", n, w.channelsMade)},
		subs: map[string]channel.Subscription{}, targets: map[string]dispatcher.Target{},
		settings: []setting{{}}, filters: map[string]filterModel{"": {}}, begins: map[string][]int64{}, began: map[string]int64{}, anew: map[string]bool{}, started: map[string]uint64{},
	}
	for i := range 1 + w.rnd.IntN(3) {
		c.parts = append(c.parts, &partModel{n: i, letters: map[string]*lettersModel{}, expired: map[string]int{}})
	}
	config := channel.Config{Partitions: len(c.parts), RetentionBytes: oneOf[int64](w, 0, 0, 30_000)}
	w.mu.Lock()
	w.channels[n] = c
	w.mu.Unlock()
	w.must("make "+c.id.UID, func() error {
		ch, err := w.life.log.Ensure(context.Background(), c.id, config)
		if err == nil {
			c.ch = ch
		}
		return err
	})
	c.made = true
	w.life.attach(c)
	return c
}

func (w *world) now() int64 { return w.seq.Add(1) }

// newBatch makes events that are to be appended together.
func (w *world) newBatch(c *channelModel, events ...*Event) []*sent {
	w.mu.Lock()
	defer w.mu.Unlock()
	batch := make([]*sent, len(events))
	for i, e := range events {
		batch[i] = &sent{ev: e, c: c, batch: batch, from: w.now(), to: math.MaxInt64}
		w.sent[e.ID] = batch[i]
	}
	return batch
}

// appendBatch appends in a life and notes what came of it.
func (w *world) appendBatch(ctx context.Context, l *life, ch channel.Channel, batch []*sent) error {
	events := make([]*Event, len(batch))
	for i, s := range batch {
		events[i] = s.ev
	}
	err := ch.Append(ctx, events)
	dead := l.disk.dead.Load()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range batch {
		s.to = w.now()
		switch {
		case errors.Is(err, raftlog.ErrUnknownOutcome), err == nil && dead:
			s.fate = unknown
		case err == nil:
			s.fate = acked
		default:
			s.fate = refused
		}
	}
	switch {
	case err == nil || dead || l.over() || l.disk.faulty.Load():
	case errors.Is(err, raftlog.ErrOverloaded), errors.Is(err, raftlog.ErrDiskFull) && w.o.channel.MaxDisk > 0, ctx.Err() != nil:
	case errors.Is(err, channel.ErrNotFound) && w.channels[c0(batch).id.Name] != c0(batch):
	default:
		w.t.Errorf("append on a disk without faults: %v", err)
	}
	return err
}

func c0(batch []*sent) *channelModel { return batch[0].c }

// delivery is what a subscriber knows of an event.
type delivery struct {
	first, last int64 // when it was first and last taken; 0: never
	times       int
	ended       int64 // when last nothing more was to be done for it
}

type subscriberModel struct {
	got      map[string]*delivery
	out, max int
	down     bool
}

// of is what a subscriber knows. w.mu is held.
func (w *world) of(uid string) *subscriberModel {
	m := w.subscribers[uid]
	if m == nil {
		m = &subscriberModel{got: map[string]*delivery{}}
		w.subscribers[uid] = m
	}
	return m
}

func (m *subscriberModel) delivery(id string) *delivery {
	d := m.got[id]
	if d == nil {
		d = &delivery{}
		m.got[id] = d
	}
	return d
}

// sender is all subscribers and dead letter sinks. Their addresses are
// sub://<uid> and dead://<uid>.
type sender struct {
	w *world
	l *life
}

func (s *sender) Close() {}

func (s *sender) Send(ctx context.Context, r *dispatcher.Request) (dispatcher.Response, error) {
	kind, uid, _ := strings.Cut(r.URL, "://")
	w, id := s.w, r.Event.ID
	w.mu.Lock()
	m := w.of(uid)
	latency := time.Duration(w.subRnd.IntN(30)) * time.Millisecond
	chance, wantsReply := w.subRnd.IntN(100), w.subRnd.IntN(5) == 0
	if kind == "sub" {
		m.out++
		m.max = max(m.max, m.out)
	}
	well, down := w.healthy, m.down
	if w.subRnd.IntN(4) > 0 {
		dispatcher.KeepsNothing(ctx)
	}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if kind == "sub" {
			m.out--
		}
	}()
	select {
	case <-time.After(latency):
	case <-ctx.Done():
		return dispatcher.Response{}, ctx.Err()
	}
	switch {
	case well:
	case down && chance < 50:
		return dispatcher.Response{}, errors.New("connection refused")
	case down || chance < 5:
		return dispatcher.Response{Status: 503}, nil
	case chance < 8:
		return dispatcher.Response{Status: 400}, nil
	case chance < 10:
		<-ctx.Done()
		return dispatcher.Response{}, ctx.Err()
	}
	if s.l.disk.dead.Load() {
		return dispatcher.Response{}, errors.New("the machine has stopped")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() != nil {
		return dispatcher.Response{}, ctx.Err()
	}
	if r.Event.ID != id {
		w.t.Errorf("%s got event %s, which became %q meanwhile", uid, id, r.Event.ID)
	}
	return w.take(m, kind, uid, r.Event, wantsReply)
}

// take is a subscriber's or dead letter sink's good answer. w.mu is held.
func (w *world) take(m *subscriberModel, kind, uid string, e *Event, wantsReply bool) (dispatcher.Response, error) {
	s := w.sent[e.ID]
	if s == nil || !bytes.Equal(s.ev.Data, e.Data) || s.ev.Type != e.Type || s.ev.Source != e.Source {
		w.t.Errorf("%s got event %s, which is not as it was sent", uid, e.ID)
		return dispatcher.Response{Status: 200}, nil
	}
	d := m.delivery(e.ID)
	if kind == "dead" {
		d.ended = w.now()
		return dispatcher.Response{Status: 202}, nil
	}
	d.last = w.now()
	if d.first == 0 {
		d.first = d.last
	}
	d.times++
	if wantsReply && e.Type != "r" {
		w.replies++
		r := &Event{ID: fmt.Sprintf("r%d-%s", w.replies, e.ID), Source: e.Source, Type: "r", Data: e.Data}
		return dispatcher.Response{Status: 200, Replies: []*Event{r}}, nil
	}
	d.ended = d.last
	return dispatcher.Response{Status: 200}, nil
}

// reply is what the ingress does with a subscriber's reply: it becomes an event
// of the channel, or is refused, for now or for good.
func (w *world) reply(ctx context.Context, l *life, c *channelModel, uid string, original *dispatcher.Original, reply *Event) error {
	w.mu.Lock()
	refuse := w.subRnd.IntN(10) == 0
	ch := c.ch
	w.mu.Unlock()
	if refuse {
		return &dispatcher.RefusedError{Code: 400, Reason: "as the test wants it"}
	}
	fresh := reply.Clone() // tried again, it is another event
	w.mu.Lock()
	w.replies++
	fresh.ID = fmt.Sprintf("%s-%d", reply.ID, w.replies)
	w.mu.Unlock()
	batch := w.newBatch(c, fresh)
	if err := w.appendBatch(ctx, l, ch, batch); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if batch[0].fate == acked {
		w.of(uid).delivery(original.Event.ID).ended = w.now()
	}
	return nil
}
