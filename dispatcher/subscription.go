package dispatcher

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/filter"
)

// forever is the end of an open term.
const forever = math.MaxUint64

// term is a channel.Term with its filter compiled. It is never modified.
type term struct {
	from, to uint64
	ordered  bool
	engine   int            // the version of the filter's semantics
	spec     string         // the canonical filter
	filter   *filter.Filter // nil: err says why nothing can be matched
	err      error
}

// sub is one subscription in one partition. An idle one has no goroutine, no
// timer and nothing to write.
//
// It is attached (the scan offers it what matches) or behind (it reads from
// its own position, on a goroutine that lives only while there is room in the
// window). Lock order: runner.scanMu, then sub.mu, then runner.dirtyMu.
type sub struct {
	r      *runner
	uid    string
	id     uint32
	target *target

	// Guarded by r.scanMu.
	joined *term  // the term by which the matcher has it
	absent bool   // behind for so long that it was taken out of the matcher
	round  uint64 // of the last refresh that listed it
	// started tells a subscription from an earlier one of the same UID.
	started uint64

	mu sync.Mutex
	// terms are those not yet closed and fully delivered, in order. They are
	// replaced as a whole, holding both locks.
	terms []*term

	// behind changes while both locks are held.
	behind      bool
	behindSince time.Time
	pumping     bool
	// next: everything below has been looked at. While attached it is only a
	// lower bound: the scan's position says more.
	next uint64
	// skip are ranges above next that were done in an earlier life.
	skip []channel.Range

	w window
	// slots = out + acked + those that settle + those that wait in the window.
	slots, out, acked, covering int
	outBytes                    int64
	settling                    []settlement

	waits   waiters // hold no slot
	keeping waiters // wait, but keep their slot: too many wait already, or they hold replies
	waiting int     // hold no slot: in waits, or blocked behind their key
	blocked int
	paused  bool // too many waiting; until some are done
	timer   *time.Timer
	timerAt int64

	keys      map[string]*keyState
	held      []*keyState // released by the next commit
	heldTaken []*keyState // released by the commit that is on its way

	outcomes  []channel.Outcome
	errors    filterErrors
	committed bool // a cursor of it is stored
	listed    bool // in r.dirty
	parked    bool // in r.commits.parked
	advanced  int  // offsets looked at since the last time it was listed
	dead      bool
	late      atomic.Bool // what it started last was late; anybody may look

	stopReason, stopMessage string // why the pump cannot go on
	lastError               string
	lastErrorAt, lastOK     time.Time
}

// settlement is an item that is done once its dead letters are stored.
type settlement struct {
	it       *item
	letters  []channel.DeadLetter
	outcomes []channel.Outcome
	bytes    int
}

// filterErrors gathers a filter's failures for one outcome.
type filterErrors struct {
	n           uint32
	first, last uint64
	reason      string
	recorded    time.Time
}

// offer hands over a matching event that the scan has come to. It says
// whether the subscription has been behind for so long that there is no use in
// offering it more. r.scanMu is held.
func (s *sub) offer(st *channel.Stored, t *term) (useless bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.behind {
		return time.Since(s.behindSince) > absentAfter
	}
	if !s.dead && st.Offset >= s.next && !s.skips(st.Offset) && !s.admit(st, t.ordered) {
		s.fallBehind(st.Offset)
	}
	return false
}

// skips says whether a matching event was done in an earlier life.
func (s *sub) skips(offset uint64) bool {
	s.trimSkip(offset)
	if len(s.skip) == 0 || s.skip[0].From > offset {
		return false
	}
	s.w.passed()
	return true
}

// trimSkip forgets the ranges below the next offset to be looked at.
func (s *sub) trimSkip(next uint64) {
	for len(s.skip) > 0 && s.skip[0].To <= next {
		s.skip = s.skip[1:]
	}
	if len(s.skip) == 0 {
		s.skip = nil
	}
}

// fallBehind gives the subscription a position of its own. Both locks are held.
func (s *sub) fallBehind(at uint64) {
	if s.behind {
		return
	}
	s.behind = true
	if s.r.behind == nil {
		s.r.behind = map[*sub]struct{}{}
	}
	s.r.behind[s] = struct{}{}
	s.behindSince = time.Now()
	s.next = max(at, s.next)
	if s.joined != nil {
		s.r.attached--
	}
	s.list()
}

// notBehind takes it from those that are. scanMu is held.
func (r *runner) notBehind(s *sub) {
	delete(r.behind, s)
	if len(r.behind) == 0 {
		r.behind = nil // a map keeps the room of all that it held
	}
}

// admit takes a matching event into the window, or behind the others of its
// key. It says no where there is no room. s.mu is held.
func (s *sub) admit(st *channel.Stored, ordered bool) bool {
	t := s.target.get()
	if s.dead || !s.room(t) {
		return false
	}
	it := s.r.d.item(s, st)
	if ordered {
		key := st.Event.PartitionKey()
		if line := s.keys[key]; line != nil {
			if !s.r.d.budget.mayWait() {
				return false
			}
			line.push(it)
			s.blocked++
			s.wait(1)
			s.opened(it)
			return true
		}
		if s.keys == nil {
			s.keys = make(map[string]*keyState)
		}
		it.key = &keyState{key: key}
		s.keys[key] = it.key
	}
	it.ev, it.hold = st.Event, st.Hold()
	if !s.start(it) {
		it.drop()
		return false
	}
	s.opened(it)
	return true
}

func (s *sub) opened(it *item) {
	s.w.push(it)
	if !s.committed {
		s.list()
	}
}

// push puts an item at the end of its key's line.
func (k *keyState) push(it *item) {
	it.key = k
	if k.last != nil {
		k.last.follows = it
	} else {
		k.first = it
	}
	k.last = it
}

func (k *keyState) pop() *item {
	it := k.first
	if it == nil {
		return nil
	}
	k.first, it.follows = it.follows, nil
	if k.first == nil {
		k.last = nil
	}
	return it
}

// room says whether one more event may be taken. s.mu is held.
func (s *sub) room(t *Target) bool {
	if t == nil || t.URL == "" || !s.free(t) {
		return false
	}
	limit := t.maxWaiting()
	if s.paused && s.waiting > limit-limit/8-1 {
		return false
	}
	s.paused = s.waiting >= limit
	return !s.paused && (s.w.n == 0 || s.spread() < s.r.d.o.MaxRanges)
}

// free says whether one more request may go out.
func (s *sub) free(t *Target) bool {
	return s.slots < t.maxInFlight() && s.r.d.budget.allows(s.out, s.outBytes)
}

// spread is how many ranges a cursor may have to hold with what is out.
func (s *sub) spread() int {
	return s.w.ranges + s.out + len(s.settling) + len(s.skip)
}

// start sends an item on its way. It says no only when the partition is being
// closed. s.mu is held.
func (s *sub) start(it *item) bool {
	if !s.r.work.enter() {
		return false
	}
	if !it.slot {
		it.slot = true
		s.slots++
	}
	s.out++
	if it.ev != nil {
		it.bytes = int64(len(it.ev.Data))
	}
	s.outBytes += it.bytes
	s.r.d.budget.start(it.bytes)
	it.held = false
	if it.late = s.far(); s.late.Load() != it.late {
		s.late.Store(it.late)
	}
	if it.late {
		s.r.d.pacer.start(it)
	} else {
		it.due = s.r.d.pacer.stamp()
		s.r.d.launch(it)
	}
	return true
}

// stopped takes back what start counted as out. s.mu is held.
func (s *sub) stopped(it *item) {
	s.out--
	s.outBytes -= it.bytes
	s.r.d.budget.end(it.bytes)
	it.bytes = 0
}

func (s *sub) wait(n int) {
	s.waiting += n
	s.r.d.budget.waiting.Add(int64(n))
}

// acknowledge ends a delivery whose outcomes, if any, need no dead letter. A
// failed one of an ordered term holds its key until that is durable.
func (s *sub) acknowledge(it *item, failed bool, outcomes ...channel.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped(it)
	it.drop()
	if it.removed {
		return
	}
	s.outcomes = append(s.outcomes, outcomes...)
	s.close(it, failed)
	s.changed()
	s.kick()
	s.r.d.forget(it)
}

// close takes a done item out of the window; its slot stays taken until the
// cursor is durable.
func (s *sub) close(it *item, failed bool) {
	s.w.done(it)
	s.acked++
	if it.key == nil {
		return
	}
	if failed {
		it.key.awaitingWrite = true
		s.held = append(s.held, it.key)
		return
	}
	s.release(it.key)
}

// release lets the next of a key go.
func (s *sub) release(k *keyState) {
	k.awaitingWrite = false
	it := k.pop()
	if it == nil {
		delete(s.keys, k.key)
		return
	}
	s.blocked--
	it.due = s.r.d.now()
	s.waits.add(it)
}

// settle ends a delivery that leaves dead letters: it is done when they are
// stored, by the same commit that moves the cursor.
func (s *sub) settle(it *item, st settlement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped(it)
	if it.removed {
		return
	}
	st.it = it
	for i := range st.letters {
		st.bytes += letterSize(&st.letters[i])
	}
	s.settling = append(s.settling, st)
	s.changed()
	s.kick()
}

// postpone puts an item back to wait for d. It gives up its slot, unless too
// many wait already.
func (s *sub) postpone(it *item, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped(it)
	it.drop()
	if it.removed {
		return
	}
	it.due = s.r.d.now() + int64(d)
	if len(it.refused) == 0 && s.waiting < s.target.get().maxWaiting() && s.r.d.budget.mayWait() {
		it.slot = false
		s.slots--
		s.wait(1)
		s.waits.add(it)
	} else {
		s.keeping.add(it)
	}
	s.kick()
}

// abort forgets that an item was out: the partition is being closed, and the
// event is delivered again in the next life.
func (s *sub) abort(it *item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped(it)
	it.drop()
}

// changed lists the subscription for the next commit, at once where half the
// window waits for it, beside what the one that is on its way covers: that does
// not wait for another. s.mu is held.
func (s *sub) changed() {
	s.list()
	n := s.acked - s.covering + len(s.settling)
	s.r.wantCommit(n >= max(1, min(s.target.get().maxInFlight(), s.r.d.o.MaxRanges)/2))
}

// list puts the subscription among those whose cursor the next commit takes.
func (s *sub) list() {
	if s.listed || s.dead {
		return
	}
	s.listed = true
	s.advanced = 0
	s.r.dirtyMu.Lock()
	defer s.r.dirtyMu.Unlock()
	s.r.dirty = append(s.r.dirty, s)
}

// kick starts what there is room for: first what is due, then the reading
// from its own position. s.mu is held.
func (s *sub) kick() {
	t := s.target.get()
	if s.dead || t == nil || t.URL == "" || s.r.work.isShut() {
		return
	}
	var now int64
	if len(s.keeping)+len(s.waits) > 0 {
		now = s.r.d.now()
	}
	var later []*item // due, but the cursor could not hold their end
	for _, h := range []*waiters{&s.keeping, &s.waits} {
		for len(*h) > 0 && (*h)[0].due <= now {
			if h == &s.waits && !s.free(t) {
				break
			}
			it := h.take()
			if it != s.w.head && s.w.grows(it) && s.spread() >= s.r.d.o.MaxRanges {
				later = append(later, it)
				continue
			}
			if !it.slot {
				s.wait(-1)
			}
			s.start(it)
		}
	}
	s.schedule(now)
	for _, it := range later {
		if it.slot {
			s.keeping.add(it)
		} else {
			s.waits.add(it)
		}
	}
	if s.behind && !s.pumping && s.room(t) && s.r.work.enter() {
		s.pumping = true
		s.r.d.pool.run((*pump)(s))
	}
}

// schedule sets the timer for the next item that will be due. One that is due
// already needs none: what frees a slot or a range kicks again.
func (s *sub) schedule(now int64) {
	var due int64
	for _, h := range []waiters{s.keeping, s.waits} {
		if len(h) > 0 && h[0].due > now && (due == 0 || h[0].due < due) {
			due = h[0].due
		}
	}
	switch {
	case due == 0 || s.timerAt > now && s.timerAt <= due:
		return
	case s.timer == nil:
		s.timer = time.AfterFunc(time.Duration(due-now), s.wake)
	default:
		s.timer.Reset(time.Duration(due - now))
	}
	s.timerAt = due
}

func (s *sub) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timerAt = 0
	s.kick()
}

// drop ends the subscription here: what is out is ignored when it comes back,
// what waits is forgotten.
func (s *sub) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	s.dead = true
	if s.timer != nil {
		s.timer.Stop()
	}
}

// clear forgets all items. s.mu is held.
func (s *sub) clear() {
	for it := s.w.head; it != nil; it = it.next {
		it.removed = true
	}
	s.w = window{}
	s.wait(-s.waiting)
	s.blocked, s.waits, s.keeping = 0, nil, nil
	s.keys, s.held, s.heldTaken = nil, nil, nil
	s.settling, s.outcomes, s.skip = nil, nil, nil
	s.slots, s.acked, s.covering = 0, 0, 0
}
