// Package kv is a versioned key-value state machine on a raft group: resources
// and their history. Every successful write takes the next revision; a state
// can be read at any revision that is not compacted, and followed from it.
//
// DESIGN.md beside this file has the formats and what a restart rests on.
package kv

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"time"

	"github.com/leat-dev/leat/raftlog"
)

// Errors of reads, writes and watches, to be tested with errors.Is.
var (
	// ErrCompacted: the revision asked for is below the history's floor. Read
	// the present state instead.
	ErrCompacted = errors.New("revision is compacted")
	// ErrFuture: the revision asked for does not exist yet.
	ErrFuture = errors.New("revision is in the future")
	// ErrSlowWatcher: a subscriber did not read its events in time, and was
	// closed. Subscribe again from the last revision seen.
	ErrSlowWatcher = errors.New("watcher is too slow: its queue is full")
	// ErrReset: the state was replaced by another member's snapshot. Read the
	// present state and subscribe again.
	ErrReset = errors.New("state was replaced by a snapshot")
	// ErrTooLarge: a key or value is above its bound. Nothing was written.
	ErrTooLarge = errors.New("key or value is too large")
	// ErrClosed: the store is closed.
	ErrClosed = errors.New("key-value store is closed")
	// ErrNotBound: a write came before Bind.
	ErrNotBound = errors.New("key-value store is not bound to a log yet")
)

// AnyRev as a write's expected revision makes the write unconditional.
const AnyRev = math.MaxUint64

// firstRev is the revision of an empty store: 0 means "none" to callers.
const firstRev = 1

// KV is a key at a revision. Value must not be modified.
type KV struct {
	Key   string
	Value []byte
	// ModRev is the revision of the key's last write.
	ModRev uint64
	// Expiry is the log time after which the key is deleted, in microseconds
	// since the Unix epoch; 0: never.
	Expiry int64
}

// Event is one write. Its slices must not be modified.
type Event struct {
	Rev  uint64
	Time int64 // log time, microseconds since the Unix epoch
	Key  string
	// Value is what was written; it is meaningless when Deleted.
	Value   []byte
	Deleted bool
	// Prev is what the key held before; PrevRev 0 says that it did not exist.
	Prev    []byte
	PrevRev uint64
}

// Result is the outcome of a write.
type Result struct {
	// OK says whether the expected revision held and the write was done.
	OK bool
	// Rev is the write's revision when OK, else the store's.
	Rev uint64
	// Current is what the key holds when not OK; nil: nothing.
	Current *KV
	// Count is how many keys an expiry deleted.
	Count int
}

// Proposer commits a command and returns what Machine.Apply returned for it.
// *raftlog.Group is one.
type Proposer interface {
	Propose(ctx context.Context, class raftlog.Class, cmd []byte) (any, error)
}

// Options configure a Store. Zero values mean the defaults.
type Options struct {
	// Dir holds the database. It is made when absent, and may be wiped: raft's
	// snapshots and log are the truth.
	Dir    string
	Clock  raftlog.Clock
	Logger *slog.Logger
	// Fatal is called, once, when the database can no longer be written or
	// contradicts the log: the process must end. It may return, but must not
	// wait for Close.
	Fatal func(error)

	// BootID names the running kernel; default: the kernel's own. A database
	// that was not closed is trusted only within the same boot.
	BootID string

	MaxKeyBytes   int // 4 KiB
	MaxValueBytes int // 1,000 KiB; never more

	// HistoryEvents and HistoryAge bound the history: what is beyond either is
	// compacted, at intervals of CompactEvery. 50,000; 1 hour; 5 minutes.
	HistoryEvents uint64
	HistoryAge    time.Duration
	CompactEvery  time.Duration
	// ExpireEvery is the shortest time between two deletions of expired keys. 1 s.
	ExpireEvery time.Duration

	// RecentEvents and RecentBytes bound the events kept in memory for all
	// watchers together. 8,192; 4 MiB.
	RecentEvents int
	RecentBytes  int64
	// WatchQueue is how many events may wait for one watcher, at 8 bytes each,
	// before it is closed with ErrSlowWatcher. 16,384.
	WatchQueue int

	// manyTables are merged by badger itself, where the writes do not pause. 16: a
	// read of what is written all the time asks each of them, 1 µs each.
	manyTables int
}

// maxValueBytes keeps a record, with its envelope, below badger's threshold
// for the value log, which is not used.
const maxValueBytes = 1000 << 10

func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" || o.Fatal == nil {
		return o, errors.New("kv: Dir and Fatal must be set")
	}
	if o.Clock == nil {
		o.Clock = raftlog.SystemClock{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.BootID == "" {
		o.BootID = bootID()
	}
	setDefault(&o.MaxKeyBytes, 4<<10)
	setDefault(&o.manyTables, 16)
	setDefault(&o.MaxValueBytes, maxValueBytes)
	o.MaxValueBytes = min(o.MaxValueBytes, maxValueBytes)
	setDefault(&o.HistoryEvents, 50_000)
	setDefault(&o.HistoryAge, time.Hour)
	setDefault(&o.CompactEvery, 5*time.Minute)
	setDefault(&o.ExpireEvery, time.Second)
	setDefault(&o.RecentEvents, 8192)
	setDefault(&o.RecentBytes, 4<<20)
	setDefault(&o.WatchQueue, 16384)
	return o, nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
