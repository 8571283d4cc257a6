package ping

import "time"

// Next is the first tick after t; the zero time where there is none.
//
// Where the clock is changed, a schedule that names hours has each of its ticks
// once: one in the hour that is left out comes as much later as the clock is
// put forward, one in the hour that comes twice at the first of the two. One
// that names no hours ticks in both hours, and not in the one left out.
func (s *Schedule) Next(t time.Time) time.Time {
	for range maxPeriods {
		p := s.periodOf(t)
		tick := s.within(p, t)
		// Where there is none in so many years, later periods are not looked at:
		// each would be searched for as many again.
		if tick.IsZero() || p.end.IsZero() || tick.Before(p.end) {
			return tick
		}
		t = p.end.Add(-time.Nanosecond)
	}
	return time.Time{}
}

// maxPeriods bounds the changes of the clock between two ticks: there are two a
// year, four in the zones that pause summer time for Ramadan.
const maxPeriods = 4*searchYears + 8

// Latest is the last tick in (after, until]; the zero time where there is none.
func (s *Schedule) Latest(after, until time.Time) time.Time {
	last := s.Next(after)
	if last.IsZero() || last.After(until) {
		return time.Time{}
	}
	// There is a tick after from, and none after to: the two are brought
	// together, as looking at each tick of a long absence could take long.
	for from, to := last, until; to.Sub(from) > time.Second; {
		middle := from.Add(to.Sub(from) / 2)
		if tick := s.Next(middle); !tick.IsZero() && !tick.After(until) {
			from, last = tick, tick
		} else {
			to = middle
		}
	}
	if tick := s.Next(last); !tick.IsZero() && !tick.After(until) {
		last = tick
	}
	return last
}

// period is a span of time with one offset from UTC.
type period struct {
	end    time.Time // zero: it does not end
	start  time.Time // zero: it has always been
	offset time.Duration
	// before is the offset of the period before; that of this one where there
	// is none.
	before time.Duration
}

// periodOf is the period of the first instant after t.
func (s *Schedule) periodOf(t time.Time) period {
	at := t.Add(time.Nanosecond).In(s.loc)
	var p period
	p.start, p.end = at.ZoneBounds()
	p.offset = offsetAt(at)
	p.before = p.offset
	if !p.start.IsZero() {
		p.before = offsetAt(p.start.Add(-time.Nanosecond).In(s.loc))
	}
	return p
}

func offsetAt(t time.Time) time.Duration {
	_, seconds := t.Zone()
	return time.Duration(seconds) * time.Second
}

// within is the first tick after t by the clock of a period, which may lie
// beyond its end.
func (s *Schedule) within(p period, t time.Time) time.Time {
	from := t
	if repeated := p.start.Add(p.before - p.offset); !s.hourly && p.before > p.offset && from.Before(repeated) {
		from = repeated.Add(-time.Nanosecond) // the clock was here before
	}
	tick := s.reading(from, p.offset)
	leftOut := p.offset - p.before
	if s.hourly || leftOut <= 0 || !t.Before(p.start.Add(leftOut)) {
		return tick
	}
	// The ticks of the readings left out, by the clock as it was.
	late := s.reading(t, p.before)
	if late.IsZero() || !late.Before(p.start.Add(leftOut)) || !tick.IsZero() && tick.Before(late) {
		return tick
	}
	return late
}

// reading is the first tick after t by a clock at this offset from UTC.
func (s *Schedule) reading(t time.Time, offset time.Duration) time.Time {
	wall := s.wall.Next(t.UTC().Add(offset))
	if wall.IsZero() {
		return wall
	}
	return wall.Add(-offset)
}
