//go:build !linux

package vfs

import (
	"errors"

	"golang.org/x/sys/unix"
)

const openDirect = 0

func fdatasync(fd int) error { return unix.Fsync(fd) }

func pwritev(fd int, pieces [][]byte, off int64) (int, error) {
	return unix.Pwrite(fd, pieces[0], off)
}

func fallocate(int, int64) error { return errors.ErrUnsupported }
