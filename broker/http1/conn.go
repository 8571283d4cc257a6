package http1

import (
	"errors"
	"io"
	"net"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// bufferSize is the size of a connection's buffer, in bytes: the most that a
// head may have.
const bufferSize = 4 << 10

// maxSkipped is how much is read of what a connection that is closed still
// sends, so that its peer sees the answer, and lingerTime for how long. As much
// as a body may have by default: many send all of it before they read.
const (
	maxSkipped = 8 << 20
	lingerTime = 500 * time.Millisecond
)

// The states of a connection.
const (
	active int32 = iota
	idle
	closed // while it was idle: what it sends from now on is not read
	again  // active, and its loop has been told that more has come
)

// firstTrial is how many requests in a row have to be as a loop wants them at
// first: with a connection that is made for one, nothing is to be won.
const firstTrial = 2

// conn is a connection that is served: by a goroutine of its own, or by a loop.
type conn struct {
	// What is used for each request comes first, and close together: another
	// processor answers it than the one that began it.
	s        *Server
	*scratch        // nil when it has rested in a loop for a while
	at       [2]int // what of the buffer is read and not used yet
	state    atomic.Int32
	served   bool // one request at least
	looped

	rwc net.Conn
	// readBy and writeBy are the deadlines that are set.
	readBy, writeBy time.Time
	fills           int // reads since its latest request was awaited

	// streak is how many requests in a row have come at once, as far as a loop takes
	// them: whole with one read, and another one for a large one. trial is
	// how many make the connection a loop's: eight times as many after each time
	// that it had to leave one.
	streak, trial int
}

// scratch is what a connection needs while it has something to do. As in conn,
// what it is answered with stands together.
type scratch struct {
	buf  []byte
	head head
	// large is the buffer while the connection has one of Buffers, and small is its own.
	large *[]byte
	small []byte
	// reply is what a loop's request is answered with, as it comes.
	reply Answer
	out   []byte
	req   Request
}

// serve serves requests until the connection ends, or is net/http's or a loop's.
func (c *conn) serve() {
	handed, looped := false, false
	defer func() {
		if p := recover(); p != nil {
			c.panicked(p)
		}
		if looped {
			return
		}
		if !handed {
			_ = c.rwc.Close() // nobody is there to be told
		}
		c.s.forget(c)
		c.s.keep(c.scratch)
	}()
	for {
		now, ok := c.await()
		if !ok {
			return
		}
		v, began := c.readHead(now)
		switch v {
		case other:
			handed = true
			c.handOver()
			return
		case incomplete:
			return // it did not come in time, or at all
		}
		done, ok := c.answer(now, began)
		if !done {
			handed = true
			c.handOver()
			return
		}
		if !ok {
			return
		}
		if looped = c.enter(); looped {
			return
		}
	}
}

func (c *conn) panicked(p any) {
	c.s.o.Logger.Error("serving a request panicked", "peer", c.rwc.RemoteAddr().String(), "panic", p, "stack", string(debug.Stack()))
}

// parse looks at the head that comes next, in as much as one may have.
func (c *conn) parse() verdict {
	return c.head.parse(c.buf[c.at[0]:min(c.at[1], c.at[0]+bufferSize)])
}

// unread is what has been read and not used yet.
func (c *conn) unread() []byte { return c.buf[c.at[0]:c.at[1]] }

// compact makes room in the buffer.
func (c *conn) compact() {
	if c.at[0] > 0 {
		c.at = [2]int{0, copy(c.buf, c.unread())}
	}
}

// enlarge says whether the connection's buffer takes a large request of so many bytes;
// it is given a large one for that, where there is one. What comes behind the request
// has as much room there as it will have when that is answered.
func (c *conn) enlarge(size int) bool {
	switch {
	case len(c.buf) >= size:
		return true
	case c.large != nil:
		c.buf = *c.large
	default:
		if c.large = c.s.o.Buffers.Get(); c.large == nil {
			return false
		}
		c.small, c.buf = c.buf, *c.large
		c.at = [2]int{0, copy(c.buf, c.small[c.at[0]:c.at[1]])}
	}
	c.buf = c.buf[:min(len(c.buf), size+bufferSize)]
	return true
}

// size is how long the request is whose head was read, in bytes.
func (c *conn) size() int64 { return int64(c.head.size) + c.head.length }

// large says whether a request of so many bytes takes a large buffer, which are all
// of a size.
func (s *Server) large(size int64) bool {
	return s.o.Buffers != nil && size > bufferSize && size <= int64(s.o.Buffers.Size())
}

// shrink has the connection use its own buffer again, where what is unread fits.
func (c *conn) shrink() {
	if c.large != nil && len(c.unread()) <= len(c.small) {
		c.at = [2]int{0, copy(c.small, c.unread())}
		c.s.giveBack(c.scratch)
	}
}

// fill reads more into the buffer, which has room.
func (c *conn) fill() error {
	c.compact()
	c.fills++
	n, err := c.rwc.Read(c.buf[c.at[1]:])
	c.at[1] += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// await waits for a request to begin; it says no where none will. Only here
// may another goroutine close the connection.
func (c *conn) await() (time.Time, bool) {
	now := time.Now()
	c.fills = 0
	if c.at[0] < c.at[1] {
		return now, true
	}
	c.at = [2]int{}
	if c.served {
		within := c.s.o.IdleTimeout
		if left := c.readBy.Sub(now); left < within || left > within+within/8 {
			c.setReadBy(now.Add(within + within/8))
		}
	} else {
		c.setReadBy(now.Add(c.s.o.ReadHeaderTimeout))
	}
	if !c.state.CompareAndSwap(active, idle) || c.s.draining.Load() {
		return now, false
	}
	err := c.fill()
	if !c.state.CompareAndSwap(idle, active) || err != nil {
		return now, false
	}
	return time.Now(), true
}

func (c *conn) setReadBy(t time.Time) {
	c.readBy = t
	_ = c.rwc.SetReadDeadline(t) // where it fails, so does the read
}

// readHead reads until the head that has begun is whole, and says when it was: its
// peer may have taken its time.
func (c *conn) readHead(now time.Time) (verdict, time.Time) {
	for late := false; ; {
		v := c.parse()
		if v != incomplete {
			if late {
				return v, time.Now()
			}
			return v, now
		}
		if len(c.unread()) >= bufferSize {
			return other, now // a head that is larger is net/http's to bound
		}
		if !late {
			late = true
			c.setReadBy(now.Add(c.s.o.ReadHeaderTimeout))
		}
		if c.fill() != nil {
			return incomplete, now
		}
	}
}

// answer answers the request whose head has come from now on, and was whole when
// it began. done is false where that is for net/http to do; ok says whether the
// connection goes on.
func (c *conn) answer(now, began time.Time) (done, ok bool) {
	r := c.request(now)
	r.Began = began
	var a Answer
	if !c.s.o.Handler(r, &a) {
		return false, false
	}
	if c.streak++; c.fills > 1 || r.Body.reads > 1 || r.Body.reads == 1 && !c.s.large(c.size()) {
		c.streak = 0
	}
	// Of a body that has not been read to its end, what is in the buffer can be
	// passed over; the rest of it ends the connection.
	whole := r.Body.skip()
	last := !whole || c.s.draining.Load()
	end := time.Now()
	c.out = a.append(c.out[:0], c.s.clock.date(end), last)
	c.shrink()
	if within := c.s.o.WriteTimeout; c.writeBy.Sub(end) < within {
		c.writeBy = end.Add(within + within/8)
		_ = c.rwc.SetWriteDeadline(c.writeBy) // where it fails, so does the write
	}
	if _, err := c.rwc.Write(c.out); err != nil {
		return true, false
	}
	c.sent()
	c.served = true
	if last {
		c.linger(whole)
		return true, false
	}
	return true, true
}

// sent forgets an answer. A connection may rest for long, and there may be many:
// none keeps more than what most answers take.
func (c *conn) sent() {
	c.reply = Answer{}
	if cap(c.out) > bufferSize {
		c.out = nil
	}
}

// request is the one whose head was read.
func (c *conn) request(now time.Time) *Request {
	r := &c.req
	*r = Request{
		Path: c.head.path, Host: c.head.host, Began: now, Headers: c.head.headers, Length: c.head.length,
		Body: Body{c: c, left: c.head.length, at: c.at[0] + c.head.size, by: now.Add(c.s.o.ReadTimeout)},
		Slot: r.Slot, c: c,
	}
	return r
}

// linger reads on for a while where the peer still sends: to close a connection
// with something unread would take the answer from it.
func (c *conn) linger(whole bool) {
	if whole {
		return
	}
	c.setReadBy(time.Now().Add(lingerTime))
	for n := 0; n < maxSkipped; n += c.at[1] {
		c.at = [2]int{}
		if c.fill() != nil {
			return
		}
	}
}

// handOver gives the connection to net/http as if nobody had read from it.
func (c *conn) handOver() {
	_ = c.rwc.SetDeadline(time.Time{}) // where it fails, so will what follows
	c.s.handover.give(&handed{Conn: c.rwc, unread: append([]byte(nil), c.unread()...)})
}

// Body is a request's body.
type Body struct {
	c     *conn
	left  int64 // not read yet
	at    int   // where the next of it is in the buffer
	by    time.Time
	reads int // from the connection itself
}

// Whole is the body, where all of it is in memory and none of it was read; it
// is good until the request is answered.
func (b *Body) Whole() ([]byte, bool) {
	if b.left == 0 && b.reads == 0 {
		return nil, true
	}
	if b.reads > 0 || int64(b.c.at[1]-b.at) < b.left {
		return nil, false
	}
	end := b.at + int(b.left)
	return b.c.buf[b.at:end:end], true
}

// Large says whether the body is in one of Buffers.
func (b *Body) Large() bool { return b.c != nil && b.c.large != nil }

// Read implements io.Reader. What goes beyond the buffer is read to where it is
// wanted.
func (b *Body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	if n := copy(p, b.c.buf[b.at:b.c.at[1]]); n > 0 {
		b.at += n
		b.left -= int64(n)
		return n, nil
	}
	if b.reads++; b.reads == 1 {
		b.c.setReadBy(b.by)
		// All that was in memory is taken, and a large buffer must not wait for the rest.
		b.at, b.c.at = 0, [2]int{}
		b.c.s.giveBack(b.c.scratch)
	}
	n, err := b.c.rwc.Read(p)
	b.left -= int64(n)
	if errors.Is(err, io.EOF) && b.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Buffered is how much of the body is in memory and not read yet, in bytes.
func (b *Body) Buffered() int { return int(min(int64(b.c.at[1]-b.at), b.left)) }

// Begun says whether some of the body was read from the connection.
func (b *Body) Begun() bool { return b.reads > 0 }

// skip passes over what is unread of the body; it says whether all of it was in
// memory.
func (b *Body) skip() bool {
	n := min(int64(b.c.at[1]-b.at), b.left)
	b.c.at[0] = b.at + int(n)
	b.left -= n
	return b.left == 0
}
