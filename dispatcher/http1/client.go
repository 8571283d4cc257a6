// Package http1 is a client of HTTP/1.1 that makes one exchange after another on
// each connection, on the goroutine of whoever asks: net/http hands each request
// over to two goroutines of its own and back, which costs more than the rest of a
// delivery.
//
// Requests are small (MaxRequest), so that writing one never waits for a peer
// that answers before it reads. The plain answer is read here: 2xx, with a
// Content-Length or none needed. Every other is read by net/http's own parser,
// from its first byte on.
package http1

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// MaxRequest is the most bytes that a request may have.
const MaxRequest = 32 << 10

// Options of a Client. All must be set.
type Options struct {
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// MaxConns bounds the connections to one host and port, MaxIdlePerHost those
	// kept open, MaxIdle those kept open to all of them.
	MaxConns, MaxIdlePerHost, MaxIdle int
	// IdleTimeout closes a connection that nobody uses.
	IdleTimeout time.Duration
	// MaxHeaderBytes bounds the headers of an answer.
	MaxHeaderBytes int
}

// Client keeps connections. It is used from many goroutines at once.
type Client struct {
	o      Options
	timers sync.Pool // of *time.Timer, stopped

	mu    sync.Mutex
	hosts map[string]*host
	// oldest and newest are the ends of the list of idle connections, by the time
	// since when they are idle.
	oldest, newest *Conn
	idle           int
	timer          *time.Timer // runs while there is an idle connection
}

// host is what there is of one host and port, while somebody uses it.
type host struct {
	address string
	conns   int     // open, or being opened
	idle    []*Conn // the last used is the last
	// waiting are those for whom there was none, in order; each is given a
	// connection, or the place of a new one.
	waiting []chan *Conn
}

// New makes a client.
func New(o Options) *Client { return &Client{o: o, hosts: map[string]*host{}} }

// Get returns a connection to an address, for an exchange that ends at the
// deadline, or with ctx: one that is kept, or a new one, or, where there are as
// many as may be, the one that is given back next. It has to be given back with
// Put. Whether one that was kept is still good is told by its Write.
func (c *Client) Get(ctx context.Context, address string, deadline time.Time) (*Conn, error) {
	for {
		conn, turn := c.take(address)
		if turn != nil {
			var err error
			if conn, err = c.wait(ctx, address, turn, deadline); err != nil {
				return nil, err
			}
		}
		if conn.rwc == nil {
			if err := c.open(ctx, conn, deadline); err != nil {
				c.Put(conn, false)
				return nil, err
			}
			return conn, nil
		}
		if conn.setDeadline(deadline) == nil && conn.watch(ctx) {
			return conn, nil
		}
		c.Put(conn, false)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// take takes an idle connection, or the place of a new one; where there is
// neither it returns what will be given one.
func (c *Client) take(address string) (*Conn, chan *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[address]
	if h == nil {
		h = &host{address: address}
		c.hosts[address] = h
	}
	if n := len(h.idle); n > 0 {
		conn := h.idle[n-1]
		h.idle = h.idle[:n-1]
		c.unlist(conn)
		return conn, nil
	}
	if h.conns < c.o.MaxConns {
		h.conns++
		return &Conn{host: h}, nil
	}
	turn := make(chan *Conn, 1)
	h.waiting = append(h.waiting, turn)
	return nil, turn
}

// wait waits for its turn.
func (c *Client) wait(ctx context.Context, address string, turn chan *Conn, deadline time.Time) (conn *Conn, err error) {
	t, ok := c.timers.Get().(*time.Timer)
	if ok {
		t.Reset(time.Until(deadline))
	} else {
		t = time.NewTimer(time.Until(deadline))
	}
	defer func() {
		t.Stop()
		c.timers.Put(t)
	}()
	select {
	case conn := <-turn:
		return conn, nil
	case <-t.C:
		err = fmt.Errorf("all %d connections to %s were in use: %w", c.o.MaxConns, address, context.DeadlineExceeded)
	case <-ctx.Done():
		err = ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case conn := <-turn: // just now
		return conn, nil
	default:
	}
	if h := c.hosts[address]; h != nil {
		h.waiting = slices.DeleteFunc(h.waiting, func(other chan *Conn) bool { return other == turn })
	}
	return nil, err
}

// next gives a connection, or the place of one, to who has waited longest; it
// says no where nobody does. c.mu is held.
func (h *host) next(conn *Conn) bool {
	if len(h.waiting) == 0 {
		return false
	}
	h.waiting[0] <- conn
	h.waiting[0] = nil
	if h.waiting = h.waiting[1:]; len(h.waiting) == 0 {
		h.waiting = nil
	}
	return true
}

// forget drops what is known of a host that nobody uses. c.mu is held.
func (c *Client) forget(h *host) {
	if h.conns == 0 && c.hosts[h.address] == h {
		delete(c.hosts, h.address)
	}
}

// open connects.
func (c *Client) open(ctx context.Context, conn *Conn, deadline time.Time) error {
	dial, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	rwc, err := c.o.Dial(dial, "tcp", conn.host.address)
	if err != nil {
		return err
	}
	conn.init(rwc, c.o.MaxHeaderBytes)
	if !conn.watch(ctx) {
		return ctx.Err()
	}
	return conn.setDeadline(deadline)
}

// Put gives a connection back; keep says that it can be used again.
func (c *Client) Put(conn *Conn, keep bool) {
	h := conn.host
	var surplus *Conn
	c.mu.Lock()
	switch keep = keep && conn.clean(); {
	case keep && h.next(conn):
	case keep && len(h.idle) < c.o.MaxIdlePerHost:
		if c.idle >= c.o.MaxIdle {
			surplus = c.oldest
			c.drop(surplus)
		}
		h.idle = append(h.idle, conn)
		c.list(conn)
	default:
		keep = false
		if !h.next(&Conn{host: h}) {
			h.conns--
			c.forget(h)
		}
	}
	c.mu.Unlock()
	if !keep {
		conn.close()
	}
	if surplus != nil {
		surplus.close()
	}
}

// list and unlist keep the list of idle connections. c.mu is held.
func (c *Client) list(conn *Conn) {
	conn.since = time.Now()
	conn.older, conn.newer = c.newest, nil
	if c.newest != nil {
		c.newest.newer = conn
	} else {
		c.oldest = conn
	}
	c.newest = conn
	if c.idle++; c.timer == nil {
		c.timer = time.AfterFunc(c.o.IdleTimeout, c.expire)
	}
}

func (c *Client) unlist(conn *Conn) {
	if conn.older != nil {
		conn.older.newer = conn.newer
	} else {
		c.oldest = conn.newer
	}
	if conn.newer != nil {
		conn.newer.older = conn.older
	} else {
		c.newest = conn.older
	}
	conn.older, conn.newer = nil, nil
	c.idle--
}

// drop takes an idle connection out for good. c.mu is held.
func (c *Client) drop(conn *Conn) {
	c.unlist(conn)
	h := conn.host
	h.idle = slices.DeleteFunc(h.idle, func(other *Conn) bool { return other == conn })
	h.conns-- // nobody waits where one is idle
	c.forget(h)
}

// expire closes what has been idle for too long.
func (c *Client) expire() {
	var over []*Conn
	c.mu.Lock()
	now := time.Now()
	for c.oldest != nil && now.Sub(c.oldest.since) >= c.o.IdleTimeout {
		over = append(over, c.oldest)
		c.drop(c.oldest)
	}
	c.timer = nil
	if c.oldest != nil {
		c.timer = time.AfterFunc(c.o.IdleTimeout-now.Sub(c.oldest.since), c.expire)
	}
	c.mu.Unlock()
	for _, conn := range over {
		conn.close()
	}
}

// CloseIdle closes what nobody uses.
func (c *Client) CloseIdle() {
	var over []*Conn
	c.mu.Lock()
	for c.oldest != nil {
		over = append(over, c.oldest)
		c.drop(c.oldest)
	}
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	c.mu.Unlock()
	for _, conn := range over {
		conn.close()
	}
}

// explain says what came of an exchange that broke off.
func explain(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
	}
	return err
}
