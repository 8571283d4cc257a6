package vfs

import "golang.org/x/sys/unix"

const openDirect = unix.O_DIRECT

func fdatasync(fd int) error { return unix.Fdatasync(fd) }

func fallocate(fd int, size int64) error { return unix.Fallocate(fd, 0, 0, size) }
