//go:build linux

package load

import (
	"sync/atomic"
	"time"
)

// Stamps note when events were due to be sent, so that their delivery can be
// timed. Those beyond the room made for them are not noted.
type Stamps struct {
	first int
	base  time.Time
	since []atomic.Int64 // base, in nanoseconds; 0: not sent
}

// NewStamps makes room for n events from the number first on.
func NewStamps(first, n int) *Stamps {
	return &Stamps{first: first, base: time.Now().Add(-1), since: make([]atomic.Int64, n)}
}

func (s *Stamps) set(n int, at time.Time) {
	if s == nil || n-s.first >= len(s.since) {
		return
	}
	s.since[n-s.first].Store(int64(at.Sub(s.base)))
}

// Get is when an event was due.
func (s *Stamps) Get(n int) (time.Time, bool) {
	if s == nil || n < s.first || n-s.first >= len(s.since) {
		return time.Time{}, false
	}
	since := s.since[n-s.first].Load()
	return s.base.Add(time.Duration(since)), since != 0
}
