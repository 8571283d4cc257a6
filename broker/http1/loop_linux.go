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
// in a row. No goroutine is woken for a request, and a connection that has rested
// for a while has neither stack nor buffer.
//
// A connection comes to a loop when its latest requests have come whole with one
// read, and leaves it, for a goroutine of its own, when one does not, or is not
// plain, or not for Async, or when the peer does not take its answer: whatever
// has to be waited for. It stays registered with Go's poller, as what is
// read and written here goes by its descriptor, without waiting; so to leave is
// no more than to start the goroutine.
//
// Whose turn it is, the connection's state says. It is active from the event
// that claims it (which only the loop does, under mu) until its answer is
// written; what comes meanwhile makes it again, and whoever ends the turn then
// queues it for the next one.
type loop struct {
	s     *Server
	async Async

	// poll is the epoll's file: to wait for it is Go's poller's.
	poll   *os.File
	wait   syscall.RawConn
	events []unix.EpollEvent
	ready  int     // events
	turns  []*conn // whose they are
	// wake is an eventfd, written when queue is not empty any more.
	wake *os.File

	mu    sync.Mutex
	conns []*conn // by descriptor
	queue []*conn
}

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

func newLoop(s *Server) (l *loop, err error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// Only a descriptor that does not block is Go's poller's.
	if err := unix.SetNonblock(epoll, true); err != nil {
		return nil, errors.Join(os.NewSyscallError("fcntl", err), unix.Close(epoll))
	}
	l = &loop{s: s, async: s.o.Async(), poll: os.NewFile(uintptr(epoll), "epoll"), events: make([]unix.EpollEvent, mostEvents)}
	if l.wait, err = l.poll.SyscallConn(); err == nil {
		err = l.poll.SetReadDeadline(time.Now().Add(s.o.IdleTimeout / sweeps))
	}
	if err != nil {
		return nil, errors.Join(err, l.poll.Close())
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("eventfd", err), l.poll.Close())
	}
	l.wake = os.NewFile(uintptr(wake), "eventfd")
	if err := l.watch(wake, unix.EPOLLIN); err != nil {
		return nil, errors.Join(err, l.wake.Close(), l.poll.Close())
	}
	return l, nil
}

// watch asks to be told once of each change of a descriptor.
func (l *loop) watch(fd int, events uint32) (result error) {
	err := l.wait.Control(func(epoll uintptr) {
		result = os.NewSyscallError("epoll_ctl", unix.EpollCtl(int(epoll), unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events | unix.EPOLLET, Fd: int32(fd)}))
	})
	return errors.Join(err, result)
}

// run serves the loop's connections until it is stopped.
func (l *loop) run() {
	defer l.wake.Close() // nobody is left to write to it
	look := func(epoll uintptr) bool {
		n, err := unix.EpollWait(int(epoll), l.events, 0)
		l.ready = max(n, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	}
	for {
		switch err := l.wait.Read(look); {
		case errors.Is(err, os.ErrDeadlineExceeded):
			l.sweep()
			if l.poll.SetReadDeadline(time.Now().Add(l.s.o.IdleTimeout/sweeps)) != nil {
				return // it is closed
			}
			continue
		case err != nil:
			return
		}
		now := time.Now()
		turns := l.claimed()
		for _, c := range turns {
			c.turn(now)
		}
		clear(turns) // nothing is kept of those that end
		for _, c := range l.queued() {
			c.turn(now)
		}
		l.async.Flush()
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

// add has a loop told of a connection's events from now on.
func (l *loop) add(c *conn) (ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := c.raw.Control(func(fd uintptr) {
		if err := l.watch(int(fd), unix.EPOLLIN|unix.EPOLLRDHUP); err != nil {
			l.s.o.Logger.Warn("a connection cannot be watched", "error", err)
			return
		}
		c.loop, ok = l, true
		if more := int(c.fd) + 1 - len(l.conns); more > 0 {
			l.conns = append(l.conns, make([]*conn, more)...)
		}
		l.conns[c.fd] = c
	})
	return ok && err == nil
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
	// Where the connection is closed already, so is what this would undo.
	_ = c.raw.Control(func(fd uintptr) {
		_ = l.wait.Control(func(epoll uintptr) { _ = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_DEL, int(fd), nil) })
	})
}
