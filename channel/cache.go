package channel

import (
	"container/list"
	"sync"

	"github.com/leat-dev/leat/raftlog"
)

// runCache holds runs that were read from disk, for all readers that are
// behind: the least recently used go beyond limit bytes. What several readers
// ask for at once is read once.
type runCache struct {
	limit int64
	reads readStats

	mu    sync.Mutex
	bytes int64
	runs  map[runKey]*list.Element
	order list.List // of *cached, the most recently used first
}

type runKey struct {
	index uint64
	key   uint32
}

type cached struct {
	key   runKey
	bytes int64 // 0 until it is loaded
	ready chan struct{}
	run   *run
	err   error
	// content is the run's, which the cache holds.
	content *runContent
}

// get returns a run and its content, which the caller holds, by load where it is not
// there. A failure is not kept.
func (c *runCache) get(row raftlog.Row, load func() (*run, int64, error)) (*run, *runContent, error) {
	k := runKey{row.Index, row.Key}
	c.mu.Lock()
	for e := c.runs[k]; e != nil; e = c.runs[k] {
		c.order.MoveToFront(e)
		c.mu.Unlock()
		found := e.Value.(*cached)
		<-found.ready // its loader returns: a read of the log is bounded
		if found.err != nil || found.content.acquire() {
			c.reads.hits.Add(1)
			return found.run, found.content, found.err
		}
		c.mu.Lock() // it has left the cache just now
	}
	mine := &cached{key: k, ready: make(chan struct{})}
	if c.runs == nil {
		c.runs = make(map[runKey]*list.Element)
	}
	element := c.order.PushFront(mine)
	c.runs[k] = element
	c.mu.Unlock()
	c.reads.misses.Add(1)

	var bytes int64
	if mine.run, bytes, mine.err = load(); mine.err == nil {
		mine.content = mine.run.content.Load()
		mine.content.acquire()
	}
	close(mine.ready)

	c.mu.Lock()
	defer c.mu.Unlock()
	if mine.err != nil {
		c.remove(element)
		return nil, nil, mine.err
	}
	mine.bytes = bytes
	c.bytes += bytes
	for e := c.order.Back(); e != nil && c.bytes > c.limit; {
		previous := e.Prev()
		if e.Value.(*cached).bytes > 0 {
			c.remove(e)
		}
		e = previous
	}
	return mine.run, mine.content, nil
}

// remove takes an element out; c.mu is held.
func (c *runCache) remove(e *list.Element) {
	old := e.Value.(*cached)
	c.bytes -= old.bytes
	delete(c.runs, old.key)
	c.order.Remove(e)
	if old.content != nil {
		old.content.release()
	}
}
