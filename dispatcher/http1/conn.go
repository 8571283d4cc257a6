package http1

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

// readBuffer is what a connection keeps of what its peer sends, in bytes.
const readBuffer = 4 << 10

// maxInformational is how many answers may say that another one will follow.
const maxInformational = 5

// Conn is a connection to a host. One goroutine uses it at a time.
type Conn struct {
	host *host
	rwc  net.Conn
	// turn is nil where the connection is none of the system's.
	turn *turn
	// kept: it has been used before, so that its peer may have ended it.
	kept bool
	// until is the deadline that is set; see setDeadline.
	until time.Time
	from  bounded
	r     *bufio.Reader
	// maxHeaderBytes bounds the headers of an answer.
	maxHeaderBytes int64
	// ctx is watched: its end closes the connection. unwatch ends that; it says
	// no where it has come to it.
	ctx     context.Context
	unwatch func() bool

	// While it is idle; guarded by Client.mu.
	older, newer *Conn
	since        time.Time
}

// bounded reads what was read ahead, then from a connection, and no more than
// left bytes.
type bounded struct {
	ahead []byte
	r     io.Reader
	left  int64
}

var errHeaders = errors.New("the headers of the answer are too large")

// noBound is more than anybody sends.
const noBound = int64(1) << 62

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errHeaders
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	if len(b.ahead) > 0 {
		n := copy(p, b.ahead)
		b.ahead = b.ahead[n:]
		b.left -= int64(n)
		return n, nil
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	return n, err
}

func (c *Conn) init(rwc net.Conn, maxHeaderBytes int) {
	c.rwc, c.maxHeaderBytes = rwc, int64(maxHeaderBytes)
	c.from.r = rwc
	c.r = bufio.NewReaderSize(&c.from, readBuffer)
	c.turn = newTurn(rwc)
}

// setDeadline bounds what is done from now on. To set it costs as much as a
// small system call, so one that is later by a hundredth of the time is let be.
func (c *Conn) setDeadline(deadline time.Time) error {
	if over := c.until.Sub(deadline); over >= 0 && over <= time.Until(deadline)/100 {
		return nil
	}
	c.until = deadline.Add(time.Until(deadline) / 200)
	return c.rwc.SetDeadline(c.until)
}

// watch has the end of ctx close the connection; it says no where that has
// happened. Most exchanges of a connection are in the same context.
func (c *Conn) watch(ctx context.Context) bool {
	if c.ctx == ctx {
		return ctx.Err() == nil
	}
	if c.unwatch != nil && !c.unwatch() {
		return false
	}
	rwc := c.rwc
	c.ctx = ctx
	c.unwatch = context.AfterFunc(ctx, func() { _ = rwc.Close() }) // whoever reads sees that
	return ctx.Err() == nil
}

func (c *Conn) close() {
	if c.unwatch != nil {
		c.unwatch()
		c.unwatch, c.ctx = nil, nil
	}
	if c.rwc != nil {
		_ = c.rwc.Close() // nothing is expected of it any more
	}
}

// clean says whether nothing is left of the last exchange.
func (c *Conn) clean() bool { return c.rwc != nil && c.r.Buffered() == 0 && len(c.from.ahead) == 0 }

// ErrStale says that a connection that was kept has ended, or that its peer has
// said what nobody asked for. Nothing was written: another one can be used.
var ErrStale = errors.New("the connection has ended while it was idle")

// Write sends a whole request, and waits for the answer to begin where that
// saves a system call. The error is ErrStale only for connections that were used
// before.
func (c *Conn) Write(ctx context.Context, request []byte) error {
	rest := request
	if c.turn != nil {
		n, err := c.turn.take(request, c.kept)
		if err != nil {
			return explain(ctx, err)
		}
		c.from.ahead, rest = c.turn.got, request[n:]
	}
	c.kept = true
	if len(rest) > 0 {
		if _, err := c.rwc.Write(rest); err != nil {
			return explain(ctx, err)
		}
	}
	return nil
}

// Answer is a plain answer: 2xx, with a body that is no event, of which nothing
// is left to be read.
type Answer struct {
	Status int
	Body   bool // there was one
}

// ReadPlain reads a plain answer whose body has at most most bytes. Where ok is
// false it is no such answer, and nothing of it was consumed: ReadResponse has
// to read it.
func (c *Conn) ReadPlain(ctx context.Context, most int64) (a Answer, ok bool, err error) {
	c.from.left = c.maxHeaderBytes
	for {
		b, _ := c.r.Peek(c.r.Buffered())
		h, v := parse(b)
		switch v {
		case other:
			return a, false, nil
		case plain:
			if h.length > most {
				return a, false, nil
			}
			c.from.left = noBound
			if _, err := c.r.Discard(h.size + int(h.length)); err != nil {
				return a, true, explain(ctx, unexpected(err))
			}
			return Answer{Status: h.status, Body: h.length > 0}, true, nil
		}
		if len(b) == readBuffer {
			return a, false, nil
		}
		if _, err := c.r.Peek(len(b) + 1); err != nil {
			if len(b) > 0 && ctx.Err() == nil && errors.Is(err, io.EOF) {
				return a, false, nil // net/http says what is wrong with it
			}
			return a, true, explain(ctx, unexpected(err))
		}
	}
}

// ReadResponse reads the head of any answer. Its body ends with io.EOF; nothing
// of it need be read.
func (c *Conn) ReadResponse(ctx context.Context) (*http.Response, error) {
	request := &http.Request{Method: http.MethodPost}
	for range maxInformational {
		c.from.left = c.maxHeaderBytes
		res, err := http.ReadResponse(c.r, request)
		c.from.left = noBound
		if err != nil {
			return nil, explain(ctx, unexpected(err))
		}
		if res.StatusCode >= 200 {
			return res, nil
		}
		if res.StatusCode == http.StatusSwitchingProtocols {
			return nil, errors.New("the answer is of another protocol")
		}
	}
	return nil, errors.New("too many informational answers, and no final one")
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
