package dispatcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/filter"
)

// store is a channel of one partition in memory: what a crash leaves. A
// handle is one life's access to it.
type store struct {
	t  testing.TB
	id channel.ID

	mu           sync.Mutex
	changed      chan struct{} // closed at each change
	floor        uint64
	events       []channel.Stored
	terms        []channel.Term
	history      []channel.Term // all terms that ever were
	termsVersion uint64
	// touched are the subscriptions of each change of the set, by its version.
	touched  map[uint64][]string
	version  uint64
	scan     uint64
	cursors  map[string]channel.Cursor
	outcomes []channel.Outcome
	letters  []channel.DeadLetter
	commits  []channel.Commit
	reads    int
	waits    int // how often it was waited

	// Faults.
	readErr   func(offset uint64) error
	commitErr func() error
	commitLag time.Duration
}

func newStore(t testing.TB) *store {
	return &store{
		t: t, id: channel.ID{Kind: "Broker", Namespace: "default", Name: "b", UID: "channel-1"},
		changed: make(chan struct{}), cursors: make(map[string]channel.Cursor), termsVersion: 1,
	}
}

// open begins a new life.
func (s *store) open() *handle { return &handle{store: s} }

// handle implements channel.Channel and channel.Partition.
type handle struct {
	*store
	crashed bool // guarded by store.mu: nothing is stored any more
}

var (
	_ channel.Channel   = (*handle)(nil)
	_ channel.Partition = (*handle)(nil)
)

var errCrashed = errors.New("crashed")

func (h *handle) crash() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.crashed = true
}

func (s *store) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *store) ID() channel.ID                   { return s.id }
func (h *handle) Partitions() []channel.Partition { return []channel.Partition{h} }
func (s *store) Channel() channel.ID              { return s.id }
func (s *store) Number() int                      { return 0 }

func (s *store) Append(_ context.Context, events []*event.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		s.events = append(s.events, channel.Stored{Offset: s.end(), Time: time.Now().UnixMicro(), Event: e})
	}
	s.notify()
	return nil
}

func (s *store) end() uint64 { return uint64(len(s.events)) }

func (s *store) SetSubscriptions(_ context.Context, version uint64, subs []channel.Subscription) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.termsVersion++
	var changed []string
	want := make(map[string]channel.Subscription)
	for _, x := range subs {
		want[x.UID] = x
	}
	started := make(map[string]uint64)
	s.terms = slices.DeleteFunc(s.terms, func(t channel.Term) bool {
		uid := t.Subscription.UID
		if _, ok := want[uid]; !ok {
			delete(s.cursors, uid)
			changed = append(changed, uid)
			return true
		}
		started[uid] = t.Started
		return false
	})
	for i := range s.terms {
		t := &s.terms[i]
		if t.To != forever {
			continue
		}
		w := want[t.Subscription.UID]
		if string(w.Filter) == string(t.Subscription.Filter) && w.Ordered == t.Subscription.Ordered {
			delete(want, w.UID)
			continue
		}
		t.To = s.end()
		for i := range s.history {
			if h := &s.history[i]; h.Subscription.UID == t.Subscription.UID && h.To == forever {
				h.To = t.To
			}
		}
	}
	for _, x := range subs {
		w, ok := want[x.UID]
		if !ok {
			continue
		}
		changed = append(changed, w.UID)
		t := channel.Term{Subscription: w, From: s.end(), To: forever}
		if t.Started, ok = started[w.UID]; !ok {
			t.Started = s.termsVersion
			if w.Start.At == "beginning" {
				t.From = s.floor
				s.cursors[w.UID] = channel.Cursor{Low: t.From, Next: t.From, Detached: true}
			}
		}
		s.terms = append(s.terms, t)
		s.history = append(s.history, t)
	}
	if s.touched == nil {
		s.touched = make(map[uint64][]string)
	}
	s.touched[s.termsVersion] = changed
	s.version = version
	s.collect()
	s.notify()
	return nil
}

// collect forgets terms that are closed and fully delivered.
func (s *store) collect() {
	n := len(s.terms)
	s.terms = slices.DeleteFunc(s.terms, func(t channel.Term) bool {
		if t.To == forever {
			return false
		}
		c, ok := s.cursors[t.Subscription.UID]
		if !ok {
			return s.scan >= t.To
		}
		return c.Low >= t.To && (c.Detached || s.scan >= t.To)
	})
	if len(s.terms) != n {
		s.termsVersion++
		s.notify()
	}
}

func (s *store) Bounds() (floor, next uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.floor, s.end()
}

func (s *store) Version() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

func (s *store) Read(ctx context.Context, offset uint64, limit, maxBytes int) ([]channel.Stored, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if offset < s.floor {
		return nil, fmt.Errorf("read %d: %w", offset, channel.ErrExpired)
	}
	var out []channel.Stored
	for size := 0; offset < s.end() && len(out) < limit; offset++ {
		if s.readErr != nil {
			if err := s.readErr(offset); err != nil {
				if len(out) > 0 {
					break
				}
				return nil, err
			}
		}
		st := s.events[offset]
		size += len(st.Event.Data)
		if len(out) > 0 && size > maxBytes {
			break
		}
		out = append(out, st)
	}
	return out, nil
}

func (s *store) Wait(ctx context.Context, offset, termsVersion uint64) error {
	s.mu.Lock()
	s.waits++
	s.mu.Unlock()
	for {
		s.mu.Lock()
		if s.end() > offset || s.termsVersion != termsVersion {
			s.mu.Unlock()
			return nil
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ChangeSubscriptions is nobody's here.
func (s *store) ChangeSubscriptions(context.Context, uint64, uint64, []channel.Subscription, []string) error {
	return channel.ErrStale
}

func (s *store) Terms() ([]channel.Term, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	terms := slices.Clone(s.terms)
	slices.SortStableFunc(terms, func(a, b channel.Term) int {
		return cmp.Or(cmp.Compare(a.Subscription.UID, b.Subscription.UID), cmp.Compare(a.From, b.From))
	})
	return terms, s.termsVersion
}

// TermsSince tells of the last two changes only.
func (s *store) TermsSince(since uint64) (changed []channel.Term, gone []string, version uint64, ok bool) {
	terms, version := s.Terms()
	if since+2 < version {
		return nil, nil, version, false
	}
	s.mu.Lock()
	uids := make(map[string]bool)
	for v := since + 1; v <= version; v++ {
		for _, uid := range s.touched[v] {
			uids[uid] = true
		}
	}
	s.mu.Unlock()
	for _, t := range terms {
		if _, is := uids[t.Subscription.UID]; is {
			changed = append(changed, t)
			uids[t.Subscription.UID] = false
		}
	}
	for uid, is := range uids {
		if is {
			gone = append(gone, uid)
		}
	}
	return changed, gone, version, true
}

func (s *store) Scan() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.scan
}

func (s *store) Cursors() map[string]channel.Cursor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.cursors)
}

// Commit checks what every commit must hold.
func (h *handle) Commit(ctx context.Context, c channel.Commit) error {
	if d := h.commitLag; d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.crashed {
		return errCrashed
	}
	if h.commitErr != nil {
		if err := h.commitErr(); err != nil {
			return err
		}
	}
	if c.TermsVersion == 0 || c.TermsVersion > h.termsVersion {
		h.t.Errorf("the commit rests on version %d of the terms, they are at %d", c.TermsVersion, h.termsVersion)
	}
	known := make(map[string]bool)
	for _, t := range h.terms {
		known[t.Subscription.UID] = t.Started <= c.TermsVersion
	}
	maps.DeleteFunc(c.Cursors, func(uid string, _ channel.Cursor) bool { return !known[uid] })
	c.Outcomes = slices.DeleteFunc(slices.Clone(c.Outcomes), func(o channel.Outcome) bool { return !known[o.UID] })
	if c.Scan != 0 {
		if c.Scan < h.scan {
			h.t.Errorf("the scan position moves back from %d to %d", h.scan, c.Scan)
		}
		h.scan = c.Scan
	}
	for uid, cur := range c.Cursors {
		h.check(uid, cur)
		if cur.Low == cur.Next && !cur.Detached {
			if h.scan < cur.Low {
				h.t.Errorf("%s follows the scan from %d, which is at %d", uid, cur.Low, h.scan)
			}
			delete(h.cursors, uid)
			continue
		}
		h.cursors[uid] = cur
	}
	h.outcomes = append(h.outcomes, c.Outcomes...)
	h.letters = append(h.letters, c.DeadLetters...)
	h.commits = append(h.commits, c)
	h.collect()
	h.notify()
	return nil
}

// check holds a cursor against its form.
func (h *handle) check(uid string, c channel.Cursor) {
	last := c.Low
	for _, r := range c.Done {
		if r.From < last || r.From >= r.To || r.To > c.Next {
			h.t.Errorf("cursor of %s is malformed: %+v", uid, c)
			return
		}
		last = r.To
	}
	if len(c.Done) > 256 {
		h.t.Errorf("cursor of %s has %d ranges", uid, len(c.Done))
	}
	if c.Next > h.end() {
		h.t.Errorf("cursor of %s is beyond the end: %+v", uid, c)
	}
}

func (s *store) DeadLetters(_ context.Context, uid string, from uint64, limit int) ([]channel.DeadLetter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []channel.DeadLetter
	for _, l := range s.letters {
		if l.UID == uid {
			out = append(out, l)
		}
	}
	out = out[min(from, uint64(len(out))):]
	return out[:min(limit, len(out))], nil
}

func (s *store) OffsetAt(context.Context, time.Time) (uint64, error) { return 0, nil }

// Helpers for tests.

func (s *store) committed() []channel.Commit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.commits)
}

func (s *store) kinds(uid string) []channel.OutcomeKind {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []channel.OutcomeKind
	for _, o := range s.outcomes {
		if o.UID == uid {
			out = append(out, o.Kind)
		}
	}
	return out
}

func (s *store) kept() []channel.DeadLetter {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.letters)
}

// await waits until cond holds, which is asked after each change.
func (s *store) await(what string, cond func() bool) {
	s.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		s.mu.Lock()
		changed := s.changed
		ok := cond()
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			s.t.Fatalf("after 20 s still not: %s", what)
		}
	}
}

// publish appends events of a type, with ids counting up from the end.
func (s *store) publish(typ string, n int, edit ...func(i int, e *event.Event)) {
	s.mu.Lock()
	at := s.end()
	s.mu.Unlock()
	events := make([]*event.Event, n)
	for i := range events {
		events[i] = &event.Event{ID: fmt.Sprint(at + uint64(i)), Source: "/test", Type: typ, Data: []byte(`{}`)}
		for _, f := range edit {
			f(i, events[i])
		}
	}
	_ = s.Append(s.t.Context(), events)
}

// key gives event i the partition key "k<i mod n>".
func keyed(n int) func(int, *event.Event) {
	return func(i int, e *event.Event) {
		e.SetExtension("partitionkey", event.Value{Str: fmt.Sprintf("k%d", i%n)})
	}
}

func withData(n int) func(int, *event.Event) {
	return func(_ int, e *event.Event) { e.Data = make([]byte, n) }
}

// byType is a subscription for events of a type; "" for all.
func byType(uid, typ string) channel.Subscription {
	sub := channel.Subscription{UID: uid, Engine: filter.Engine, Start: channel.Start{At: "end"}}
	if typ != "" {
		sub.Filter = filter.Spec{Attributes: map[string]string{"type": typ}}.Canonical()
	}
	return sub
}

func (s *store) subscribe(subs ...channel.Subscription) {
	s.mu.Lock()
	v := s.version + 1
	s.mu.Unlock()
	_ = s.SetSubscriptions(s.t.Context(), v, subs)
}
