package broker

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
)

// bodies reads request bodies into memory that is bounded in all. Memory is
// taken as bytes arrive, never on the word of a Content-Length alone: a body
// begins with a small buffer, unless most of one has come already, goes on with a
// medium one, then by fours. So a peer who sends nothing, or slowly, holds little.
//
// One broker or channel may hold a share of it, so that large events sent to one
// leave room for the others. Small buffers do not count for that: requests have a
// bound of their own.
type bodies struct {
	limit  int64
	used   atomic.Int64
	share  int64
	mu     sync.Mutex
	shares map[string]int64          // bytes by the UID of a channel that holds some
	pools  [len(bodySizes)]sync.Pool // of *[]byte
}

// The smallest buffers, and those that a body goes on with, in bytes.
const (
	smallBody  = 4 << 10
	mediumBody = 64 << 10
)

// bodySizes are the sizes of buffers that are kept for later requests, until
// they have not been used for a while (sync.Pool). A body leaves at most half of
// one unused, but for the two smallest; what is larger is made for its request alone.
var bodySizes = [...]int64{smallBody, mediumBody, 128 << 10, 256 << 10, 512 << 10, 1 << 20}

// mediumSize is the number of mediumBody.
const mediumSize = 1

// unpooled is the number of a buffer's size that is none of bodySizes.
const unpooled = -1

// bodySize is the size of the buffer for so many bytes, and its number.
func bodySize(size int64) (int64, int) {
	for i, s := range bodySizes {
		if size <= s {
			return s, i
		}
	}
	return size, unpooled
}

// body is a request's body. Its bytes are good until it is released.
type body struct {
	of       string // the UID of the channel that it goes to
	bytes    []byte
	reserved int64
	shared   int64   // of what its channel may have
	pooled   *[]byte // nil: the memory is this request's alone, or another's
	size     int     // of pooled, in bodySizes
}

func (b *bodies) init(limit, share int64) {
	b.limit, b.share, b.shares = limit, share, map[string]int64{}
	for i, size := range bodySizes {
		b.pools[i].New = func() any { buf := make([]byte, size); return &buf }
	}
}

// read reads a body of at most limit bytes; length is the Content-Length, -1
// where there is none. The body must be released, also after an error.
func (b *bodies) read(into *body, from io.Reader, length, limit int64) error {
	if length > limit {
		return tooLarge(length, limit)
	}
	first := int64(smallBody)
	if in, ok := from.(interface{ Buffered() int }); ok && in.Buffered() >= smallBody/2 && length > smallBody {
		first = mediumBody // what is left of a small one would have to be read by itself
	}
	if err := b.grow(into, first); err != nil {
		return err
	}
	for length < 0 || int64(len(into.bytes)) < length {
		if len(into.bytes) == cap(into.bytes) {
			// One byte more than there may be is room to see that it is too much.
			want := min(4*int64(cap(into.bytes)), limit+1)
			if length >= 0 {
				want = min(want, length)
			}
			if err := b.grow(into, want); err != nil {
				return err
			}
		}
		n, err := from.Read(into.bytes[len(into.bytes):cap(into.bytes)])
		into.bytes = into.bytes[:len(into.bytes)+n]
		switch {
		case int64(len(into.bytes)) > limit:
			return refuse(http.StatusRequestEntityTooLarge, "the body is over the limit of %d bytes; nothing was accepted", limit)
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return refuse(http.StatusRequestTimeout, "the body came too slowly: %d bytes in the time there is for a request", len(into.bytes))
		case err != nil:
			return refuse(http.StatusBadRequest, "the body broke off after %d bytes: %v", len(into.bytes), err)
		}
	}
	return nil
}

// borrow makes a body of one that is in memory already, in the buffer that its
// request came in: that counts as a small one, and for its channel as what it is; all
// of a large one is counted already (buffers).
func (b *bodies) borrow(into *body, whole []byte, large bool, limit int64) error {
	if n := int64(len(whole)); n > limit {
		return tooLarge(n, limit)
	}
	share := int64(smallBody)
	if large {
		share = mediumBody
	}
	if err := b.takeShare(into.of, share); err != nil {
		return err
	}
	if err := b.reserve(smallBody); err != nil {
		b.giveShare(into.of, share)
		return err
	}
	*into = body{of: into.of, bytes: whole, reserved: smallBody, shared: share}
	return nil
}

// buffers are those that requests of a loop come in which are not small.
type buffers struct{ *bodies }

// Size implements http1.Buffers.
func (buffers) Size() int { return mediumBody }

// Get implements http1.Buffers.
func (b buffers) Get() *[]byte {
	if !b.count(mediumBody) {
		return nil
	}
	return b.pools[mediumSize].Get().(*[]byte)
}

// Put implements http1.Buffers.
func (b buffers) Put(buf *[]byte) {
	b.pools[mediumSize].Put(buf)
	b.used.Add(-mediumBody)
}

// grow gives a body room for size bytes in all, keeping what it has.
func (b *bodies) grow(into *body, size int64) error {
	size, n := bodySize(size)
	if err := b.takeShare(into.of, size); err != nil {
		return err
	}
	if err := b.reserve(size); err != nil {
		b.giveShare(into.of, size)
		return err
	}
	old := *into
	*into = body{of: old.of, reserved: size, shared: size, size: n}
	if n == unpooled {
		into.bytes = append(make([]byte, 0, size), old.bytes...)
	} else {
		into.pooled = b.pools[n].Get().(*[]byte)
		into.bytes = append((*into.pooled)[:0], old.bytes...)
	}
	b.release(&old)
	return nil
}

// count counts memory that is about to be taken. It says no where there is not so much.
func (b *bodies) count(size int64) bool {
	if b.used.Add(size) > b.limit {
		b.used.Add(-size)
		return false
	}
	return true
}

// reserve is count, with an error where there is not so much.
func (b *bodies) reserve(size int64) error {
	if !b.count(size) {
		return refuse(http.StatusServiceUnavailable, "the bodies of the requests at hand fill the %d bytes there are for them; send again later", b.limit).short(ShortageMemory)
	}
	return nil
}

// takeShare counts memory that a channel's body is about to take.
func (b *bodies) takeShare(of string, size int64) error {
	if size <= smallBody {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shares[of]+size > b.share {
		return refuse(http.StatusTooManyRequests, "the bodies of the requests to this one at hand fill the %d bytes that each may have; send again later", b.share)
	}
	b.shares[of] += size
	return nil
}

func (b *bodies) giveShare(of string, size int64) {
	if size <= smallBody {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shares[of] -= size; b.shares[of] <= 0 {
		delete(b.shares, of)
	}
}

func tooLarge(length, limit int64) error {
	return refuse(http.StatusRequestEntityTooLarge, "a body of %d bytes is over the limit of %d; nothing was accepted", length, limit)
}

// release gives a body's memory back.
func (b *bodies) release(from *body) {
	if from.reserved == 0 {
		return
	}
	if from.pooled != nil {
		b.pools[from.size].Put(from.pooled)
	}
	b.used.Add(-from.reserved)
	b.giveShare(from.of, from.shared)
	*from = body{}
}
