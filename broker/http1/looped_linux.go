package http1

import (
	"errors"
	"math"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// looped is what a connection needs in a loop.
//
// There its descriptor is read and written as it is: to ask the connection for it
// each time would cost more than all else that is done besides. It is a duplicate,
// and the connection that it was taken from is closed: that is registered with Go's
// poller, which would have a thread woken for whatever comes. Whoever gives it back
// must be who has claimed the connection (see loop), or nobody might, and holds the
// server's lock, as whoever cuts it off does.
type looped struct {
	// loop is the one that it is in. It changes while the connection is active.
	loop *loop
	// rested is when it began to rest, in ns since the Unix epoch.
	rested atomic.Int64
	// fd is its own descriptor; owned: it has one. The server's lock is held where
	// that changes.
	fd    int32
	owned bool
	// begun: a request is, and neither is it being answered nor the connection
	// dropped for it.
	begun atomic.Bool
	// ended: no more will come than is there.
	ended   atomic.Bool
	dropped atomic.Bool
	// more: more may be there to be read than an event will tell of.
	more bool
	// expects is how long the latest request was, in bytes, where it was a large one, as
	// the next one may be; else 0.
	expects int
}

// enter makes a connection a loop's, where it is for one. It is not the caller's
// any more then.
func (c *conn) enter() bool {
	if c.s.o.Async == nil || c.streak < c.trial || c.s.draining.Load() {
		return false
	}
	l := c.s.aLoop()
	if l == nil {
		c.trial = neverTried
		return false
	}
	if err := c.detach(); err != nil {
		c.s.o.Logger.Debug("a connection's descriptor cannot be used", "peer", c.rwc.RemoteAddr().String(), "error", err)
		c.trial = neverTried
		return false
	}
	if err := l.add(c); err != nil {
		c.s.o.Logger.Warn("a connection cannot be watched", "error", err)
		c.trial = neverTried
		if !c.attach() {
			c.drop()
			return true
		}
		return false
	}
	c.rest(time.Now())
	return true
}

// neverTried is a trial that no connection passes.
const neverTried = math.MaxInt

// detach takes the connection's descriptor from Go's poller.
func (c *conn) detach() error {
	inner := c.rwc
	if w, ok := inner.(Wrapper); ok {
		inner = w.NetConn()
	}
	switch inner.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return errors.ErrUnsupported // it may do something of its own when it is closed
	}
	raw, err := inner.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	own := -1
	failed := raw.Control(func(fd uintptr) { own, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if err := errors.Join(failed, os.NewSyscallError("fcntl", err)); err != nil {
		return err
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.draining.Load() { // it may have been cut, which the duplicate was not
		return errors.Join(net.ErrClosed, unix.Close(own))
	}
	c.fd, c.owned = int32(own), true
	_ = inner.Close() // the duplicate is left
	return nil
}

// attach makes it a connection of Go's poller again. Where that cannot be had, it
// has to be dropped.
func (c *conn) attach() bool {
	f := os.NewFile(uintptr(c.fd), "connection")
	rwc, err := net.FileConn(f) // a duplicate
	if err != nil {
		c.s.o.Logger.Warn("a connection ends, as its descriptor cannot be duplicated", "error", err)
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.owned = false
	_ = f.Close()
	if err != nil {
		return false
	}
	if w, ok := c.rwc.(Wrapper); ok {
		w.SetNetConn(rwc)
	} else {
		c.rwc = rwc
	}
	c.readBy, c.writeBy = time.Time{}, time.Time{}
	return true
}

// atOnce receives or sends without waiting, by the calls that are a socket's own:
// read and write come to them by way of what all files have, which takes half a
// microsecond more for a request. The scheduler is not told, which it need not be
// of what does not wait: else it may take the processor from this goroutine
// meanwhile, and look for another thread.
func atOnce(call uintptr, fd int32, b []byte) (int, unix.Errno) {
	const flags = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL
	n, _, err := unix.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
	if err != 0 {
		return -1, err
	}
	return int(n), 0
}

// turn begins the next request, if it has come.
func (c *conn) turn(now time.Time) {
	begins := false
	defer func() {
		if p := recover(); p != nil {
			c.panicked(p)
			if begins && !c.begun.CompareAndSwap(true, false) {
				c.s.mu.Lock()
				c.cut() // another goroutine answers it, or has
				c.s.mu.Unlock()
			} else {
				c.drop()
			}
		}
	}()
	if c.scratch == nil {
		c.scratch = c.s.scratch()
	}
	if c.expects > 0 {
		c.enlarge(c.expects)
	}
	for reads := 0; ; reads++ {
		switch v := c.parse(); {
		case v == plain && c.whole() && c.begin(now, &begins):
			return
		case v == incomplete && reads == 0:
			if !c.readNow() {
				c.drop()
				return
			}
		case v == plain && !c.whole() && reads < 2 && c.s.large(c.size()) && c.enlarge(int(c.size())) && c.readNow():
			// The rest is there now, or would have to be waited for.
		case v == incomplete && c.at[0] == c.at[1]:
			c.shrink()
			c.rest(now) // it was an event of something that has been read
			return
		default:
			if c.leave() {
				go c.serve()
			}
			return
		}
	}
}

// readNow reads what is there, if anything; it says whether the connection goes
// on.
func (c *conn) readNow() bool {
	c.compact()
	if c.at[1] == len(c.buf) {
		return true
	}
	n, err := atOnce(unix.SYS_RECVFROM, c.fd, c.buf[c.at[1]:])
	switch {
	case n > 0:
		// An event tells of what comes after it, so that the end would wait for ever.
		c.more = c.at[1]+n == len(c.buf) || c.ended.Load()
		c.at[1] += n
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		c.more = errors.Is(err, unix.EINTR)
	default:
		return false
	}
	return true
}

// whole says whether all of the body is there whose head was read.
func (c *conn) whole() bool { return int64(c.at[1]-c.at[0]-c.head.size) >= c.head.length }

// begin begins with the request that was read. Where it does, the connection may
// be another goroutine's before it returns.
func (c *conn) begin(now time.Time, begins *bool) bool {
	r := c.request(now)
	*begins = true
	c.begun.Store(true)
	c.expects = 0
	if size := c.size(); c.s.large(size) {
		c.expects = int(size)
	}
	ok := c.loop.async.Begin(r)
	if !ok {
		c.begun.Store(false)
	}
	return ok
}

// finished writes the answer to what was begun, and ends the turn.
func (c *conn) finished() {
	defer func() {
		if p := recover(); p != nil {
			c.panicked(p)
			c.drop()
		}
	}()
	if !c.begun.CompareAndSwap(true, false) {
		return // its beginning has panicked
	}
	now := time.Now()
	c.loop.async.Finish(&c.req, &c.reply, now)
	c.req.Body.skip() // all of it is in memory
	last := c.s.draining.Load()
	c.out = c.reply.append(c.out[:0], c.s.clock.date(now), last)
	c.shrink()
	c.served = true
	n, err := atOnce(unix.SYS_SENDTO, c.fd, c.out)
	switch {
	case err != 0 && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
		c.drop() // the peer has gone
	case n < len(c.out):
		if c.leave() {
			go c.finish(c.out[max(n, 0):], last)
		}
	case last:
		c.drop()
	default:
		c.sent()
		c.rest(now)
	}
}

// finish writes the rest of an answer that its peer did not take, and goes on.
func (c *conn) finish(rest []byte, last bool) {
	c.writeBy = time.Now().Add(c.s.o.WriteTimeout)
	_ = c.rwc.SetWriteDeadline(c.writeBy) // where it fails, so does the write
	if _, err := c.rwc.Write(rest); err != nil || last {
		c.drop()
		return
	}
	c.sent()
	c.serve()
}

// rest ends a turn: the connection waits for its next request.
func (c *conn) rest(now time.Time) {
	if c.more || c.at[0] < c.at[1] {
		c.loop.enqueue(c)
		return
	}
	l := c.loop
	c.at = [2]int{}
	c.rested.Store(now.UnixNano())
	if !c.state.CompareAndSwap(active, idle) {
		c.state.Store(active) // from again
		l.enqueue(c)
		return
	}
	// A drain passes over what is active.
	if c.s.draining.Load() && l.end(c) {
		c.drop()
	}
}

// leave makes a connection that is active its goroutine's again; where it cannot be
// one, it ends.
func (c *conn) leave() bool {
	c.loop.remove(c)
	c.shrink()
	c.streak, c.more = 0, false
	if c.trial < neverTried/8 {
		c.trial *= 8
	}
	if !c.attach() {
		c.drop()
		return false
	}
	return true
}

// cut ends a connection that another goroutine may be using: whoever that is finds
// it at its end, and closes it. The server's lock is held.
func (c *conn) cut() {
	if c.owned {
		_ = unix.Shutdown(int(c.fd), unix.SHUT_RDWR) // where it fails, it has ended otherwise
		return
	}
	_ = c.rwc.Close() // nobody is there to be told
}

// drop ends a connection that no goroutine reads.
func (c *conn) drop() {
	if c.dropped.Swap(true) {
		return
	}
	if c.loop != nil {
		c.loop.remove(c)
	}
	if c.scratch != nil {
		c.s.giveBack(c.scratch)
	}
	c.s.mu.Lock()
	if c.owned {
		c.owned = false
		_ = unix.Close(int(c.fd)) // nobody is there to be told
	}
	_ = c.rwc.Close()
	c.s.mu.Unlock()
	c.s.forget(c)
}
