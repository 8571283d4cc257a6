package channel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/leat-dev/leat/raftlog/segment"
)

// retention is what the loop remembers from one pass to the next. All of it
// can be lost.
type retention struct {
	mu sync.Mutex // one pass at a time
	// seen is where the committed scan of a partition was, when a floor stopped
	// at it last.
	seen map[uint32]uint64
}

// oldest caches the log time of what lies at a floor; -1: nothing, 0: not known.
type oldest struct{ at atomic.Int64 }

func (o *oldest) forget() { o.at.Store(0) }

// Run moves floors and drops what lies below them, until ctx ends. It is to be
// run where this node leads.
func (l *Log) Run(ctx context.Context) error {
	s := l.shard
	for {
		if err := s.retain(ctx); err != nil && ctx.Err() == nil {
			s.o.Logger.Error("retention could not do all its work; it goes on with the next pass", "shard", s.o.Number, "error", err)
		}
		select {
		case <-s.o.Clock.After(s.o.RetentionInterval):
		case <-ctx.Done():
			return nil
		}
	}
}

// retain makes one pass: it moves the floors of what is too old or too much,
// by records in the log, then drops the segments that hold nothing else.
func (s *Shard) retain(ctx context.Context) error {
	s.retention.mu.Lock()
	defer s.retention.mu.Unlock()
	if s.retention.seen == nil {
		s.retention.seen = make(map[uint32]uint64)
	}
	now := max(s.lastTime.Load(), s.o.Clock.Now().UnixMicro())
	var errs []error
	for _, f := range []func(context.Context, int64) error{s.retainByAge, s.retainByBytes, s.retainByDisk} {
		if err := f(ctx, now); err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if err := s.group.Trim(s.wanted); err != nil {
		errs = append(errs, fmt.Errorf("drop segments: %w", err))
	}
	return errors.Join(errs...)
}

// store is what has a floor: a partition or a dead letter log.
type store struct {
	key    uint32
	kind   uint8
	p      *raftPartition
	l      *letterLog // nil for a partition
	oldest *oldest
}

func (t store) bounds() (floor, end uint64) {
	if t.l != nil {
		return t.l.floor.Load(), t.l.end.Load()
	}
	return t.p.floor.Load(), t.p.end.Load()
}

func (s *Shard) storeOf(key uint32, kind uint8) (store, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if p := s.parts[key]; p != nil && kind == rowEvents {
		return store{key: key, kind: kind, p: p, oldest: &p.oldest}, true
	}
	if l := s.letters[key]; l != nil && kind == rowDeadLetters {
		return store{key: key, kind: kind, p: l.p, l: l, oldest: &l.oldest}, true
	}
	return store{}, false
}

// stores are all of them, in the order they were made.
func (s *Shard) stores() []store {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]store, 0, len(s.parts)+len(s.letters))
	for key, p := range s.parts {
		all = append(all, store{key: key, kind: rowEvents, p: p, oldest: &p.oldest})
	}
	for key, l := range s.letters {
		all = append(all, store{key: key, kind: rowDeadLetters, p: l.p, l: l, oldest: &l.oldest})
	}
	slices.SortFunc(all, func(a, b store) int { return cmp.Compare(a.key, b.key) })
	return all
}

// wanted says whether a segment holds anything at or above a floor. Outcomes
// speak of events that precede them: where those are gone from this segment and
// all before it, nobody can ask for the outcomes.
func (s *Shard) wanted(info segment.Info) bool {
	for _, sum := range info.Summaries {
		if t, ok := s.storeOf(sum.Key, sum.Kind); ok {
			if floor, _ := t.bounds(); sum.Last >= floor {
				return true
			}
		}
	}
	return false
}

// settings are those in force for a channel.
func (c *raftChannel) settings() Config {
	c.mu.RLock()
	defer c.mu.RUnlock()
	config := c.config
	if config.RetentionAge == 0 {
		config.RetentionAge = c.shard.o.RetentionAge
	}
	return config
}

// ageSlack: a floor follows age in steps of this part of the retention, so that
// a partition writes a few records in all that time, and one that is idle none.
const ageSlack = 20

func (s *Shard) retainByAge(ctx context.Context, now int64) error {
	var errs []error
	for _, t := range s.stores() {
		keep := s.o.DeadLetterRetention
		if t.l == nil {
			keep = t.p.ch.settings().RetentionAge
		}
		if err := s.expireBefore(ctx, t, now, keep); err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

func (s *Shard) expireBefore(ctx context.Context, t store, now int64, keep time.Duration) error {
	floor, end := t.bounds()
	if floor >= end {
		return nil
	}
	at := t.oldest.at.Load()
	if at == 0 {
		row, ok, err := s.group.Find(t.key, t.kind, floor)
		if err != nil || !ok {
			return err
		}
		at = row.Time
		t.oldest.at.Store(at)
	}
	cutoff := now - keep.Microseconds()
	if at >= cutoff-keep.Microseconds()/ageSlack {
		return nil
	}
	to := end
	row, ok, err := s.group.FindTime(t.key, t.kind, cutoff)
	if err != nil {
		return fmt.Errorf("retention of %v: %w", t.p, err)
	}
	if ok {
		to = row.Base
	} else if row, ok, err = s.group.Find(t.key, t.kind, end-1); err != nil || !ok || row.Time >= cutoff {
		// The index learns of an entry only after it was applied, and the newest
		// may be a young one.
		return err
	}
	return s.moveFloor(ctx, t, to, fmt.Sprintf("older than %v", keep))
}

// usage is what the log holds of a store, as far as its index knows.
type usage struct {
	store
	bytes uint64
	parts []segment.Summary // oldest first, what is above the floor
}

// usages gathers what the segments hold above the floors.
func (s *Shard) usages(segments []segment.Info) map[uint32]*usage {
	all := make(map[uint32]*usage)
	for _, info := range segments {
		for _, sum := range info.Summaries {
			u := all[sum.Key]
			if u == nil || u.kind != sum.Kind {
				t, ok := s.storeOf(sum.Key, sum.Kind)
				if !ok {
					continue
				}
				u = &usage{store: t}
				all[sum.Key] = u
			}
			floor, _ := u.bounds()
			if sum.Last < floor {
				continue
			}
			if sum.First < floor {
				// The part of it that counts, by the events' average size.
				sum.Bytes = share(sum.Bytes, sum.Last-floor+1, sum.Last-sum.First+1)
				sum.First = floor
			}
			u.parts = append(u.parts, sum)
			u.bytes += sum.Bytes
		}
	}
	return all
}

// share is bytes*part/whole.
func share(bytes, part, whole uint64) uint64 {
	return uint64(float64(bytes) * float64(part) / float64(whole))
}

// free is the floor that frees so many bytes or a little more, and how many.
func (u *usage) free(bytes uint64) (floor, freed uint64) {
	for _, sum := range u.parts {
		if freed+sum.Bytes > bytes {
			n := sum.Last - sum.First + 1
			k := min(n, share(n, bytes-freed, max(sum.Bytes, 1))+1)
			return sum.First + k, freed + share(sum.Bytes, k, n)
		}
		freed += sum.Bytes
		floor = sum.Last + 1
		if freed >= bytes {
			break
		}
	}
	return floor, freed
}

func (s *Shard) retainByBytes(ctx context.Context, _ int64) error {
	usages := s.usages(s.group.Segments())
	perChannel := make(map[*raftChannel][]*usage)
	var errs []error
	for _, key := range sortedKeys(usages) {
		u := usages[key]
		if u.l == nil {
			perChannel[u.p.ch] = append(perChannel[u.p.ch], u)
			continue
		}
		if limit := uint64(s.o.DeadLetterBytes); u.bytes > limit {
			to, _ := u.free(u.bytes - limit)
			errs = append(errs, s.moveFloor(ctx, u.store, to, fmt.Sprintf("more than %d bytes of dead letters", limit)))
		}
	}
	for _, ch := range s.list() {
		limit := uint64(ch.settings().RetentionBytes)
		total := uint64(0)
		for _, u := range perChannel[ch] {
			total += u.bytes
		}
		if limit == 0 || total <= limit {
			continue
		}
		// Each partition gives its share; a little more than needed, so that the
		// next pass has nothing to do.
		excess := total - limit + limit/16
		for _, u := range perChannel[ch] {
			to, _ := u.free(share(excess, u.bytes, total))
			errs = append(errs, s.moveFloor(ctx, u.store, to, fmt.Sprintf("more than %d bytes", limit)))
		}
	}
	return errors.Join(errs...)
}

func sortedKeys[V any](m map[uint32]V) []uint32 {
	keys := make([]uint32, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// retainByDisk keeps the log within MaxDisk. Space is freed by whole segments
// from the oldest on, so all that is in those has to go; the channel most over
// its quota (its own bound, else an equal part) goes first, which matters where
// a segment becomes free without the others.
func (s *Shard) retainByDisk(ctx context.Context, _ int64) error {
	limit := s.o.MaxDisk
	if limit <= 0 {
		return nil
	}
	segments := s.group.Segments()
	total := int64(0)
	for _, info := range segments {
		total += info.Bytes
	}
	if s.o.RefuseOverMaxDisk {
		s.overDisk.Store(total > limit)
		return nil
	}
	over := s.overQuota(segments)
	var errs []error
	for _, info := range segments {
		if total <= limit || !info.Sealed {
			break
		}
		total -= info.Bytes
		for _, v := range s.victims(info, over) {
			errs = append(errs, s.moveFloor(ctx, v.store, v.to, fmt.Sprintf("the log exceeds %d bytes on disk", limit)))
			if !s.wanted(info) {
				break
			}
		}
	}
	return errors.Join(errs...)
}

// overQuota is by how much each channel exceeds its part of the disk.
func (s *Shard) overQuota(segments []segment.Info) map[*raftChannel]int64 {
	all := s.list()
	over := make(map[*raftChannel]int64, len(all))
	for _, ch := range all {
		quota := ch.settings().RetentionBytes
		if quota == 0 {
			quota = s.o.MaxDisk / int64(len(all))
		}
		over[ch] = -quota
	}
	for _, u := range s.usages(segments) {
		over[u.p.ch] += int64(u.bytes)
	}
	return over
}

type victim struct {
	store
	to uint64
}

// victims are those who have something in a segment, dead letters last.
func (s *Shard) victims(info segment.Info, over map[*raftChannel]int64) []victim {
	var out []victim
	for _, sum := range info.Summaries {
		if t, ok := s.storeOf(sum.Key, sum.Kind); ok {
			if floor, _ := t.bounds(); sum.Last >= floor {
				out = append(out, victim{store: t, to: sum.Last + 1})
			}
		}
	}
	slices.SortFunc(out, func(a, b victim) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(over[b.p.ch], over[a.p.ch]), cmp.Compare(a.key, b.key))
	})
	return out
}
