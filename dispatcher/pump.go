package dispatcher

import (
	"errors"
	"time"

	"github.com/leat-dev/leat/channel"
)

// absentAfter: a subscription that has been behind for so long is taken out
// of the matcher until it has caught up.
const absentAfter = 10 * time.Second

// resume puts a subscription where its committed cursor says. scanMu is held.
func (s *sub) resume(c channel.Cursor, stored bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.committed = stored
	s.skip = c.Done
	if c.Low == c.Next && !c.Detached && len(c.Done) == 0 && c.Low <= s.r.pos {
		return
	}
	s.fallBehind(c.Low)
	if !stored {
		s.r.wantCommit(false)
	}
}

// leaveBehind makes the subscription go on from at by itself. scanMu is held.
func (s *sub) leaveBehind(at uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fallBehind(at)
	s.kick()
}

// nudge starts what there is room for.
func (s *sub) nudge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kick()
}

// pump is the task that reads on from a subscription's own position while
// there is room in its window, until it has caught up with the scan.
type pump sub

func (p *pump) run() task {
	s := (*sub)(p)
	defer s.r.work.leave()
	for s.pumpOnce() {
	}
	return nil
}

// pumpOnce says whether to go on; where not, s.pumping has been reset.
func (s *sub) pumpOnce() bool {
	// The horizon is read before the terms: those below it are known.
	limit := s.r.horizon.Load()
	s.mu.Lock()
	t := s.target.get()
	if s.dead || !s.behind || s.r.scanCtx.Err() != nil || !s.room(t) {
		s.pumping = false
		s.mu.Unlock()
		return false
	}
	pos, terms := s.next, s.terms
	free := t.maxInFlight() - s.slots
	s.mu.Unlock()
	if pos >= limit {
		return s.attach()
	}
	tm, upTo := cover(terms, pos, limit)
	if tm == nil { // no term holds here
		return s.advance(upTo, 0)
	}
	if tm.filter == nil {
		return s.stop(ReasonFilter, tm.err)
	}
	loan := s.r.d.loan()
	defer s.r.d.repaid(loan)
	err := s.r.read(pos, min(max(free, 16), s.r.d.o.ReadEvents), loan)
	passed := (*channel.PassedError)(nil)
	switch {
	case errors.As(err, &passed):
		return s.advance(min(passed.Range.To, limit), 0)
	case errors.Is(err, channel.ErrExpired):
		if floor, _ := s.r.p.Bounds(); floor > pos {
			return s.advance(floor, 0)
		}
		return s.stop(ReasonUnreadable, err)
	case err != nil:
		return s.stop(reasonOf(err), err)
	case len(loan.Events) == 0:
		return s.stop(ReasonUnreadable, errors.New("the log returned nothing below its end"))
	}
	return s.take(loan.Events, tm, upTo)
}

// loan gives one to read with, which is repaid in the end.
func (d *Dispatcher) loan() *channel.Loan {
	if l, ok := d.loans.Get().(*channel.Loan); ok {
		return l
	}
	return new(channel.Loan)
}

func (d *Dispatcher) repaid(l *channel.Loan) {
	l.Return()
	d.loans.Put(l)
}

// cover is the term that covers pos and the offset up to which it does, at
// most limit; where none does, the offset at which the next one begins.
func cover(terms []*term, pos, limit uint64) (*term, uint64) {
	for _, t := range terms {
		if t.to <= pos {
			continue
		}
		if t.from > pos {
			return nil, min(limit, t.from)
		}
		return t, min(limit, t.to)
	}
	return nil, limit
}

// take looks at events that were read, up to the end of the term.
func (s *sub) take(stored []channel.Stored, tm *term, upTo uint64) bool {
	looked := 0
	view := s.r.d.view()
	defer s.r.d.views.Put(view)
	defer view.Reset(nil)
	for i := range stored {
		st := &stored[i]
		if st.Offset >= upTo {
			return s.advance(upTo, looked)
		}
		looked++
		view.Reset(st.Event)
		ok, err := matchOne(tm.filter, view)
		if err != nil {
			s.filterFailed(st.Offset, err)
		}
		if !ok {
			continue
		}
		s.mu.Lock()
		if s.dead || !s.behind || st.Offset < s.next {
			s.pumping = s.pumping && !s.dead && s.behind
			again := s.pumping
			s.mu.Unlock()
			return again
		}
		if !s.skips(st.Offset) && !s.admit(st, tm.ordered) {
			s.next = st.Offset
			s.pumping = false
			s.mu.Unlock()
			return false
		}
		s.next = st.Offset + 1
		s.mu.Unlock()
	}
	return s.advance(stored[len(stored)-1].Offset+1, looked)
}

// advance moves the own position on.
func (s *sub) advance(to uint64, looked int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = max(s.next, to)
	s.trimSkip(s.next)
	s.stopReason, s.stopMessage = "", ""
	if s.advanced += looked; s.advanced >= s.r.d.o.ScanEvents {
		s.list()
		s.r.wantCommit(false)
	}
	return true
}

// stop ends the pump where it cannot go on; it is tried again after a while.
func (s *sub) stop(reason string, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.halt(reason, err)
	return false
}

func (s *sub) halt(reason string, err error) {
	s.pumping = false
	if s.r.scanCtx.Err() != nil {
		return
	}
	s.stopReason, s.stopMessage = reason, err.Error()
	now := s.r.d.now()
	due := now + int64(s.r.d.o.ReadRetry)
	switch {
	case s.timer == nil:
		s.timer = time.AfterFunc(s.r.d.o.ReadRetry, s.wake)
	case s.timerAt > now && s.timerAt <= due:
		return
	default:
		s.timer.Reset(s.r.d.o.ReadRetry)
	}
	s.timerAt = due
}

func reasonOf(err error) string {
	var damaged *channel.DamagedError
	if errors.As(err, &damaged) {
		return ReasonDamaged
	}
	return ReasonUnreadable
}

// attach hands the subscription to the scan, if that has come no further.
func (s *sub) attach() bool {
	s.r.scanMu.Lock()
	defer s.r.scanMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		s.pumping = false
		return false
	}
	if s.next < s.r.pos {
		return true
	}
	if t := s.termAt(s.r.pos); t != nil && t.filter == nil {
		s.halt(ReasonFilter, t.err)
		return false
	}
	s.behind, s.pumping = false, false
	s.r.notBehind(s)
	s.stopReason, s.stopMessage = "", ""
	if s.joined != nil {
		if s.absent {
			s.r.matcher.Add(s.id, s.joined.filter)
			s.absent = false
		}
		s.r.attached++
	}
	s.list()
	s.r.wantCommit(false)
	return false
}
