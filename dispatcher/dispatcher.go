package dispatcher

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/filter"
)

// Dispatcher delivers the events of any number of channels. Its methods may
// be called from many goroutines at once.
type Dispatcher struct {
	o      Options
	sender Sender
	began  time.Time
	budget budget
	pool   pool
	pacer  *pacer
	lanes  lanes
	views  sync.Pool // of *filter.View
	tries  sync.Pool // of *try
	items  sync.Pool // of *item
	loans  sync.Pool // of *channel.Loan

	// attaching is held while channels are attached or detached; it comes
	// before all other locks.
	attaching sync.Mutex

	mu      sync.Mutex
	targets map[string]*target
	runners map[string][]*runner // by channel UID
	closed  bool
}

// target is what the partitions of one subscription share.
type target struct {
	d   *Dispatcher
	uid string
	cur atomic.Pointer[Target]
	// lane is the way to the subscriber; nil where nothing bounds it.
	lane atomic.Pointer[lane]

	// meter counts what was delivered.
	meter meter

	mu   sync.Mutex
	subs []*sub
}

// New makes a dispatcher with no channels. Close ends it.
func New(o Options) *Dispatcher {
	o = o.withDefaults()
	d := &Dispatcher{
		o: o, sender: o.Sender, began: time.Now(),
		budget:  budget{maxRequests: int64(o.MaxRequests), maxBytes: o.MaxRequestBytes, maxWaiting: int64(o.MaxWaiting)},
		targets: make(map[string]*target),
		runners: make(map[string][]*runner),
	}
	d.lanes.begin, d.lanes.now = d.pool.run, d.now
	d.pacer = newPacer(o, d.launch, d.now)
	if d.sender == nil {
		d.sender = NewHTTPSender(o.HTTP)
	}
	return d
}

// Denies says why no request would go to a URL, as HTTPOptions.Denies does.
func (d *Dispatcher) Denies(url string) string { return d.o.HTTP.Denies(url) }

// now is a monotonic clock, in nanoseconds.
func (d *Dispatcher) now() int64 { return int64(time.Since(d.began)) }

func (d *Dispatcher) view() *filter.View {
	if v, ok := d.views.Get().(*filter.View); ok {
		return v
	}
	return d.o.Filter.NewView(nil)
}

// Attach begins to deliver a channel's events from the committed cursors on.
// Partitions that a channel attached before has since been given are taken up.
func (d *Dispatcher) Attach(ch channel.Channel) {
	d.attaching.Lock()
	defer d.attaching.Unlock()
	uid := ch.ID().UID
	var fresh []*runner
	d.mu.Lock()
	for _, p := range ch.Partitions() {
		known := slices.ContainsFunc(d.runners[uid], func(r *runner) bool { return r.p.Number() == p.Number() })
		if !known && !d.closed {
			r := newRunner(d, p)
			d.runners[uid] = append(d.runners[uid], r)
			fresh = append(fresh, r)
		}
	}
	d.mu.Unlock()
	for _, r := range fresh {
		r.start()
	}
}

// Detach stops delivering a channel's events: nothing new goes out at once,
// and it returns when the requests that are out have ended (those left when
// ctx ends are broken off) and the last cursors are committed. An error says
// that these could not be: some events will be delivered again.
func (d *Dispatcher) Detach(ctx context.Context, uid string) error {
	d.attaching.Lock()
	d.mu.Lock()
	runners := d.runners[uid]
	delete(d.runners, uid)
	d.mu.Unlock()
	d.attaching.Unlock()
	return closeAll(ctx, runners)
}

// Close detaches all channels and ends the dispatcher.
func (d *Dispatcher) Close(ctx context.Context) error {
	d.attaching.Lock()
	d.mu.Lock()
	var runners []*runner
	for _, rs := range d.runners {
		runners = append(runners, rs...)
	}
	d.runners, d.closed = nil, true
	d.mu.Unlock()
	d.attaching.Unlock()
	err := closeAll(ctx, runners)
	d.pacer.close()
	d.pool.close()
	d.sender.Close()
	return err
}

func closeAll(ctx context.Context, runners []*runner) error {
	errs := make([]error, len(runners))
	var all sync.WaitGroup
	for i, r := range runners {
		all.Go(func() { errs[i] = r.close(ctx) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// SetTarget says where a subscription's events go from now on. It may come
// before or after its channel is attached or has the subscription.
func (d *Dispatcher) SetTarget(t Target) {
	d.mu.Lock()
	tg := d.target(t.UID)
	d.mu.Unlock()
	tg.set(&t)
}

// RemoveTarget forgets where a subscription's events go. While the channel
// still has the subscription, it waits, as one whose URL is empty; what it has
// open is given up when the channel forgets it.
func (d *Dispatcher) RemoveTarget(uid string) {
	d.mu.Lock()
	tg := d.targets[uid]
	d.mu.Unlock()
	if tg != nil {
		tg.set(nil)
		tg.tidy()
	}
}

// target finds or makes what the partitions share. d.mu is held.
func (d *Dispatcher) target(uid string) *target {
	tg := d.targets[uid]
	if tg == nil {
		tg = &target{d: d, uid: uid}
		d.targets[uid] = tg
	}
	return tg
}

// join makes a subscription one of its target's, which may reach it from here
// on: everything else in it has been set.
func (d *Dispatcher) join(s *sub) {
	d.mu.Lock()
	defer d.mu.Unlock()
	tg := d.target(s.uid)
	tg.mu.Lock()
	defer tg.mu.Unlock()
	s.target = tg
	tg.subs = append(tg.subs, s)
}

func (t *target) get() *Target { return t.cur.Load() }

// set changes the target, nil removes it.
func (t *target) set(to *Target) {
	t.mu.Lock()
	t.cur.Store(to)
	t.route(to)
	subs := slices.Clone(t.subs)
	t.mu.Unlock()
	for _, s := range subs {
		s.nudge()
	}
}

// route sets the lane of the subscriber. t.mu is held.
func (t *target) route(to *Target) {
	var next *lane
	if h, ok := t.d.sender.(hosts); ok && to != nil {
		if name, most := h.host(to.URL); name != "" {
			next = t.d.lanes.take(name, most)
		}
	}
	last := t.lane.Swap(next)
	if last == nil {
		return
	}
	if last != next {
		t.move(last)
	}
	t.d.lanes.release(last)
}

// move has what waits for a host where the subscriber is no more go to where it
// is now.
func (t *target) move(from *lane) {
	for _, it := range from.drop(func(it *item) bool { return it.sub.target == t }) {
		t.d.launch(it)
	}
}

// leave takes a subscription out, and forgets a target that nobody needs.
func (t *target) leave(s *sub) {
	t.mu.Lock()
	t.subs = slices.DeleteFunc(t.subs, func(x *sub) bool { return x == s })
	t.mu.Unlock()
	t.tidy()
}

func (t *target) tidy() {
	t.d.mu.Lock()
	defer t.d.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.subs) == 0 && t.cur.Load() == nil && t.d.targets[t.uid] == t {
		delete(t.d.targets, t.uid)
	}
}

func (t *Target) maxInFlight() int {
	if t == nil || t.MaxInFlight <= 0 {
		return defaultMaxInFlight
	}
	return t.MaxInFlight
}

func (t *Target) maxWaiting() int {
	if t == nil || t.MaxWaiting <= 0 {
		return defaultMaxWaiting
	}
	return t.MaxWaiting
}
