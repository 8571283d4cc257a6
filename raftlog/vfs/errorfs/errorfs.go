// Package errorfs wraps a file system so that a test sees each operation before
// it runs, and can make it fail.
package errorfs

import (
	"io"
	"io/fs"
	"slices"
	"sync/atomic"

	"github.com/leat-dev/leat/raftlog/vfs"
)

// Op is a kind of operation.
type Op string

// The operations that are shown to a Hook.
const (
	Create      Op = "create"
	Open        Op = "open"
	Rename      Op = "rename"
	Remove      Op = "remove"
	Mkdir       Op = "mkdir"
	ReadDir     Op = "readdir"
	Stat        Op = "stat"
	SyncDir     Op = "syncdir"
	Lock        Op = "lock"
	Free        Op = "free"
	Read        Op = "read"
	Write       Op = "write"
	Sync        Op = "sync"
	Preallocate Op = "preallocate"
	Truncate    Op = "truncate"
)

// Mutations are the operations that change what is on the disk.
func Mutations() []Op {
	return []Op{Create, Rename, Remove, Mkdir, SyncDir, Write, Sync, Preallocate, Truncate}
}

// Hook is called before an operation on the named file; an error that it
// returns is the operation's outcome, and the operation does not run. It may be
// called from several goroutines at once.
type Hook func(op Op, name string) error

// Nth fails operation number n, counted from 1, of the given kinds (of any,
// when none are given), once.
type Nth struct {
	n    int64
	err  error
	ops  []Op
	seen atomic.Int64
}

// NewNth makes a Nth; its method Hook goes to Wrap.
func NewNth(n int, err error, ops ...Op) *Nth {
	return &Nth{n: int64(n), err: err, ops: ops}
}

// Hook is a Hook.
func (c *Nth) Hook(op Op, _ string) error {
	if len(c.ops) > 0 && !slices.Contains(c.ops, op) {
		return nil
	}
	if c.seen.Add(1) == c.n {
		return c.err
	}
	return nil
}

// Failed tells whether the operation has been reached.
func (c *Nth) Failed() bool { return c.seen.Load() >= c.n }

// Wrap shows every operation on inner to the hook first. A write that fails has
// written the first half of its bytes.
func Wrap(inner vfs.FS, hook Hook) vfs.FS { return &hooked{inner: inner, hook: hook} }

type hooked struct {
	inner vfs.FS
	hook  Hook
}

func (h *hooked) open(op Op, name string, open func(string) (vfs.File, error)) (vfs.File, error) {
	if err := h.hook(op, name); err != nil {
		return nil, err
	}
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	return &file{inner: f, name: name, hook: h.hook}, nil
}

func (h *hooked) Create(name string) (vfs.File, error) { return h.open(Create, name, h.inner.Create) }
func (h *hooked) Open(name string) (vfs.File, error)   { return h.open(Open, name, h.inner.Open) }
func (h *hooked) OpenReadWrite(name string) (vfs.File, error) {
	return h.open(Open, name, h.inner.OpenReadWrite)
}

// OpenDirect is an Open, and what is written so a Write: a failed one has written
// half of its blocks.
func (h *hooked) OpenDirect(name string) (vfs.DirectFile, error) {
	if err := h.hook(Open, name); err != nil {
		return nil, err
	}
	f, err := h.inner.OpenDirect(name)
	if err != nil {
		return nil, err
	}
	return &directFile{inner: f, name: name, hook: h.hook}, nil
}

func (h *hooked) Rename(from, to string) error {
	if err := h.hook(Rename, from); err != nil {
		return err
	}
	return h.inner.Rename(from, to)
}

func (h *hooked) Remove(name string) error {
	if err := h.hook(Remove, name); err != nil {
		return err
	}
	return h.inner.Remove(name)
}

func (h *hooked) RemoveAll(name string) error {
	if err := h.hook(Remove, name); err != nil {
		return err
	}
	return h.inner.RemoveAll(name)
}

func (h *hooked) MkdirAll(name string) error {
	if err := h.hook(Mkdir, name); err != nil {
		return err
	}
	return h.inner.MkdirAll(name)
}

func (h *hooked) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := h.hook(ReadDir, name); err != nil {
		return nil, err
	}
	return h.inner.ReadDir(name)
}

func (h *hooked) Stat(name string) (fs.FileInfo, error) {
	if err := h.hook(Stat, name); err != nil {
		return nil, err
	}
	return h.inner.Stat(name)
}

func (h *hooked) SyncDir(name string) error {
	if err := h.hook(SyncDir, name); err != nil {
		return err
	}
	return h.inner.SyncDir(name)
}

func (h *hooked) Lock(name string) (io.Closer, error) {
	if err := h.hook(Lock, name); err != nil {
		return nil, err
	}
	return h.inner.Lock(name)
}

func (h *hooked) Free(name string) (free, total uint64, err error) {
	if err := h.hook(Free, name); err != nil {
		return 0, 0, err
	}
	return h.inner.Free(name)
}

type file struct {
	inner vfs.File
	name  string
	hook  Hook
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if err := f.hook(Read, f.name); err != nil {
		return 0, err
	}
	return f.inner.ReadAt(p, off)
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if err := f.hook(Write, f.name); err != nil {
		n, _ := f.inner.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return f.inner.WriteAt(p, off)
}

func (f *file) Datasync() error {
	if err := f.hook(Sync, f.name); err != nil {
		return err
	}
	return f.inner.Datasync()
}

func (f *file) Preallocate(size int64) error {
	if err := f.hook(Preallocate, f.name); err != nil {
		return err
	}
	return f.inner.Preallocate(size)
}

func (f *file) Truncate(size int64) error {
	if err := f.hook(Truncate, f.name); err != nil {
		return err
	}
	return f.inner.Truncate(size)
}

type directFile struct {
	inner vfs.DirectFile
	name  string
	hook  Hook
}

func (f *directFile) WriteAt(off int64, pieces ...[]byte) (int, error) {
	if err := f.hook(Write, f.name); err != nil {
		n, _ := f.inner.WriteAt(off, half(pieces)...)
		return n, err
	}
	return f.inner.WriteAt(off, pieces...)
}

// half is the first half of the blocks that pieces have.
func half(pieces [][]byte) (some [][]byte) {
	left := 0
	for _, p := range pieces {
		left += len(p)
	}
	left = left / 2 &^ (vfs.DirectAlign - 1)
	for _, p := range pieces {
		n := min(left, len(p))
		some, left = append(some, p[:n]), left-n
	}
	return some
}

func (f *directFile) Close() error { return f.inner.Close() }

func (f *file) Size() (int64, error) { return f.inner.Size() }
func (f *file) Close() error         { return f.inner.Close() }
