package dispatcher

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/leat-dev/leat/channel"
)

// committer makes a partition's cursors, outcomes and dead letters durable,
// one commit at a time.
type committer struct {
	r *runner
	// scan is the committed position of the scan; lazy: a timer runs for it.
	scan atomic.Uint64
	lazy atomic.Bool

	// due: a commit within the interval is on its way. Whoever changes something
	// then need not wake the goroutine: what it has listed before goes along.
	due              atomic.Bool
	soon, now, later chan struct{}
	quit             chan struct{}
	ended            chan struct{}

	// pending is a batch whose commit has not succeeded. It is the goroutine's
	// that runs, and finish's after that.
	pending *batch
	// parked have nothing open, and got a position of their own for want of
	// room; they follow the scan again by a commit that moves it. It is
	// guarded by runner.scanMu.
	parked []*sub

	mu  sync.Mutex
	err error // of the last attempt
}

// batch is one commit and whom it concerns.
type batch struct {
	commit channel.Commit
	size   int
	subs   []*sub
	empty  []*sub // have nothing open, and follow the scan
	// partial: not all that was listed fitted. more: another one has to follow.
	partial, more bool
}

func (c *committer) init(r *runner) {
	c.r = r
	c.soon, c.now, c.later = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	c.quit, c.ended = make(chan struct{}), make(chan struct{})
}

// wantCommit asks for a commit: at once, or within the interval.
func (r *runner) wantCommit(now bool) {
	c := &r.commits
	switch {
	case now:
		signal(c.now)
	case !c.due.Load() && !c.due.Swap(true):
		signal(c.soon)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is waiting to be seen already
	}
}

// scanned notes that the scan has come to pos. A position alone is stored
// seldom: to look at the same events again costs little.
func (c *committer) scanned(pos uint64) {
	if pos-c.scan.Load() >= uint64(c.r.d.o.ScanEvents) {
		signal(c.now)
	} else if !c.lazy.Load() {
		c.lazy.Store(true)
		signal(c.later)
	}
}

// run commits until finish is called.
func (c *committer) run() {
	defer close(c.ended)
	var soon, lazy <-chan time.Time
	for {
		select {
		case <-c.soon:
			if soon == nil {
				soon = time.After(c.r.d.o.CommitInterval)
			}
			continue
		case <-c.later:
			if lazy == nil {
				lazy = time.After(c.r.d.o.ScanInterval)
			}
			continue
		case <-c.now:
		case <-soon:
		case <-lazy:
		case <-c.quit:
			return
		}
		soon, lazy = nil, nil
		c.lazy.Store(false)
		c.due.Store(false) // before it is looked what is listed
		if err := c.flush(c.r.ctx, c.quit); errors.Is(err, channel.ErrNotFound) {
			<-c.quit // the channel was dropped: there is nothing to write to
			return
		}
	}
}

// finish ends run and commits what is left. ctx bounds it, but even when ctx
// has ended one attempt is made.
func (c *committer) finish(ctx context.Context) error {
	close(c.quit)
	select {
	case <-c.ended:
	case <-ctx.Done():
		c.r.cancel()
		<-c.ended
	}
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), c.r.d.o.CloseGrace)
		defer cancel()
	}
	err := c.flush(ctx, nil)
	if errors.Is(err, channel.ErrNotFound) {
		return nil
	}
	return err
}

// flush commits until nothing is listed. A commit that fails is tried again,
// as it is, until quit or the end of ctx.
func (c *committer) flush(ctx context.Context, quit <-chan struct{}) error {
	for {
		if c.pending == nil {
			c.pending = c.build()
		}
		if err := c.commit(ctx, quit, &c.pending.commit); err != nil {
			return err
		}
		more := c.pending.more
		c.settled(c.pending)
		c.pending = nil
		if !more {
			return nil
		}
	}
}

func (c *committer) commit(ctx context.Context, quit <-chan struct{}, m *channel.Commit) error {
	if m.Scan == 0 && len(m.Cursors) == 0 && len(m.Outcomes) == 0 && len(m.DeadLetters) == 0 {
		return nil
	}
	for wait := c.r.d.o.CommitInterval; ; wait = min(2*wait, c.r.d.o.CommitMaxBackoff) {
		began := time.Now()
		err := c.r.p.Commit(ctx, *m)
		if h := c.r.d.o.Hooks.Commit; h != nil {
			h(c.r.p.Channel(), c.r.p.Number(), time.Since(began), err)
		}
		c.note(err)
		if err == nil || ctx.Err() != nil || errors.Is(err, channel.ErrNotFound) {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-quit:
			timer.Stop()
			return err
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// note keeps the error for the status and logs the first of a row.
func (c *committer) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && c.err == nil && c.r.ctx.Err() == nil {
		c.r.d.o.Logger.Error("cursors cannot be made durable; windows fill up until they are",
			"channel", c.r.p.Channel(), "partition", c.r.p.Number(), "error", err)
	}
	c.err = err
}

func (c *committer) lastError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// build gathers what is listed. Only a commit with all of it moves the scan's
// position: the cursor of whoever has something open below has to be stored
// by then.
func (c *committer) build() *batch {
	r := c.r
	b := &batch{commit: channel.Commit{Cursors: make(map[string]channel.Cursor)}}
	r.scanMu.Lock()
	defer r.scanMu.Unlock()
	r.dirtyMu.Lock()
	dirty := r.dirty
	r.dirty = nil
	r.dirtyMu.Unlock()
	b.commit.TermsVersion = r.version
	for i, s := range dirty {
		if b.size >= r.d.o.CommitBytes {
			r.dirtyMu.Lock()
			r.dirty = append(r.dirty, dirty[i:]...)
			r.dirtyMu.Unlock()
			b.partial = true
			break
		}
		s.contribute(b, r.pos)
	}
	for _, s := range b.empty {
		s.contributeEmpty(b, r.pos)
	}
	if b.partial {
		b.more = true
		return b
	}
	if r.pos != c.scan.Load() {
		b.commit.Scan = r.pos
	}
	for len(c.parked) > 0 && b.size < r.d.o.CommitBytes {
		c.parked[0].unpark(b, r.pos)
		c.parked = c.parked[1:]
	}
	b.more = len(c.parked) > 0
	if !b.more {
		c.parked = nil
	}
	return b
}

// contribute adds a subscription's dead letters, outcomes and cursor.
// r.scanMu is held.
func (s *sub) contribute(b *batch, scan uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listed = false
	if s.dead {
		return
	}
	limit := s.r.d.o.CommitBytes
	s.recordFilterErrors()
	for len(s.outcomes) > 0 && b.size < limit {
		b.outcome(s.outcomes[0])
		s.outcomes = s.outcomes[1:]
	}
	if len(s.outcomes) > 0 { // the cursor must not overtake them
		b.partial = true
		s.list()
		return
	}
	s.outcomes = nil
	for len(s.settling) > 0 {
		st := s.settling[0]
		if b.size > 0 && b.size+st.bytes > limit {
			b.partial = true
			s.list()
			break
		}
		b.commit.DeadLetters = append(b.commit.DeadLetters, st.letters...)
		for _, o := range st.outcomes {
			b.outcome(o)
		}
		b.size += st.bytes
		s.settling = s.settling[1:]
		st.it.drop()
		s.close(st.it, true)
	}
	if len(s.settling) == 0 {
		s.settling = nil
	}
	s.covering = s.acked
	s.heldTaken = append(s.heldTaken, s.held...)
	s.held = nil
	b.subs = append(b.subs, s)
	b.size += 64 + len(s.uid)
	next := s.next
	if !s.behind {
		next = max(next, scan)
	}
	s.trimSkip(next)
	if s.w.n == 0 && !s.behind && len(s.skip) == 0 && next == scan {
		b.empty = append(b.empty, s)
		return
	}
	cur := s.w.cursor(next, s.skip)
	cur.Detached = s.behind
	b.size += 16 * len(cur.Done)
	b.commit.Cursors[s.uid] = cur
	s.committed = true
}

// letterSize is about what a dead letter takes in a commit, in bytes.
func letterSize(l *channel.DeadLetter) int {
	n := 256 + len(l.UID) + len(l.Reason) + len(l.Answer) + len(l.Event.Data)
	for _, x := range l.Event.Extensions {
		n += len(x.Name) + len(x.Value.Str) + 8
	}
	for _, h := range l.Event.PassThrough {
		n += len(h.Name) + len(h.Value) + 8
	}
	return n
}

// contributeEmpty says of a subscription with nothing open that it follows
// the scan; where this commit does not move that, it gets a position for now.
func (s *sub) contributeEmpty(b *batch, scan uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case b.partial:
		b.commit.Cursors[s.uid] = channel.Cursor{Low: scan, Next: scan, Detached: true}
		s.committed = true
		if !s.parked {
			s.parked = true
			s.r.commits.parked = append(s.r.commits.parked, s)
		}
	case s.committed:
		s.follow(b, scan)
	}
}

// unpark lets a subscription follow the scan again. One that has something
// open by now, or waits for a commit of its own, keeps its position: its next
// commit says more.
func (s *sub) unpark(b *batch, scan uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parked = false
	if s.committed && !s.dead && !s.listed && !s.behind && s.w.n == 0 && len(s.skip) == 0 {
		b.size += 64 + len(s.uid)
		s.follow(b, scan)
	}
}

// follow makes the stored position that of the scan, which is committed by the
// same commit. s.mu is held.
func (s *sub) follow(b *batch, scan uint64) {
	b.commit.Cursors[s.uid] = channel.Cursor{Low: scan, Next: scan}
	s.committed = false
}

func (b *batch) outcome(o channel.Outcome) {
	b.commit.Outcomes = append(b.commit.Outcomes, o)
	b.size += 64 + len(o.UID) + len(o.Reason)
}

// settled frees the places of what is durable now.
func (c *committer) settled(b *batch) {
	if b.commit.Scan != 0 {
		c.scan.Store(b.commit.Scan)
	}
	for _, s := range b.subs {
		s.mu.Lock()
		s.acked -= s.covering
		s.slots -= s.covering
		s.covering = 0
		held := s.heldTaken
		s.heldTaken = nil
		for _, k := range held {
			s.release(k)
		}
		s.kick()
		s.mu.Unlock()
	}
}

// filterFailed counts an event that the filter failed on; it does not match.
func (s *sub) filterFailed(offset uint64, err error) {
	if h := s.r.d.o.Hooks.FilterError; h != nil {
		h(s.uid, s.target.get())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &s.errors
	if e.n == 0 {
		e.first = offset
	}
	if e.n < math.MaxUint32 {
		e.n++
	}
	e.last, e.reason = max(e.last, offset), err.Error()
	if s.errorsDue() {
		s.list()
		s.r.wantCommit(false)
	}
}

func (s *sub) errorsDue() bool {
	return s.errors.n > 0 && time.Since(s.errors.recorded) >= s.r.d.o.FilterErrorInterval
}

// recordFilterErrors makes one outcome of the failures since the last one.
func (s *sub) recordFilterErrors() {
	if !s.errorsDue() {
		return
	}
	e := s.errors
	s.outcomes = append(s.outcomes, channel.Outcome{
		UID: s.uid, Kind: channel.FilterError, Offset: min(e.first, e.last), Count: e.n,
		Span: uint32(min(max(e.first, e.last)-min(e.first, e.last)+1, math.MaxUint32)), Reason: clip(e.reason, maxReason),
	})
	s.errors = filterErrors{recorded: time.Now()}
}
