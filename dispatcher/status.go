package dispatcher

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/filter"
)

// Status says how a subscription is doing, and whether it is known in any
// partition.
func (d *Dispatcher) Status(uid string) (Status, bool) {
	d.mu.Lock()
	tg := d.targets[uid]
	d.mu.Unlock()
	if tg == nil {
		return Status{}, false
	}
	tg.mu.Lock()
	subs := slices.Clone(tg.subs)
	tg.mu.Unlock()
	var st Status
	for _, s := range subs {
		s.addTo(&st, len(subs) > 1)
	}
	return st, len(subs) > 0
}

// Paused are the subscriptions that have paused, by UID: of their Status the reason
// and the message. Those that wait for an address are not among them: who gives the
// address knows. Only those that may have paused are looked at, so that it costs
// nothing where many are fine.
func (d *Dispatcher) Paused() map[string]Status {
	d.mu.Lock()
	runners := slices.Concat(slices.Collect(maps.Values(d.runners))...)
	d.mu.Unlock()
	suspects := map[*target]struct{}{}
	for _, r := range runners {
		r.suspects(suspects)
	}
	paused := map[string]Status{}
	var subs []*sub
	for tg := range suspects {
		tg.mu.Lock()
		subs = append(subs[:0], tg.subs...)
		tg.mu.Unlock()
		var st Status
		for _, s := range subs {
			s.addPause(&st, len(subs) > 1)
		}
		if st.Paused && st.Reason != ReasonUnresolved {
			paused[tg.uid] = st
		}
	}
	return paused
}

// suspects adds those that may have paused: who is behind, and everybody where
// nothing can be committed.
func (r *runner) suspects(found map[*target]struct{}) {
	failed := r.commits.lastError() != nil
	r.scanMu.Lock()
	defer r.scanMu.Unlock()
	for s := range r.behind {
		found[s.target] = struct{}{}
	}
	if failed {
		for _, s := range r.subs {
			found[s.target] = struct{}{}
		}
	}
}

// addPause adds whether one partition has paused.
func (s *sub) addPause(st *Status, many bool) {
	commitErr := s.r.commits.lastError()
	t := s.target.get()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tellPause(st, t, commitErr, many)
}

// tellPause is addPause where s.mu is held.
func (s *sub) tellPause(st *Status, t *Target, commitErr error, many bool) {
	reason, message := s.pausedBy(t, commitErr)
	if reason == "" || st.Paused {
		return
	}
	st.Paused, st.Reason, st.Message = true, reason, message
	if many {
		st.Message = fmt.Sprintf("partition %d: %s", s.r.p.Number(), message)
	}
}

// Targets are the targets of all subscriptions, by UID. They must not be
// modified.
func (d *Dispatcher) Targets() []*Target {
	d.mu.Lock()
	all := make([]*Target, 0, len(d.targets))
	for _, tg := range d.targets {
		if t := tg.get(); t != nil {
			all = append(all, t)
		}
	}
	d.mu.Unlock()
	slices.SortFunc(all, func(a, b *Target) int { return strings.Compare(a.UID, b.UID) })
	return all
}

// Target is where a subscription's events go; nil where nobody has said so.
func (d *Dispatcher) Target(uid string) *Target {
	d.mu.Lock()
	defer d.mu.Unlock()
	if tg := d.targets[uid]; tg != nil {
		return tg.get()
	}
	return nil
}

// Filters says what the filters of a channel's subscriptions cost, over all
// partitions.
func (d *Dispatcher) Filters(uid string) filter.Stats {
	d.mu.Lock()
	runners := slices.Clone(d.runners[uid])
	d.mu.Unlock()
	var sum filter.Stats
	for _, r := range runners {
		st := r.matcher.Stats()
		// Each partition has all of the filters.
		sum.Filters, sum.Unindexed = max(sum.Filters, st.Filters), max(sum.Unindexed, st.Unindexed)
		sum.Events += st.Events
		sum.Candidates += st.Candidates
		sum.Matches += st.Matches
	}
	return sum
}

// addTo adds what one partition knows.
func (s *sub) addTo(st *Status, many bool) {
	_, end := s.r.p.Bounds()
	scan := s.r.horizon.Load()
	commitErr := s.r.commits.lastError()
	t := s.target.get()
	if h, ok := s.r.p.(channel.History); ok {
		floor, end := h.DeadLetterBounds(s.uid)
		st.DeadLetters += end - floor
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := scan
	if s.behind {
		next = s.next
		st.Detached = st.Detached || time.Since(s.behindSince) >= s.r.d.o.DetachAfter
	}
	if end > next {
		st.Lag += end - next
	}
	st.InFlight += s.out
	st.Uncommitted += s.acked + len(s.settling)
	st.Waiting += len(s.waits) + len(s.keeping)
	st.Blocked += s.blocked
	if s.lastErrorAt.After(st.LastErrorAt) {
		st.LastError, st.LastErrorAt = s.lastError, s.lastErrorAt
	}
	if s.lastOK.After(st.LastSuccessAt) {
		st.LastSuccessAt = s.lastOK
	}
	s.tellPause(st, t, commitErr, many)
}

// pausedBy says why nothing new is looked at, if so. Whoever has an address, is not
// behind and can commit has not paused (see suspects). s.mu is held.
func (s *sub) pausedBy(t *Target, commitErr error) (reason, message string) {
	switch {
	case t == nil || t.URL == "":
		return ReasonUnresolved, "the subscriber has no address yet; events wait and no attempt is spent"
	case s.stopReason != "":
		return s.stopReason, s.stopMessage
	case s.behind && (s.paused || s.waiting >= t.maxWaiting()):
		return ReasonMaxWaiting, fmt.Sprintf("%d events wait for their next attempt or for their key (at most %d, leat.dev/max-waiting); the last error: %s",
			s.waiting, t.maxWaiting(), s.lastError)
	case s.behind && s.w.n > 0 && s.spread() >= s.r.d.o.MaxRanges:
		return ReasonCursorFull, fmt.Sprintf("offset %d is still open, and %d ranges above it are acknowledged or out (at most %d)",
			s.w.head.off, s.spread(), s.r.d.o.MaxRanges)
	case commitErr != nil:
		return ReasonCommitFailed, commitErr.Error()
	}
	return "", ""
}
