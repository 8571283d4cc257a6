//go:build !linux

package http1

import (
	"errors"

	"golang.org/x/sys/unix"
)

// readAtOnce and writeAtOnce read and write a socket that does not block.
func readAtOnce(fd int, p []byte) (int, error) { return atOnce(unix.Read, fd, p) }

func writeAtOnce(fd int, p []byte) (int, error) { return atOnce(unix.Write, fd, p) }

func atOnce(call func(int, []byte) (int, error), fd int, p []byte) (int, error) {
	for {
		if n, err := call(fd, p); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
