package raftlog

import "slices"

const (
	// largeCommand is from where on a command is not copied once more than it has
	// to be.
	largeCommand = 16 << 10
	// leastBuffer is how large a buffer is made at least that is used again.
	leastBuffer = 64 << 10
)

// newBatch makes a batch whose first command takes so many bytes. Small commands
// are gathered in a buffer that is used again, as nobody knows how many come. mu
// is held.
func (c *coalescer) newBatch(size int) *batch {
	b := &batch{done: make(chan struct{})}
	if size >= largeCommand {
		b.buf = make([]byte, entryHeaderSize, entryHeaderSize+max(size, c.recent))
	} else if p, ok := c.buffers.Get().(*[]byte); ok {
		b.buf, b.lent = (*p)[:entryHeaderSize], true
	} else {
		b.buf, b.lent = make([]byte, entryHeaderSize, leastBuffer), true
	}
	b.buf[0] = entryVersion
	return b
}

// own gives a batch a buffer of its own, which is not much larger than it: it is
// kept in memory for long.
func (c *coalescer) own(b *batch) {
	if !b.lent {
		if cap(b.buf) > 2*len(b.buf) {
			b.buf = slices.Clone(b.buf)
		}
		return
	}
	if cap(b.buf)-len(b.buf) > len(b.buf)/8 {
		buf := b.buf
		b.buf = slices.Clone(buf)
		c.buffers.Put(&buf)
	}
	b.lent = false
}
