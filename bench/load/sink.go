//go:build linux

package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Sink is a subscriber: it answers each event with 202, and counts what comes
// to each of its topics, which are paths.
type Sink struct {
	port     int
	listener int
	loop     *loop
	byFD     map[int]*receiver
	stop     context.CancelFunc
	ended    chan error

	mu     sync.Mutex
	topics map[string]*Topic
}

// receiver is a connection to the sink, and the event that comes on it.
type receiver struct {
	*connection
	topic  *Topic
	number int
}

var answer = []byte("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")

// NewSink listens on a free port of the loopback, until it is closed.
func NewSink() (_ *Sink, err error) {
	s := &Sink{listener: -1, byFD: map[int]*receiver{}, topics: map[string]*Topic{}, ended: make(chan error, 1)}
	if s.loop, err = newLoop(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.release()
		}
	}()
	if s.listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(s.listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(s.listener, 1024); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	name, err := unix.Getsockname(s.listener)
	if err != nil {
		return nil, os.NewSyscallError("getsockname", err)
	}
	s.port = name.(*unix.SockaddrInet4).Port
	if err := s.loop.watch(s.listener); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() {
		err := s.loop.run(ctx, s.ready, func() (bool, error) { return false, nil })
		s.release()
		s.ended <- err
	}()
	return s, nil
}

// Close ends the sink; what made it fail is told.
func (s *Sink) Close() error {
	s.stop()
	if err := <-s.ended; !errors.Is(err, context.Canceled) {
		return fmt.Errorf("the subscriber: %w", err)
	}
	return nil
}

func (s *Sink) release() {
	for fd := range s.byFD {
		unix.Close(fd)
	}
	if s.listener >= 0 {
		unix.Close(s.listener)
	}
	s.loop.close()
}

// Address is where the sink listens.
func (s *Sink) Address() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// Topic is what comes to one path; it is made where there is none.
func (s *Sink) Topic(name string) *Topic {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := "/" + name
	if s.topics[path] == nil {
		s.topics[path] = &Topic{URL: "http://" + s.Address() + path}
	}
	return s.topics[path]
}

func (s *Sink) ready(fd int) error {
	if fd == s.listener {
		return s.accept()
	}
	r := s.byFD[fd]
	err := r.flush()
	if err == nil {
		err = r.read(func(head []byte) (int, error) { return s.begin(r, head) }, func() error { return r.end() })
	}
	if errors.Is(err, errClosed) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		delete(s.byFD, fd)
		unix.Close(fd)
		return nil
	}
	return err
}

func (s *Sink) accept() error {
	for {
		fd, _, err := unix.Accept4(s.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case errors.Is(err, syscall.EAGAIN):
			return nil
		case errors.Is(err, syscall.EINTR), errors.Is(err, syscall.ECONNABORTED):
			continue
		case err != nil:
			return os.NewSyscallError("accept", err)
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
		s.byFD[fd] = &receiver{connection: newConnection(fd)}
		if err := s.loop.watch(fd); err != nil {
			return err
		}
	}
}

// begin takes the head of a request.
func (s *Sink) begin(r *receiver, head []byte) (body int, err error) {
	s.mu.Lock()
	r.topic = s.topics[string(requestPath(head))]
	s.mu.Unlock()
	if r.topic == nil {
		return 0, fmt.Errorf("a request for %q, which nobody waits for", requestPath(head))
	}
	if r.number, err = eventNumber(head); err != nil {
		return 0, err
	}
	return bodyLength(head)
}

// end takes the end of a request.
func (r *receiver) end() error {
	r.topic.deliver(r.number, time.Now())
	return r.write(answer)
}
