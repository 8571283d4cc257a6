package channel

import (
	"context"
	"log/slog"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/segment"
)

// Group is what a shard needs of its raft group; *raftlog.Group is one.
type Group interface {
	Propose(ctx context.Context, class raftlog.Class, cmd []byte) (any, error)
	ReadEntry(index uint64) (*raftlog.Entry, error)
	ReadEntryInto(index uint64, room func(size int) []byte) (*raftlog.Entry, error)
	Find(key uint32, kind uint8, offset uint64) (raftlog.Row, bool, error)
	FindTime(key uint32, kind uint8, t int64) (raftlog.Row, bool, error)
	Segments() []segment.Info
	Trim(keep func(segment.Info) bool) error
}

// Options are a shard's settings; zero values take the defaults.
type Options struct {
	// Number is the shard's, as homes of partitions name it.
	Number uint32
	Clock  raftlog.Clock
	Logger *slog.Logger

	// RetentionAge is how long a channel keeps events that says nothing itself
	// (7 days).
	RetentionAge time.Duration
	// DeadLetterRetention is how long dead letters are kept (30 days), and
	// DeadLetterBytes how much of them for one subscription and partition, in
	// bytes (64 MiB).
	DeadLetterRetention time.Duration
	DeadLetterBytes     int64
	// MaxDisk bounds the log on disk, in bytes; 0: no bound. Beyond it the
	// oldest events go, the channel most over its quota first; with
	// RefuseOverMaxDisk appends are refused instead.
	MaxDisk           int64
	RefuseOverMaxDisk bool
	// RetentionInterval is how often retention looks (1 minute).
	RetentionInterval time.Duration
	// RetentionStep is how many events at most one floor record passes while a
	// subscription has not seen them (4,096).
	RetentionStep uint64

	// TailBytes is the memory for recent entries (8 MiB), and CacheBytes that for
	// entries that were read from disk (32 MiB), as received and decoded.
	TailBytes, CacheBytes int64
	// TermsBytes bounds one record of changed terms, unless one filter is
	// larger (64 KiB).
	TermsBytes int
	// MaxProducers is how many producers' positions a channel keeps; beyond it
	// the one used longest ago is forgotten (1,024).
	MaxProducers int
	// MaxPartitions bounds the partitions of one channel (64).
	MaxPartitions int

	// Expired, unless nil, is told of what retention passed undelivered, once
	// that is durable: events of a subscription, or its dead letters. It must not
	// block.
	Expired func(channel ID, uid string, deadLetters bool, count uint32)

	// Reused, unless nil, is given what events lay in before that is used again: to
	// write to it shows, in a test, who still looks at it.
	Reused func(data []byte, events []event.Event)

	// Compile makes a canonical filter a predicate, to count what expires
	// unseen. Nil: as package filter does.
	Compile func(canonical []byte, engine int) (func(*event.Event) bool, error)
}

func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = raftlog.SystemClock{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Compile == nil {
		o.Compile = compileFilter
	}
	setDefault(&o.RetentionAge, 7*24*time.Hour)
	setDefault(&o.DeadLetterRetention, 30*24*time.Hour)
	setDefault(&o.DeadLetterBytes, 64<<20)
	setDefault(&o.RetentionInterval, time.Minute)
	setDefault(&o.RetentionStep, 4096)
	setDefault(&o.TailBytes, 8<<20)
	setDefault(&o.CacheBytes, 32<<20)
	setDefault(&o.TermsBytes, 64<<10)
	setDefault(&o.MaxPartitions, 64)
	setDefault(&o.MaxProducers, 1024)
	return o
}

// setDefault sets v to d where it is not set to something positive.
func setDefault[T int | int64 | uint64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}
