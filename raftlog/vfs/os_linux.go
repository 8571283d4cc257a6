package vfs

import "golang.org/x/sys/unix"

const openDirect = unix.O_DIRECT

func fdatasync(fd int) error { return unix.Fdatasync(fd) }

func pwritev(fd int, pieces [][]byte, off int64) (int, error) { return unix.Pwritev(fd, pieces, off) }

func fallocate(fd int, size int64) error { return unix.Fallocate(fd, 0, 0, size) }
