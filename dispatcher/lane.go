package dispatcher

import (
	"sync"
	"sync/atomic"
)

// hosts is what a Sender implements that has only so many connections to a host.
type hosts interface {
	// host is what requests to a URL have in common, and how many of them can be
	// out at once; "" where there is no such bound.
	host(url string) (name string, most int)
}

// lane is the way to one host. Deliveries for which there is no connection wait
// here, without a goroutine of their own and before their attempt has begun;
// those at the head of the log go first, but for one in lateTurn.
type lane struct {
	name string
	most int

	refs atomic.Int64 // targets

	mu         sync.Mutex
	running    int
	head, late fifo[*item]
	turn       int
}

// lateTurn: where both wait, one late delivery goes on for so many.
const lateTurn = 8

// lanes are those of all hosts that a target names, or to which something is out.
type lanes struct {
	mu     sync.Mutex
	byHost map[string]*lane
}

// enter says whether a delivery may begin at once; otherwise it waits.
func (l *lane) enter(it *item) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running < l.most {
		l.running++
		return true
	}
	it.held = true
	if it.late {
		l.late.push(it)
	} else {
		l.head.push(it)
	}
	return false
}

// leave is told of the end of a delivery, and returns the one that takes its
// place, or nil. last says that nothing is left.
func (l *lane) leave() (next *item, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first, second := &l.head, &l.late
	if l.turn++; l.turn%lateTurn == 0 {
		first, second = second, first
	}
	next, ok := first.pop()
	if !ok {
		next, ok = second.pop()
	}
	if !ok {
		l.running--
	}
	return next, l.running == 0
}

// take finds or makes the lane of a host, for a target.
func (l *lanes) take(name string, most int) *lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.byHost[name]
	if known == nil {
		known = &lane{name: name, most: most}
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
		x.mu.Lock()
		for _, f := range []*fifo[*item]{&x.head, &x.late} {
			dropped = append(dropped, dropItems(f, r)...)
		}
		x.mu.Unlock()
	}
	return dropped
}
