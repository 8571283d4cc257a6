package dispatcher

import (
	"container/heap"
	"fmt"
	"iter"
	"slices"

	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/filter"
)

// border is an offset at which a subscription's term begins or ends.
type border struct {
	at uint64
	s  *sub
}

// borders are the ones that lie ahead of the scan, nearest first.
type borders []border

func (b borders) Len() int           { return len(b) }
func (b borders) Less(i, j int) bool { return b[i].at < b[j].at }
func (b borders) Swap(i, j int)      { b[i], b[j] = b[j], b[i] }

// Push and Pop are container/heap's; use add and take.
func (b *borders) Push(x any) { *b = append(*b, x.(border)) }

func (b *borders) Pop() any {
	old := *b
	x := old[len(old)-1]
	old[len(old)-1] = border{}
	*b = old[:len(old)-1]
	return x
}

func (b *borders) add(at uint64, s *sub) { heap.Push(b, border{at, s}) }
func (b *borders) take() border          { return heap.Pop(b).(border) }

// before is the nearest border, or end where that is nearer.
func (b borders) before(end uint64) uint64 {
	if len(b) > 0 {
		return min(end, b[0].at)
	}
	return end
}

// load takes up what the partition has committed. Who had something open when
// the last life ended begins behind the scan, at its oldest open event.
func (r *runner) load() {
	floor, _ := r.p.Bounds()
	r.pos = max(r.p.Scan(), floor)
	r.horizon.Store(r.pos)
	r.commits.scan.Store(r.p.Scan())
	cursors := r.p.Cursors()
	terms, version := r.p.Terms()
	r.version = version
	for uid, of := range byUID(terms) {
		r.learn(uid, of, nil)
	}
	for uid, s := range r.subs {
		if c, ok := cursors[uid]; ok {
			s.resume(c, true)
		}
		r.place(s)
	}
}

// refresh takes up changes of the terms since the last time. scanMu is held.
func (r *runner) refresh() {
	terms, gone, version, ok := r.p.TermsSince(r.version)
	if version == r.version {
		return
	}
	if !ok {
		terms, version = r.p.Terms()
	}
	r.version = version
	r.round++
	var cursors map[string]channel.Cursor
	for uid, of := range byUID(terms) {
		r.learn(uid, of, func(uid string) (channel.Cursor, bool) {
			if cursors == nil {
				cursors = r.p.Cursors()
			}
			c, ok := cursors[uid]
			return c, ok
		})
	}
	if !ok { // who is not listed is gone
		for uid, s := range r.subs {
			if s.round != r.round {
				r.forget(uid, s)
			}
		}
	}
	for _, uid := range gone {
		if s := r.subs[uid]; s != nil {
			r.forget(uid, s)
		}
	}
}

// byUID yields the terms of each subscription.
func byUID(terms []channel.Term) iter.Seq2[string, []channel.Term] {
	return func(yield func(string, []channel.Term) bool) {
		for len(terms) > 0 {
			uid, n := terms[0].Subscription.UID, 1
			for n < len(terms) && terms[n].Subscription.UID == uid {
				n++
			}
			if !yield(uid, terms[:n]) {
				return
			}
			terms = terms[n:]
		}
	}
}

// learn takes up a subscription's terms, which may be known. At runtime
// (cursor is not nil) one that begins below the scan's position begins behind
// it, and one that was started anew forgets what it was.
func (r *runner) learn(uid string, terms []channel.Term, cursor func(string) (channel.Cursor, bool)) {
	s := r.subs[uid]
	if s != nil && s.started != terms[0].Started {
		r.forget(uid, s)
		s = nil
	}
	isNew := s == nil
	if isNew {
		s = r.add(uid)
		s.started = terms[0].Started
	}
	s.round = r.round
	if !s.setTerms(terms) {
		return
	}
	for _, t := range s.terms {
		if t.from > r.pos {
			r.borders.add(t.from, s)
		}
		if t.to != forever && t.to > r.pos {
			r.borders.add(t.to, s)
		}
	}
	if cursor == nil {
		return // load places them when it knows all of them
	}
	r.place(s)
	if isNew && terms[0].From < r.pos {
		c, ok := cursor(uid)
		if !ok {
			c = channel.Cursor{Low: terms[0].From, Next: terms[0].From, Detached: true}
		}
		s.resume(c, ok)
		s.nudge()
	}
}

func compile(t *channel.Term, l filter.Limits) *term {
	out := &term{from: t.From, to: t.To, ordered: t.Subscription.Ordered, engine: t.Subscription.Engine, spec: string(t.Subscription.Filter)}
	if t.Subscription.Engine > filter.Engine {
		out.err = fmt.Errorf("the filter is of engine version %d, this server knows up to %d", t.Subscription.Engine, filter.Engine)
		return out
	}
	out.filter, out.err = compileFilter(t.Subscription.Filter, l)
	return out
}

// same says whether both are one term, which may have been closed since.
func (t *term) same(o *channel.Term) bool {
	return t.from == o.From && t.ordered == o.Subscription.Ordered && t.engine == o.Subscription.Engine && t.spec == string(o.Subscription.Filter)
}

func compileFilter(canonical []byte, l filter.Limits) (f *filter.Filter, err error) {
	defer func() {
		if p := recover(); p != nil {
			f, err = nil, fmt.Errorf("compiling the filter panicked: %v", p)
		}
	}()
	var spec filter.Spec
	if len(canonical) > 0 {
		if spec, err = l.ParseSpec(canonical); err != nil {
			return nil, err
		}
	}
	return l.Compile(spec)
}

// add makes a subscription. scanMu is held.
func (r *runner) add(uid string) *sub {
	s := &sub{r: r, uid: uid, round: r.round}
	if n := len(r.freeIDs); n > 0 {
		s.id = r.freeIDs[n-1]
		r.freeIDs = r.freeIDs[:n-1]
		r.byID[s.id] = s
	} else {
		s.id = uint32(len(r.byID))
		r.byID = append(r.byID, s)
	}
	r.subs[uid] = s
	r.d.join(s)
	return s
}

// forget ends a subscription whose terms are all gone. scanMu is held.
func (r *runner) forget(uid string, s *sub) {
	s.mu.Lock()
	s.terms = nil
	s.mu.Unlock()
	r.place(s)
	delete(r.subs, uid)
	r.notBehind(s)
	r.byID[s.id] = nil
	r.freeIDs = append(r.freeIDs, s.id)
	s.drop()
	s.target.leave(s)
}

// place makes the matcher hold the term that covers the scan's position.
// scanMu is held.
func (r *runner) place(s *sub) {
	s.mu.Lock()
	defer s.mu.Unlock()
	want := s.termAt(r.pos)
	if want == s.joined {
		return
	}
	if s.joined != nil {
		if s.joined.filter != nil && !s.absent {
			r.matcher.Remove(s.id)
		}
		if !s.behind {
			r.attached--
		}
	}
	s.joined = want
	s.absent = false
	if want == nil {
		// Past a term: the position has to be stored, so that the channel can
		// forget the term.
		r.wantCommit(false)
		return
	}
	if want.filter == nil {
		s.joined = nil
		s.fallBehind(r.pos)
		s.kick()
		return
	}
	r.matcher.Add(s.id, want.filter)
	if !s.behind {
		r.attached++
	}
}

// setTerms makes the listed terms the known ones and says whether anything
// changed. One that is listed no longer is closed, and all that lies in it is
// done. scanMu is held.
func (s *sub) setTerms(listed []channel.Term) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	terms := make([]*term, 0, len(listed))
	for i := range listed {
		t := &listed[i]
		if t.To <= t.From {
			continue // it was changed before any event came
		}
		k := slices.IndexFunc(s.terms, func(k *term) bool { return k.same(t) })
		switch {
		case k < 0:
			terms = append(terms, compile(t, s.r.d.o.Filter))
		case s.terms[k].to == t.To:
			terms = append(terms, s.terms[k])
		default:
			known := *s.terms[k]
			known.to = t.To
			terms = append(terms, &known)
			if s.joined == s.terms[k] {
				s.joined = &known
			}
		}
	}
	if slices.Equal(terms, s.terms) {
		return false
	}
	s.terms = terms
	return true
}

// termAt is the term that covers an offset. s.mu is held.
func (s *sub) termAt(at uint64) *term {
	for _, t := range s.terms {
		if t.from <= at && at < t.to {
			return t
		}
	}
	return nil
}
