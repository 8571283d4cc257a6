package dispatcher

import (
	"sync"
	"sync/atomic"
	"time"
)

// paceInterval is how often the pacer looks at how long deliveries wait.
const paceInterval = 5 * time.Millisecond

const (
	// leastLimit is the lowest limit of a pacer: one at a time for a part of the
	// time, as one after another without a pause takes a good part of a processor,
	// with the subscriber's.
	leastLimit = 1.0 / 8
	// soon is how many may begin in an interval by a limit of almost 1.
	soon = 32
	// headPatience: with nothing delivered at the head for less than this, what is
	// to be delivered there may be on its way, as to a disk that takes its time.
	headPatience = 100 * time.Millisecond
)

// pacer has deliveries to those that are far behind give way to those at the
// head of the log. It knows no rate and no load: it looks at how long deliveries
// at the head wait from when they could begin until they do, which is short as
// long as processors are free. Where that takes longer than it should, fewer of
// the late ones go on at a time; where it does not, or where none came, more.
// What the head has to wait when nearly no late ones go on is not their fault.
//
// Some always go on: a few in each interval, one after another, and at least one
// whatever the others do, so that late ones that hang do not hold up the others.
type pacer struct {
	begin func(*item) // has a delivery go on
	now   func() int64
	// goal is how long deliveries at the head may wait, on average; most is how
	// many late ones there may be at once if they do not.
	goal int64
	most float64

	// Of deliveries at the head, since the last look, while there are late ones.
	begun, waited atomic.Int64
	late          atomic.Int64 // late ones, begun or not
	// head had the last delivery at the head; nil: there was none since the last look.
	head atomic.Pointer[sub]

	mu      sync.Mutex
	limit   float64 // of those that run; below 1: one at a time, in a part of each interval
	quota   int     // how many may still begin before the next look, by a limit below 1
	rest    int64   // how long the head waits with nearly none of them
	running int
	held    fifo[*item]
	looked  int64
	seen    int64       // when it was last seen that somebody is at the head
	timer   *time.Timer // runs while some are held
}

// farBehind is how many offsets a subscription may be behind, and still count
// as one at the head of the log.
const farBehind = 1024

// far says whether the subscription is far behind. s.mu is held.
func (s *sub) far() bool { return s.behind && s.r.horizon.Load() > s.next+farBehind }

func newPacer(o Options, begin func(*item), now func() int64) *pacer {
	most := float64(o.MaxRequests)
	return &pacer{begin: begin, now: now, goal: int64(o.HeadWait), most: most, limit: most, seen: -int64(headPatience)}
}

// stamp is when a delivery at the head could begin; 0 where nobody asks.
func (p *pacer) stamp() int64 {
	if p.late.Load() == 0 {
		return 0
	}
	return p.now()
}

// started is told of a delivery at the head that begins.
func (p *pacer) started(s *sub, stamp int64) {
	if p.head.Load() != s {
		p.head.Store(s)
	}
	if stamp != 0 {
		p.begun.Add(1)
		p.waited.Add(p.now() - stamp)
	}
}

// start begins a late delivery, or holds it until it may begin.
func (p *pacer) start(it *item) {
	p.late.Add(1)
	p.mu.Lock()
	p.look()
	if !p.room() {
		p.held.push(it)
		p.tick()
		p.mu.Unlock()
		return
	}
	p.take()
	p.mu.Unlock()
	p.begin(it)
}

// end is told of the end of a late delivery, and returns one that may begin now,
// or nil.
func (p *pacer) end() *item {
	p.late.Add(-1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running--
	p.look()
	if !p.room() {
		return nil
	}
	it, ok := p.held.pop()
	if !ok {
		return nil
	}
	p.take()
	return it
}

// room says whether one more may begin. p.mu is held.
func (p *pacer) room() bool {
	if p.limit < 1 {
		return p.running < 1 && p.quota > 0
	}
	return p.running < int(p.limit)
}

// take counts one that begins. p.mu is held.
func (p *pacer) take() {
	p.running++
	p.quota--
}

// look sets the limit by what has happened since the last time. p.mu is held.
func (p *pacer) look() {
	now := p.now()
	since := now - p.looked
	if since < int64(paceInterval) {
		return
	}
	p.looked = now
	if s := p.head.Swap(nil); s != nil && !s.late.Load() {
		p.seen = now
	}
	n, wait := p.begun.Swap(0), p.waited.Swap(0)
	if since > int64(headPatience) && p.attended() {
		p.limit = min(p.limit, 1) // late ones have just come, and others are there
	} else {
		if n > 0 {
			wait /= n
			p.rests(wait)
		}
		p.limit = min(max(p.step(n, wait), leastLimit), p.most)
	}
	p.quota = max(1, int(p.limit*soon))
}

// attended says whether somebody is at the head, as far as was seen. p.mu is held.
func (p *pacer) attended() bool { return p.looked-p.seen < int64(headPatience) }

// step is the next limit, where n deliveries at the head waited so long on
// average. p.mu is held.
func (p *pacer) step(n, wait int64) float64 {
	goal := max(p.goal, p.rest+p.rest/2)
	few := p.limit < 1
	switch {
	case n == 0 && p.attended():
		return p.limit
	case n == 0 || wait < goal/4:
		if few {
			return min(1, 2*p.limit)
		}
		return p.limit + max(1, p.limit/8)
	case wait <= goal:
		if few {
			return min(1, 1.2*p.limit)
		}
		return p.limit + max(0.25, p.limit/32)
	}
	used := p.limit
	if !few {
		used = min(used, float64(max(1, p.running)))
	}
	if wait <= 4*goal {
		return used * 0.8
	}
	return used * 0.5
}

// rests learns how long the head waits with nearly no late ones: slowly, as much
// of it is chance, and slower where that is longer than was known. p.mu is held.
func (p *pacer) rests(wait int64) {
	switch {
	case wait < p.rest:
		p.rest -= (p.rest - wait) / 8
	case p.limit <= 2*leastLimit:
		p.rest += min(wait-p.rest, p.goal) / 16
	}
}

// tick sees to it that what is held is looked at again. p.mu is held.
func (p *pacer) tick() {
	switch {
	case p.held.len() != 1: // it runs
	case p.timer == nil:
		p.timer = time.AfterFunc(paceInterval, p.release)
	default:
		p.timer.Reset(paceInterval)
	}
}

// release begins what may begin by now, and at least one.
func (p *pacer) release() {
	var free []*item
	p.mu.Lock()
	p.look()
	for len(free) == 0 || p.room() {
		it, ok := p.held.pop()
		if !ok {
			break
		}
		p.take()
		free = append(free, it)
	}
	if p.held.len() > 0 {
		p.timer.Reset(paceInterval)
	}
	p.mu.Unlock()
	for _, it := range free {
		p.begin(it)
	}
}

// drop takes out what is held of a partition that is being closed.
func (p *pacer) drop(r *runner) (dropped []*item) {
	p.mu.Lock()
	defer p.mu.Unlock()
	dropped = dropItems(&p.held, r.has)
	p.late.Add(int64(-len(dropped)))
	return dropped
}

// close stops the timer; nothing is held any more.
func (p *pacer) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
	}
}

// dropItems takes some out.
func dropItems(f *fifo[*item], is func(*item) bool) (dropped []*item) {
	for range f.len() {
		it, _ := f.pop()
		if is(it) {
			dropped = append(dropped, it)
		} else {
			f.push(it)
		}
	}
	return dropped
}

// keptPlaces is how many places an empty queue keeps.
const keptPlaces = 128

// fifo is a queue. Its zero value is empty.
type fifo[T any] struct {
	items []T
	first int // those before are gone
}

func (f *fifo[T]) len() int { return len(f.items) - f.first }

func (f *fifo[T]) push(x T) { f.items = append(f.items, x) }

func (f *fifo[T]) pop() (x T, ok bool) {
	if f.len() == 0 {
		return x, false
	}
	x, ok = f.items[f.first], true
	var none T
	f.items[f.first] = none
	switch f.first++; {
	case f.first == len(f.items) && cap(f.items) <= keptPlaces:
		f.items, f.first = f.items[:0], 0
	case f.first == len(f.items):
		*f = fifo[T]{}
	case f.first > 32 && f.first > len(f.items)/2:
		n := copy(f.items, f.items[f.first:])
		clear(f.items[n:])
		f.items, f.first = f.items[:n], 0
	}
	return x, ok
}
