package broker

import (
	"net"
	"sync"
)

// LimitConns bounds the connections that a listener has accepted at once.
func LimitConns(l net.Listener, o ServerOptions) net.Listener {
	o.setDefaults()
	return &limited{Listener: l, places: make(chan struct{}, o.MaxConns), done: make(chan struct{})}
}

type limited struct {
	net.Listener
	places chan struct{}
	once   sync.Once
	done   chan struct{}
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &limitedConn{Conn: c, l: l}, nil
}

// Close implements net.Listener.
func (l *limited) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

// limitedConn holds a place until it is closed.
type limitedConn struct {
	net.Conn
	l    *limited
	once sync.Once
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { <-c.l.places })
	return err
}

// NetConn implements http1.Wrapper.
func (c *limitedConn) NetConn() net.Conn { return c.Conn }

// SetNetConn implements http1.Wrapper.
func (c *limitedConn) SetNetConn(other net.Conn) { c.Conn = other }
