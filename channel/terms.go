package channel

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// applyTerms changes the set of subscriptions. The command was made from a
// state that has to be the present one.
func (s *Shard) applyTerms(c *termsCommand) error {
	ch := s.channels[c.channel]
	if ch == nil {
		return fmt.Errorf("terms: channel id %d: %w", c.channel, ErrNotFound)
	}
	version, changes := ch.version.Load(), ch.changes.Load()
	if c.prevVersion != version || c.prevChanges != changes || c.version < version {
		return fmt.Errorf("terms of %v: made from version %d, change %d, where %d, change %d are applied: %w",
			ch, c.prevVersion, c.prevChanges, version, changes, ErrStale)
	}
	parts := ch.partitions()
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if len(c.close)+len(c.open) > 0 {
		changes++
	}
	for _, uid := range c.close {
		ch.recent.add(changes, uid)
		delete(ch.subs, uid)
		for _, p := range parts {
			p.closeHolder(uid)
		}
	}
	for i := range c.open {
		o := &c.open[i]
		sub := &o.sub
		ch.recent.add(changes, sub.UID)
		restart := o.restart || ch.subs[sub.UID] == nil
		ch.subs[sub.UID] = sub
		for _, p := range parts {
			from := uint64(0)
			if p.number < len(o.from) {
				from = o.from[p.number]
			}
			p.openTerm(sub, restart, from, changes)
		}
	}
	ch.changes.Store(changes)
	ch.version.Store(c.version)
	for _, p := range parts {
		s.wake(p)
	}
	return nil
}

// closeHolder ends a subscription: its terms stay as history, its cursor and
// its dead letters go. ch.mu is held, here and below.
func (p *raftPartition) closeHolder(uid string) {
	h := p.subs[uid]
	if h == nil {
		return
	}
	p.retire(h)
	p.setCursor(h, nil)
	delete(p.subs, uid)
	delete(p.recent, uid)
	if h.letters != nil {
		s := p.ch.shard
		s.mu.Lock()
		delete(s.letters, h.letters.key)
		s.mu.Unlock()
	}
}

// retire makes history of all terms of a subscription.
func (p *raftPartition) retire(h *holder) {
	for _, t := range h.terms {
		p.bury(t)
	}
	h.terms = nil
	delete(p.closing, h.uid)
}

// bury keeps what a term covered of the offsets that were given so far.
func (p *raftPartition) bury(t *term) {
	to := min(t.to, p.next)
	if max(t.from, p.floor.Load()) >= to {
		return
	}
	over := &term{sub: t.sub, from: t.from, to: to, started: t.started, opened: t.opened}
	i, _ := slices.BinarySearchFunc(p.past, over, comparePast)
	p.past = slices.Insert(p.past, i, over)
	if len(p.past) > maxPast {
		p.past = slices.Delete(p.past, 0, 1)
	}
}

// maxPast bounds the terms that are over and still told of, in one partition;
// those that ended first are forgotten. It is part of the format, as all
// members must forget alike.
const maxPast = 1 << 16

func comparePast(a, b *term) int {
	return cmp.Or(cmp.Compare(a.to, b.to), cmp.Compare(a.sub.UID, b.sub.UID), cmp.Compare(a.from, b.from), cmp.Compare(a.started, b.started))
}

// openTerm begins a term of a subscription, and ends the one before. With
// restart the position is set anew: from is an offset, or toEnd.
func (p *raftPartition) openTerm(sub *Subscription, restart bool, from, version uint64) {
	h := p.subs[sub.UID]
	if h == nil {
		h = &holder{uid: sub.UID}
		p.subs[sub.UID] = h
		restart = true
	}
	if restart {
		if from == toEnd {
			from = p.next
		}
		from = max(from, p.floor.Load())
		p.retire(h)
		h.started = version
		h.terms = []*term{{sub: sub, from: from, to: toEnd, started: version, opened: version}}
		if from < p.next {
			p.setCursor(h, &Cursor{Low: from, Next: from, Detached: true})
		} else {
			p.setCursor(h, nil)
		}
	} else {
		p.succeed(h, sub, version)
	}
	p.recent[h.uid] = h
}

// succeed ends the open term at the end of the log, where the next begins.
func (p *raftPartition) succeed(h *holder, sub *Subscription, version uint64) {
	last := h.last()
	if last.from >= p.next { // it covers nothing yet
		terms := slices.Clone(h.terms)
		terms[len(terms)-1] = &term{sub: sub, from: last.from, to: toEnd, started: last.started, opened: version}
		h.terms = terms
		return
	}
	closed := &term{sub: last.sub, from: last.from, to: p.next, started: last.started, opened: last.opened}
	terms := slices.Clone(h.terms) // a snapshot may be writing the old ones
	terms[len(terms)-1] = closed
	h.terms = append(terms, &term{sub: sub, from: p.next, to: toEnd, started: last.started, opened: version})
	p.closing[h.uid] = h
	p.settle(h)
}

// settle makes history of closed terms that are fully delivered.
func (p *raftPartition) settle(h *holder) {
	low := h.low(p.scan.Load())
	n := 0
	for n < len(h.terms)-1 && h.terms[n].to <= low {
		p.bury(h.terms[n])
		n++
	}
	h.terms = h.terms[n:]
	if len(h.terms) == 1 {
		delete(p.closing, h.uid)
	}
}

func (p *raftPartition) setCursor(h *holder, c *Cursor) {
	h.cursor = c
	if c == nil {
		delete(p.cursors, h.uid)
	} else {
		p.cursors[h.uid] = h
	}
}

// applyCommit takes positions, outcomes and dead letters, all at once.
func (s *Shard) applyCommit(c *commitCommand) error {
	p := s.parts[c.partition]
	if p == nil {
		return fmt.Errorf("commit: partition id %d: %w", c.partition, ErrNotFound)
	}
	p.ch.mu.Lock()
	defer p.ch.mu.Unlock()
	p.learn(c.termsVersion)
	for i := range c.letters {
		if h := p.subs[c.letters[i].letter.UID]; h != nil {
			s.addLetter(p, h, c.letters[i].size())
		}
	}
	s.addOutcomes(p, len(c.outcomes))
	for i := range c.cursors {
		if h := p.subs[c.cursors[i].uid]; h != nil {
			p.take(h, &c.cursors[i].cursor, c.termsVersion)
		}
	}
	if scan := min(c.scan, p.next); scan > p.scan.Load() {
		p.hold(c.termsVersion, scan)
		p.scan.Store(scan)
	}
	p.settleAll()
	return nil
}

func (p *raftPartition) settleAll() {
	for _, h := range p.closing { // in any order: what it makes is kept sorted
		p.settle(h)
	}
}

func (s *Shard) addOutcomes(p *raftPartition, n int) {
	if n > 0 {
		p.newOutcomes += uint32(n)
		s.touch(p)
	}
}

// take stores a subscription's position, as far as the author of the commit
// knew its terms.
func (p *raftPartition) take(h *holder, c *Cursor, termsVersion uint64) {
	stored := *c
	stored.clamp(p.floor.Load(), p.next)
	if termsVersion != 0 && h.started > termsVersion {
		return // of a life before this one
	}
	if from := h.unknownFrom(termsVersion); termsVersion != 0 && stored.Next > from {
		stored.clamp(0, from)
		stored.Detached = true
	}
	if stored.Low == stored.Next && !stored.Detached && len(stored.Done) == 0 {
		p.setCursor(h, nil)
		return
	}
	p.setCursor(h, &stored)
}

// learn notes which terms the author of a commit knew.
func (p *raftPartition) learn(termsVersion uint64) {
	if termsVersion <= p.known {
		return
	}
	p.known = termsVersion
	maps.DeleteFunc(p.recent, func(_ string, h *holder) bool { return h.last().opened <= termsVersion })
}

// hold gives a position of their own to those with a term that the author of
// a commit did not know, where the scan is about to pass the term's beginning.
func (p *raftPartition) hold(termsVersion, scan uint64) {
	if termsVersion == 0 {
		return
	}
	for _, h := range p.recent {
		at := h.unknownFrom(termsVersion)
		if at >= scan {
			continue
		}
		if h.cursor == nil {
			p.setCursor(h, &Cursor{Low: at, Next: at, Detached: true})
		} else if !h.cursor.Detached {
			own := *h.cursor
			own.Next, own.Detached = max(own.Next, at), true
			p.setCursor(h, &own)
		}
	}
}

// clamp keeps a cursor within [floor, next].
func (c *Cursor) clamp(floor, next uint64) {
	c.Low = min(max(c.Low, floor), next)
	c.Next = min(max(c.Next, floor), next)
	within := func(r Range) bool { return r.From >= floor && r.To <= next }
	if slices.ContainsFunc(c.Done, func(r Range) bool { return !within(r) }) {
		done := make([]Range, 0, len(c.Done))
		for _, r := range c.Done {
			if r = (Range{max(r.From, floor), min(r.To, next)}); r.From < r.To {
				done = append(done, r)
			}
		}
		c.Done = done
	}
	if len(c.Done) == 0 {
		c.Done = nil
	}
	// What is done from the lowest open event on is below the lowest open one.
	for len(c.Done) > 0 && c.Done[0].From <= c.Low {
		c.Low = max(c.Low, c.Done[0].To)
		c.Done = c.Done[1:]
	}
	c.Next = max(c.Next, c.Low)
}

// applyFloor moves a floor up. What subscriptions had open below is gone; the
// command carries the outcomes that say so.
func (s *Shard) applyFloor(c *floorCommand) error {
	owner := s.parts[c.partition]
	if owner == nil {
		return fmt.Errorf("floor: partition id %d: %w", c.partition, ErrNotFound)
	}
	s.addOutcomes(owner, len(c.outcomes))
	if l := s.letters[c.key]; l != nil {
		l.floor.Store(max(l.floor.Load(), min(c.floor, l.next)))
		l.oldest.forget()
		return nil
	}
	if c.key != owner.key {
		return fmt.Errorf("floor: dead letter log id %d: %w", c.key, ErrNotFound)
	}
	floor := min(c.floor, owner.next)
	if floor <= owner.floor.Load() {
		return nil
	}
	owner.ch.mu.Lock()
	defer owner.ch.mu.Unlock()
	owner.floor.Store(floor)
	owner.oldest.forget()
	owner.scan.Store(max(owner.scan.Load(), floor))
	for _, h := range owner.cursors {
		if h.cursor.Low >= floor {
			continue
		}
		moved := *h.cursor
		moved.clamp(floor, owner.next)
		if moved.Low == moved.Next && !moved.Detached {
			if moved.Next >= owner.scan.Load() {
				owner.setCursor(h, nil)
				continue
			}
			// What it had open below Next is gone. What has come since, up to the
			// scan, may be open: to follow the scan would pass it.
			moved.Detached = true
		}
		owner.setCursor(h, &moved)
	}
	if passed := owner.withPassed(Range{}); len(passed) < len(owner.passedRanges()) {
		owner.passed.Store(&passed)
	}
	owner.settleAll()
	owner.past = slices.DeleteFunc(owner.past, func(t *term) bool { return t.to <= floor })
	return nil
}

// Terms implements Partition.
func (p *raftPartition) Terms() ([]Term, uint64) {
	p.ch.mu.RLock()
	terms, version := make([]Term, 0, len(p.subs)+len(p.closing)), p.ch.changes.Load()
	for _, h := range p.subs {
		for _, t := range h.terms {
			terms = append(terms, t.export())
		}
	}
	p.ch.mu.RUnlock() // before the sorting: apply may be waiting
	slices.SortFunc(terms, compareTerms)
	return terms, version
}

// TermsSince implements Partition.
func (p *raftPartition) TermsSince(since uint64) (changed []Term, gone []string, version uint64, ok bool) {
	if version = p.ch.changes.Load(); version == since {
		return nil, nil, version, true
	}
	p.ch.mu.RLock()
	defer p.ch.mu.RUnlock()
	uids, ok := p.ch.recent.since(since)
	for _, uid := range uids {
		h := p.subs[uid]
		if h == nil {
			gone = append(gone, uid)
			continue
		}
		for _, t := range h.terms {
			changed = append(changed, t.export())
		}
	}
	return changed, gone, p.ch.changes.Load(), ok
}

// maxRecent bounds how many changes of subscriptions a channel tells of one by
// one. Who knows less than they reach back reads the whole set.
const maxRecent = 4096

// recentChanges are the latest changes of a channel's subscriptions.
type recentChanges struct {
	// before: the changes up to this one are not all known.
	before uint64
	list   []recentChange // oldest first
}

type recentChange struct {
	change uint64
	uid    string
}

func (r *recentChanges) add(change uint64, uid string) {
	if len(r.list) >= maxRecent {
		const half = maxRecent / 2
		r.before = r.list[half-1].change
		r.list = append(make([]recentChange, 0, maxRecent), r.list[half:]...)
	}
	r.list = append(r.list, recentChange{change, uid})
}

// since are the subscriptions of the changes after one, in order of their UIDs;
// it says no where not all of them are known.
func (r *recentChanges) since(change uint64) (uids []string, ok bool) {
	if change < r.before {
		return nil, false
	}
	for i := len(r.list) - 1; i >= 0 && r.list[i].change > change; i-- {
		uids = append(uids, r.list[i].uid)
	}
	slices.Sort(uids)
	return slices.Compact(uids), true
}

func compareTerms(a, b Term) int {
	return cmp.Or(cmp.Compare(a.Subscription.UID, b.Subscription.UID), cmp.Compare(a.From, b.From), cmp.Compare(a.Started, b.Started))
}

// TermsAt implements History.
func (p *raftPartition) TermsAt(offset uint64) []Term {
	p.ch.mu.RLock()
	defer p.ch.mu.RUnlock()
	var out []Term
	add := func(t *term) {
		if t.from <= offset && offset < t.to {
			out = append(out, t.export())
		}
	}
	for _, t := range p.past {
		add(t)
	}
	for _, h := range p.subs {
		for _, t := range h.terms {
			add(t)
		}
	}
	slices.SortFunc(out, compareTerms)
	return out
}

// Cursors implements Partition.
func (p *raftPartition) Cursors() map[string]Cursor {
	p.ch.mu.RLock()
	defer p.ch.mu.RUnlock()
	out := make(map[string]Cursor, len(p.cursors))
	for uid, h := range maps.All(p.cursors) {
		c := *h.cursor
		c.Done = slices.Clone(c.Done)
		out[uid] = c
	}
	return out
}
