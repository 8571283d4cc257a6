package dispatcher

// What goes out takes its turn: late deliveries at the pacer, then each in the
// lane to its host, then on a goroutine of the pool, which goes on with the next
// one that waits.

// launch has a delivery begin, or wait in its lane.
func (d *Dispatcher) launch(it *item) {
	if d.enters(it) {
		d.pool.run(it)
	}
}

// enters says whether a delivery may begin at once; otherwise it waits in its
// lane.
func (d *Dispatcher) enters(it *item) bool {
	r, t := it.sub.r, it.sub.target // another goroutine may have the item once it waits
	it.lane = nil
	if it.phase == toDeadLetter {
		return true // it goes elsewhere
	}
	l := t.lane.Load()
	if it.lane = l; l == nil || l.enter(it) {
		return true
	}
	if t.lane.Load() != l {
		t.move(l) // it may have come too late to be moved
	}
	if r.work.isShut() {
		d.pool.run((*release)(r)) // it may have come too late to be let go
	}
	return false
}

// release is the task that lets go what waits of a partition that is being
// closed.
type release runner

func (r *release) run() task {
	(*runner)(r).letGo()
	return nil
}

// next is told of the end of a delivery, and returns the task to go on with.
func (d *Dispatcher) next(l *lane, late bool) task {
	var next *item
	if l != nil {
		next = d.leave(l)
	}
	if late {
		switch it := d.pacer.end(); {
		case it == nil:
		case next != nil:
			d.launch(it)
		case d.enters(it):
			next = it
		}
	}
	if next == nil {
		return nil
	}
	return next
}

// leave is told of the end of a delivery in a lane, and returns the one that
// takes its place, or nil.
func (d *Dispatcher) leave(l *lane) *item {
	next, last := l.leave()
	if last && l.refs.Load() == 0 {
		d.lanes.tidy(l)
	}
	return next
}

// place is that of a delivery in its lane, as long as it has one.
type place struct {
	d    *Dispatcher
	lane *lane
}

// giveBack has another delivery take the place, where what is left of this one
// is no business of the subscriber's host.
func (p *place) giveBack() {
	l := p.lane
	if l == nil {
		return
	}
	p.lane = nil
	if next := p.d.leave(l); next != nil {
		p.d.pool.run(next)
	}
}

// passOn is told that a late delivery will not begin, and has another one take
// its turn.
func (d *Dispatcher) passOn() {
	if t := d.next(nil, true); t != nil {
		d.pool.run(t)
	}
}

// run implements task: it takes an item on its way.
func (it *item) run() task {
	s, late, p := it.sub, it.late, place{it.sub.r.d, it.lane} // another one may have the item by the end
	defer s.r.work.leave()
	if !late {
		s.r.d.pacer.started(s, it.due)
	}
	if !(late || it.held) || !s.recall(it) {
		s.deliver(it, &p)
	}
	return s.r.d.next(p.lane, late)
}

// recall takes back an item that was held, where it is not to begin any more.
func (s *sub) recall(it *item) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !it.removed && s.r.scanCtx.Err() == nil {
		return false
	}
	s.stopped(it)
	it.drop()
	return true
}
