package dispatcher

import (
	"sync"
	"sync/atomic"
	"time"
)

// hosts is what a Sender implements that has only so many connections to a host.
type hosts interface {
	// host is what requests to a URL have in common, and how many of them can be
	// out at once; "" where there is no such bound.
	host(url string) (name string, most int)
}

// lane is the way to one host. Deliveries that find no place wait here, without
// a goroutine of their own and before their attempt has begun: the subscriptions
// in turns; those at the head of the log go first, but for one in lateTurn.
type lane struct {
	name  string
	begin func(task)   // has a delivery go on
	now   func() int64 // in nanoseconds

	refs atomic.Int64 // targets

	mu         sync.Mutex
	places     places
	running    int
	head, late lines
	turn       int
	ticking    bool // a timer runs, which looks at the places while some wait
}

// lateTurn: where both wait, one late delivery goes on for so many.
const lateTurn = 8

// lanes are those of all hosts that a target names, or to which something is out.
type lanes struct {
	begin func(task)
	now   func() int64

	mu     sync.Mutex
	byHost map[string]*lane
}

// enter says whether a delivery may begin at once; otherwise it waits.
func (l *lane) enter(it *item) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running < l.places.n && l.waiting() == 0 {
		l.running++
		return true
	}
	it.held = true
	l.places.waited++
	if !l.ticking {
		l.ticking = true
		time.AfterFunc(placesInterval, l.tick)
	}
	if it.late {
		l.late.push(it)
	} else {
		l.head.push(it)
	}
	return false
}

func (l *lane) waiting() int { return l.head.len() + l.late.len() }

// leave is told of the end of a delivery, and returns the one that takes its
// place, or nil. last says that nothing is left.
func (l *lane) leave() (next *item, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.places.done++
	if l.running <= l.places.n {
		next = l.pop()
	}
	if next == nil {
		l.running--
	}
	return next, l.running == 0
}

// tick looks at how many places there are to be, as long as some wait for one.
func (l *lane) tick() {
	var free []*item
	l.mu.Lock()
	l.places.look(l.now(), l.waiting())
	for l.running < l.places.n {
		it := l.pop()
		if it == nil {
			break
		}
		l.running++
		free = append(free, it)
	}
	if l.ticking = l.waiting() > 0; l.ticking {
		time.AfterFunc(placesInterval, l.tick)
	}
	l.mu.Unlock()
	for _, it := range free {
		l.begin(it)
	}
}

// pop is who goes on next; nil where nobody waits. l.mu is held.
func (l *lane) pop() *item {
	first, second := &l.head, &l.late
	if l.turn++; l.turn%lateTurn == 0 {
		first, second = second, first
	}
	it, ok := first.pop()
	if !ok {
		it, ok = second.pop()
	}
	if ok && l.places.slow {
		it.due = 0 // that it waited is no fault of those that are late
	}
	return it
}

// drop takes out what waits here and is to.
func (l *lane) drop(is func(*item) bool) []*item {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append(l.head.drop(is), l.late.drop(is)...)
}

// take finds or makes the lane of a host, for a target.
func (l *lanes) take(name string, most int) *lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.byHost[name]
	if known == nil {
		known = &lane{name: name, begin: l.begin, now: l.now, places: newPlaces(most)}
		if l.byHost == nil {
			l.byHost = make(map[string]*lane)
		}
		l.byHost[name] = known
	}
	known.refs.Add(1)
	return known
}

// release is told that a target names the host no more.
func (l *lanes) release(x *lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	x.refs.Add(-1)
	l.forget(x)
}

// tidy forgets a lane that nobody needs.
func (l *lanes) tidy(x *lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(x)
}

// forget drops a lane without targets, once nothing is out. l.mu is held.
func (l *lanes) forget(x *lane) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.refs.Load() == 0 && x.running == 0 && l.byHost[x.name] == x {
		delete(l.byHost, x.name)
	}
}

// drop takes out what waits of a partition that is being closed.
func (l *lanes) drop(r *runner) (dropped []*item) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range l.byHost {
		dropped = append(dropped, x.drop(r.has)...)
	}
	return dropped
}
