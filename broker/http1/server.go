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

	"github.com/leat-dev/leat/api/event"
)

// Request is a plain request.
type Request struct {
	// Slot is an Async's, for what it keeps until it has finished the request. It
	// comes back with later ones, also of other connections.
	Slot any
	c    *conn

	// Headers, which are without Host, and Body are good until the request is
	// answered, but the strings may be kept.
	Body       Body
	Headers    event.HeaderList
	Path, Host string
	// Began is when its head was there, and the server came to it.
	Began  time.Time
	Length int64
}

// Done says that the answer to a request that was begun is known. It ends the
// request.
func (r *Request) Done() { r.c.finished() }

// Handler answers a request, or says no and leaves it to net/http, as if it had
// not seen it: then it must not have begun to read the body from the connection
// (Body.Begun).
type Handler func(r *Request, a *Answer) bool

// Async serves requests whose bodies are in memory, without waiting.
type Async interface {
	// Begin begins with a request, or says no and leaves it to the Handler. Unless
	// it does, r.Done has to be called, once, by whatever goroutine knows first that
	// it can be answered, and be it before Begin returns.
	Begin(r *Request) bool
	// Finish answers a request, on the goroutine that has called r.Done, now.
	Finish(r *Request, a *Answer, now time.Time)
	// Flush is called when all has been begun that there was. What it gives, unless
	// nil, is called then, and may wait for what was begun, and call r.Done for it;
	// where that takes long, the Async is another goroutine's meanwhile.
	Flush() (wait func())
}

// Buffers are large buffers, for requests that do not fit into a connection's own.
// They may be used by several goroutines.
type Buffers interface {
	// Size is that of each, in bytes.
	Size() int
	// Get gives one, or nil where there are too many in use. It is given back by Put.
	Get() *[]byte
	Put(*[]byte)
}

// Options of a Server. All must be set, but for Async and Buffers.
type Options struct {
	Handler Handler
	// Async makes what serves the requests of one loop (see loop); nil: there are no
	// loops.
	Async func() Async
	// Buffers are for the requests of loops; nil: these have room for small ones only.
	Buffers Buffers
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
	pool     sync.Pool // of *scratch
	draining atomic.Bool

	mu       sync.Mutex
	listener net.Listener
	conns    map[*conn]bool
	// empty is closed once there is no connection left, while the server drains.
	empty chan struct{}
	loops loops
}

// Wrapper is what a connection has to be that wraps another one, for a loop to serve
// it: that one is closed meanwhile, and replaced when the connection leaves the loop.
type Wrapper interface {
	NetConn() net.Conn
	SetNetConn(net.Conn)
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
	c := &conn{s: s, rwc: rwc, scratch: s.scratch(), trial: firstTrial}
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
	defer s.mu.Unlock()
	if s.conns[c] {
		delete(s.conns, c)
		s.emptied()
	}
}

// emptied ends the drain once there is no connection left; mu is held.
func (s *Server) emptied() {
	if len(s.conns) == 0 && s.draining.Load() {
		close(s.empty)
		s.loops.stop()
	}
}

// scratch is one for a connection that has something to do; keep takes it back.
func (s *Server) scratch() *scratch {
	if m, _ := s.pool.Get().(*scratch); m != nil {
		return m
	}
	return &scratch{buf: make([]byte, bufferSize)}
}

func (s *Server) keep(m *scratch) {
	s.giveBack(m)
	m.head.forget()
	m.req = Request{Slot: m.req.Slot}
	s.pool.Put(m)
}

// giveBack gives a large buffer back.
func (s *Server) giveBack(m *scratch) {
	if m.large != nil {
		s.o.Buffers.Put(m.large)
		m.buf, m.small, m.large = m.small, nil, nil
	}
}

// drain ends the listener and what is idle, once; what is being answered goes on.
func (s *Server) drain() {
	var rest []*conn
	defer func() {
		for _, c := range rest {
			c.drop()
		}
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Swap(true) {
		return
	}
	if s.listener != nil { // else Serve closes it
		_ = s.listener.Close() // whoever accepts is told by draining
	}
	for c := range s.conns {
		if !c.state.CompareAndSwap(idle, closed) {
			continue
		}
		if c.loop != nil {
			rest = append(rest, c) // nobody reads it who would
		} else {
			_ = c.rwc.Close() // nothing is on its way
		}
	}
	s.emptied()
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
		c.cut()
	}
	s.mu.Unlock()
	return s.o.Fallback.Close()
}
