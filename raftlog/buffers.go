package raftlog

import (
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/leat-dev/leat/raftlog/segment"
	"github.com/leat-dev/leat/raftlog/vfs"
)

const (
	// largeCommand is from where on a command is not copied once more than it has
	// to be, where it is likely to be the only one of its entry.
	largeCommand = 16 << 10
	// copiedBeside is from where on a command is copied, and summed, while others are:
	// below, what that takes is more than what it saves.
	copiedBeside = 32 << 10
	// largeEntry is how many bytes an entry has at least that is not copied to where
	// it is kept.
	largeEntry = 64 << 10
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
// gathered in a buffer that is used again, as nobody knows how many come. Where
// entries are not kept in such buffers one that would fill most of it has its own
// memory at once, as has a large one where the last one was alone. mu is held.
func (c *coalescer) newBatch(size int) *batch {
	b := c.emptyBatch()
	whole := entryHeaderSize + size
	switch {
	case c.reuse && whole <= c.maxEntry:
		b.lent, b.space = c.takeSpace(whole)
		b.buf = inPlace(b.space, c.nextAt())
	case c.reuse:
		b.buf = inPlace(vfs.Blocks(whole/vfs.DirectAlign+2), c.nextAt())
	case whole > c.maxEntry/2 || size >= largeCommand && whole >= c.recent:
		b.buf = make([]byte, 0, whole)
	default:
		b.lent = c.buffer(whole)
		b.buf = b.lent.b[:0]
	}
	b.buf = b.buf[:entryHeaderSize]
	b.buf[0] = entryVersion
	return b
}

// takes says whether a batch has room for so many more bytes.
func (c *coalescer) takes(b *batch, size int) bool {
	size += len(b.buf)
	return size <= c.maxEntry && (!c.reuse || size <= cap(b.buf))
}

// takeSpace is what a batch is gathered in, in whole blocks, and the buffer that it
// lies in, which is held: what the last large one has left, or a buffer. mu is held.
func (c *coalescer) takeSpace(size int) (*Buffer, []byte) {
	if in, space := c.spaceIn, c.space; in != nil {
		c.spaceIn, c.space = nil, nil
		if most := len(space) - vfs.DirectAlign; most >= max(size, c.maxEntry/4) {
			return in, space
		}
		in.Release()
	}
	b := c.buffer(size)
	return b, b.b
}

// leaveSpace is for what a batch does not need of what it was gathered in: the next
// one may, unless another has left some. The hold of the buffer goes with it.
func (c *coalescer) leaveSpace(b *Buffer, space []byte) {
	if len(space) == len(b.b) {
		b.Release() // nobody else has some of it
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.spaceIn != nil {
		b.Release()
		return
	}
	c.spaceIn, c.space = b, space
}

// inPlace is the memory for an entry in some blocks: where it lies in its block as
// it will in the file, the disk can be given it as it is.
func inPlace(blocks []byte, at int64) []byte { return blocks[at%vfs.DirectAlign:][:0] }

// nextAt is where in its file the entry begins that comes behind all there are, if
// these are the next to be written, and into one segment; mu is held.
func (c *coalescer) nextAt() (at int64) {
	switch {
	case c.dataAt == nil:
		return 0
	case c.flying != nil:
		at = c.flying.behind
	default:
		at = c.dataAt(0)
	}
	for _, b := range c.queue {
		at = segment.DataBehind(at, len(b.buf))
	}
	return at
}

// buffer is one of at least so many bytes.
func (c *coalescer) buffer(size int) *Buffer {
	if b, ok := c.buffers.Get().(*Buffer); ok && cap(b.b) >= size {
		b.held.Store(1)
		return b
	}
	// One that grows does so in few steps, as each leaves garbage behind; one that
	// entries may be kept in is as large as any.
	b := &Buffer{c: c}
	if c.reuse {
		b.fill(max(2*c.maxEntry, c.maxEntry+vfs.DirectAlign))
	} else {
		n := leastBuffer
		for n < size {
			n *= 4
		}
		b.b = make([]byte, max(size, min(n, c.maxEntry)))
	}
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

// fill gives a buffer its memory, in whole blocks: room for two entries.
func (b *Buffer) fill(size int) {
	if b.b = pages(size); b.b != nil {
		runtime.AddCleanup(b, giveBack, b.b)
		return
	}
	b.b = vfs.Blocks((size + vfs.DirectAlign - 1) / vfs.DirectAlign)
}

// own gives a batch the memory that it is kept in, which may be for long: as little
// as it needs, or its part of a buffer that is used again. A large one stays where it
// was gathered.
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
	if len(b.buf) >= largeEntry {
		used := (cap(b.space) - cap(b.buf) + len(b.buf) + vfs.DirectAlign - 1) &^ (vfs.DirectAlign - 1)
		b.buf = b.buf[:len(b.buf):len(b.buf)]
		if used < len(b.space) {
			lent.held.Add(1)
			c.leaveSpace(lent, b.space[used:])
		}
		return
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
	c.leaveSpace(lent, b.space)
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
