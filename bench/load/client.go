//go:build linux

package load

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Plan is what is to be sent.
type Plan struct {
	Address string // IP:PORT
	Request Request
	Conns   int // connections, each with at most one request in flight
	// Length is how long requests are begun; all of them are then waited for.
	Length time.Duration
	// Limit ends it after so many requests, where it is not 0.
	Limit int
	// Rate is the requests a second; 0: as many as are answered. Where a rate
	// is given, a latency begins when the request was due, not when a
	// connection was free for it.
	Rate float64
	// First is the number of the first event.
	First int
	// Stamps, where there are any, note when each event was due.
	Stamps *Stamps
}

// Sent is what became of a plan.
type Sent struct {
	Events    int
	Took      time.Duration
	Latencies []time.Duration // of requests
	Answers   int64           // bytes of all of them
}

// patience is how long one answer is waited for.
const patience = time.Minute

// Send sends what is planned. Each request must be answered with 202.
func Send(ctx context.Context, p Plan) (Sent, error) {
	if p.Conns < 1 || p.Length <= 0 && p.Limit <= 0 {
		return Sent{}, errors.New("a plan needs connections, and a length or a limit")
	}
	l, err := newLoop()
	if err != nil {
		return Sent{}, err
	}
	defer l.close()
	c := &client{Plan: p, byFD: map[int]*sender{}, timer: -1}
	defer c.close()
	for range p.Conns {
		if err := c.connect(l); err != nil {
			return Sent{}, err
		}
	}
	c.start = time.Now()
	c.progress = c.start
	if p.Rate > 0 {
		if err := c.startTimer(l); err != nil {
			return Sent{}, err
		}
	} else if err := c.fill(c.start); err != nil {
		return Sent{}, err
	}
	if err := l.run(ctx, c.ready, c.finished); err != nil {
		return Sent{}, fmt.Errorf("send to %s%s: %w", p.Address, requestPath(p.Request.bytes), err)
	}
	return Sent{len(c.latencies) * p.Request.Events, time.Since(c.start), c.latencies, c.answers}, nil
}

// sender is one connection and the request on it.
type sender struct {
	*connection
	request encoded
	due     time.Time
	busy    bool
}

type client struct {
	Plan
	byFD     map[int]*sender
	idle     []*sender
	start    time.Time
	progress time.Time // of the last answer
	timer    int
	// dueNow requests have become due since the start, of which begun were sent.
	dueNow, begun int
	latencies     []time.Duration
	answers       int64
}

func (c *client) connect(l *loop) error {
	address, err := netip.ParseAddrPort(c.Address)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	s := &sender{connection: newConnection(fd), request: c.Request.clone()}
	c.byFD[fd] = s
	c.idle = append(c.idle, s)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().As4()}); err != nil {
		return fmt.Errorf("connect to %s: %w", c.Address, err)
	}
	return errors.Join(
		os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)),
		os.NewSyscallError("fcntl", unix.SetNonblock(fd, true)),
		l.watch(fd))
}

func (c *client) close() {
	for fd := range c.byFD {
		unix.Close(fd)
	}
	if c.timer >= 0 {
		unix.Close(c.timer)
	}
}

// startTimer has requests become due at the rate. The kernel's timer is finer
// than the waiting for sockets is.
func (c *client) startTimer(l *loop) (err error) {
	if c.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return os.NewSyscallError("timerfd_create", err)
	}
	each := unix.NsecToTimespec(int64(float64(time.Second) / c.Rate))
	if err := unix.TimerfdSettime(c.timer, 0, &unix.ItimerSpec{Interval: each, Value: each}, nil); err != nil {
		return os.NewSyscallError("timerfd_settime", err)
	}
	return l.watch(c.timer)
}

func (c *client) ready(fd int) error {
	if fd == c.timer {
		return c.tick()
	}
	s := c.byFD[fd]
	if err := s.flush(); err != nil {
		return err
	}
	return s.read(
		func(head []byte) (int, error) {
			if !bytes.HasPrefix(head, accepted) {
				return 0, fmt.Errorf("the answer was %q, not 202", head)
			}
			body, err := bodyLength(head)
			c.answers += int64(len(head) + body)
			return body, err
		},
		func() error { return c.answered(s) })
}

func (c *client) tick() error {
	var count [8]byte
	if _, err := unix.Read(c.timer, count[:]); err != nil {
		if errors.Is(err, syscall.EAGAIN) {
			return nil
		}
		return os.NewSyscallError("read", err)
	}
	c.dueNow += int(binary.NativeEndian.Uint64(count[:]))
	return c.fill(time.Now())
}

func (c *client) answered(s *sender) error {
	if !s.busy {
		return errors.New("an answer to no request")
	}
	s.busy = false
	now := time.Now()
	c.progress = now
	c.latencies = append(c.latencies, now.Sub(s.due))
	c.idle = append(c.idle, s)
	return c.fill(now)
}

// fill begins what may be begun now.
func (c *client) fill(now time.Time) error {
	for len(c.idle) > 0 && !c.over(now) {
		due := now
		if c.Rate > 0 {
			if c.begun >= c.dueNow {
				return nil
			}
			due = c.start.Add(time.Duration(float64(c.begun+1) / c.Rate * float64(time.Second)))
		}
		s := c.idle[len(c.idle)-1]
		c.idle = c.idle[:len(c.idle)-1]
		first := c.First + c.begun*c.Request.Events
		s.request.number(first)
		for i := range c.Request.Events {
			c.Stamps.set(first+i, due)
		}
		s.due, s.busy = due, true
		c.begun++
		if err := s.write(s.request.bytes); err != nil {
			return err
		}
	}
	return nil
}

// over says that no further request is begun.
func (c *client) over(now time.Time) bool {
	return c.Length > 0 && now.Sub(c.start) >= c.Length || c.Limit > 0 && c.begun >= c.Limit
}

func (c *client) finished() (bool, error) {
	now := time.Now()
	out := c.Conns - len(c.idle)
	if out > 0 && now.Sub(c.progress) > patience {
		return false, fmt.Errorf("%d requests had no answer after %s", out, patience)
	}
	return out == 0 && c.over(now), nil
}
