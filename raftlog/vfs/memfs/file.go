package memfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"syscall"
	"time"

	"github.com/leat-dev/leat/raftlog/vfs"
)

type info struct {
	name string
	size int64
	dir  bool
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.dir }
func (i info) Sys() any           { return nil }
func (i info) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o700
	}
	return 0o600
}

type file struct {
	fs       *FS
	node     *node
	name     string
	writable bool
	closed   bool // guarded by fs.mu
}

func (f *file) check(op string, write bool) error {
	switch {
	case f.closed:
		return &fs.PathError{Op: op, Path: f.name, Err: fs.ErrClosed}
	case write && !f.writable:
		return &fs.PathError{Op: op, Path: f.name, Err: syscall.EBADF}
	}
	return nil
}

// ReadAt implements vfs.File.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check("read", false); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, errors.New("memfs: negative offset")
	}
	if off >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements vfs.File.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check("write", true); err != nil {
		return 0, err
	}
	if err := f.fs.grow(f.node, int(off)+len(p), "write"); err != nil {
		return 0, err
	}
	copy(f.node.data[off:], p)
	for s := off / Sector; s*Sector < off+int64(len(p)); s++ {
		f.node.dirty[s] = true
	}
	return len(p), nil
}

type directFile struct{ f vfs.File }

// WriteAt implements vfs.DirectFile.
func (d directFile) WriteAt(off int64, pieces ...[]byte) (int, error) {
	for _, p := range pieces {
		if !vfs.Aligned(p, off) {
			return 0, fmt.Errorf("memfs: a direct write of %d bytes at %d is not aligned: %w", len(p), off, syscall.EINVAL)
		}
	}
	return d.f.WriteAt(bytes.Join(pieces, nil), off)
}

// Close implements vfs.DirectFile.
func (d directFile) Close() error { return d.f.Close() }

// Datasync implements vfs.File.
func (f *file) Datasync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check("sync", true); err != nil {
		return err
	}
	n := f.node
	if n.cut || len(n.synced) != len(n.data) {
		n.synced, n.cut = slices.Clone(n.data), false
	} else {
		for s := range n.dirty {
			from := min(s*Sector, int64(len(n.data)))
			to := min(from+Sector, int64(len(n.data)))
			copy(n.synced[from:to], n.data[from:to])
		}
	}
	clear(n.dirty)
	return nil
}

// Preallocate implements vfs.File.
func (f *file) Preallocate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check("preallocate", true); err != nil {
		return err
	}
	return f.fs.grow(f.node, int(size), "preallocate")
}

// Truncate implements vfs.File.
func (f *file) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check("truncate", true); err != nil {
		return err
	}
	if size < int64(len(f.node.data)) {
		f.node.data, f.node.cut = f.node.data[:size:size], true
		return nil
	}
	return f.fs.grow(f.node, int(size), "truncate")
}

// Size implements vfs.File.
func (f *file) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check("size", false); err != nil {
		return 0, err
	}
	return int64(len(f.node.data)), nil
}

// Close implements vfs.File.
func (f *file) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check("close", false); err != nil {
		return err
	}
	f.closed = true
	return nil
}
