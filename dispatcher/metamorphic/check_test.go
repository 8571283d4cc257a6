package metamorphic

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"

	"github.com/leat-dev/leat/channel"
)

func (w *world) eachChannel(f func(*channelModel)) {
	for _, n := range channelNames {
		if c := w.channels[n]; c != nil {
			f(c)
		}
	}
}

// harvest reads what is new in the log, before retention can pass it.
func (w *world) harvest() {
	w.eachChannel(func(c *channelModel) {
		if !c.made {
			return
		}
		for _, p := range c.parts {
			w.harvestPart(c, p)
		}
	})
}

func (w *world) harvestPart(c *channelModel, p *partModel) {
	l := w.life
	part := c.ch.Partitions()[p.n]
	floor, next := part.Bounds()
	if l.over() {
		return
	}
	if seen := uint64(len(p.places)); next < seen || floor < p.floor || floor > next {
		w.t.Fatalf("%s/%d: offsets %d to %d, after %d to %d were seen", c.id.UID, p.n, floor, next, p.floor, seen)
	}
	if floor > p.floor {
		w.note("%s/%d: the floor is %d, was %d; the scan is %d, the end %d", c.id.UID, p.n, floor, p.floor, part.Scan(), next)
	}
	p.floor = floor
	for uint64(len(p.places)) < next {
		at := uint64(len(p.places))
		stored, err := part.Read(context.Background(), at, 1+w.rnd.IntN(100), 1<<20)
		switch {
		case errors.Is(err, channel.ErrExpired):
			floor, _ := part.Bounds()
			if floor <= at {
				w.t.Fatalf("%s/%d: offset %d is expired and the floor %d", c.id.UID, p.n, at, floor)
			}
			for ; at < floor; at++ {
				p.places = append(p.places, &place{off: at})
			}
			continue
		case err != nil:
			if !l.disk.faulty.Load() {
				w.t.Errorf("%s/%d: read offset %d: %v", c.id.UID, p.n, at, err)
			}
			return
		case len(stored) == 0:
			w.t.Fatalf("%s/%d: nothing at offset %d, below the end %d", c.id.UID, p.n, at, next)
		}
		if l.disk.dead.Load() {
			return // what was read may be lost with it
		}
		for i := range stored {
			w.record(c, p, &stored[i])
		}
	}
	h := part.(channel.History)
	w.harvestOutcomes(c, p, h)
	for _, uid := range c.uids() {
		w.harvestLetters(c, p, part, h, uid)
	}
}

// record takes an event that was read for the first time.
func (w *world) record(c *channelModel, p *partModel, st *channel.Stored) {
	at := uint64(len(p.places))
	if st.Offset != at {
		w.t.Fatalf("%s/%d: offset %d where %d was read", c.id.UID, p.n, st.Offset, at)
	}
	w.mu.Lock()
	s := w.sent[st.Event.ID]
	w.mu.Unlock()
	switch {
	case s == nil || s.c != c || !bytes.Equal(s.ev.Data, st.Event.Data) || s.ev.Type != st.Event.Type || s.ev.Source != st.Event.Source:
		w.t.Fatalf("%s/%d: what was never sent to it lies at offset %d: %s", c.id.UID, p.n, at, st.Event.ID)
	case s.place != nil:
		w.t.Errorf("%s/%d: event %s lies at offset %d and at %d", c.id.UID, p.n, st.Event.ID, s.place.off, at)
	case at > 0 && p.places[at-1].time > st.Time:
		w.t.Errorf("%s/%d: the log's clock went back at offset %d", c.id.UID, p.n, at)
	}
	s.place = &place{off: at, sent: s, time: st.Time}
	p.places = append(p.places, s.place)
	w.absorb(c, p, s.place)
	w.checkEpoch(c, p, s)
}

// absorb adds the terms that the log says cover an offset.
func (w *world) absorb(c *channelModel, p *partModel, at *place) {
	for _, t := range c.ch.Partitions()[p.n].(channel.History).TermsAt(at.off) {
		known := slices.ContainsFunc(at.terms, func(k channel.Term) bool {
			return k.Subscription.UID == t.Subscription.UID && k.Started == t.Started && k.From == t.From
		})
		if !known {
			at.terms = append(at.terms, t)
		}
	}
}

// absorbAll does so for all that is retained, as a start in the past changes
// the epoch of what is there.
func (w *world) absorbAll(c *channelModel) {
	for _, p := range c.parts {
		for _, at := range p.places[p.floor:] {
			w.absorb(c, p, at)
		}
	}
}

// checkEpoch compares the terms of an offset to the sets of subscriptions that
// may have been in force while its event was appended.
func (w *world) checkEpoch(c *channelModel, p *partModel, s *sent) {
	w.mu.Lock()
	from, to := s.from, s.to
	w.mu.Unlock()
	var possible []map[string]channel.Subscription
	for i, set := range c.settings {
		until := int64(math.MaxInt64)
		if i+1 < len(c.settings) {
			until = c.settings[i+1].done
		}
		if set.begin <= to && from <= until {
			possible = append(possible, set.subs)
		}
	}
	said := map[string][]channel.Subscription{}
	for _, t := range s.place.terms {
		said[t.Subscription.UID] = append(said[t.Subscription.UID], t.Subscription)
	}
	same := func(a, b channel.Subscription) bool {
		return a.Ordered == b.Ordered && bytes.Equal(a.Filter, b.Filter)
	}
	for uid, sub := range possible[0] {
		if slices.ContainsFunc(possible, func(m map[string]channel.Subscription) bool {
			other, ok := m[uid]
			yet := other.Start.At == "offset" && s.place.off < other.Start.Offset // it is to begin
			return !ok || !same(sub, other) || yet
		}) {
			continue
		}
		if !slices.ContainsFunc(said[uid], func(t channel.Subscription) bool { return same(sub, t) }) {
			w.t.Errorf("%s/%d offset %d: %s with filter %s held, but no term says so: %+v; appended from %d to %d, settings %v", c.id.UID, p.n, s.place.off, uid, sub.Filter, s.place.terms, from, to, len(c.settings))
		}
	}
	for uid, terms := range said {
		for _, t := range terms {
			if t.Start.At != "end" {
				continue // it reaches back
			}
			if !slices.ContainsFunc(possible, func(m map[string]channel.Subscription) bool {
				sub, ok := m[uid]
				return ok && same(sub, t)
			}) {
				w.t.Errorf("%s/%d offset %d: a term of %s with filter %s, which did not hold then", c.id.UID, p.n, s.place.off, uid, t.Filter)
			}
		}
	}
}

func (w *world) harvestOutcomes(c *channelModel, p *partModel, h channel.History) {
	for {
		out, next, err := h.Outcomes(context.Background(), p.outcomes, 100)
		if err != nil && !w.life.disk.faulty.Load() {
			w.t.Errorf("%s/%d: outcomes from %d: %v", c.id.UID, p.n, p.outcomes, err)
		}
		if err != nil || w.life.disk.dead.Load() || next == p.outcomes {
			return
		}
		p.lost = p.lost || next-p.outcomes != uint64(len(out))
		p.outcomes = next
		for _, o := range out {
			if o.Kind == channel.Expired {
				p.expired[o.UID] += int(o.Count)
				w.note("%s/%d: expired: %+v", c.id.UID, p.n, o)
			}
		}
	}
}

func (w *world) harvestLetters(c *channelModel, p *partModel, part channel.Partition, h channel.History, uid string) {
	m := p.letters[uid]
	if m == nil {
		m = &lettersModel{ids: map[string]bool{}}
		p.letters[uid] = m
	}
	floor, next := h.DeadLetterBounds(uid)
	if next == 0 || w.life.over() {
		return
	}
	if next < m.next || floor < m.floor {
		w.t.Errorf("%s/%d: dead letters of %s from %d to %d, after %d to %d were seen", c.id.UID, p.n, uid, floor, next, m.floor, m.next)
		return
	}
	m.floor = floor
	for m.next < next {
		letters, err := part.DeadLetters(context.Background(), uid, m.next, 100)
		if err != nil && !w.life.disk.faulty.Load() {
			w.t.Errorf("%s/%d: dead letters of %s from %d: %v", c.id.UID, p.n, uid, m.next, err)
		}
		if err != nil || w.life.disk.dead.Load() {
			return
		}
		if len(letters) == 0 {
			if floor, _ := h.DeadLetterBounds(uid); floor < next {
				w.t.Errorf("%s/%d: no dead letter of %s at %d, below the end %d", c.id.UID, p.n, uid, m.next, next)
			}
			m.lost, m.next = true, next
			return
		}
		for _, letter := range letters {
			m.lost = m.lost || letter.Position != m.next
			m.next = letter.Position + 1
			if letter.Offset < uint64(len(p.places)) && p.places[letter.Offset].sent != nil {
				m.ids[p.places[letter.Offset].sent.ev.ID] = true
			}
		}
	}
}

// reread compares all that is retained to what was read before, after a start.
func (w *world) reread(c *channelModel) {
	l := w.life
	for _, p := range c.parts {
		part := c.ch.Partitions()[p.n]
		floor, next := part.Bounds()
		if next < uint64(len(p.places)) || floor < p.floor {
			w.t.Fatalf("%s/%d: offsets %d to %d after a start; %d to %d were seen before", c.id.UID, p.n, floor, next, p.floor, len(p.places))
		}
		for at := floor; at < uint64(len(p.places)); {
			stored, err := part.Read(context.Background(), at, 50, 1<<20)
			if errors.Is(err, channel.ErrExpired) { // retention has begun its work
				at, _ = part.Bounds()
				continue
			}
			if err != nil || len(stored) == 0 {
				if !l.disk.faulty.Load() {
					w.t.Fatalf("%s/%d: read offset %d after a start: %d events, %v", c.id.UID, p.n, at, len(stored), err)
				}
				break
			}
			for _, st := range stored {
				if st.Offset < uint64(len(p.places)) && p.places[st.Offset].sent != nil && p.places[st.Offset].sent.ev.ID != st.Event.ID {
					w.t.Fatalf("%s/%d: offset %d was event %s and is %s after a start", c.id.UID, p.n, st.Offset, p.places[st.Offset].sent.ev.ID, st.Event.ID)
				}
			}
			at += uint64(len(stored))
		}
	}
}

// check compares what is committed to what subscribers were given: no cursor
// has passed what is in no place.
func (w *world) check() {
	w.harvest()
	w.eachChannel(func(c *channelModel) {
		if !c.made || w.life.over() {
			return
		}
		w.absorbAll(c)
		terms, _ := c.ch.Partitions()[0].Terms()
		started := c.started
		c.started = map[string]uint64{} // a set may have been broken off: what is wanted need not be there
		for _, t := range terms {
			uid := t.Subscription.UID
			known := started[uid] == t.Started || c.started[uid] == t.Started // a life may have several terms
			c.started[uid] = t.Started
			if !known {
				// A set that is being broken off may have come to be, or the one
				// before it, which was not looked at yet.
				all := c.begins[uid]
				c.began[uid], c.begins[uid] = all[0], all[min(1, len(all)-1):]
			}
		}
		for _, p := range c.parts {
			w.checkCursors(c, p)
		}
	})
}

func (w *world) checkCursors(c *channelModel, p *partModel) {
	part := c.ch.Partitions()[p.n]
	// Positions first: what they say is done has been done by now. A scan that
	// is newer than the cursors would say more than both together.
	scan, cursors := part.Scan(), part.Cursors()
	_, next := part.Bounds()
	if w.life.over() {
		return
	}
	if scan > next {
		w.t.Errorf("%s/%d: the scan %d is above the end %d", c.id.UID, p.n, scan, next)
	}
	w.harvestPart(c, p)
	if w.life.over() {
		return // how far the floor came is not known
	}
	for _, uid := range c.uids() {
		cursor, stored := cursors[uid]
		if stored && (cursor.Low > cursor.Next || cursor.Next > next || len(cursor.Done) > 256) {
			w.t.Errorf("%s/%d: cursor of %s: %+v, the end is %d", c.id.UID, p.n, uid, cursor, next)
		}
		done := func(off uint64) bool {
			if !stored || cursor.Low == cursor.Next && !cursor.Detached && len(cursor.Done) == 0 {
				return off < scan
			}
			return off < cursor.Low || slices.ContainsFunc(cursor.Done, func(r channel.Range) bool { return r.From <= off && off < r.To })
		}
		for _, at := range p.places[p.floor:] {
			if done(at.off) && !w.endedOrFree(c, p, uid, at) {
				w.t.Errorf("%s/%d: the cursor of %s (%+v, scan %d) has passed offset %d, event %s, which is in no place; terms %s, taken %+v", c.id.UID, p.n, uid, cursor, scan, at.off, at.sent.ev.ID, describe(at.terms, uid), w.of(uid).got[at.sent.ev.ID])
				return
			}
		}
	}
}

// endedOrFree says whether nothing has to be done for a subscription at an
// offset: it does not match there, or that was done.
func (w *world) endedOrFree(c *channelModel, p *partModel, uid string, at *place) bool {
	if at.sent == nil || !w.matches(c, uid, at, true) {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of(uid).delivery(at.sent.ev.ID).ended > c.began[uid] {
		return true
	}
	m := p.letters[uid]
	return m != nil && (m.lost || m.ids[at.sent.ev.ID])
}

// matches says whether a term of a subscription covers and matches an event:
// one of its present life, or any.
func (w *world) matches(c *channelModel, uid string, at *place, present bool) bool {
	return slices.ContainsFunc(at.terms, func(t channel.Term) bool {
		f, ok := c.filters[string(t.Subscription.Filter)]
		if !ok {
			w.t.Errorf("a term of %s has filter %s, which nobody set", uid, t.Subscription.Filter)
		}
		return t.Subscription.UID == uid && (!present || t.Started == c.started[uid]) && f.matches(at.sent.ev)
	})
}
