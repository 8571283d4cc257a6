package channel

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leat-dev/leat/api/event"
)

// model is what a log with subscriptions means, in the plainest form: for each
// offset what it holds and which terms cover it; and a dispatcher that
// remembers, for each subscription and offset, under which term it looked.
type model struct {
	*world
	r     *rand.Rand
	ch    Channel
	parts []*modelPartition
	subs  map[string]Subscription
	ver   uint64
	trace []string
}

type modelPartition struct {
	n        int
	ids      []string
	floor    uint64
	times    []int64
	epochs   []map[string]string // by offset: the filter of each UID that held when it was appended
	outcomes int
	letters  map[string][]string

	// The dispatcher: what it knows, how far it is, and what it did.
	pos    uint64
	known  []Term
	ver    uint64
	looked map[string]map[uint64]string // uid, offset: the term it looked with
	open   map[string]map[uint64]bool
}

func termKey(t Term) string { return fmt.Sprintf("%s/%d", t.Subscription.Filter, t.Started) }

func newModel(t *testing.T, seed uint64) *model {
	m := &model{
		world: newWorld(t, func(o *Options) { o.TailBytes, o.TermsBytes = 4000, 300 }),
		r:     rand.New(rand.NewPCG(seed, 1)),
		subs:  make(map[string]Subscription),
	}
	m.ch = m.channel("m", 2)
	for i := range 2 {
		m.parts = append(m.parts, &modelPartition{n: i, letters: make(map[string][]string)})
	}
	m.restarted()
	return m
}

// restarted: the dispatcher forgets all, and goes on from what is committed.
func (m *model) restarted() {
	m.ch, _ = m.log.ByName("Broker", "default", "m")
	for _, p := range m.parts {
		p.pos = max(m.part(p).Scan(), p.floor)
		p.known, p.ver = nil, 0
		p.looked = make(map[string]map[uint64]string)
		p.open = make(map[string]map[uint64]bool)
		// What is committed as done was looked at in an earlier life.
		terms, _ := m.part(p).Terms()
		for _, t := range terms {
			for o := t.From; o < min(t.To, uint64(len(p.ids))); o++ {
				if m.done(p, t.Subscription.UID, o) {
					p.look(t, o)
				}
			}
		}
		m.refresh(p)
	}
}

func (m *model) part(p *modelPartition) Partition { return m.ch.Partitions()[p.n] }

func (p *modelPartition) look(t Term, o uint64) {
	uid := t.Subscription.UID
	if p.looked[uid] == nil {
		p.looked[uid] = make(map[uint64]string)
		p.open[uid] = make(map[uint64]bool)
	}
	p.looked[uid][o] = termKey(t)
}

// done says whether the log would not deliver an offset after a restart.
func (m *model) done(p *modelPartition, uid string, o uint64) bool {
	c, ok := m.part(p).Cursors()[uid]
	if !ok {
		return o < m.part(p).Scan()
	}
	if o < c.Low {
		return true
	}
	return slices.ContainsFunc(c.Done, func(r Range) bool { return r.From <= o && o < r.To })
}

func (m *model) append() {
	events := make([]*event.Event, 1+m.r.IntN(6))
	for i := range events {
		events[i] = anEvent(fmt.Sprintf("%d-%d", len(m.group.entries), i))
		events[i].Source = fmt.Sprint(m.r.IntN(5))
		p := m.parts[partitionOf(events[i].Source, 2)]
		p.ids = append(p.ids, events[i].ID)
		p.times = append(p.times, m.clock.Now().UnixMicro())
		epoch := make(map[string]string)
		for uid, s := range m.subs {
			if s.Start.At != "offset" || s.Start.Offset < uint64(len(p.ids)) { // else it begins later
				epoch[uid] = string(s.Filter)
			}
		}
		p.epochs = append(p.epochs, epoch)
	}
	m.ok(m.ch.Append(m.ctx, events))
}

func (m *model) setSubscriptions() {
	for range 1 + m.r.IntN(4) {
		uid := fmt.Sprintf("s%d", m.r.IntN(6))
		old, ok := m.subs[uid]
		switch {
		case !ok:
			m.subs[uid] = sub(uid, filtered(fmt.Sprint(m.r.IntN(9))), from(m.start()))
		case m.r.IntN(4) == 0:
			delete(m.subs, uid)
		case m.r.IntN(3) == 0:
			old.Start = m.start()
			m.subs[uid] = old
		default:
			old.Filter = []byte(fmt.Sprint(m.r.IntN(9)))
			m.subs[uid] = old
		}
	}
	for _, p := range m.parts {
		maps.DeleteFunc(p.letters, func(uid string, _ []string) bool {
			_, ok := m.subs[uid]
			return !ok
		})
	}
	m.ver += uint64(m.r.IntN(3))
	subs := slices.Collect(maps.Values(m.subs))
	slices.SortFunc(subs, func(a, b Subscription) int { return strings.Compare(a.UID, b.UID) })
	m.set(m.ch, m.ver, subs...)
}

func (m *model) start() Start {
	switch m.r.IntN(4) {
	case 0:
		return Start{At: "beginning"}
	case 1:
		return Start{At: "offset", Offset: uint64(m.r.IntN(40))}
	case 2:
		return Start{At: "time", Time: m.clock.Now().Add(-time.Duration(m.r.IntN(30)) * time.Second)}
	}
	return Start{At: "end"}
}

// refresh takes up the terms, and looks at what began behind the position.
func (m *model) refresh(p *modelPartition) {
	p.known, p.ver = m.part(p).Terms()
	live := make(map[string]uint64)
	for _, t := range p.known {
		live[t.Subscription.UID] = t.Started
		for o := max(t.From, p.floor); o < min(t.To, p.pos); o++ {
			if p.looked[t.Subscription.UID][o] != termKey(t) {
				p.look(t, o)
				delete(p.open[t.Subscription.UID], o)
			}
		}
	}
	for uid := range p.looked {
		started, ok := live[uid]
		if !ok {
			delete(p.looked, uid)
			delete(p.open, uid)
			continue
		}
		for o, key := range p.looked[uid] {
			if !strings.HasSuffix(key, fmt.Sprintf("/%d", started)) {
				delete(p.looked[uid], o)
				delete(p.open[uid], o)
			}
		}
	}
}

// scan looks at the next events with the terms that the dispatcher knows,
// which may be old, and leaves some of them open.
func (m *model) scan(p *modelPartition) {
	_, end := m.part(p).Bounds()
	p.pos = max(p.pos, p.floor)
	for range m.r.IntN(10) {
		if p.pos >= end {
			return
		}
		for _, t := range p.known {
			if t.From <= p.pos && p.pos < t.To {
				p.look(t, p.pos)
				if m.r.IntN(4) == 0 {
					p.open[t.Subscription.UID][p.pos] = true
				}
			}
		}
		p.pos++
	}
}

func (m *model) acknowledge(p *modelPartition) {
	for _, uid := range slices.Sorted(maps.Keys(p.open)) {
		for _, o := range slices.Sorted(maps.Keys(p.open[uid])) {
			if m.r.IntN(2) == 0 {
				delete(p.open[uid], o)
			}
		}
	}
}

// commit writes what the dispatcher believes.
func (m *model) commitAll(p *modelPartition) {
	c := Commit{TermsVersion: p.ver, Scan: p.pos, Cursors: make(map[string]Cursor)}
	uids := make(map[string]bool)
	for _, t := range p.known {
		uids[t.Subscription.UID] = true
	}
	for _, uid := range slices.Sorted(maps.Keys(uids)) {
		cur := Cursor{Low: p.pos, Next: p.pos}
		for i, o := range slices.Sorted(maps.Keys(p.open[uid])) {
			if i == 0 {
				cur.Low = o
			} else if at := cur.Done[len(cur.Done)-1].From; at < o {
				cur.Done[len(cur.Done)-1].To = o
			} else {
				cur.Done = cur.Done[:len(cur.Done)-1]
			}
			cur.Done = append(cur.Done, Range{o + 1, p.pos})
		}
		if n := len(cur.Done); n > 0 && cur.Done[n-1].From == p.pos {
			cur.Done = cur.Done[:n-1]
		}
		c.Cursors[uid] = cur
		if m.r.IntN(10) == 0 {
			c.Outcomes = append(c.Outcomes, Outcome{UID: uid, Kind: Retried, Offset: cur.Low})
		}
		if m.r.IntN(10) == 0 && p.pos > 0 {
			l := letter(uid, p.pos-1)
			c.DeadLetters = append(c.DeadLetters, l)
			if _, ok := m.subs[uid]; ok {
				p.letters[uid] = append(p.letters[uid], l.Event.ID)
			}
		}
	}
	p.outcomes += len(c.Outcomes)
	m.commit(m.part(p), c)
}

func (m *model) moveFloor(p *modelPartition) {
	to := p.floor + uint64(m.r.IntN(8)) - min(p.floor, 3) // at times back, which does nothing
	key := m.part(p).(*raftPartition).key
	m.group.together((&floorCommand{key: key, partition: key, floor: to}).encode())
	p.floor = max(p.floor, min(to, uint64(len(p.ids))))
}

func (m *model) step() {
	p := m.parts[m.r.IntN(2)]
	ops := []struct {
		name   string
		weight int
		do     func()
	}{
		{"append", 20, m.append},
		{"subscriptions", 8, m.setSubscriptions},
		{"refresh", 12, func() { m.refresh(p) }},
		{"scan", 25, func() { m.scan(p) }},
		{"acknowledge", 10, func() { m.acknowledge(p) }},
		{"commit", 15, func() { m.commitAll(p) }},
		{"floor", 4, func() { m.moveFloor(p) }},
		{"time", 5, func() { m.clock.advance(time.Second) }},
		{"snapshot", 2, func() { m.group.takeSnapshot(m) }},
		{"restart", 3, func() { m.restart() }},
	}
	n := m.r.IntN(104)
	for _, op := range ops {
		if n -= op.weight; n < 0 {
			m.trace = append(m.trace, fmt.Sprintf("%s %d", op.name, p.n))
			op.do()
			return
		}
	}
}

func (m *model) restart() {
	m.world.start()
	m.restarted()
}

func (m *model) check() {
	for _, p := range m.parts {
		part := m.part(p)
		floor, end := part.Bounds()
		m.equal("bounds", []uint64{floor, end}, []uint64{p.floor, uint64(len(p.ids))})
		at := p.floor
		if end > floor {
			at += uint64(m.r.IntN(int(end - floor)))
		}
		m.equal("events", m.read(part, at, 1000), p.ids[at:])
		if at < end {
			want, err := part.OffsetAt(m.ctx, time.UnixMicro(p.times[at]))
			m.ok(err)
			m.equal("offset at a time", want, max(p.floor, uint64(slices.Index(p.times, p.times[at]))))
		}
		m.checkTerms(p, part)
		_, next, err := part.(History).Outcomes(m.ctx, 0, 1<<20)
		m.ok(err)
		m.equal("outcomes", next, p.outcomes)
		for uid := range m.subs {
			letters, err := part.DeadLetters(m.ctx, uid, 0, 1<<20)
			m.ok(err)
			var ids []string
			for _, l := range letters {
				ids = append(ids, l.Event.ID)
			}
			m.equal("dead letters", ids, p.letters[uid])
		}
	}
}

// checkTerms holds what counts: that nothing a subscription should get counts
// as done unless it was looked at under the very term that covers it.
func (m *model) checkTerms(p *modelPartition, part Partition) {
	terms, _ := part.Terms()
	for i, t := range terms {
		uid := t.Subscription.UID
		if _, ok := m.subs[uid]; !ok {
			m.Fatalf("a term of %s, which is deleted", uid)
		}
		if i > 0 && terms[i-1].Subscription.UID == uid && terms[i-1].To > t.From {
			m.Fatalf("terms overlap: %v", spans(terms))
		}
		for o := max(t.From, p.floor); o < min(t.To, uint64(len(p.ids))); o++ {
			if !m.done(p, uid, o) {
				continue
			}
			if key := p.looked[uid][o]; key != termKey(t) || p.open[uid][o] {
				m.Fatalf("partition %d, subscription %s, offset %d counts as done, but was looked at by %q (open: %v); its term is %s of %v; scan %d, cursor %+v",
					p.n, uid, o, key, p.open[uid][o], termKey(t), spans(terms), part.Scan(), part.Cursors()[uid])
			}
		}
	}
	for uid, s := range m.subs {
		if !slices.ContainsFunc(terms, func(t Term) bool {
			return t.Subscription.UID == uid && t.To == toEnd && string(t.Subscription.Filter) == string(s.Filter)
		}) {
			m.Fatalf("%s has no open term with filter %s: %v", uid, s.Filter, spans(terms))
		}
	}
	if n := uint64(len(p.ids)); n > p.floor {
		o := p.floor + uint64(m.r.IntN(int(n-p.floor)))
		for uid, f := range p.epochs[o] {
			held := slices.ContainsFunc(part.(History).TermsAt(o), func(t Term) bool {
				return t.Subscription.UID == uid && string(t.Subscription.Filter) == f
			})
			if !held {
				m.Fatalf("partition %d: %s%s held when %d was appended, the epoch says %v", p.n, uid, f, o, spans(part.(History).TermsAt(o)))
			}
		}
	}
}

func TestModel(t *testing.T) {
	seeds := uint64(150)
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		m := newModel(t, seed)
		t.Cleanup(func() {
			if t.Failed() && m != nil {
				t.Logf("seed %d after %s", seed, strings.Join(m.trace, ", "))
				m = nil
			}
		})
		for range 200 {
			m.step()
			m.check()
		}
		// In the end all catch up, and nothing is left to remember.
		for _, p := range m.parts {
			m.refresh(p)
			p.open = make(map[string]map[uint64]bool)
			for uid := range p.looked {
				p.open[uid] = make(map[uint64]bool)
			}
			for p.pos < uint64(len(p.ids)) {
				m.scan(p)
				p.open = make(map[string]map[uint64]bool)
				for uid := range p.looked {
					p.open[uid] = make(map[uint64]bool)
				}
			}
			m.refresh(p)
			m.commitAll(p)
			m.equal("cursors in the end", m.part(p).Cursors(), map[string]Cursor{})
			m.equal("closed terms in the end", len(m.part(p).(*raftPartition).closing), 0)
		}
		m = nil
	}
}
