package http1

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// readAtOnce and writeAtOnce read and write a socket that does not block. The
// scheduler is not told, which it need not be of what does not wait: else it may
// take the processor from this goroutine meanwhile, and look for another thread,
// and a thread of its own looks each 20 µs for who is in a call.
func readAtOnce(fd int, p []byte) (int, error) { return atOnce(unix.SYS_READ, fd, p) }

func writeAtOnce(fd int, p []byte) (int, error) { return atOnce(unix.SYS_WRITE, fd, p) }

func atOnce(call uintptr, fd int, p []byte) (int, error) {
	for {
		n, _, err := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch err {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return -1, err
		}
	}
}
