package http1

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Request is a plain request.
type Request struct {
	Path, Host string
	// Headers and Body are good until the request is answered, but the strings
	// may be kept.
	Headers Headers
	Length  int64
	Body    Body
}

// Handler answers a request, or says no and leaves it to net/http, as if it had
// not seen it: then it must not have begun to read the body from the connection
// (Body.Begun).
type Handler func(r *Request, a *Answer) bool

// Options of a Server. All must be set.
type Options struct {
	Handler Handler
	// Fallback serves all other connections. It is the Server's from now on.
	Fallback *http.Server
	// The timeouts are those of net/http's server.
	ReadHeaderTimeout, ReadTimeout, WriteTimeout, IdleTimeout time.Duration
	Logger                                                    *slog.Logger
}

// Server serves a listener's connections.
type Server struct {
	o        Options
	clock    clock
	handover *handover
	pool     sync.Pool // of *conn, for their buffers
	draining atomic.Bool

	mu       sync.Mutex
	listener net.Listener
	conns    map[*conn]bool
	// empty is closed once there is no connection left, while the server drains.
	empty chan struct{}
}

// NewServer makes a server.
func NewServer(o Options) *Server {
	return &Server{o: o, handover: newHandover(), conns: map[*conn]bool{}, empty: make(chan struct{})}
}

// Serve serves until Shutdown or Close, after which it returns
// http.ErrServerClosed.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	s.listener = l
	if s.draining.Load() {
		_ = l.Close() // nobody has used it
	}
	s.mu.Unlock()
	s.handover.address = l.Addr()
	fallback := make(chan error, 1)
	go func() { fallback <- s.o.Fallback.Serve(s.handover) }()
	err := s.accept(l)
	if !s.draining.Load() {
		// Nobody will end what goes on, so it goes on.
		return err
	}
	<-fallback
	return http.ErrServerClosed
}

// accept serves connections until the listener ends. Want of file descriptors
// passes.
func (s *Server) accept(l net.Listener) error {
	const least, most = 5 * time.Millisecond, time.Second
	wait := least
	for {
		rwc, err := l.Accept()
		if s.draining.Load() {
			if err == nil {
				_ = rwc.Close() // nothing was read of it
			}
			return http.ErrServerClosed
		}
		if temporary, ok := errors.AsType[interface {
			error
			Temporary() bool
		}](err); ok && temporary.Temporary() {
			s.o.Logger.Warn("a connection cannot be accepted; it is tried again", "error", err, "after", wait)
			s.pause(wait)
			wait = min(2*wait, most)
			continue
		}
		if err != nil {
			return err
		}
		wait = least
		if c := s.newConn(rwc); c != nil {
			go c.serve()
		}
	}
}

// pause waits, or until the server drains.
func (s *Server) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.handover.done:
	}
}

// newConn counts a connection, unless the server drains.
func (s *Server) newConn(rwc net.Conn) *conn {
	c, _ := s.pool.Get().(*conn)
	if c == nil {
		c = &conn{buf: make([]byte, bufferSize)}
	}
	*c = conn{s: s, rwc: rwc, buf: c.buf, head: head{headers: c.head.headers}, out: c.out}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		_ = rwc.Close() // nothing was read of it
		return nil
	}
	s.conns[c] = true
	return c
}

// forget ends the life of a connection here.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	if len(s.conns) == 0 && s.draining.Load() {
		close(s.empty)
	}
	s.mu.Unlock()
	clear(c.head.headers)
	c.rwc, c.req = nil, Request{}
	s.pool.Put(c)
}

// drain ends the listener and what is idle, once; what is being answered goes on.
func (s *Server) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Swap(true) {
		return
	}
	if s.listener != nil { // else Serve closes it
		_ = s.listener.Close() // whoever accepts is told by draining
	}
	for c := range s.conns {
		if c.state.CompareAndSwap(idle, closed) {
			_ = c.rwc.Close() // nothing is on its way
		}
	}
	if len(s.conns) == 0 {
		close(s.empty)
	}
}

// Shutdown stops listening, answers what has come, and ends; ctx bounds it.
// Then Close has to end what is left.
func (s *Server) Shutdown(ctx context.Context) error {
	s.drain()
	select {
	case <-s.empty: // until then connections may be handed over
	case <-ctx.Done():
		return ctx.Err()
	}
	return s.o.Fallback.Shutdown(ctx)
}

// Close ends everything at once.
func (s *Server) Close() error {
	s.drain()
	s.mu.Lock()
	for c := range s.conns {
		_ = c.rwc.Close() // whoever uses it sees that
	}
	s.mu.Unlock()
	return s.o.Fallback.Close()
}
