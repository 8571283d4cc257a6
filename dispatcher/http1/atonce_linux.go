package http1

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// readAtOnce and writeAtOnce read and write a socket that does not block, by the calls
// that are a socket's own: read and write come to them by way of what all files have,
// which takes half a microsecond more for a delivery. The scheduler is not told, which
// it need not be of what does not wait: else it may take the processor from this
// goroutine meanwhile, and look for another thread, and a thread of its own looks each
// 20 µs for who is in a call.
func readAtOnce(fd int, p []byte) (int, error) { return atOnce(unix.SYS_RECVFROM, fd, p) }

func writeAtOnce(fd int, p []byte) (int, error) { return atOnce(unix.SYS_SENDTO, fd, p) }

func atOnce(call uintptr, fd int, p []byte) (int, error) {
	const flags = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL
	for {
		n, _, err := unix.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
		switch err {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return -1, err
		}
	}
}
