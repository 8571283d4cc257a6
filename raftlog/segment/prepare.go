package segment

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/leat-dev/leat/raftlog/vfs"
)

// Names of the files in a log's directory.
const (
	segmentSuffix = ".seg"
	indexSuffix   = ".idx"
	aheadSuffix   = ".ahead"
	recycledExt   = ".recycled"
	temporaryExt  = ".tmp"
)

func segmentName(first uint64) string { return fmt.Sprintf("%020d%s", first, segmentSuffix) }

// prepared is a file of a segment's size that waits to become one.
type prepared struct {
	path       string
	file       vfs.File
	size       int64
	generation uint64
}

// preparer makes the next segment's file ahead of need: recycled where one is
// left over, else new and written once, because a sync into space that has
// never been written commits the file system's journal as well.
type preparer struct {
	o Options

	mu      sync.Mutex
	next    *prepared
	failed  error
	tried   time.Time
	made    chan struct{} // closed, and replaced, after each attempt
	stopped bool

	want chan struct{}
	done chan struct{}
}

func newPreparer(o Options) *preparer {
	return &preparer{o: o, made: make(chan struct{}), want: make(chan struct{}, 1), done: make(chan struct{})}
}

func (p *preparer) start() {
	// What was prepared before a restart may not have been filled; it is of use all the same.
	for _, path := range list(p.o.FS, p.o.Dir, aheadSuffix) {
		if err := p.o.FS.Rename(path, strings.TrimSuffix(path, aheadSuffix)+recycledExt); err != nil {
			p.o.Logger.Warn("a prepared segment is left behind", "file", path, "error", err)
		}
	}
	p.ask()
	go func() {
		defer close(p.done)
		for range p.want {
			p.prepare()
		}
	}()
}

func (p *preparer) ask() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.askLocked()
}

func (p *preparer) askLocked() {
	if p.stopped {
		return
	}
	select {
	case p.want <- struct{}{}:
	default:
	}
}

func (p *preparer) prepare() {
	p.mu.Lock()
	if p.next != nil {
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	n, err := p.make()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next, p.failed, p.tried = n, err, time.Now()
	close(p.made)
	p.made = make(chan struct{})
}

func (p *preparer) make() (_ *prepared, err error) {
	// A name of its own: the file before may not have been renamed yet.
	n := &prepared{size: p.o.SegmentBytes, generation: newGeneration()}
	n.path = filepath.Join(p.o.Dir, fmt.Sprintf("%016x%s", n.generation, aheadSuffix))
	path := n.path
	if old, ok := p.recycled(); ok {
		if err := p.o.FS.Rename(old, path); err != nil {
			return nil, err
		}
		n.file, err = p.o.FS.OpenReadWrite(path)
		return n, err
	}
	if n.file, err = p.o.FS.Create(path); err != nil {
		return nil, err
	}
	if err := fill(n.file, n.size); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare %s: %w", path, err), n.file.Close(), p.o.FS.Remove(path))
	}
	return n, nil
}

// fillChunk is how much is written at once when a file is filled.
const fillChunk = 1 << 20

func fill(f vfs.File, size int64) error {
	if err := f.Preallocate(size); err != nil {
		return err
	}
	zeros := make([]byte, min(fillChunk, size))
	for at := int64(0); at < size; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at); err != nil {
			return err
		}
	}
	return f.Datasync()
}

// recycled finds a dropped segment of the right size.
func (p *preparer) recycled() (string, bool) {
	for _, path := range list(p.o.FS, p.o.Dir, recycledExt) {
		if i, err := p.o.FS.Stat(path); err == nil && i.Size() == p.o.SegmentBytes {
			return path, true
		}
	}
	return "", false
}

func list(fs vfs.FS, dir, ext string) []string {
	entries, err := fs.ReadDir(dir)
	if err != nil {
		return nil
	}
	var paths []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ext) {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths
}

// newGeneration tells one life of a file from all others.
func newGeneration() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:]) | 1
}

// take hands over the prepared file, waiting for it where it is being made.
func (p *preparer) take() (*prepared, error) {
	for first := true; ; first = false {
		p.mu.Lock()
		if n := p.next; n != nil {
			p.next = nil
			p.askLocked()
			p.mu.Unlock()
			return n, nil
		}
		if p.failed != nil && !first {
			defer p.mu.Unlock()
			return nil, p.failed
		}
		made := p.made
		p.askLocked()
		p.mu.Unlock()
		<-made
	}
}

func (p *preparer) ready() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next != nil
}

// retryAfter is how soon a file that could not be made is tried again.
const retryAfter = 500 * time.Millisecond

func (p *preparer) err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next != nil {
		return nil
	}
	if p.failed != nil && time.Since(p.tried) > retryAfter {
		p.askLocked()
	}
	return p.failed
}

func (p *preparer) stop() {
	p.mu.Lock()
	p.stopped = true
	close(p.want)
	p.mu.Unlock()
	<-p.done
	if p.next != nil {
		p.next.file.Close() // it holds nothing
		p.next = nil
	}
}
