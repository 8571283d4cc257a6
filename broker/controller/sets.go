package controller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	"github.com/leat-dev/leat/channel"
)

// sets are the subscriptions of each Broker and channel. Handlers of the
// informers change them, in the order of the API, so that they never lag
// behind the version that they are given to a log with.
type sets struct {
	mu      sync.Mutex
	of      map[key]*set
	members map[key]*entry // by the Trigger or Subscription
	// versions are the highest seen, by kind.
	versions map[string]uint64
	opened   bool
}

// set is the subscriptions of one Broker or channel, there or not.
type set struct {
	kind    string // of its members
	entries map[*entry]struct{}
	// told: all that ch has not been given since applied is in changed, members
	// by their UID, nil for one that is gone. Otherwise it has to be given all.
	told    bool
	changed map[string]*entry
	ch      channel.Channel // nil while there is no log
	since   time.Time       // when ch came
	// applied is the version up to which ch has the set; given says that it
	// has it from this process.
	applied uint64
	given   bool
	err     error // of the last attempt
	took    time.Duration
	// scheduled: it is about to be given.
	scheduled bool
}

// entry is one member. version is that of the last change that its log must
// know of.
type entry struct {
	k       key
	m       member
	version uint64
	since   time.Time // when it was seen
}

func newSets() *sets {
	return &sets{of: map[key]*set{}, members: map[key]*entry{}, versions: map[string]uint64{}}
}

func (s *sets) set(of key) *set {
	if s.of[of] == nil {
		kind := kindSubscription
		if of.kind == kindBroker {
			kind = kindTrigger
		}
		s.of[of] = &set{kind: kind, entries: map[*entry]struct{}{}}
	}
	return s.of[of]
}

// note keeps a change of a member until the log is told of it.
func (g *set) note(uid string, e *entry) {
	if g.told {
		g.changed[uid] = e
	}
}

// tidy forgets a set that nobody needs.
func (s *sets) tidy(of key) {
	if g := s.of[of]; g != nil && g.ch == nil && len(g.entries) == 0 {
		delete(s.of, of)
	}
}

// see takes up a Trigger or Subscription, nil when it is gone, and gives the
// sets that have changed.
func (s *sets) see(k key, version uint64, m *member) (changed []key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions[k.kind] = max(s.versions[k.kind], version)
	old := s.members[k]
	if old != nil && (m == nil || old.m.of != m.of || old.m.sub.UID != m.sub.UID) {
		delete(s.members, k)
		g := s.set(old.m.of)
		delete(g.entries, old)
		g.note(old.m.sub.UID, nil)
		changed = append(changed, old.m.of)
		s.tidy(old.m.of)
		old = nil
	}
	if m == nil {
		return changed
	}
	if old != nil && same(&old.m.sub, &m.sub) {
		old.m.sub.Generation = m.sub.Generation
		return changed
	}
	e := &entry{k: k, m: *m, version: version, since: time.Now()}
	s.members[k] = e
	g := s.set(m.of)
	if old != nil {
		delete(g.entries, old)
	}
	g.entries[e] = struct{}{}
	g.note(m.sub.UID, e)
	if !slices.Contains(changed, m.of) {
		changed = append(changed, m.of)
	}
	return changed
}

// same says whether a log would see no difference.
func same(a, b *channel.Subscription) bool {
	return a.Ordered == b.Ordered && a.Engine == b.Engine && bytes.Equal(a.Filter, b.Filter) &&
		a.Start.At == b.Start.At && a.Start.Offset == b.Start.Offset && a.Start.Time.Equal(b.Start.Time)
}

// open says that the sets are whole, at these versions by kind: from now on
// they may be given to logs.
func (s *sets) open(versions map[string]uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for kind, version := range versions {
		s.versions[kind] = max(s.versions[kind], version)
	}
	s.opened = true
}

// attach says which log a set belongs to, nil for none, and gives the UID of
// the one before, if it was another, and whether the set has to be given.
func (s *sets) attach(of key, ch channel.Channel) (before string, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ch == nil && s.of[of] == nil {
		return "", false
	}
	g := s.set(of)
	if g.ch != nil && (ch == nil || g.ch.ID().UID != ch.ID().UID) {
		before = g.ch.ID().UID
	}
	fresh = ch != nil && (g.ch == nil || before != "")
	if before != "" || fresh {
		g.applied, g.given, g.err, g.since = 0, false, nil, time.Now()
		g.told, g.changed = false, nil
	}
	g.ch = ch
	s.tidy(of)
	return before, fresh
}

// log is the log of a Broker or channel, nil where there is none.
func (s *sets) log(of key) channel.Channel {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.of[of]; g != nil {
		return g.ch
	}
	return nil
}

// progress is how far a log has taken up a member.
type progress struct {
	ch    channel.Channel // nil: there is no log
	live  bool            // the log has it, as it is now
	since time.Time       // of the change that it waits for
	err   error           // of the last attempt to tell the log
}

// progress of the member with this UID; a member that is not known is not live.
func (s *sets) progress(k key, of key, uid string) progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.of[of]
	if g == nil || g.ch == nil {
		return progress{}
	}
	p := progress{ch: g.ch, err: g.err}
	e := s.members[k]
	if e == nil || e.m.of != of || e.m.sub.UID != uid {
		return p
	}
	p.since = e.since
	if !g.given || g.applied < e.version {
		p.since = later(e.since, g.since)
		return p
	}
	p.live, p.err = true, nil
	for _, part := range g.ch.Partitions() {
		p.live = p.live && part.Version() >= e.version
	}
	return p
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// subscribers is what the status of a channel says of its members; none where
// there are more than most.
func (s *sets) subscribers(of key, most int) []duckv1.SubscriberStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.of[of]
	if g == nil || len(g.entries) > most {
		return nil
	}
	var all []duckv1.SubscriberStatus
	for e := range g.entries {
		is := duckv1.SubscriberStatus{UID: types.UID(e.m.sub.UID), ObservedGeneration: e.m.sub.Generation, Ready: metav1.ConditionTrue}
		if !g.given || g.applied < e.version {
			is.Ready, is.Message = metav1.ConditionUnknown, "the log is being told"
		}
		all = append(all, is)
	}
	slices.SortFunc(all, func(a, b duckv1.SubscriberStatus) int { return strings.Compare(string(a.UID), string(b.UID)) })
	return all
}

// gift is what is to be given to a log: a whole set, or what has changed of it.
type gift struct {
	ch            channel.Channel
	whole         bool
	from, version uint64 // from: what has changed since
	subs          []channel.Subscription
	gone          []string
	members       []key // of what has changed
}

// gift makes what the log of a set is to be given; ch is nil where there is no
// log, or nothing may be given yet. From here on what changes is noted.
func (s *sets) gift(of key) (out gift) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.of[of]
	if g != nil {
		g.scheduled = false
	}
	if !s.opened || g == nil || g.ch == nil {
		return out
	}
	out = gift{ch: g.ch, whole: !g.told, from: g.applied, version: s.versions[g.kind]}
	if out.whole {
		out.subs = make([]channel.Subscription, 0, len(g.entries))
		for e := range g.entries {
			out.subs = append(out.subs, e.m.sub)
		}
	}
	for uid, e := range g.changed {
		if e == nil {
			out.gone = append(out.gone, uid)
			continue
		}
		out.subs = append(out.subs, e.m.sub)
		out.members = append(out.members, e.k)
	}
	g.told, g.changed = true, map[string]*entry{}
	slices.SortFunc(out.subs, func(a, b channel.Subscription) int { return strings.Compare(a.UID, b.UID) })
	slices.Sort(out.gone)
	return out
}

// done notes the end of an attempt to give a log what it is to know, and gives
// the members that were waiting for it.
func (s *sets) done(of key, what *gift, took time.Duration, err error) []key {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.of[of]
	if g == nil || g.ch == nil || g.ch.ID().UID != what.ch.ID().UID {
		return nil
	}
	if g.took = took; what.whole {
		g.took = wholeShare * took
	}
	if err != nil {
		g.err = err
		g.told, g.changed = false, nil
		return s.waiting(g, ^uint64(0))
	}
	all := what.members
	if what.whole {
		all = s.waiting(g, what.version)
	}
	g.err, g.applied, g.given = nil, what.version, true
	return all
}

// wholeShare is how many times as long as giving a whole set took is waited for
// further changes: to compare it takes processor time, whatever has changed.
const wholeShare = 8

// waiting are the members that the log does not have yet, up to a version.
func (s *sets) waiting(g *set, version uint64) []key {
	var all []key
	for e := range g.entries {
		if (!g.given || e.version > g.applied) && e.version <= version {
			all = append(all, e.k)
		}
	}
	return all
}

// schedule says how long a set waits for further changes: so long that giving it
// takes only a part of the time, whatever its size. It is due only if it was not
// scheduled since the last gift.
func (s *sets) schedule(of key, least, most time.Duration) (wait time.Duration, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.of[of]
	if g == nil {
		return least, true
	}
	due, g.scheduled = !g.scheduled, true
	return min(max(least, g.took), most), due
}

// scheduleFlush has a set given to its log soon, unless it is to be already.
func (c *Controller) scheduleFlush(of key) {
	if delay, due := c.sets.schedule(of, c.o.Debounce, c.o.MaxDebounce); due {
		c.flushes.AddAfter(of, delay)
	}
}

// flush gives a set to its log, or what has changed of it. Where the log is not
// at the version that the change is from, it is given all.
func (c *Controller) flush(ctx context.Context, of key) error {
	for {
		what := c.sets.gift(of)
		if what.ch == nil {
			return nil // it is given when there is a log
		}
		began := time.Now()
		err := what.give(ctx)
		waiting := c.sets.done(of, &what, time.Since(began), err)
		if !what.whole && errors.Is(err, channel.ErrStale) {
			continue
		}
		for _, k := range waiting {
			c.queue.Add(k)
		}
		if of.kind != kindBroker {
			c.queue.Add(of) // its status lists them
		}
		if err != nil {
			return fmt.Errorf("tell the log of %v of %d subscriptions: %w", of, len(what.subs)+len(what.gone), err)
		}
		return nil
	}
}

func (w *gift) give(ctx context.Context) error {
	if w.whole {
		return w.ch.SetSubscriptions(ctx, w.version, w.subs)
	}
	return w.ch.ChangeSubscriptions(ctx, w.from, w.version, w.subs, w.gone)
}
