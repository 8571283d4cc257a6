// Package channel keeps named, partitioned, durable logs of events, and the
// subscriptions on them: their terms, cursors, outcomes and dead letters.
package channel

import (
	"context"
	"errors"
	"time"

	"github.com/leat-dev/leat/api/event"
)

// Errors of this package, to be tested with errors.Is; see raftlog's too.
var (
	ErrNotFound = errors.New("channel not found")
	// ErrStale: a newer version of the subscriptions has been applied already.
	ErrStale = errors.New("stale: a newer version has been applied")
	// ErrExpired: the offset lies below the partition's floor.
	ErrExpired = errors.New("offset is below the retention floor")
)

// ID names a channel. UID tells apart channels that had the same name in turn.
type ID struct {
	Kind      string // "Broker" or "Channel"
	Namespace string
	Name      string
	UID       string
}

// Config is a channel's settings. Partitions cannot shrink.
type Config struct {
	Partitions     int           // at least 1
	RetentionAge   time.Duration // 0: the server's default
	RetentionBytes int64         // per channel; 0: no bound of its own
}

// Start says where a new subscription begins.
type Start struct {
	// At is "end", "beginning", "offset" or "time".
	At     string
	Offset uint64
	Time   time.Time
}

// Subscription is what the log must know of a Trigger or Subscription. A
// change of Filter, Ordered or Start makes a new term; nothing else does.
type Subscription struct {
	UID        string
	Generation int64
	// Filter is the canonical filter (filter.Spec.Canonical), empty for all.
	Filter []byte
	// Engine is the version of the filter semantics that Filter means.
	Engine  int
	Ordered bool
	Start   Start
}

// Term says that a subscription held in [From, To) of a partition with this
// filter. To is math.MaxUint64 while the term is open.
type Term struct {
	Subscription Subscription
	From, To     uint64
}

// Stored is an event with its place in the log.
type Stored struct {
	Offset uint64
	Time   int64 // log time, microseconds since the Unix epoch
	Event  *event.Event
}

// Range is offsets [From, To).
type Range struct{ From, To uint64 }

// Cursor is how far a subscription is: every matching event below Low is done,
// and so are those in Done (sorted, disjoint, above Low); events at Next and
// above have not been looked at. Low == Next where nothing is out.
type Cursor struct {
	Low, Next uint64
	Done      []Range
	// Detached subscriptions have a Next of their own; the others follow the
	// partition's scan position.
	Detached bool
}

// OutcomeKind is what became of an event, where it was not plain success.
type OutcomeKind uint8

// Outcomes; their numbers are part of the log's format.
const (
	Retried      OutcomeKind = 1 + iota // delivered, or still trying, after failed attempts
	DeadLettered                        // accepted by the dead letter sink
	Kept                                // in the subscription's dead letter log
	Expired                             // retention passed it undelivered
	Denied                              // the destination is not allowed
	FilterError                         // the filter failed on it, so it did not match
	ReplyKept                           // delivered; its reply was refused and kept as a dead letter
	Damaged                             // lies in a damaged range
)

// Outcome is a record of what became of events [Offset, Offset+Span).
type Outcome struct {
	UID      string
	Kind     OutcomeKind
	Offset   uint64
	Span     uint32 // 1 but for ranges (Expired, Damaged)
	Count    uint32 // events concerned, where Span is a range
	Attempts uint32
	Code     int32  // last HTTP status; -1 when there was no answer
	Reason   string // at most 1 KiB
}

// DeadLetter is an event that ran out of attempts and stays with its
// subscription. It is stored, and the cursor moved past it, by one entry.
type DeadLetter struct {
	UID      string
	Offset   uint64 // of the original event
	Reply    bool   // the event is a refused reply to the original
	Event    *event.Event
	Attempts uint32
	Code     int32
	Reason   string
	// Answer is the first kilobyte of the last answer.
	Answer []byte
	Time   int64 // log time; set when read
}

// Commit is what a dispatcher makes durable at once for one partition.
type Commit struct {
	// Scan is the attached subscriptions' common position; 0: unchanged.
	Scan        uint64
	Cursors     map[string]Cursor // by subscription UID; Low == Next and attached: nothing out
	Outcomes    []Outcome
	DeadLetters []DeadLetter
}

// Channel is one channel.
type Channel interface {
	ID() ID
	// Append makes all events durable, or none. It returns when they are synced
	// (on a majority) and applied. Events are distributed over partitions by
	// the hash of PartitionKey.
	Append(ctx context.Context, events []*event.Event) error
	Partitions() []Partition
	// SetSubscriptions makes subs the whole set of subscriptions from now on,
	// in every partition, as deltas guarded by compare-and-set on version (the
	// meta revision the set was read at). ErrStale where a newer one is applied.
	SetSubscriptions(ctx context.Context, version uint64, subs []Subscription) error
}

// Partition is one dense sequence of offsets. Reading never takes a lock that
// appending waits for.
type Partition interface {
	Channel() ID
	Number() int
	// Bounds are the floor (first readable offset) and the next offset to be given.
	Bounds() (floor, next uint64)
	// Version is the latest version given to SetSubscriptions that is applied here.
	Version() uint64
	// Read returns up to max events from offset on, fewer when they exceed
	// maxBytes (but at least one), in order, none when offset is the end. Events
	// are shared: recent ones come from memory, decoded once for all readers.
	// ErrExpired below the floor. An error of a damaged record names file and
	// position, and is a *DamagedError that says which offsets are lost.
	Read(ctx context.Context, offset uint64, max int, maxBytes int) ([]Stored, error)
	// Wait returns when next > offset or terms changed since termsVersion.
	Wait(ctx context.Context, offset uint64, termsVersion uint64) error
	// Terms are those not yet closed and fully delivered, and their version,
	// which counts up with each change.
	Terms() (terms []Term, version uint64)
	// Scan is the committed position of the attached subscriptions, Cursors the
	// committed cursors of the rest.
	Scan() uint64
	Cursors() map[string]Cursor
	Commit(ctx context.Context, c Commit) error
	// DeadLetters reads a subscription's dead letter log from position from on.
	DeadLetters(ctx context.Context, uid string, from uint64, max int) ([]DeadLetter, error)
	// OffsetAt is the first offset whose log time is not before t.
	OffsetAt(ctx context.Context, t time.Time) (uint64, error)
}
