package raftlog

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// largePage is the size of the kernel's large pages, in bytes.
const largePage = 2 << 20

// pages is memory in large pages, where the kernel has some to give: it is filled,
// and given to the disk, in half the time. It is as many bytes as are asked for, a
// multiple of largePage; nil: it cannot be had so. It is not the collector's, so
// giveBack has to be called with it.
func pages(size int) []byte {
	if size == 0 || size%largePage != 0 {
		return nil
	}
	all, err := unix.MmapPtr(-1, 0, nil, uintptr(size+largePage), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil
	}
	before := -uintptr(all) % largePage
	mine := unsafe.Add(all, before)
	// What stands before and behind is address space only; it goes at once.
	if before > 0 {
		_ = unix.MunmapPtr(all, before)
	}
	_ = unix.MunmapPtr(unsafe.Add(mine, size), largePage-before)
	b := unsafe.Slice((*byte)(mine), size)
	if unix.Madvise(b, unix.MADV_HUGEPAGE) != nil {
		giveBack(b)
		return nil
	}
	return b
}

func giveBack(b []byte) {
	_ = unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(b)), uintptr(len(b))) // it is ours, so that it cannot fail
}
