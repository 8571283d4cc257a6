package kv

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// ring holds the newest events for all watchers. Revisions are dense, so that
// the event of a revision is found by its distance from the first.
type ring struct {
	maxEvents int
	maxBytes  int64

	events []*Event // events[head:] are in use
	head   int
	first  uint64 // revision of events[head]
	bytes  int64
}

// forget drops all events, and gives what they took.
func (r *ring) forget() (bytes int64) {
	bytes = r.bytes
	r.reset(r.first + uint64(len(r.events)-r.head) - 1)
	return bytes
}

// eventOverhead is about what an event takes beside its bytes.
const eventOverhead = 160

func (e *Event) size() int64 {
	return int64(eventOverhead + len(e.Key) + len(e.Value) + len(e.Prev))
}

// reset empties the ring: the next event is that of revision rev+1.
func (r *ring) reset(rev uint64) {
	r.events, r.head, r.first, r.bytes = nil, 0, rev+1, 0
}

func (r *ring) add(e *Event) {
	r.events = append(r.events, e)
	r.bytes += e.size()
	for n := len(r.events) - r.head; n > r.maxEvents || r.bytes > r.maxBytes && n > 1; n-- {
		r.bytes -= r.events[r.head].size()
		r.events[r.head] = nil
		r.head++
		r.first++
	}
	if r.head > r.maxEvents {
		r.events = append(make([]*Event, 0, 2*r.maxEvents), r.events[r.head:]...)
		r.head = 0
	}
}

func (r *ring) get(rev uint64) (*Event, bool) {
	i := int(rev - r.first)
	if rev < r.first || i >= len(r.events)-r.head {
		return nil, false
	}
	return r.events[r.head+i], true
}

// Forget drops the events that are kept in memory for watches, and gives the
// bytes that are free thereby. A watch that has yet to see one reads it from the
// database.
func (s *Store) Forget() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recent.forget()
}

// registry finds the watchers of a key without asking each of them.
type registry struct {
	exact map[string]map[*Watch]struct{} // by key
	dirs  map[string]map[*Watch]struct{} // by prefix that ends in a slash
	other map[string]map[*Watch]struct{} // by any other prefix
}

func newRegistry() registry {
	return registry{
		exact: map[string]map[*Watch]struct{}{},
		dirs:  map[string]map[*Watch]struct{}{},
		other: map[string]map[*Watch]struct{}{},
	}
}

func (r *registry) table(w *Watch) map[string]map[*Watch]struct{} {
	switch {
	case w.exact:
		return r.exact
	case strings.HasSuffix(w.prefix, "/"):
		return r.dirs
	default:
		return r.other
	}
}

func (r *registry) add(w *Watch) {
	t := r.table(w)
	if t[w.prefix] == nil {
		t[w.prefix] = map[*Watch]struct{}{}
	}
	t[w.prefix][w] = struct{}{}
}

func (r *registry) remove(w *Watch) {
	t := r.table(w)
	delete(t[w.prefix], w)
	if len(t[w.prefix]) == 0 {
		delete(t, w.prefix)
	}
}

func (r *registry) publish(e *Event) {
	push := func(watches map[*Watch]struct{}) {
		for w := range watches {
			if !w.push(item{rev: e.Rev}) {
				r.remove(w)
			}
		}
	}
	push(r.exact[e.Key])
	for i := range len(e.Key) {
		if e.Key[i] == '/' {
			push(r.dirs[e.Key[:i+1]])
		}
	}
	for prefix, watches := range r.other {
		if strings.HasPrefix(e.Key, prefix) {
			push(watches)
		}
	}
}

func (r *registry) each(do func(*Watch)) {
	for _, t := range []map[string]map[*Watch]struct{}{r.exact, r.dirs, r.other} {
		for _, watches := range t {
			for w := range watches {
				do(w)
			}
		}
	}
}

func (r *registry) closeAll(err error) {
	r.each(func(w *Watch) { w.fail(err) })
	*r = newRegistry()
}

// item is an event, by its revision, or a marker of progress.
type item struct {
	rev    uint64
	marker bool
}

// Watch is a subscription to the writes of a key or of a prefix. It holds
// revisions only; the events are shared by all, or read from the database when
// the watch has fallen far behind.
type Watch struct {
	s      *Store
	prefix string
	exact  bool
	rev    uint64 // the store's revision when the watch began
	past   uint64 // the past up to here was delivered; the queue begins after rev

	wake      chan struct{}
	gathering gathering // of the goroutine that calls Next

	mu    sync.Mutex
	queue []item
	err   error
}

// Batch is what a watch delivers at once: events, in order of revision, then,
// if Progress is not 0, the promise that every event up to that revision has
// been delivered.
type Batch struct {
	Events   []*Event
	Progress uint64
}

// batchEvents bounds a batch, and how much of the history is read at once.
const batchEvents = 256

// Watch follows the writes of a key, or of all keys that begin with prefix,
// after revision since; 0 means from now on. It fails with ErrCompacted when
// that revision's successors are not all kept; since may lie in the future.
func (s *Store) Watch(prefix string, exact bool, since uint64) (*Watch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return nil, err
	}
	now := s.meta.rev
	if since == 0 {
		since = now
	}
	if since < s.meta.floor {
		return nil, fmt.Errorf("watch %s: %w: %d, the oldest kept is %d", prefix, ErrCompacted, since, s.meta.floor)
	}
	w := &Watch{s: s, prefix: prefix, exact: exact, rev: now, past: since, wake: make(chan struct{}, 1)}
	s.watchers.add(w)
	return w, nil
}

// Gather has the watch take many writes together from now on. It is called
// before the first Next.
func (w *Watch) Gather(g Gather) { w.gathering.Gather = g }

// Rev is the store's revision when the watch began: what the store held then,
// read at this revision, and the events after it are the whole story.
func (w *Watch) Rev() uint64 { return w.rev }

func (w *Watch) match(key string) bool {
	if w.exact {
		return key == w.prefix
	}
	return strings.HasPrefix(key, w.prefix)
}

// push queues an item, or ends a watch whose queue is full; it then returns
// false.
func (w *Watch) push(it item) bool {
	w.mu.Lock()
	ok := w.err == nil
	switch n := len(w.queue); {
	case !ok:
	case it.marker && n > 0 && w.queue[n-1].marker:
		w.queue[n-1] = it
	case n >= w.s.o.WatchQueue:
		w.err, ok = fmt.Errorf("watch %s: %w: %d events wait", w.prefix, ErrSlowWatcher, n), false
		w.queue = nil
	default:
		w.queue = append(w.queue, it)
	}
	w.mu.Unlock()
	w.signal()
	return ok
}

func (w *Watch) fail(err error) {
	w.mu.Lock()
	if w.err == nil {
		w.err = err
	}
	w.queue = nil
	w.mu.Unlock()
	w.signal()
}

func (w *Watch) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Next waits for events. After an error, the watch is over. It is called from
// one goroutine.
func (w *Watch) Next(ctx context.Context) (Batch, error) {
	for {
		if err := w.failed(); err != nil {
			return Batch{}, err
		}
		if w.past < w.rev {
			b, err := w.readPast()
			if err != nil || len(b.Events) > 0 {
				return b, err
			}
			continue
		}
		if err := w.gather(ctx); err != nil {
			return Batch{}, err
		}
		b, more, err := w.readQueue()
		w.gathering.delivered(len(b.Events))
		if err != nil || len(b.Events) > 0 || b.Progress != 0 {
			return b, err
		}
		if more {
			continue
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return Batch{}, context.Cause(ctx)
		}
	}
}

func (w *Watch) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// readPast delivers events from before the watch began.
func (w *Watch) readPast() (Batch, error) {
	var b Batch
	last := min(w.rev, w.past+batchEvents)
	w.s.mu.Lock()
	_, recent := w.s.recent.get(w.past + 1)
	for rev := w.past + 1; recent && rev <= last; rev++ {
		if e, _ := w.s.recent.get(rev); e != nil && w.match(e.Key) {
			b.Events = append(b.Events, e)
		}
	}
	w.s.mu.Unlock()
	if recent {
		w.past = last
		return b, nil
	}
	events, seen, err := w.s.history(w.past, last, batchEvents, w.match)
	if err != nil {
		return b, fmt.Errorf("watch %s: %w", w.prefix, err)
	}
	w.past = seen
	return Batch{Events: events}, nil
}

// readQueue delivers what is queued, up to the first marker, and tells whether
// more is.
func (w *Watch) readQueue() (b Batch, more bool, err error) {
	w.mu.Lock()
	n := 0
	for n < len(w.queue) && n < batchEvents && !w.queue[n].marker {
		n++
	}
	items := append([]item(nil), w.queue[:n]...)
	if n < len(w.queue) && w.queue[n].marker {
		b.Progress = w.queue[n].rev
		n++
	}
	w.queue = append(w.queue[:0], w.queue[n:]...)
	if more = len(w.queue) > 0; !more && cap(w.queue) > batchEvents {
		w.queue = nil
	}
	w.mu.Unlock()

	var missing bool
	w.s.mu.Lock()
	for _, it := range items {
		if it.rev <= w.past {
			continue // the watch began at a revision of the future
		}
		e, ok := w.s.recent.get(it.rev)
		missing = missing || !ok
		b.Events = append(b.Events, e)
	}
	w.s.mu.Unlock()
	if !missing {
		return b, more, nil
	}
	for i, e := range b.Events {
		if e != nil {
			continue
		}
		rev := items[len(items)-len(b.Events)+i].rev
		events, _, err := w.s.history(rev-1, rev, 1, w.match)
		if err == nil && len(events) != 1 {
			err = errors.New("the event is missing")
		}
		if err != nil {
			return Batch{}, false, fmt.Errorf("watch %s: revision %d: %w", w.prefix, rev, err)
		}
		b.Events[i] = events[0]
	}
	return b, more, nil
}

// Close ends the watch.
func (w *Watch) Close() {
	w.s.mu.Lock()
	w.s.watchers.remove(w)
	w.s.mu.Unlock()
	w.fail(ErrClosed)
}

// Progress queues a marker for each watcher of the prefix, or of what is below
// it, behind the events that it has not seen.
func (s *Store) Progress(prefix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers.each(func(w *Watch) {
		if strings.HasPrefix(w.prefix, prefix) && !w.push(item{rev: s.meta.rev, marker: true}) {
			s.watchers.remove(w)
		}
	})
}

// RequestProgress queues a marker for this watcher.
func (w *Watch) RequestProgress() {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.push(item{rev: w.s.meta.rev, marker: true})
}
