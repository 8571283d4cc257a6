package channel

import (
	"math/bits"
	"sync"
	"unsafe"

	"github.com/leat-dev/leat/api/event"
)

// memory is what the events of a run lie in.
type memory struct {
	of     *memories
	class  int
	bytes  []byte // the records
	events []event.Event
	stored []Stored
	sizes  []uint32
	// extensions are those of the events, as far as they have found room.
	extensions []event.Extension
	freed      uint64 // when, by memories.frees
}

// memories are those that are free, by their size. They are few: what is free is
// wanted again at once, as runs come in as they go. What was freed last is taken
// first, and beyond the limit that goes which has been free for longest: when small
// runs follow large ones, a size may be wanted all the time, and most of what is free
// of it never.
type memories struct {
	limit int64 // of what all of them take, in bytes
	// reused is told of what is free; see Options.Reused.
	reused func(data []byte, events []event.Event)

	mu      sync.Mutex
	bytes   int64
	frees   uint64              // counts
	classes [maxClass][]*memory // in the order in which they were freed
}

const (
	// leastMemory is the smallest size of the records' memory, as a power of two.
	leastMemory = 9
	// perDouble is how many classes there are for each power of two.
	perDouble = 4
	// maxClass is beyond the class of anything that is read, and twice that.
	maxClass = perDouble * 32
	// usualExtensions is for how many extensions of an event there is room at first.
	usualExtensions = 3
)

// classOf is the class of a size, and how much a memory of it has: four sizes for
// each power of two, so that little is wasted.
func classOf(size int) (class, room int) {
	if size <= 1<<leastMemory {
		return 0, 1 << leastMemory
	}
	e := bits.Len(uint(size-1)) - 1 // 1<<e < size <= 2<<e
	quarter := 1 << e / perDouble
	n := (size - 1<<e + quarter - 1) / quarter // 1 to 4
	return perDouble*(e-leastMemory) + n, 1<<e + n*quarter
}

// take gives memory for the records of so many bytes, and their events. It may have
// twice the room, or more for events: whoever keeps it counts what it takes.
func (m *memories) take(size, events int) *memory { return m.within(perDouble, size, events) }

// within is take of memory that is larger by so many classes at most.
func (m *memories) within(wider, size, events int) *memory {
	class, room := classOf(size)
	one := m.pop(class, wider)
	if one == nil {
		one = &memory{of: m, class: class, bytes: make([]byte, room)}
	}
	one.bytes = one.bytes[:size]
	one.make(events)
	return one
}

// pop takes one that is free, of a class or of one that is larger by so many at most,
// as runs are of many sizes; nil: there is none.
func (m *memories) pop(class, wider int) *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range 1 + wider {
		c := &m.classes[class+i]
		if n := len(*c) - 1; n >= 0 {
			one := (*c)[n]
			(*c)[n] = nil
			*c = (*c)[:n]
			m.bytes -= one.size()
			return one
		}
	}
	return nil
}

// copied gives memory with a copy of records, each of which then is its part of that.
// It is of about the size: a tail has counted the records only, before it was known
// that somebody asks for the events.
func (m *memories) copied(records [][]byte, events int) *memory {
	size := 0
	for _, r := range records {
		size += len(r)
	}
	one := m.within(1, size, events)
	rest := one.bytes
	for i, r := range records {
		n := copy(rest, r)
		records[i], rest = rest[:n:n], rest[n:]
	}
	return one
}

// make makes room for so many events.
func (m *memory) make(n int) {
	if cap(m.events) < n {
		m.events = make([]event.Event, n)
		m.stored = make([]Stored, 0, n)
		m.sizes = make([]uint32, 0, n)
		m.extensions = make([]event.Extension, 0, usualExtensions*n)
	}
	m.events, m.stored, m.sizes, m.extensions = m.events[:n], m.stored[:0], m.sizes[:0], m.extensions[:0]
}

// size is what it takes, in bytes.
func (m *memory) size() int64 {
	return int64(cap(m.bytes)) + int64(cap(m.extensions))*int64(unsafe.Sizeof(event.Extension{})) +
		int64(cap(m.events))*int64(unsafe.Sizeof(event.Event{})+unsafe.Sizeof(Stored{})+unsafe.Sizeof(uint32(0)))
}

// free gives it back. Nothing that it pointed to is kept.
func (m *memory) free() {
	if h := m.of.reused; h != nil {
		h(m.bytes[:cap(m.bytes)], m.events)
	}
	clear(m.events)
	clear(m.stored[:cap(m.stored)])
	clear(m.extensions[:cap(m.extensions)])
	m.of.push(m)
}

// push keeps one for others, and drops those that have been free for longest where
// there are too many then.
func (m *memories) push(one *memory) {
	if one.size() > m.limit {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.frees++
	one.freed = m.frees
	m.classes[one.class] = append(m.classes[one.class], one)
	for m.bytes += one.size(); m.bytes > m.limit; {
		c := m.oldest()
		m.bytes -= (*c)[0].size()
		(*c)[0] = nil
		*c = (*c)[1:]
	}
}

// oldest is the class that has what has been free for longest.
func (m *memories) oldest() (oldest *[]*memory) {
	for i := range m.classes {
		if c := &m.classes[i]; len(*c) > 0 && (oldest == nil || (*c)[0].freed < (*oldest)[0].freed) {
			oldest = c
		}
	}
	return oldest
}

// forget drops all that are free, and gives what they took.
func (m *memories) forget() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.bytes
	m.classes, m.bytes = [maxClass][]*memory{}, 0
	return before
}
