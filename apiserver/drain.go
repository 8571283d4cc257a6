package apiserver

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// flushTime is how long connections stay open after the last request is done,
// for what is still to be sent.
const flushTime = 100 * time.Millisecond

// requests counts those in progress.
type requests struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // closed when n falls to 0; made by who waits
}

// count is a handler that counts what goes through it.
func (r *requests) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.n++
		r.mu.Unlock()
		defer r.done()
		next.ServeHTTP(w, req)
	})
}

func (r *requests) done() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n--
	if r.n == 0 && r.idle != nil {
		close(r.idle)
		r.idle = nil
	}
}

// wait returns when no request is in progress, or ctx ends.
func (r *requests) wait(ctx context.Context) {
	r.mu.Lock()
	if r.n == 0 {
		r.mu.Unlock()
		return
	}
	if r.idle == nil {
		r.idle = make(chan struct{})
	}
	idle := r.idle
	r.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// connections are those that are open. A server that shuts down waits seconds
// for connections on which no request came, and for clients to go away.
type connections struct {
	mu   sync.Mutex
	open map[*connection]bool
}

func (c *connections) track(conn net.Conn) net.Conn {
	tracked := &connection{Conn: conn, all: c}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = map[*connection]bool{}
	}
	c.open[tracked] = true
	return tracked
}

// closeAll closes what is open; that it cannot be closed twice is no error.
func (c *connections) closeAll() {
	c.mu.Lock()
	var all []*connection
	for conn := range c.open {
		all = append(all, conn)
	}
	c.mu.Unlock()
	for _, conn := range all {
		conn.Close()
	}
}

type connection struct {
	net.Conn
	all *connections
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.all.mu.Lock()
	delete(c.all.open, c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}
