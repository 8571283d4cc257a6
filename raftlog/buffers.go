package raftlog

import "slices"

const (
	// largeCommand is from where on a command is not copied once more than it has
	// to be, where it is likely to be the only one of its entry.
	largeCommand = 16 << 10
	// leastBuffer is how large a buffer is made at least that is used again.
	leastBuffer = 64 << 10
)

// newBatch makes a batch whose first command takes so many bytes. Commands are
// gathered in a buffer that is used again, as nobody knows how many come; a large
// one has its own memory at once where the last one was alone. mu is held.
func (c *coalescer) newBatch(size int) *batch {
	b := &batch{done: make(chan struct{})}
	if whole := entryHeaderSize + size; size >= largeCommand && whole >= c.recent {
		b.buf = make([]byte, entryHeaderSize, whole)
	} else {
		b.buf, b.lent = c.buffer(whole)[:entryHeaderSize], true
	}
	b.buf[0] = entryVersion
	return b
}

// buffer is one of at least so many bytes, for a batch in the making; mu is held.
func (c *coalescer) buffer(size int) []byte {
	if p, ok := c.buffers.Get().(*[]byte); ok && cap(*p) >= size {
		return (*p)[:cap(*p)]
	}
	// One that grows does so in few steps, as each leaves garbage behind.
	n := leastBuffer
	for n < size {
		n *= 4
	}
	return make([]byte, max(size, min(n, c.maxEntry)))
}

// grow makes room for so many more bytes; mu is held.
func (c *coalescer) grow(b *batch, size int) {
	if size += len(b.buf); size > cap(b.buf) {
		buf := c.buffer(size)
		b.buf, b.lent = buf[:copy(buf, b.buf)], true
	}
}

// own gives a batch memory of its own, as large as it is: it is kept for long.
func (c *coalescer) own(b *batch) {
	if b.lent {
		buf := b.buf
		b.buf, b.lent = slices.Clone(buf), false
		c.buffers.Put(&buf)
	}
}
