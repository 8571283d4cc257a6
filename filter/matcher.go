package filter

import (
	"sync"
	"sync/atomic"
)

// Matcher finds which of many filters an event matches. It files each filter
// under what must hold for it to match and, for an event, runs only those
// filed under what does hold. See DESIGN.md.
//
// A Matcher is safe for concurrent use: matches run side by side, Add and
// Remove exclude them. Add and Remove cost the number of keys of the one
// filter, whatever the number of the others.
type Matcher struct {
	mu      sync.RWMutex
	entries map[uint32]*entry
	index   index
	// residual have nothing to file them under: they run on every event.
	residual bucket
	// everything matches every event, and is not even run.
	everything bucket
	// slots numbers the entries that stand under keys of which several may
	// hold at once; free are numbers that can be used again.
	slots int
	free  []int

	stats struct{ events, candidates, matches atomic.Uint64 }
}

// Stats say what the matcher holds and has done.
type Stats struct {
	// Filters there are, and of these how many run on every event, because there
	// is nothing to file them under.
	Filters, Unindexed int
	// Events that were matched, the filters that ran on them, and the matches.
	Events, Candidates, Matches uint64
}

// Stats are those of this moment.
func (m *Matcher) Stats() Stats {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return Stats{
		Filters: len(m.entries), Unindexed: len(m.residual.places),
		Events: m.stats.events.Load(), Candidates: m.stats.candidates.Load(), Matches: m.stats.matches.Load(),
	}
}

type entry struct {
	id     uint32
	filter *Filter
	places []place
	slot   int // -1: at most one of its keys can hold
}

// NewMatcher makes a Matcher without filters.
func NewMatcher() *Matcher {
	return &Matcher{entries: map[uint32]*entry{}, index: index{extensions: map[string]*attributeIndex{}}}
}

// Len is how many filters there are.
func (m *Matcher) Len() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.entries)
}

// Residual is how many filters run on every event, because there is nothing to
// file them under. (Filters that match every event are not among them.)
func (m *Matcher) Residual() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.residual.places)
}

// Add adds a filter, in the place of the one that had the same id.
func (m *Matcher) Add(id uint32, f *Filter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remove(id)
	e := &entry{id: id, filter: f, slot: -1}
	m.entries[id] = e
	switch f.condition.(type) {
	case always:
		e.places = []place{{entry: e}}
		m.everything.add(&e.places[0])
		return
	case never:
		return
	}
	g := m.choose(f.guards)
	if g == nil {
		e.places = []place{{entry: e}}
		m.residual.add(&e.places[0])
		return
	}
	e.places = make([]place, len(g))
	for i := range g {
		e.places[i] = place{entry: e, key: &g[i]}
		m.index.add(&e.places[i])
	}
	if severalMayHold(g) {
		e.slot = m.newSlot()
	}
}

// choose picks the guard under whose keys the fewest filters stand: of many
// that ask for the same type and each for a subject of its own, all but a few
// end up under their subjects. A key on data must be clearly better than one
// on an attribute, because it has the data of every event parsed.
func (m *Matcher) choose(guards []guard) guard {
	var best guard
	least := 0
	for _, g := range guards {
		cost := 0
		for i := range g {
			c := m.index.size(&g[i])
			switch g[i].kind {
			case keyEqual:
			case keyPrefix, keySuffix:
				c += 2
			case keyData:
				c += 4
			case keyPresent:
				c += 8
			}
			cost = max(cost, c)
		}
		cost += len(g) / 8
		if best == nil || cost < least {
			best, least = g, cost
		}
	}
	return best
}

// severalMayHold: of keys that are values of one attribute or of one place in
// the data, one at most holds.
func severalMayHold(g guard) bool {
	for i := 1; i < len(g); i++ {
		switch {
		case g[i].kind != g[0].kind,
			g[i].kind != keyEqual && g[i].kind != keyData,
			g[i].kind == keyEqual && g[i].attribute != g[0].attribute,
			g[i].kind == keyData && g[i].path.text != g[0].path.text:
			return true
		}
	}
	return false
}

func (m *Matcher) newSlot() int {
	if last := len(m.free) - 1; last >= 0 {
		slot := m.free[last]
		m.free = m.free[:last]
		return slot
	}
	m.slots++
	return m.slots - 1
}

// Remove takes a filter out. It does nothing where there is none of that id.
func (m *Matcher) Remove(id uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remove(id)
}

func (m *Matcher) remove(id uint32) {
	e := m.entries[id]
	if e == nil {
		return
	}
	delete(m.entries, id)
	for i := range e.places {
		if p := &e.places[i]; p.key != nil {
			m.index.remove(p)
		} else {
			p.remove()
		}
	}
	if e.slot >= 0 {
		m.free = append(m.free, e.slot)
	}
}

// Match appends to dst the ids of the filters that match an event, each once,
// in no particular order. onError, which may be nil, is called with each filter
// that ran and could not be decided; such a filter does not match. It must not
// call the Matcher.
//
// A filter that the index rules out is not run, so it has no errors. Where the
// data cannot be parsed that goes for all that are filed under it: View.Data
// gives the reason.
func (m *Matcher) Match(v *View, dst []uint32, onError func(id uint32, err error)) []uint32 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	v.round++
	if len(v.ran) < m.slots {
		v.ran = make([]uint64, m.slots+m.slots/4)
	}
	before, ran := len(dst), len(m.residual.places)
	for _, p := range m.everything.places {
		dst = append(dst, p.entry.id)
	}
	v.buckets = m.index.collect(v, v.buckets[:0])
	for _, b := range v.buckets {
		ran += len(b.places)
		dst = b.match(v, dst, onError)
	}
	clear(v.buckets) // they may be gone from the index tomorrow
	dst = m.residual.match(v, dst, onError)
	m.stats.events.Add(1)
	m.stats.candidates.Add(uint64(ran))
	m.stats.matches.Add(uint64(len(dst) - before))
	return dst
}

func (b *bucket) match(v *View, dst []uint32, onError func(id uint32, err error)) []uint32 {
	for _, p := range b.places {
		e := p.entry
		if e.slot >= 0 {
			if v.ran[e.slot] == v.round {
				continue
			}
			v.ran[e.slot] = v.round
		}
		ok, err := e.filter.condition.match(v)
		switch {
		case err != nil:
			if onError != nil {
				onError(e.id, err)
			}
		case ok:
			dst = append(dst, e.id)
		}
	}
	return dst
}
