//go:build linux

package http1

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A loop serves many connections from one goroutine: it reads of all of them
// what has come, has the requests begun (Async), and then all of them on their
// way at once. Answers are written by whoever learns that they are known, many
// in a row: mostly the loop's goroutine, which makes what it has begun durable
// itself (Async.Flush), so that no goroutine is woken for a request. A connection
// that has rested for a while has neither stack nor buffer.
//
// Where a disk keeps the loop's goroutine for long, another one takes the loop
// over (heir), so that other connections are still served, and be it with the news
// that the disk stalls.
//
// A connection comes to a loop when its latest requests have come whole with one
// read, and leaves it, for a goroutine of its own, when one does not, or is not
// plain, or not for Async, or when the peer does not take its answer: whatever
// has to be waited for. Meanwhile its descriptor is not Go's poller's (see looped).
//
// Whose turn it is, the connection's state says. It is active from the event
// that claims it (which only the loop does, under mu) until its answer is
// written; what comes meanwhile makes it again, and whoever ends the turn then
// queues it for the next one.
type loop struct {
	s     *Server
	async Async

	// epoll is told of the connections' events. It is waited for directly, or by Go's
	// poller, for which it is in another one, poll, that tells of it while it is asked
	// to (see next).
	epoll  int
	direct bool
	poll   *os.File
	wait   syscall.RawConn
	// kept is since when the loop has kept its processor.
	kept   time.Time
	events []unix.EpollEvent
	ready  int     // events
	turns  []*conn // whose they are
	// sweepAt is when sweep is due: the deadline of poll.
	sweepAt time.Time
	// wake is an eventfd, written when queue is not empty any more.
	wake *os.File

	heir heir

	mu    sync.Mutex
	conns []*conn // by descriptor
	queue []*conn
}

// mostPasses is how often a loop looks for more before what it has begun goes on its
// way: those who were answered last send again while it reads what the first of them
// have sent, and what comes along saves a sync.
const mostPasses = 4

// moment is how long a loop waits by itself for what comes next, in ms.
const moment = 1

// yieldEvery is how long a loop keeps the processor before others have it for once.
// Who is woken by what has been committed is runnable on that processor, and the loop
// never waits while more comes. The scheduler takes it away after 10 ms only, and until
// then nobody else comes to help where the others collect garbage.
const yieldEvery = time.Millisecond

// sweeps is how often, within the time that a connection may rest, it is looked
// which have done so for too long.
const sweeps = 8

// mostEvents are taken with one call.
const mostEvents = 256

// loops are a server's, made when the first connection is for one.
type loops struct {
	all  []*loop
	none bool // they cannot be had
	next int
}

// stop ends the loops, once no connection is left.
func (l *loops) stop() {
	for _, one := range l.all {
		_ = one.poll.Close() // its goroutine sees that
	}
}

// aLoop is the loop for the next connection; nil where there is none.
func (s *Server) aLoop() *loop {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.loops
	if len(l.all) == 0 && !l.none {
		for range max(1, runtime.GOMAXPROCS(0)/2) { // answers are written by others
			one, err := newLoop(s)
			if err != nil {
				s.o.Logger.Warn("each connection is served by a goroutine of its own", "error", err)
				l.none = true
				break
			}
			one.heir.takeOver = one.run
			l.all = append(l.all, one)
			go one.run() // until stop
		}
	}
	if len(l.all) == 0 {
		return nil
	}
	l.next++
	return l.all[l.next%len(l.all)]
}

func newLoop(s *Server) (*loop, error) {
	l := &loop{s: s, async: s.o.Async(), epoll: -1, direct: runtime.GOMAXPROCS(0) > 1, events: make([]unix.EpollEvent, mostEvents)}
	if err := l.open(); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// open makes what the loop waits with; close is for what there is of it after an error.
func (l *loop) open() (err error) {
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	// Only a descriptor that does not block is Go's poller's.
	if err := unix.SetNonblock(poll, true); err != nil {
		return errors.Join(os.NewSyscallError("fcntl", err), unix.Close(poll))
	}
	l.poll = os.NewFile(uintptr(poll), "epoll")
	if l.wait, err = l.poll.SyscallConn(); err != nil {
		return err
	}
	if err := l.sweepLater(); err != nil {
		return err
	}
	if err := control(poll, unix.EPOLL_CTL_ADD, l.epoll, unix.EPOLLIN); err != nil {
		return err
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	l.wake = os.NewFile(uintptr(wake), "eventfd")
	return l.watch(wake, unix.EPOLLIN)
}

// close gives back what the loop has; nobody uses it any more.
func (l *loop) close() error {
	var errs []error
	for _, f := range []*os.File{l.wake, l.poll} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	if l.epoll >= 0 {
		errs = append(errs, unix.Close(l.epoll))
	}
	return errors.Join(errs...)
}

// watch asks to be told once of each change of a descriptor.
func (l *loop) watch(fd int, events uint32) error {
	return control(l.epoll, unix.EPOLL_CTL_ADD, fd, events|unix.EPOLLET)
}

func control(epoll, op, fd int, events uint32) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(epoll, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}))
}

// next waits for events: for a moment by itself, as those who have just been answered
// are likely to ask again, and then by Go's poller, which has two threads woken for
// the first of them. A loop that waits by itself keeps one of the processors that Go
// schedules for, until the scheduler notices, so it must not be the only one. That a
// sweep is due only Go's poller says, which is asked then, however much comes; now is
// when the latest events came.
func (l *loop) next(now time.Time) error {
	looked := func(uintptr) bool { return l.look(0) }
	if !l.direct {
		return l.wait.Read(looked)
	}
	if now.Before(l.sweepAt) && l.look(moment) {
		return nil
	}
	if err := l.tell(unix.EPOLLIN); err != nil {
		return err
	}
	err := l.wait.Read(looked)
	l.kept = time.Now() // others have had the processor
	return errors.Join(err, l.tell(0))
}

// tell has Go's poller told of these events of epoll from now on, also of those that
// have come before.
func (l *loop) tell(events uint32) (result error) {
	err := l.wait.Control(func(poll uintptr) { result = control(int(poll), unix.EPOLL_CTL_MOD, l.epoll, events) })
	return errors.Join(err, result)
}

// look takes the events that there are, or come within so many ms.
func (l *loop) look(within int) bool {
	n, _ := unix.EpollWait(l.epoll, l.events, within) // it fails when a signal comes
	l.ready = max(n, 0)
	return n > 0
}

// run serves the loop's connections until it is stopped, or another goroutine does.
func (l *loop) run() {
	for now := time.Now(); ; {
		switch err := l.next(now); {
		case errors.Is(err, os.ErrDeadlineExceeded):
			l.sweep()
			if l.sweepLater() == nil {
				continue
			}
			fallthrough // it is closed
		case err != nil:
			l.heir.end()
			_ = l.close() // nobody is left who could be told
			return
		}
		now = time.Now()
		l.serve(now)
		for more := mostPasses; more > 0 && l.look(0); more-- {
			l.serve(now)
		}
		if wait := l.async.Flush(); wait != nil && !l.heir.wait(wait) {
			return
		}
		if now.Sub(l.kept) >= yieldEvery {
			l.kept = now
			runtime.Gosched()
		}
	}
}

// serve begins what the events tell of, and what is queued.
func (l *loop) serve(now time.Time) {
	turns := l.claimed()
	for _, c := range turns {
		c.turn(now)
	}
	clear(turns) // nothing is kept of those that end
	for _, c := range l.queued() {
		c.turn(now)
	}
}

// claimed gives the connections that the events are of, as far as they rest.
func (l *loop) claimed() []*conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turns = l.turns[:0]
	for i := range l.events[:l.ready] {
		if c := l.claim(&l.events[i]); c != nil {
			l.turns = append(l.turns, c)
		}
	}
	return l.turns
}

// claim is that of one event; mu is held.
func (l *loop) claim(e *unix.EpollEvent) *conn {
	if int(e.Fd) >= len(l.conns) {
		return nil
	}
	c := l.conns[e.Fd]
	if c == nil {
		return nil
	}
	if e.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.ended.Store(true)
	}
	for {
		switch {
		case c.state.CompareAndSwap(idle, active):
			return c
		case c.state.CompareAndSwap(active, again), c.state.Load() == again, c.state.Load() == closed:
			return nil
		}
	}
}

// end claims a connection for good, where it rests here.
func (l *loop) end(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conns[c.fd] == c && c.state.CompareAndSwap(idle, closed)
}

// queued takes the connections that have their turn without an event.
func (l *loop) queued() []*conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queue
	if l.queue = nil; len(q) > 0 {
		var count [8]byte
		_, _ = l.wake.Read(count[:]) // enqueue has written one, so it does not wait
	}
	return q
}

// enqueue gives a connection, which is active, its next turn.
func (l *loop) enqueue(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, c)
	if len(l.queue) == 1 {
		_, _ = l.wake.Write([]byte{1, 0, 0, 0, 0, 0, 0, 0}) // an eventfd takes it
	}
}

// sweep ends the connections that have rested for too long, and takes from those
// that have rested since the last one what they need for a request only.
func (l *loop) sweep() {
	now := time.Now()
	before, since := now.Add(-l.s.o.IdleTimeout).UnixNano(), now.Add(-l.s.o.IdleTimeout/sweeps).UnixNano()
	var late, resting []*conn
	l.mu.Lock()
	for _, c := range l.conns {
		if c == nil {
			continue
		}
		switch at := c.rested.Load(); {
		case at < before && c.state.CompareAndSwap(idle, closed):
			late = append(late, c)
		case at < since && c.state.CompareAndSwap(idle, active):
			resting = append(resting, c)
		}
	}
	l.mu.Unlock()
	for _, c := range late {
		c.drop()
	}
	for _, c := range resting {
		if c.scratch != nil {
			c.s.keep(c.scratch)
			c.scratch = nil
		}
		c.rest(time.Unix(0, c.rested.Load()))
	}
}

// sweepLater has the next sweep due in time.
func (l *loop) sweepLater() error {
	l.sweepAt = time.Now().Add(l.s.o.IdleTimeout / sweeps)
	return l.poll.SetReadDeadline(l.sweepAt)
}

// add has a loop told of a connection's events from now on.
func (l *loop) add(c *conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.watch(int(c.fd), unix.EPOLLIN|unix.EPOLLRDHUP); err != nil {
		return err
	}
	c.loop = l
	if more := int(c.fd) + 1 - len(l.conns); more > 0 {
		l.conns = append(l.conns, make([]*conn, more)...)
	}
	l.conns[c.fd] = c
	return nil
}

// remove has it told no more. The connection is active, or closed.
func (l *loop) remove(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c.fd] = nil
	c.loop = nil
	if c.state.Load() == again {
		c.state.Store(active)
	}
	_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, int(c.fd), nil) // it is there
}
