package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

// listener stands between the serving library and the real listener. The
// library panics when that one fails; here the server is told to stop, and the
// library waits until it does.
type listener struct {
	net.Listener
	stop   context.CancelCauseFunc
	open   connections
	closed chan struct{}
	once   sync.Once

	mu  sync.Mutex
	err error
}

func newListener(l net.Listener, stop context.CancelCauseFunc) *listener {
	return &listener{Listener: l, stop: stop, closed: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		return l.open.track(c), nil
	}
	var passing interface{ Temporary() bool }
	if errors.As(err, &passing) && passing.Temporary() {
		return nil, err // no file descriptors, say: the library tries again
	}
	l.fail(err)
	<-l.closed
	return nil, net.ErrClosed
}

func (l *listener) fail(err error) {
	select {
	case <-l.closed:
		return
	default:
	}
	err = fmt.Errorf("accept connections at %s: %w", l.Addr(), err)
	l.mu.Lock()
	l.err = err
	l.mu.Unlock()
	l.stop(err)
}

// failure is why the listener ended, other than by Close.
func (l *listener) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Close implements net.Listener. It may be called twice.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	if err := l.Listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// pipe is a listener within the process: the server's own controllers need no
// port.
type pipe struct {
	connections chan net.Conn
	closed      chan struct{}
	once        sync.Once
}

var _ net.Listener = &pipe{}

func newPipe() *pipe {
	return &pipe{connections: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept implements net.Listener.
func (p *pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.connections:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *pipe) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Addr implements net.Listener.
func (p *pipe) Addr() net.Addr { return pipeAddr{} }

// dial connects to the listener, whatever the address; it waits until the
// server accepts.
func (p *pipe) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.connections <- far:
		return near, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "loopback" }
