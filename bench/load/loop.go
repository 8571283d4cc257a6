//go:build linux

package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// loop waits for many sockets on one thread.
type loop struct {
	epoll  int
	events []unix.EpollEvent
}

// look is how often a loop looks whether it is to end.
const look = 50 * time.Millisecond

func newLoop() (*loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create", err)
	}
	return &loop{epoll: fd, events: make([]unix.EpollEvent, 512)}, nil
}

func (l *loop) close() { unix.Close(l.epoll) }

// watch asks to be told of a socket's changes: each once, so that a socket
// must be read until it is empty.
func (l *loop) watch(fd int) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd,
		&unix.EpollEvent{Fd: int32(fd), Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET}))
}

// run calls each for every socket with a change, and idle at least every look,
// until one of them fails or says that it is done.
func (l *loop) run(ctx context.Context, each func(fd int) error, idle func() (done bool, err error)) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		n, err := unix.EpollWait(l.epoll, l.events, int(look/time.Millisecond))
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("epoll_wait", err)
		}
		for _, e := range l.events[:max(n, 0)] {
			if err := each(int(e.Fd)); err != nil {
				return err
			}
		}
		if done, err := idle(); done || err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// connection is a socket that is written and read without waiting.
type connection struct {
	fd  int
	out []byte // still to be written
	in  []byte // read, and not yet used
	// body is how much of a body is still to come; it is not kept.
	body int
}

// maxHead bounds the head of a request or an answer.
const maxHead = 16 << 10

func newConnection(fd int) *connection {
	return &connection{fd: fd, in: make([]byte, 0, 64<<10)}
}

// write writes b, or what the socket takes of it now. b must stay as it is
// until all is written.
func (c *connection) write(b []byte) error {
	c.out = b
	return c.flush()
}

func (c *connection) flush() error {
	for len(c.out) > 0 {
		n, err := unix.Write(c.fd, c.out)
		switch {
		case errors.Is(err, syscall.EAGAIN):
			return nil // told when there is room
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return os.NewSyscallError("write", err)
		default:
			c.out = c.out[n:]
		}
	}
	return nil
}

// errClosed says that the other side closed the connection.
var errClosed = errors.New("the connection was closed by the other side")

// read reads until the socket is empty, and calls message for each head that
// it has whole; message says how long the body is. A body is not kept: done is
// called when it is behind.
func (c *connection) read(message func(head []byte) (body int, err error), done func() error) error {
	for {
		n, err := unix.Read(c.fd, c.in[len(c.in):cap(c.in)])
		switch {
		case errors.Is(err, syscall.EAGAIN):
			return nil
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return os.NewSyscallError("read", err)
		case n == 0:
			return errClosed
		}
		full := len(c.in)+n == cap(c.in)
		c.in = c.in[:len(c.in)+n]
		if err := c.take(message, done); err != nil {
			return err
		}
		if !full { // it was emptied: an edge follows
			return nil
		}
	}
}

func (c *connection) take(message func(head []byte) (int, error), done func() error) error {
	rest := c.in
	for len(rest) > 0 {
		if c.body > 0 {
			n := min(c.body, len(rest))
			c.body -= n
			rest = rest[n:]
			if c.body == 0 {
				if err := done(); err != nil {
					return err
				}
			}
			continue
		}
		head, ok := cutHead(rest)
		if !ok {
			if len(rest) > maxHead {
				return fmt.Errorf("a head of more than %d bytes", maxHead)
			}
			break
		}
		rest = rest[len(head):]
		body, err := message(head)
		if err != nil {
			return err
		}
		if c.body = body; body == 0 {
			if err := done(); err != nil {
				return err
			}
		}
	}
	c.in = c.in[:copy(c.in, rest)]
	return nil
}
