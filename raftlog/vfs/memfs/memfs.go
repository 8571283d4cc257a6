// Package memfs is a file system in memory that can tell what a power cut would
// leave of it.
package memfs

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/leat-dev/leat/raftlog/vfs"
)

// Sector is the unit, in bytes, that a power cut leaves either whole or
// untouched.
const Sector = 512

// FS is a file system in memory; New makes one.
type FS struct {
	mu       sync.Mutex
	capacity int64 // bytes in files; 0: no bound
	names    map[string]*node
	dirs     map[string]bool
	// durable is what the names were at the last SyncDir of their directory, and
	// pending what was done to them since, in order, by directory.
	durable map[string]*node
	pending map[string][]change
	locked  map[string]bool
}

var _ vfs.FS = (*FS)(nil)

// change gives a name a node, or takes it away (nil).
type change struct {
	name string
	node *node
}

type node struct {
	data   []byte
	synced []byte         // data at the last Datasync
	dirty  map[int64]bool // sectors written since
	cut    bool           // shortened since
}

// New makes an empty file system. Its files hold at most capacity bytes
// together, beyond which operations give ENOSPC; 0 means no bound.
func New(capacity int64) *FS {
	return &FS{
		capacity: capacity,
		names:    map[string]*node{},
		dirs:     map[string]bool{"/": true, ".": true},
		durable:  map[string]*node{},
		pending:  map[string][]change{},
		locked:   map[string]bool{},
	}
}

// SetCapacity changes the bound on the bytes in files.
func (m *FS) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

// CrashClone is what a power cut now could leave: what was synced, and of what
// was not a share (0 to 1) of the sectors, chosen by r. Of the names changed in
// a directory since it was synced the first few, in order, remain changed.
func (m *FS) CrashClone(r *rand.Rand, share float64) *FS {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := New(m.capacity)
	maps.Copy(c.dirs, m.dirs)
	names := maps.Clone(m.durable)
	for _, dir := range slices.Sorted(maps.Keys(m.pending)) {
		list := m.pending[dir]
		keep := 0
		for keep < len(list) && r.Float64() < share {
			keep++
		}
		for _, ch := range list[:keep] {
			set(names, ch)
		}
	}
	clones := map[*node]*node{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		n := names[name]
		if clones[n] == nil {
			clones[n] = n.crash(r, share)
		}
		c.names[name] = clones[n]
		c.durable[name] = clones[n]
	}
	return c
}

// Clone copies everything, as it is seen by a process that starts after this one
// was killed: the machine went on.
func (m *FS) Clone() *FS {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := New(m.capacity)
	maps.Copy(c.dirs, m.dirs)
	clones := map[*node]*node{}
	dup := func(n *node) *node {
		if n == nil {
			return nil
		}
		if clones[n] == nil {
			clones[n] = &node{data: slices.Clone(n.data), synced: slices.Clone(n.synced), dirty: maps.Clone(n.dirty), cut: n.cut}
		}
		return clones[n]
	}
	for name, n := range m.names {
		c.names[name] = dup(n)
	}
	for name, n := range m.durable {
		c.durable[name] = dup(n)
	}
	for dir, list := range m.pending {
		for _, ch := range list {
			c.pending[dir] = append(c.pending[dir], change{name: ch.name, node: dup(ch.node)})
		}
	}
	return c
}

func (n *node) crash(r *rand.Rand, share float64) *node {
	data := slices.Clone(n.synced)
	if len(n.data) != len(n.synced) && r.Float64() < share {
		data = resize(data, len(n.data))
	}
	for _, s := range slices.Sorted(maps.Keys(n.dirty)) {
		if r.Float64() >= share {
			continue
		}
		from := s * Sector
		to := min(from+Sector, int64(len(n.data)), int64(len(data)))
		if from < to {
			copy(data[from:to], n.data[from:to])
		}
	}
	return &node{data: data, synced: slices.Clone(data), dirty: map[int64]bool{}}
}

func resize(b []byte, size int) []byte {
	if size <= len(b) {
		return b[:size:size]
	}
	return append(b, make([]byte, size-len(b))...)
}

func set(names map[string]*node, c change) {
	if c.node == nil {
		delete(names, c.name)
		return
	}
	names[c.name] = c.node
}

// note changes a name now, and leaves the change to be synced.
func (m *FS) note(c change) {
	set(m.names, c)
	dir := filepath.Dir(c.name)
	m.pending[dir] = append(m.pending[dir], c)
}

func (m *FS) used() int64 {
	var n int64
	for _, f := range m.names {
		n += int64(len(f.data))
	}
	return n
}

func (m *FS) grow(n *node, size int, op string) error {
	if more := int64(size - len(n.data)); m.capacity > 0 && more > 0 && m.used()+more > m.capacity {
		return &fs.PathError{Op: op, Path: "memory", Err: syscall.ENOSPC}
	}
	if size > len(n.data) {
		n.data = resize(n.data, size)
	}
	return nil
}

func missing(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

// Create implements vfs.FS.
func (m *FS) Create(name string) (vfs.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = filepath.Clean(name)
	if !m.dirs[filepath.Dir(name)] {
		return nil, missing("create", name)
	}
	n := m.names[name]
	if n == nil {
		n = &node{dirty: map[int64]bool{}}
		m.note(change{name: name, node: n})
	}
	n.data, n.cut = nil, true
	return &file{fs: m, node: n, name: name, writable: true}, nil
}

// Open implements vfs.FS.
func (m *FS) Open(name string) (vfs.File, error) { return m.open(name, false) }

// OpenReadWrite implements vfs.FS.
func (m *FS) OpenReadWrite(name string) (vfs.File, error) { return m.open(name, true) }

// OpenDirect implements vfs.FS. As there is no cache, a direct write is one like
// others, but that it must be aligned.
func (m *FS) OpenDirect(name string) (vfs.DirectFile, error) {
	f, err := m.open(name, true)
	if err != nil {
		return nil, err
	}
	return directFile{f}, nil
}

func (m *FS) open(name string, writable bool) (vfs.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = filepath.Clean(name)
	n := m.names[name]
	if n == nil {
		return nil, missing("open", name)
	}
	return &file{fs: m, node: n, name: name, writable: writable}, nil
}

// Rename implements vfs.FS.
func (m *FS) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, to = filepath.Clean(from), filepath.Clean(to)
	n := m.names[from]
	if n == nil {
		return missing("rename", from)
	}
	if from == to {
		return nil
	}
	// One change after the other: a crash between them leaves both names, which
	// is more than a journal would do and never less.
	m.note(change{name: to, node: n})
	m.note(change{name: from})
	return nil
}

// Remove implements vfs.FS.
func (m *FS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = filepath.Clean(name)
	if m.names[name] == nil {
		return missing("remove", name)
	}
	m.note(change{name: name})
	return nil
}

// RemoveAll implements vfs.FS. Directories are gone at once and for good.
func (m *FS) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = filepath.Clean(name)
	for _, n := range slices.Sorted(maps.Keys(m.names)) {
		if n == name || strings.HasPrefix(n, name+"/") {
			m.note(change{name: n})
		}
	}
	for d := range m.dirs {
		if d == name || strings.HasPrefix(d, name+"/") {
			delete(m.dirs, d)
		}
	}
	return nil
}

// MkdirAll implements vfs.FS. Directories are durable at once.
func (m *FS) MkdirAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for d := filepath.Clean(name); !m.dirs[d]; d = filepath.Dir(d) {
		if m.names[d] != nil {
			return &fs.PathError{Op: "mkdir", Path: d, Err: syscall.ENOTDIR}
		}
		m.dirs[d] = true
	}
	return nil
}

// ReadDir implements vfs.FS.
func (m *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = filepath.Clean(name)
	if !m.dirs[name] {
		return nil, missing("readdir", name)
	}
	var list []fs.DirEntry
	for n, f := range m.names {
		if filepath.Dir(n) == name {
			list = append(list, fs.FileInfoToDirEntry(info{name: filepath.Base(n), size: int64(len(f.data))}))
		}
	}
	for d := range m.dirs {
		if d != name && filepath.Dir(d) == name {
			list = append(list, fs.FileInfoToDirEntry(info{name: filepath.Base(d), dir: true}))
		}
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

// Stat implements vfs.FS.
func (m *FS) Stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = filepath.Clean(name)
	if n := m.names[name]; n != nil {
		return info{name: filepath.Base(name), size: int64(len(n.data))}, nil
	}
	if m.dirs[name] {
		return info{name: filepath.Base(name), dir: true}, nil
	}
	return nil, missing("stat", name)
}

// SyncDir implements vfs.FS.
func (m *FS) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = filepath.Clean(name)
	if !m.dirs[name] {
		return missing("syncdir", name)
	}
	for _, c := range m.pending[name] {
		set(m.durable, c)
	}
	delete(m.pending, name)
	return nil
}

// Lock implements vfs.FS, among the users of this FS.
func (m *FS) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = filepath.Clean(name)
	if m.locked[name] {
		return nil, fmt.Errorf("lock %s: %w", name, vfs.ErrLocked)
	}
	m.locked[name] = true
	return unlock(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.locked, name)
	}), nil
}

type unlock func()

func (u unlock) Close() error {
	u()
	return nil
}

// Free implements vfs.FS. Without a bound a terabyte is free.
func (m *FS) Free(string) (free, total uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.capacity == 0 {
		return 1 << 40, 1 << 40, nil
	}
	return uint64(max(0, m.capacity-m.used())), uint64(m.capacity), nil
}
