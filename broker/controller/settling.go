package controller

import (
	"context"
	"sync"
	"time"
)

// settling are the Triggers and Subscriptions whose log is about to have them. They
// are reconciled when it has. Those that are not by then are reconciled after a
// time all the same, so that their status says what they wait for.
type settling struct {
	after time.Duration
	wake  chan struct{}

	mu    sync.Mutex
	are   map[key]bool
	order []settles // the first to be due first; of some that are settled by now
}

type settles struct {
	k   key
	due time.Time
}

func newSettling(after time.Duration) *settling {
	return &settling{after: after, wake: make(chan struct{}, 1), are: map[key]bool{}}
}

// add has one reconciled again after the time, unless it is done until then.
func (s *settling) add(k key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.are[k] {
		return
	}
	s.are[k] = true
	s.order = append(s.order, settles{k, time.Now().Add(s.after)})
	if len(s.order) == 1 {
		select {
		case s.wake <- struct{}{}:
		default: // it is about to look
		}
	}
}

// done says that one needs no further look.
func (s *settling) done(k key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.are, k)
}

// run passes on those whose time is up, until ctx ends.
func (s *settling) run(ctx context.Context, again func(key)) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		due, wait := s.due(time.Now())
		for _, k := range due {
			again(k)
		}
		var late <-chan time.Time
		if wait > 0 {
			t.Reset(wait)
			late = t.C
		}
		select {
		case <-late:
		case <-s.wake:
		case <-ctx.Done():
			return
		}
	}
}

// due takes those whose time is up, and tells how long it is until the next one's
// is; 0: there is none.
func (s *settling) due(now time.Time) (due []key, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for ; n < len(s.order); n++ {
		at := s.order[n]
		if s.are[at.k] && at.due.After(now) {
			break
		}
		if s.are[at.k] {
			due = append(due, at.k)
			delete(s.are, at.k)
		}
	}
	if s.order = s.order[n:]; len(s.order) == 0 {
		s.order = nil // and the memory that it took
		return due, 0
	}
	return due, s.order[0].due.Sub(now)
}
