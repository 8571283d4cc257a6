package dispatcher

import (
	"fmt"
	"slices"
	"time"
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

// addTo adds what one partition knows.
func (s *sub) addTo(st *Status, many bool) {
	_, end := s.r.p.Bounds()
	scan := s.r.horizon.Load()
	commitErr := s.r.commits.lastError()
	t := s.target.get()
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
	if reason, message := s.pausedBy(t, commitErr); reason != "" && !st.Paused {
		st.Paused, st.Reason, st.Message = true, reason, message
		if many {
			st.Message = fmt.Sprintf("partition %d: %s", s.r.p.Number(), message)
		}
	}
}

// pausedBy says why nothing new is looked at, if so. s.mu is held.
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
