// Package vfs is the file system seam: everything the log writes goes through
// an FS, so that tests can lose unsynced data, tear writes, fail the n-th
// operation and fill the disk.
package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"unsafe"
)

// ErrLocked is what Lock gives for a file that another holder has locked.
var ErrLocked = errors.New("locked by another process")

// FS is a file system. Implementations are safe for concurrent use.
type FS interface {
	// Create makes or truncates a file for reading and writing.
	Create(name string) (File, error)
	// Open opens a file for reading.
	Open(name string) (File, error)
	// OpenReadWrite opens an existing file for reading and writing.
	OpenReadWrite(name string) (File, error)
	// OpenDirect opens an existing file for writes that do not pass through the
	// page cache. The error is errors.ErrUnsupported, wrapped, where the file system
	// has no such thing.
	OpenDirect(name string) (DirectFile, error)
	Rename(from, to string) error
	Remove(name string) error
	RemoveAll(name string) error
	// MkdirAll makes a directory and those above it, durably.
	MkdirAll(name string) error
	ReadDir(name string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes creations, renames and removals in a directory durable.
	SyncDir(name string) error
	// Lock takes an exclusive advisory lock on a file, created when absent.
	// It fails at once, with ErrLocked, when another process holds it.
	Lock(name string) (io.Closer, error)
	// Free reports the bytes that an unprivileged writer may still use on the
	// file system that holds name, and its size.
	Free(name string) (free, total uint64, err error)
}

// File is an open file. ReadAt may be called concurrently with all else.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Datasync makes the content, and the length needed to read it, durable.
	Datasync() error
	// Preallocate reserves space for [0, size) and extends the file to size.
	// It fails with ENOSPC when there is no room.
	Preallocate(size int64) error
	Truncate(size int64) error
	Size() (int64, error)
}

// DirectAlign is what the place, the length and the memory of a direct write must
// be multiples of.
const DirectAlign = 4096

// DirectFile is a file that is written past the page cache. Whoever reads it then
// reads what was written, and File's Datasync makes it durable, of any File that
// is open on the same file: until then it may be lost, in part or whole.
type DirectFile interface {
	// WriteAt writes pieces of memory one behind the other, with one call where it
	// can. Each is of whole blocks of DirectAlign bytes, and begins at such a place in
	// memory, as what Blocks made does. The error is errors.ErrUnsupported, wrapped,
	// where the file system cannot do that; then nothing has been written.
	WriteAt(off int64, pieces ...[]byte) (int, error)
	io.Closer
}

// Blocks makes n blocks of memory for direct writes.
func Blocks(n int) []byte {
	b := make([]byte, (n+1)*DirectAlign)
	// Where it lies does not change: the collector does not move what it keeps.
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) % DirectAlign
	return b[skip:][: n*DirectAlign : n*DirectAlign]
}

// Aligned tells whether a write of b to a place may be direct.
func Aligned(b []byte, off int64) bool {
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	return (uint64(off)|uint64(len(b))|uint64(at))%DirectAlign == 0
}

// ReadFile returns what the file at path holds.
func ReadFile(fsys FS, path string) (b []byte, err error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b = make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b, nil
}
