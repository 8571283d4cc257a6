package channel

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/leat-dev/leat/raftlog"
)

// Shard is the state machine of one raft group that holds events: channels,
// their partitions, terms, cursors and floors, in memory. The events stay in
// the log, of which the machine knows where each run lies.
//
// Apply, Snapshot and Restore are the group's, one at a time; all else may be
// called concurrently. Lock order: retention.mu, raftChannel.setting, then
// raftChannel.mu, then Shard.mu.
type Shard struct {
	o     Options
	group Group
	// beginner is the group, where it takes commands from who does not wait.
	beginner beginner
	// gatherer is the group, where it takes commands of two pieces.
	gatherer gatherer
	tail     tail
	cache    runCache
	memories memories // of the events in them

	buffers   sync.Pool // of *[]byte, for appends in the making
	retention retention
	overDisk  atomic.Bool // appends are refused: the log exceeds MaxDisk
	tailReads readStats

	// lastTime is the log's clock.
	lastTime atomic.Int64

	// Apply's alone. broken is why nothing can be applied any more; the touched
	// have something to publish at the entry's end.
	broken         error
	nextID         uint32
	runs           []rawRun   // of the append being applied
	rooms          [][][]byte // for runs in the making
	touched        []*raftPartition
	touchedLetters []*letterLog
	woken          []*raftPartition

	// mu guards the maps. Apply, which alone writes them, reads without it.
	mu       sync.RWMutex
	channels map[uint32]*raftChannel
	byUID    map[string]*raftChannel
	byName   map[name][]*raftChannel // the latest last
	// keys has what rows are kept of, by id.
	parts   map[uint32]*raftPartition
	letters map[uint32]*letterLog
}

type name struct{ kind, namespace, name string }

func (id ID) name() name { return name{id.Kind, id.Namespace, id.Name} }

var _ raftlog.Machine = (*Shard)(nil)

// freeShare is the part of the memory for events, in the tail and in the cache, that
// may be free for others: 1/freeShare.
const freeShare = 4

// NewShard makes an empty shard. It is the machine of a group that is opened
// after it; Bind ties the two before anything else is called.
func NewShard(o Options) *Shard {
	s := &Shard{o: o.withDefaults()}
	s.cache.limit = s.o.CacheBytes
	s.tail.limit = s.o.TailBytes
	s.memories.reused, s.memories.limit = s.o.Reused, (s.o.TailBytes+s.o.CacheBytes)/freeShare
	s.reset()
	return s
}

// readStats counts where reads found what they asked for.
type readStats struct{ hits, misses atomic.Uint64 }

// ReadStats are how often reads found events in memory: the recent ones in the
// tail, and the older ones, that the tail has not, in the cache.
type ReadStats struct{ TailHits, TailMisses, CacheHits, CacheMisses uint64 }

func (s *Shard) readStats() ReadStats {
	return ReadStats{
		TailHits: s.tailReads.hits.Load(), TailMisses: s.tailReads.misses.Load(),
		CacheHits: s.cache.reads.hits.Load(), CacheMisses: s.cache.reads.misses.Load(),
	}
}

// Bind gives the shard its group, opened with the shard as its machine.
func (s *Shard) Bind(g Group) {
	s.group = g
	s.beginner, _ = g.(beginner)
	s.gatherer, _ = g.(gatherer)
}

func (s *Shard) reset() {
	s.nextID = 1
	s.channels = make(map[uint32]*raftChannel)
	s.byUID = make(map[string]*raftChannel)
	s.byName = make(map[name][]*raftChannel)
	s.parts = make(map[uint32]*raftPartition)
	s.letters = make(map[uint32]*letterLog)
}

// raftChannel is a channel whose partitions are in one shard.
type raftChannel struct {
	shard *Shard
	num   uint32
	ident ID

	// setting is held by who computes a change of the subscriptions, and by who
	// counts what they lose; see lockSubscriptions.
	setting chan struct{}

	parts   atomic.Pointer[[]Partition]
	gone    atomic.Bool
	version atomic.Uint64
	// changes counts the changes of the set of subscriptions: the terms' version.
	changes atomic.Uint64

	// mu guards what follows, in the partitions too. Apply alone writes, and
	// reads without it.
	mu     sync.RWMutex
	config Config
	subs   map[string]*Subscription // the set now in force; values are immutable
	recent recentChanges
	// producers are the positions of those who append by AppendFrom.
	producers producers
}

var _ Channel = (*raftChannel)(nil)

// raftPartition is one partition.
type raftPartition struct {
	ch     *raftChannel
	key    uint32
	number int
	homes  []interval

	// floor and end are what readers see: end moves when a whole entry is applied.
	floor, end atomic.Uint64
	scan       atomic.Uint64
	tail       partitionTail
	notice     notice

	// Apply's alone: what the entry being applied has added.
	next        uint64
	open        *run
	openBytes   uint32
	newOutcomes uint32
	isTouched   bool
	isWoken     bool

	outcomes atomic.Uint64 // number of outcomes ever; their next position
	// passed are damaged ranges that were passed by command: sorted, disjoint,
	// immutable; nil where there are none.
	passed atomic.Pointer[[]Range]

	// Guarded by ch.mu.
	subs    map[string]*holder
	cursors map[string]*holder // those that have one
	// closing have a closed term that is not fully delivered.
	closing map[string]*holder
	// known is the highest terms version that a commit was based on, and recent
	// those with a term newer than that.
	known  uint64
	recent map[string]*holder
	// past are terms that are over, kept for as long as their offsets are.
	past []*term

	// oldest caches the time of the event at the floor, for retention.
	oldest oldest
}

var (
	_ Partition = (*raftPartition)(nil)
	_ History   = (*raftPartition)(nil)
)

// term is a stretch of a subscription's life in a partition; to is toEnd while
// it is open. It is immutable: a change replaces it.
type term struct {
	sub      *Subscription
	from, to uint64
	// started and opened are the terms versions at which the subscription began
	// (anew), and at which this term did.
	started, opened uint64
}

func (t *term) export() Term {
	return Term{Subscription: *t.sub, From: t.from, To: t.to, Started: t.started}
}

// holder is a subscription in one partition.
type holder struct {
	uid string
	// terms not fully delivered, in order, disjoint; the last one is open.
	terms []*term
	// cursor is nil while nothing is out: the position is the partition's scan.
	cursor  *Cursor    // immutable
	started uint64     // as its terms have it
	letters *letterLog // nil while there never was one
}

// last is the open term.
func (h *holder) last() *term { return h.terms[len(h.terms)-1] }

// unknownFrom is where the first term begins that somebody who knows the terms
// of a version does not know; toEnd where that is none.
func (h *holder) unknownFrom(version uint64) uint64 {
	for _, t := range h.terms {
		if t.opened > version {
			return t.from
		}
	}
	return toEnd
}

// low is the offset below which everything is done.
func (h *holder) low(scan uint64) uint64 {
	if h.cursor != nil {
		return h.cursor.Low
	}
	return scan
}

// letterLog is the dead letter log of one subscription in one partition: a
// partition of its own, with a floor and a retention of its own.
type letterLog struct {
	p          *raftPartition
	key        uint32
	uid        string
	floor, end atomic.Uint64
	oldest     oldest

	// Apply's alone.
	next      uint64
	newBytes  uint32
	newCount  uint32
	isTouched bool
}

func (s *Shard) newKey() uint32 {
	id := s.nextID
	s.nextID++
	return id
}

// addChannel and removeChannel are Apply's; s.mu is held.
func (s *Shard) addChannel(c *raftChannel) {
	s.channels[c.num] = c
	s.byUID[c.ident.UID] = c
	s.byName[c.ident.name()] = append(s.byName[c.ident.name()], c)
}

func (s *Shard) removeChannel(c *raftChannel) {
	delete(s.channels, c.num)
	delete(s.byUID, c.ident.UID)
	n := c.ident.name()
	same := slices.DeleteFunc(s.byName[n], func(o *raftChannel) bool { return o == c })
	if len(same) == 0 {
		delete(s.byName, n)
	} else {
		s.byName[n] = same
	}
	for _, p := range c.partitions() {
		delete(s.parts, p.key)
		for _, h := range p.subs {
			if h.letters != nil {
				delete(s.letters, h.letters.key)
			}
		}
	}
}

func (s *Shard) newChannel(num uint32, id ID, config Config) *raftChannel {
	c := &raftChannel{
		shard: s, num: num, ident: id, config: config,
		subs: make(map[string]*Subscription), setting: make(chan struct{}, 1),
	}
	c.parts.Store(&[]Partition{})
	c.changes.Store(1) // 0 would be a commit that is not checked
	return c
}

// addPartition is Apply's, or Restore's; s.mu is held.
func (s *Shard) addPartition(c *raftChannel, key uint32, number int, homes []interval) *raftPartition {
	p := &raftPartition{
		ch: c, key: key, number: number, homes: homes,
		subs: make(map[string]*holder), cursors: make(map[string]*holder), closing: make(map[string]*holder), recent: make(map[string]*holder),
	}
	s.parts[key] = p
	parts := append(slices.Clone(*c.parts.Load()), p)
	slices.SortFunc(parts, func(a, b Partition) int { return a.Number() - b.Number() })
	c.parts.Store(&parts)
	return p
}

func (c *raftChannel) partitions() []*raftPartition {
	parts := *c.parts.Load()
	out := make([]*raftPartition, len(parts))
	for i, p := range parts {
		out[i] = p.(*raftPartition)
	}
	return out
}

func (c *raftChannel) String() string {
	return fmt.Sprintf("%s %s/%s", c.ident.Kind, c.ident.Namespace, c.ident.Name)
}

func (p *raftPartition) String() string { return fmt.Sprintf("%v, partition %d", p.ch, p.number) }

// notice wakes those who wait for a partition; one without waiters costs
// nothing.
type notice struct {
	mu sync.Mutex
	ch chan struct{}
	// The least that any of them waits to have passed.
	offset, version uint64
}

// wait returns a channel that is closed by the next wake with an end above that
// offset, or changes above that version.
func (n *notice) wait(offset, version uint64) <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ch == nil {
		n.ch = make(chan struct{})
		n.offset, n.version = offset, version
	}
	n.offset, n.version = min(n.offset, offset), min(n.version, version)
	return n.ch
}

func (n *notice) wake(end, changes uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ch != nil && (end > n.offset || changes > n.version) {
		close(n.ch)
		n.ch = nil
	}
}
