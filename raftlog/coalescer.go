package raftlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/leat-dev/leat/raftlog/segment"
)

// entryVersion is the first byte of an entry's data. What follows is the log
// time (8 bytes, little endian, microseconds since the Unix epoch), then the
// commands, each with its length as a uvarint before it.
const (
	entryVersion    = 1
	entryHeaderSize = 1 + 8
)

// sizeOf is how many bytes the pieces have that a command is made of.
func sizeOf(cmd [][]byte) (n int) {
	for _, piece := range cmd {
		n += len(piece)
	}
	return n
}

// batch is one entry in the making and those who wait for it.
type batch struct {
	buf  []byte
	lent *Buffer // what buf lies in, where that is used again
	// space is what of it the batch may use, where entries are kept there.
	space  []byte
	behind int64 // where in its file the entry after it begins; set when it is cut
	// copying is how many commands are on their way into it, and sums are those of
	// such, once they are there.
	copying int
	sums    []segment.Sum
	n       int
	size    int64 // what it counts against the bound of pending bytes
	// done is closed when it is known what has become of the batch; nil: nobody
	// waits on it, so that the batch may be used again.
	done chan struct{}
	// waiters are those who began commands and do not wait on done.
	waiters []waiter
	// Set before done is closed.
	results []any
	err     error
}

// end tells those who wait on done.
func (b *batch) end() {
	if b.done != nil {
		close(b.done)
	}
}

// coalescer packs the commands of many callers into one raft entry: while one
// entry is on its way to disk, what arrives is packed into the next. One entry
// is in flight; there is no added wait when idle.
type coalescer struct {
	commit     commitFunc
	room       func(context.Context, Class) error
	now        func() time.Time
	maxEntry   int
	maxPending int64
	// entry, unless nil, is told of each entry.
	entry func(commands, bytes int, err error)
	// proposed, unless nil, is told of each command that was begun, and name is
	// the group's, for its error.
	proposed func(Class, time.Duration, error)
	name     string

	mu       sync.Mutex
	queue    []*batch    // the last one takes more; those before are full
	pending  int64       // bytes in queue and in flight
	lastTime int64       // log time; never goes back
	recent   int         // bytes of the last batch: the next one is likely to be as large
	flying   *batch      // the entry that is in flight; nil: none is
	late     *time.Timer // fires when the time of some waiter may have passed; nil: none waits
	crowded  bool        // the last one held several commands
	closed   bool
	copied   *sync.Cond // somebody has copied the last command that was on its way into a batch
	// beginning is when the first command began since the last flush; zero: none has.
	beginning time.Time
	spare     [][]waiter // room for those who wait for later batches
	unused    []*batch   // for later ones

	// reuse: entries are kept in memory that is used again, too. reused, unless nil,
	// is given such memory before that.
	reuse   bool
	reused  func([]byte)
	buffers sync.Pool // of *Buffer
	// dataAt tells where in its file an entry of so many bytes begins that is written
	// next, once what is in flight is; set where entries are kept in such buffers.
	dataAt  func(size int) int64
	spaceIn *Buffer // holds space, which the next entry is gathered in; nil: there is none
	space   []byte
	slab    *Buffer // for the next small entries; nil: there is none yet
	filled  int     // of it

	kick    chan struct{} // wakes run: there is something to cut, or to end
	stopped chan struct{}
	telling sync.WaitGroup // who is being told what became of what was begun, and who commits it
}

// commitFunc makes one entry durable and applies it, and gives one result for each
// command, or none where all are nil. The data lies in that buffer, which whoever keeps some of it holds; nil:
// nobody uses its memory again.
type commitFunc func(data []byte, in *Buffer, sums []segment.Sum) (results []any, err error)

func newCoalescer(maxEntry int, maxPending int64, now func() time.Time, room func(context.Context, Class) error, commit commitFunc) *coalescer {
	c := &coalescer{
		commit: commit, room: room, now: now, maxEntry: maxEntry, maxPending: maxPending,
		kick: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
	c.copied = sync.NewCond(&c.mu)
	return c
}

// propose waits until cmd is applied and returns its result. When ctx ends
// first, the outcome is unknown. cmd is copied.
func (c *coalescer) propose(ctx context.Context, class Class, cmd ...[]byte) (any, error) {
	if err := c.room(ctx, class); err != nil {
		return nil, err
	}
	b, i, err := c.add(class, cmd...)
	if err != nil {
		return nil, err
	}
	select {
	case <-b.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, context.Cause(ctx))
	}
	if b.err != nil {
		return nil, b.err
	}
	return resultOf(b.results, i), nil
}

// resultOf is that of a command, which is nil where there are none.
func resultOf(results []any, i int) any {
	if results == nil {
		return nil
	}
	return results[i]
}

// add packs a command into a batch, as its i-th.
func (c *coalescer) add(class Class, cmd ...[]byte) (b *batch, i int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, room, err := c.reserve(class, sizeOf(cmd))
	if err != nil {
		return nil, 0, err
	}
	i = b.n - 1
	if b.done == nil {
		b.done = make(chan struct{})
	}
	if c.reuse && len(room) >= copiedBeside {
		c.copyBeside(b, room, cmd)
	} else {
		put(room, cmd)
	}
	if c.flying == nil {
		c.wake()
	}
	return b, i, nil
}

// reserve makes a command of n bytes the last one of the last batch, and gives the
// room for it there; mu is held.
func (c *coalescer) reserve(class Class, n int) (b *batch, room []byte, err error) {
	size := int64(n + binary.MaxVarintLen32)
	bound := c.maxPending
	if class == Control {
		bound *= 2 // what frees space and memory must not wait behind what fills it
	}
	if c.closed {
		return nil, nil, ErrClosed
	}
	if c.pending > 0 && c.pending+size > bound {
		return nil, nil, ErrOverloaded
	}
	c.pending += size
	if last := len(c.queue) - 1; last >= 0 && c.takes(c.queue[last], int(size)) {
		b = c.queue[last]
	} else {
		b = c.newBatch(int(size))
		c.queue = append(c.queue, b)
	}
	c.grow(b, int(size))
	b.buf = binary.AppendUvarint(b.buf, uint64(n))
	from := len(b.buf)
	b.buf = b.buf[:from+n] // grow has made room
	b.n++
	b.size += size
	return b, b.buf[from:], nil
}

func put(room []byte, cmd [][]byte) {
	for _, piece := range cmd {
		room = room[copy(room, piece):]
	}
}

// copyBeside copies a large command to its room in a batch while others find theirs;
// mu is held, but not meanwhile. The batch is not committed before.
func (c *coalescer) copyBeside(b *batch, room []byte, cmd [][]byte) {
	i := len(b.sums)
	b.sums = append(b.sums, segment.Sum{From: len(b.buf) - len(room), Len: len(room)})
	b.copying++
	c.mu.Unlock()
	sum := segment.CopySum(room, cmd)
	c.mu.Lock()
	b.sums[i].CRC = sum
	if b.copying--; b.copying == 0 {
		c.copied.Broadcast()
	}
}

// awaitCopies waits until all commands of a batch that was cut are in it: whoever
// copies one waits for nothing.
func (c *coalescer) awaitCopies(b *batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for b.copying > 0 {
		c.copied.Wait()
	}
}

func (c *coalescer) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// run has batches committed, one after another, until ctx ends. What waits then is
// refused at once; run returns when what is in flight is finished.
func (c *coalescer) run(ctx context.Context) {
	defer close(c.stopped)
	refused := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(refused)
		c.refuse()
	})
	for ctx.Err() == nil {
		if b := c.next(); b != nil {
			c.answer(b, c.complete(b))
			continue
		}
		select {
		case <-c.kick:
		case <-ctx.Done():
		}
	}
	<-refused
	c.telling.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.late != nil {
		c.late.Stop()
		c.late = nil
	}
}

// next cuts a batch. When the last one held several commands, their callers are
// likely about to send again: letting them run first makes this one larger, unless
// it is full.
func (c *coalescer) next() *batch {
	c.mu.Lock()
	crowded := c.crowded && len(c.queue) < 2
	c.mu.Unlock()
	if crowded {
		runtime.Gosched()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut()
}

// complete commits the batch that is in flight, tells those who propose, and gives
// those who are still to be told.
func (c *coalescer) complete(b *batch) []waiter {
	c.awaitCopies(b)
	c.own(b)
	results, err := c.commit(b.buf, b.lent, b.sums)
	c.takeBack(b)
	b.results, b.err = results, err
	if err == nil && results != nil && len(results) != b.n {
		b.err = fmt.Errorf("log: apply returned %d results for %d commands", len(results), b.n)
	}
	if c.entry != nil {
		c.entry(b.n, len(b.buf), b.err)
	}
	c.mu.Lock()
	c.pending -= b.size
	c.flying, c.crowded = nil, b.n > 1
	waiters := c.takeWaiters(b)
	if len(c.queue) > 0 {
		c.wake() // it may be another goroutine that commits
	}
	c.mu.Unlock()
	if b.lent != nil {
		b.lent.Release()
	}
	b.buf, b.lent = nil, nil
	b.end()
	return waiters
}

// cut takes the oldest batch and stamps it, unless another one is in flight; mu is
// held.
func (c *coalescer) cut() *batch {
	if c.flying != nil || len(c.queue) == 0 {
		return nil
	}
	b := c.queue[0]
	c.queue[0] = nil
	c.queue = c.queue[1:]
	c.flying = b
	if c.dataAt != nil {
		b.behind = segment.DataBehind(c.dataAt(len(b.buf)), len(b.buf))
	}
	c.recent = min(len(b.buf), c.maxEntry)
	c.lastTime = max(c.lastTime, c.now().UnixMicro())
	binary.LittleEndian.PutUint64(b.buf[1:], uint64(c.lastTime))
	return b
}

// observeTime keeps the log's clock from going back behind an applied entry.
func (c *coalescer) observeTime(t int64) {
	c.mu.Lock()
	c.lastTime = max(c.lastTime, t)
	c.mu.Unlock()
}

// refuse has nothing taken any more, and fails what is in the queue.
func (c *coalescer) refuse() {
	c.mu.Lock()
	c.closed = true
	queue := c.queue
	c.queue = nil
	c.mu.Unlock()
	for _, b := range queue {
		b.err = ErrClosed
		b.end()
		c.mu.Lock()
		waiters := c.takeWaiters(b)
		c.mu.Unlock()
		c.answer(b, waiters)
	}
}

var errEntryFormat = errors.New("entry is not in a known format")

// decodeEntry splits an entry's data into its commands, which alias data.
func decodeEntry(data []byte) (time int64, commands [][]byte, err error) {
	return splitEntry(nil, data)
}

// splitEntry is decodeEntry that appends the commands to a slice.
func splitEntry(commands [][]byte, data []byte) (int64, [][]byte, error) {
	if len(data) < entryHeaderSize || data[0] != entryVersion {
		return 0, nil, errEntryFormat
	}
	time := int64(binary.LittleEndian.Uint64(data[1:]))
	for rest := data[entryHeaderSize:]; len(rest) > 0; {
		n, w := binary.Uvarint(rest)
		if w <= 0 || n > uint64(len(rest)-w) {
			return 0, nil, fmt.Errorf("%w: command %d runs past the entry's end", errEntryFormat, len(commands))
		}
		commands = append(commands, rest[w:w+int(n):w+int(n)])
		rest = rest[w+int(n):]
	}
	return time, commands, nil
}
