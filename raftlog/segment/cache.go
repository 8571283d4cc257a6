package segment

import (
	"container/list"
	"errors"
	"io/fs"
	"sync"

	"github.com/leat-dev/leat/raftlog/vfs"
)

// lru keeps what was used last, at most max of it. It is safe for concurrent
// use.
type lru[K comparable, V any] struct {
	mu     sync.Mutex
	max    int
	items  map[K]*list.Element // of *lruItem[K, V]
	order  *list.List          // last used first
	forget func(V)             // what to do with what falls out; may be nil
}

type lruItem[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](max int, forget func(V)) *lru[K, V] {
	return &lru[K, V]{max: max, items: map[K]*list.Element{}, order: list.New(), forget: forget}
}

func (c *lru[K, V]) get(k K) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.items[k]
	if !ok {
		return v, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*lruItem[K, V]).value, true
}

// put adds a value, or returns the one that is there already, having forgotten
// the new one.
func (c *lru[K, V]) put(k K, v V) V {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.items[k]; ok {
		c.drop(v)
		return e.Value.(*lruItem[K, V]).value
	}
	c.items[k] = c.order.PushFront(&lruItem[K, V]{k, v})
	for c.order.Len() > c.max {
		c.removeElement(c.order.Back())
	}
	return v
}

// removeIf drops the values whose key satisfies a condition.
func (c *lru[K, V]) removeIf(cond func(K) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.order.Front(); e != nil; {
		next := e.Next()
		if cond(e.Value.(*lruItem[K, V]).key) {
			c.removeElement(e)
		}
		e = next
	}
}

func (c *lru[K, V]) removeElement(e *list.Element) {
	item := c.order.Remove(e).(*lruItem[K, V])
	delete(c.items, item.key)
	c.drop(item.value)
}

func (c *lru[K, V]) drop(v V) {
	if c.forget != nil {
		c.forget(v)
	}
}

// reader reads sealed segments through a bounded number of open files, and
// keeps the blocks of their indexes that were used last.
type reader struct {
	fs     vfs.FS
	files  *lru[*segment, vfs.File]
	blocks *lru[blockKey, []byte]
}

type blockKey struct {
	seg    *segment
	number int64
}

func newReader(fs vfs.FS, files, blocks int) *reader {
	return &reader{
		fs: fs,
		files: newLRU[*segment](files, func(f vfs.File) {
			_ = f.Close() // opened for reading only: nothing can be lost
		}),
		blocks: newLRU[blockKey, []byte](blocks, nil),
	}
}

// readAt reads from a sealed segment. A file that falls out of the cache while
// it is being read is opened again.
func (r *reader) readAt(g *segment, b []byte, at int64) error {
	for {
		f, ok := r.files.get(g)
		if !ok {
			opened, err := r.fs.Open(g.path)
			if err != nil {
				return err
			}
			f = r.files.put(g, opened)
		}
		_, err := f.ReadAt(b, at)
		if !errors.Is(err, fs.ErrClosed) {
			return err
		}
	}
}

// block returns a checked block of a segment's index.
func (r *reader) block(g *segment, number int64) ([]byte, error) {
	k := blockKey{g, number}
	if b, ok := r.blocks.get(k); ok {
		return b, nil
	}
	b, err := g.index.readBlock(func(b []byte, at int64) error { return r.readAt(g, b, at) }, number)
	if err != nil {
		return nil, err
	}
	return r.blocks.put(k, b), nil
}

// forget closes a segment's file and drops its blocks.
func (r *reader) forget(g *segment) {
	r.files.removeIf(func(k *segment) bool { return k == g })
	r.blocks.removeIf(func(k blockKey) bool { return k.seg == g })
}

func (r *reader) close() {
	r.files.removeIf(func(*segment) bool { return true })
	r.blocks.removeIf(func(blockKey) bool { return true })
}
