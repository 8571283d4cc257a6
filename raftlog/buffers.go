package raftlog

import (
	"slices"
	"sync/atomic"
)

const (
	// largeCommand is from where on a command is not copied once more than it has
	// to be, where it is likely to be the only one of its entry.
	largeCommand = 16 << 10
	// leastBuffer is how large a buffer is made at least that is used again.
	leastBuffer = 64 << 10
)

// Buffer is memory that commands lie in, of one entry or of several that follow
// each other, and that is used again once nobody holds it any more. Its methods
// are safe for concurrent use.
type Buffer struct {
	c    *coalescer
	b    []byte
	held atomic.Int64
	// kept: somebody has held it since the entry that was put into it last.
	kept atomic.Bool
}

// Hold keeps the buffer's content as it is until Release. It is for who knows
// that somebody holds it.
func (b *Buffer) Hold() {
	b.kept.Store(true)
	b.held.Add(1)
}

// Release ends one Hold.
func (b *Buffer) Release() {
	if b.held.Add(-1) > 0 {
		return
	}
	if h := b.c.reused; h != nil {
		h(b.b)
	}
	b.c.buffers.Put(b)
}

// newBatch makes a batch whose first command takes so many bytes. Commands are
// gathered in a buffer that is used again, as nobody knows how many come; one that
// would fill most of it has its own memory at once, as has a large one where the
// last one was alone and entries are not kept in such buffers. mu is held.
func (c *coalescer) newBatch(size int) *batch {
	b := &batch{done: make(chan struct{})}
	whole := entryHeaderSize + size
	if whole > c.maxEntry/2 || !c.reuse && size >= largeCommand && whole >= c.recent {
		b.buf = make([]byte, entryHeaderSize, whole)
	} else {
		b.lent = c.buffer(whole)
		b.buf = b.lent.b[:entryHeaderSize]
	}
	b.buf[0] = entryVersion
	return b
}

// buffer is one of at least so many bytes.
func (c *coalescer) buffer(size int) *Buffer {
	if b, ok := c.buffers.Get().(*Buffer); ok && cap(b.b) >= size {
		b.held.Store(1)
		return b
	}
	// One that grows does so in few steps, as each leaves garbage behind; one that
	// entries may be kept in is as large as any.
	n := leastBuffer
	for n < size || c.reuse && n < c.maxEntry {
		n *= 4
	}
	b := &Buffer{c: c, b: make([]byte, max(size, min(n, c.maxEntry)))}
	b.held.Store(1)
	return b
}

// grow makes room for so many more bytes; mu is held.
func (c *coalescer) grow(b *batch, size int) {
	if size += len(b.buf); size > cap(b.buf) {
		lent := c.buffer(size)
		b.buf, b.lent = lent.b[:copy(lent.b, b.buf)], lent
	}
}

// own gives a batch the memory that it is kept in, which may be for long: as little
// as it needs, or its part of a buffer that is used again.
func (c *coalescer) own(b *batch) {
	lent := b.lent
	if lent == nil {
		return
	}
	if !c.reuse {
		b.buf, b.lent = slices.Clone(b.buf), nil
		lent.Release()
		return
	}
	if len(b.buf) > cap(lent.b)/2 {
		return // it keeps that whole
	}
	if c.slab == nil || len(b.buf) > cap(c.slab.b)-c.filled {
		if c.slab != nil {
			c.slab.Release()
		}
		c.slab, c.filled = c.buffer(c.maxEntry), 0
	}
	c.slab.kept.Store(false)
	mine := c.slab.b[c.filled : c.filled+len(b.buf) : c.filled+len(b.buf)]
	c.filled += copy(mine, b.buf)
	c.slab.held.Add(1)
	b.buf, b.lent = mine, c.slab
	lent.Release()
}

// takeBack has the place of a batch that was committed free again, where nobody keeps
// any of it: else entries that leave nothing behind would fill buffers which others
// have to keep.
func (c *coalescer) takeBack(b *batch) {
	if b.lent == nil || b.lent != c.slab || b.lent.kept.Load() {
		return
	}
	c.filled -= len(b.buf)
	if c.reused != nil {
		c.reused(b.buf)
	}
}
