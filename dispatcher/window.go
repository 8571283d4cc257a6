package dispatcher

import (
	"container/heap"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
)

// phase is where an item's event is to go next.
type phase uint8

const (
	toSubscriber phase = iota
	toDeadLetter       // the subscriber has failed for good
)

// item is a matching event that is not done yet. While it waits it holds no
// payload of its own.
type item struct {
	sub        *sub
	off        uint64
	time       int64 // log time, microseconds
	prev, next *item

	// doneAfter: between this item and the next one (or the position) there
	// are events that are done.
	doneAfter bool
	// slot: the item holds a place in the window.
	slot  bool
	phase phase
	// removed: the subscription has dropped it; what comes of it is ignored.
	removed bool
	// late: it went out while its subscription was far behind.
	late bool
	// held: it had to wait for its turn.
	held bool

	tries   int32 // attempts at the subscriber
	dlTries int32 // attempts at the dead letter sink
	due     int64 // when to try next, while in the heap; when it could begin, while out; by Dispatcher.now
	place   int   // in the heap

	lane    *lane     // while it is out
	key     *keyState // in ordered terms
	follows *item     // the next of the same key that is blocked

	ev    *event.Event // while the item holds a slot and is being tried, or settles
	hold  channel.Hold // on what ev lies in
	shown bool         // somebody may look at ev for as long as he likes
	bytes int64        // of payload, as counted in the budget
	// failure is the last failed attempt at the subscriber, and refused are its
	// replies that are to be kept beside the event. An item with such keeps its
	// slot while it waits, so that the window bounds them.
	failure *failure
	refused []channel.DeadLetter
}

// item makes the item of an event, or takes one that was used before.
func (d *Dispatcher) item(s *sub, st *channel.Stored) *item {
	it, ok := d.items.Get().(*item)
	if !ok {
		it = new(item)
	}
	it.sub, it.off, it.time = s, st.Offset, st.Time
	return it
}

// drop ends the item's hold on its event.
func (it *item) drop() {
	it.ev = nil
	if it.shown {
		it.hold.Keep()
	}
	it.hold.Release()
}

// forget gives back an item that is done, is in no window, line or heap any more,
// and that nobody looks at who does not hold its subscription's lock.
func (d *Dispatcher) forget(it *item) {
	*it = item{}
	d.items.Put(it)
}

// keyState is the line of one key in an ordered term: the head is being tried
// or waits for its next attempt, the blocked ones are behind it in log order.
type keyState struct {
	key           string
	first, last   *item // blocked
	awaitingWrite bool  // the head failed for good; the next goes when that is durable
}

// window is what a subscription has open in one partition, in log order.
type window struct {
	head, tail *item
	n          int
	// ranges counts the items with doneAfter: the acknowledged ranges above
	// the oldest open item, as a cursor has to list them.
	ranges int
}

// push adds an item above all others.
func (w *window) push(it *item) {
	it.prev, it.next = w.tail, nil
	if w.tail != nil {
		w.tail.next = it
	} else {
		w.head = it
	}
	w.tail = it
	w.n++
}

// done takes an item out; what lies between its neighbours is done then.
func (w *window) done(it *item) {
	if it.doneAfter {
		w.ranges--
	}
	if it.prev != nil {
		it.prev.next = it.next
		if !it.prev.doneAfter {
			it.prev.doneAfter = true
			w.ranges++
		}
	} else {
		w.head = it.next
	}
	if it.next != nil {
		it.next.prev = it.prev
	} else {
		w.tail = it.prev
	}
	it.prev, it.next = nil, nil
	w.n--
}

// passed notes that an event above all items was done in an earlier life.
func (w *window) passed() {
	if w.tail != nil && !w.tail.doneAfter {
		w.tail.doneAfter = true
		w.ranges++
	}
}

// grows says whether done(it) could add a range, now or later: once it is
// false it stays so.
func (w *window) grows(it *item) bool {
	return it.prev != nil && !it.doneAfter && !it.prev.doneAfter
}

// cursor is the position to make durable: everything below next that is no
// item is done. skip are ranges above that were done in an earlier life.
func (w *window) cursor(next uint64, skip []channel.Range) channel.Cursor {
	c := channel.Cursor{Low: next, Next: next}
	if w.head != nil {
		c.Low = w.head.off
		if w.ranges > 0 {
			c.Done = make([]channel.Range, 0, w.ranges+len(skip))
		}
		for it := w.head; it != nil; it = it.next {
			if !it.doneAfter {
				continue
			}
			to := next
			if it.next != nil {
				to = it.next.off
			}
			c.Done = append(c.Done, channel.Range{From: it.off + 1, To: to})
		}
	}
	for _, r := range skip {
		if r.To <= next {
			continue
		}
		c.Done = append(c.Done, channel.Range{From: max(r.From, next), To: r.To})
		c.Next = max(c.Next, r.To)
	}
	return c
}

// waiters are items by the time of their next attempt, and by offset where
// that is the same.
type waiters []*item

func (h waiters) Len() int { return len(h) }
func (h waiters) Less(i, j int) bool {
	if h[i].due != h[j].due {
		return h[i].due < h[j].due
	}
	return h[i].off < h[j].off
}

func (h waiters) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push and Pop are container/heap's; use add and take.
func (h *waiters) Push(x any) {
	it := x.(*item)
	it.place = len(*h)
	*h = append(*h, it)
}

func (h *waiters) Pop() any {
	old := *h
	it := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return it
}

func (h *waiters) add(it *item) { heap.Push(h, it) }
func (h *waiters) take() *item  { return heap.Pop(h).(*item) }
