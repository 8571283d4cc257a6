package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/filter"
)

// scanSlice is how many events the scan looks at before others may have the
// lock.
const scanSlice = 32

// runner delivers one partition: one goroutine scans, one commits, and the
// dispatcher's pool does the rest.
type runner struct {
	d *Dispatcher
	p channel.Partition

	// ctx ends requests and everything else; scanCtx only what looks for more
	// to deliver.
	ctx, scanCtx       context.Context
	cancel, cancelScan context.CancelFunc
	// lender is p, where it lends events.
	lender channel.Lender
	// work counts deliveries and pumps.
	work  *gate
	loops sync.WaitGroup

	// horizon: the terms of all events below are known.
	horizon atomic.Uint64

	scanMu   sync.Mutex
	pos      uint64 // the scan has looked at everything below
	subs     map[string]*sub
	byID     []*sub
	freeIDs  []uint32
	matcher  *filter.Matcher
	view     *filter.View // the scan's
	loan     channel.Loan // the scan's
	matched  []uint32
	borders  borders
	attached int // subscriptions that the scan has something to offer to
	behind   map[*sub]struct{}
	version  uint64
	round    uint64
	readErr  error // why the scan could not read on, until it can

	dirtyMu sync.Mutex
	dirty   []*sub
	commits committer
}

func newRunner(d *Dispatcher, p channel.Partition) *runner {
	r := &runner{
		d: d, p: p,
		work:    newGate(),
		subs:    make(map[string]*sub),
		matcher: filter.NewMatcher(),
		view:    d.o.Filter.NewView(nil),
	}
	r.lender, _ = p.(channel.Lender)
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.scanCtx, r.cancelScan = context.WithCancel(r.ctx)
	r.commits.init(r)
	return r
}

func (r *runner) start() {
	r.scanMu.Lock()
	r.load()
	r.scanMu.Unlock()
	r.eachSub((*sub).nudge)
	r.loops.Add(2)
	go func() {
		defer r.loops.Done()
		r.scan()
	}()
	go func() {
		defer r.loops.Done()
		r.commits.run()
	}()
}

// scan is the loop that all attached subscriptions share.
func (r *runner) scan() {
	for r.scanCtx.Err() == nil {
		err := r.scanOnce()
		switch {
		case err == nil:
		case r.scanCtx.Err() != nil:
			return
		case errors.Is(err, channel.ErrNotFound):
			return // the channel was dropped; whoever did that detaches it here
		default:
			r.unreadable(err)
		}
	}
}

// scanOnce looks at the next events, or waits until there are some.
func (r *runner) scanOnce() error {
	// The end is read before the terms: every term that begins below it is
	// known then.
	_, end := r.p.Bounds()
	r.scanMu.Lock()
	r.refresh()
	pos, idle, version := r.pos, r.attached == 0, r.version
	if idle && pos < end {
		// Nobody to offer anything to before the next border.
		if to := r.borders.before(end); to > pos {
			r.moveTo(to)
			r.scanMu.Unlock()
			r.commits.scanned(to)
			return nil
		}
	}
	alone := len(r.subs) == 0
	r.scanMu.Unlock()
	if pos >= end {
		if alone {
			pos += uint64(r.d.o.ScanEvents) // one event that is for nobody wakes nobody
		}
		return r.p.Wait(r.scanCtx, pos, version)
	}
	err := r.read(pos, r.d.o.ReadEvents, &r.loan)
	defer r.loan.Return()
	if errors.Is(err, channel.ErrExpired) {
		floor, _ := r.p.Bounds()
		if floor <= pos {
			return fmt.Errorf("read offset %d, which is not below the floor %d: %w", pos, floor, err)
		}
		r.scanMu.Lock()
		r.moveTo(floor)
		r.scanMu.Unlock()
		return nil
	}
	if passed := (*channel.PassedError)(nil); errors.As(err, &passed) {
		r.pass(min(passed.Range.To, end))
		return nil
	}
	if err != nil {
		return err
	}
	if len(r.loan.Events) == 0 {
		return r.p.Wait(r.scanCtx, pos, version)
	}
	r.offerAll(r.loan.Events)
	return nil
}

// read reads events to look at them: who wants one for longer takes a hold on it.
func (r *runner) read(pos uint64, most int, l *channel.Loan) (err error) {
	if r.lender != nil {
		return r.lender.Lend(r.scanCtx, pos, most, r.d.o.ReadBytes, l)
	}
	l.Events, err = r.p.Read(r.scanCtx, pos, most, r.d.o.ReadBytes)
	return err
}

// pass goes on behind damage that was passed by command. The terms of events
// below to are known.
func (r *runner) pass(to uint64) {
	r.scanMu.Lock()
	r.moveTo(to)
	r.readErr = nil
	r.scanMu.Unlock()
	r.commits.scanned(to)
}

// offerAll matches events and offers them. Terms that began by then are
// looked up after the events were read, so that none is missed.
func (r *runner) offerAll(stored []channel.Stored) {
	for len(stored) > 0 && r.scanCtx.Err() == nil {
		n := min(len(stored), scanSlice)
		r.scanMu.Lock()
		r.refresh()
		r.readErr = nil
		for i := range stored[:n] {
			r.moveTo(stored[i].Offset)
			r.offer(&stored[i])
			r.pos++
		}
		r.moveTo(r.pos)
		r.view.Reset(nil) // so that an idle scan keeps no event in memory
		pos := r.pos
		r.scanMu.Unlock()
		r.commits.scanned(pos)
		stored = stored[n:]
	}
}

// offer hands one event to those attached subscriptions that it matches.
func (r *runner) offer(st *channel.Stored) {
	if r.attached == 0 {
		return
	}
	if r.d.o.Spans != nil {
		began := time.Now()
		defer func() { r.traceMatch(st, began) }()
	}
	r.matched = r.match(st, r.matched[:0])
	for _, id := range r.matched {
		s := r.byID[id]
		if s == nil || s.joined == nil {
			continue
		}
		if s.offer(st, s.joined) {
			r.matcher.Remove(id)
			s.absent = true
		}
	}
}

// match asks the matcher. Should a filter panic, each one is asked by itself,
// so that only the faulty one does not match.
func (r *runner) match(st *channel.Stored, dst []uint32) (ids []uint32) {
	defer func() {
		if p := recover(); p != nil {
			r.view = r.d.o.Filter.NewView(nil) // whatever state that is in
			ids = r.matchEach(st, dst[:0])
		}
	}()
	r.view.Reset(st.Event)
	return r.matcher.Match(r.view, dst, func(id uint32, err error) {
		if s := r.byID[id]; s != nil {
			s.filterFailed(st.Offset, err)
		}
	})
}

func (r *runner) matchEach(st *channel.Stored, dst []uint32) []uint32 {
	for id, s := range r.byID {
		if s == nil || s.joined == nil || s.absent {
			continue
		}
		ok, err := matchOne(s.joined.filter, r.d.o.Filter.NewView(st.Event))
		if err != nil {
			s.filterFailed(st.Offset, err)
		}
		if ok {
			dst = append(dst, uint32(id))
		}
	}
	return dst
}

// matchOne asks one filter; a panic is an error of that filter.
func matchOne(f *filter.Filter, v *filter.View) (ok bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			ok, err = false, fmt.Errorf("the filter panicked: %v", p)
		}
	}()
	return f.Match(v)
}

// moveTo moves the position up to at, and with it the borders of terms that
// lie at or below it. scanMu is held.
func (r *runner) moveTo(at uint64) {
	r.pos = max(r.pos, at)
	for len(r.borders) > 0 && r.borders[0].at <= r.pos {
		s := r.borders.take().s
		if r.subs[s.uid] == s {
			r.place(s)
		}
	}
	if r.horizon.Load() < r.pos {
		r.horizon.Store(r.pos)
	}
}

// unreadable deals with a log that cannot be read at the scan's position.
// Where it is damaged, all that are attached are left there, each at that
// position until a command passes the damage, and the scan goes on beyond for
// those that begin later. Anything else is tried again.
func (r *runner) unreadable(err error) {
	r.scanMu.Lock()
	pos := r.pos
	damaged := reasonOf(err) == ReasonDamaged
	if damaged {
		for _, s := range r.subs {
			if s.joined != nil {
				s.leaveBehind(pos)
			}
		}
	}
	r.readErr = err
	r.scanMu.Unlock()
	r.d.o.Logger.Error("a partition cannot be read; its subscriptions wait there",
		"channel", r.p.Channel(), "partition", r.p.Number(), "offset", pos, "error", err)
	if damaged {
		return
	}
	timer := time.NewTimer(r.d.o.ReadRetry)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.scanCtx.Done():
	}
}

// close stops looking for more, waits for what is out until ctx ends, and
// commits what it came to.
func (r *runner) close(ctx context.Context) error {
	r.cancelScan()
	empty := r.work.close()
	r.letGo()
	r.eachSub(func(s *sub) {
		s.mu.Lock()
		if s.timer != nil {
			s.timer.Stop()
		}
		s.mu.Unlock()
	})
	select {
	case <-empty:
	case <-ctx.Done():
		r.cancel()
		<-empty
	}
	err := r.commits.finish(ctx)
	r.cancel()
	r.loops.Wait()
	r.eachSub(func(s *sub) {
		s.drop()
		s.target.leave(s)
	})
	return err
}

// has says whether an item is of this partition.
func (r *runner) has(it *item) bool { return it.sub.r == r }

// letGo lets go what waits for its turn.
func (r *runner) letGo() {
	for _, it := range r.d.pacer.drop(r) {
		it.sub.abort(it)
		r.work.leave()
	}
	for _, it := range r.d.lanes.drop(r) {
		late := it.late
		it.sub.abort(it)
		r.work.leave()
		if late {
			r.d.passOn()
		}
	}
}

func (r *runner) eachSub(f func(*sub)) {
	r.scanMu.Lock()
	subs := make([]*sub, 0, len(r.subs))
	for _, s := range r.subs {
		subs = append(subs, s)
	}
	r.scanMu.Unlock()
	for _, s := range subs {
		f(s)
	}
}
