package http1

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// turn writes a request and reads the beginning of its answer. A plain Read would
// first ask the system for what cannot be there yet, and to see whether a kept
// connection has ended takes a system call as well: here the call that shows that
// nothing is there is made before the request is written, and serves for both.
type turn struct {
	raw syscall.RawConn
	// got is what was read of the answer, in buf.
	got []byte
	buf [512]byte

	step    func(fd uintptr) bool
	request []byte
	look    bool // the connection may have ended
	begun   bool
	written int
	err     error
}

// newTurn is nil where the connection is no socket of the system's.
func newTurn(rwc net.Conn) *turn {
	switch rwc.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nil
	}
	raw, err := rwc.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil // whatever is wrong, the exchange will tell
	}
	t := &turn{raw: raw}
	t.step = func(fd uintptr) bool { return t.next(int(fd)) }
	return t
}

// take makes an exchange up to the first bytes of the answer, which are in got
// then. Where not all was written, the rest is to be written by other means, and
// nothing was read.
func (t *turn) take(request []byte, look bool) (written int, err error) {
	t.request, t.look = request, look
	t.got, t.begun, t.written, t.err = nil, false, 0, nil
	err = t.raw.Read(t.step)
	t.request = nil
	if t.err != nil {
		err = t.err
	}
	return t.written, err
}

// next is called with a socket that does not block, at first and then each time
// that there may be something to read. It says whether the turn is over.
func (t *turn) next(fd int) (over bool) {
	if !t.begun {
		t.begun = true
		if t.look && !t.quiet(fd) {
			t.err = ErrStale
			return true
		}
		return !t.write(fd)
	}
	n, err := readAtOnce(fd, t.buf[:])
	switch {
	case errors.Is(err, unix.EAGAIN):
		return false
	case err != nil:
		t.err = os.NewSyscallError("read", err)
	case n == 0:
		t.err = io.ErrUnexpectedEOF
	default:
		t.got = t.buf[:n]
	}
	return true
}

// quiet says whether the connection is open and nothing has come.
func (t *turn) quiet(fd int) bool {
	_, err := readAtOnce(fd, t.buf[:1])
	return errors.Is(err, unix.EAGAIN)
}

// write says whether all of the request was written.
func (t *turn) write(fd int) bool {
	n, err := writeAtOnce(fd, t.request)
	switch {
	case errors.Is(err, unix.EAGAIN):
	case err != nil:
		t.err = os.NewSyscallError("write", err)
	default:
		t.written = n
	}
	return t.err == nil && t.written == len(t.request)
}
