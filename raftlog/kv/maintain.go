package kv

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sort"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/leat-dev/leat/raftlog"
)

// expireBatch bounds the keys that one command deletes.
const expireBatch = 512

// maintain proposes the deletion of expired keys and the compaction of the
// history until ctx ends. Only the leader's proposals come through.
func (s *Store) maintain(ctx context.Context, p Proposer, begun time.Time) {
	clock := s.o.Clock
	compact := begun.Add(s.o.CompactEvery)
	var lastExpiry time.Time
	for ctx.Err() == nil {
		s.arm(math.MaxInt64) // what is written from here on may not be seen below
		now := clock.Now()
		next := compact
		if s.longHistory() || !now.Before(compact) {
			s.try(ctx, p, "compact the history", s.compactHistory)
			compact = now.Add(s.o.CompactEvery)
			next = compact
		}
		if due, ok, err := s.nextExpiry(); err != nil {
			s.o.Logger.Warn("look for expired keys", "error", err)
		} else if ok {
			at := time.UnixMicro(due)
			if earliest := lastExpiry.Add(s.o.ExpireEvery); at.Before(earliest) {
				at = earliest
			}
			if !now.Before(at) {
				s.try(ctx, p, "expire keys", s.expireKeys)
				lastExpiry = now
				at = now.Add(s.o.ExpireEvery)
			}
			if at.Before(next) {
				next = at
			}
		}
		s.arm(next.UnixMicro())
		timer := clock.After(max(next.Sub(now), time.Millisecond))
		if !clock.Now().Before(next) {
			continue // the clock was moved on since now, and the timer does not know
		}
		select {
		case <-ctx.Done():
			return
		case <-s.kick:
		case <-timer:
		}
	}
}

// arm has the maintenance woken for what expires before a time.
func (s *Store) arm(at int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = at
}

func (s *Store) wakeMaintenance() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

func (s *Store) try(ctx context.Context, p Proposer, what string, do func(context.Context, Proposer) error) {
	err := do(ctx, p)
	if err == nil || ctx.Err() != nil || errors.Is(err, raftlog.ErrNotLeader) || errors.Is(err, raftlog.ErrClosed) || errors.Is(err, ErrClosed) {
		return
	}
	s.o.Logger.Warn("will try again: "+what, "error", err)
}

// longHistory: the history is far above its bound before its time.
func (s *Store) longHistory() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.meta.rev-s.meta.floor > 2*s.o.HistoryEvents
}

// nextExpiry is the earliest time at which a key expires.
func (s *Store) nextExpiry() (due int64, ok bool, err error) {
	s.mu.Lock()
	from := s.due
	s.mu.Unlock()
	_, err = s.view(0, func(txn *badger.Txn, _ uint64) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefixExpiry}})
		defer it.Close()
		it.Seek(expiryKey(from, ""))
		ok = it.Valid()
		if ok {
			due, _, ok = parseExpiryKey(it.Item().Key())
		}
		return nil
	})
	return due, ok, err
}

func (s *Store) expireKeys(ctx context.Context, p Proposer) error {
	for {
		v, err := p.Propose(ctx, raftlog.Control, (&command{op: opExpire, limit: expireBatch}).encode())
		if err != nil {
			return err
		}
		if r, ok := v.(Result); !ok || r.Count < expireBatch {
			return nil
		}
	}
}

// compactHistory moves the floor to where the history is within its bounds.
func (s *Store) compactHistory(ctx context.Context, p Proposer) error {
	s.mu.Lock()
	floor, rev := s.meta.floor, s.meta.rev
	s.mu.Unlock()
	target := floor
	if rev > s.o.HistoryEvents {
		target = max(target, rev-s.o.HistoryEvents)
	}
	oldest := s.o.Clock.Now().Add(-s.o.HistoryAge).UnixMicro()
	old, err := s.newestBefore(target, rev, oldest)
	if err != nil {
		return err
	}
	if target = max(target, old); target <= floor {
		return nil
	}
	v, err := p.Propose(ctx, raftlog.Control, (&command{op: opCompact, rev: target}).encode())
	if err != nil {
		return err
	}
	if r, ok := v.(Result); !ok || !r.OK {
		return fmt.Errorf("compact at revision %d: not done: %v", target, v)
	}
	return nil
}

// newestBefore is the newest revision in (floor, rev] that was written before
// a time, or floor. Log time does not go back, so this is a binary search.
func (s *Store) newestBefore(floor, rev uint64, t int64) (uint64, error) {
	var failed error
	_, err := s.view(rev, func(*badger.Txn, uint64) error {
		n := sort.Search(int(rev-floor), func(i int) bool {
			at := floor + 1 + uint64(i)
			txn := s.db.NewTransactionAt(at, false)
			defer txn.Discard()
			rec, err := getEvent(txn, at)
			if err != nil {
				failed = err
			}
			return err != nil || rec.time >= t
		})
		rev = floor + uint64(n)
		return failed
	})
	return rev, err
}
