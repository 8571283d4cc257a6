// Package channel keeps named, partitioned, durable logs of events, and the
// subscriptions on them: their terms, cursors, outcomes and dead letters.
package channel

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/leat-dev/leat/api/event"
)

// Errors of this package, to be tested with errors.Is; see raftlog's too.
var (
	ErrNotFound = errors.New("channel not found")
	// ErrStale: a newer version of the subscriptions, or a producer's position
	// beyond the one that an append rests on, has been applied already.
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

// Start says where a new subscription begins. A time is absolute: whoever
// offers a duration back fixes it once, or each look would be a change.
type Start struct {
	// At is "end" (also when empty), "beginning", "offset" or "time".
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
	// Subscription is as it was when the term began. Its Generation is the one
	// that brought the change; later ones without a change are not recorded.
	Subscription Subscription
	From, To     uint64
	// Started is the terms version at which the subscription was made, or
	// started anew by a change of Start. A reader who knows it by another value
	// forgets what it had of it, and begins at the committed cursor.
	Started uint64
}

// Stored is an event with its place in the log.
type Stored struct {
	Offset uint64
	Time   int64 // log time, microseconds since the Unix epoch
	Event  *event.Event
	in     *runContent // nil where it lies in memory of its own
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
	// Time is the log time, Position the place in the dead letter log; both are
	// set when read.
	Time     int64
	Position uint64
}

// Commit is what a dispatcher makes durable at once for one partition.
type Commit struct {
	// TermsVersion is the version of Terms that the commit rests on; 0: not
	// checked. No position in the commit passes the beginning of a newer term,
	// and none is kept of a subscription that was started anew since, so that a
	// change that its author had not seen yet loses nothing.
	TermsVersion uint64
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
	// After any other error it may be called again as it was. Its cost is that
	// of comparing the two sets, and of writing what differs. What goes away is
	// gone with its cursor and its dead letters, also when it comes back.
	SetSubscriptions(ctx context.Context, version uint64, subs []Subscription) error
	// ChangeSubscriptions does the same where the set at version from is applied:
	// changed are in it now, as they are here, and gone are not. Its cost is that
	// of what differs. ErrStale where the set applied is of another version: then
	// the whole set has to be given.
	ChangeSubscriptions(ctx context.Context, from, version uint64, changed []Subscription, gone []string) error
}

// Partition is one dense sequence of offsets. Reading never takes a lock that
// appending waits for.
type Partition interface {
	Channel() ID
	Number() int
	// Bounds are the floor (first readable offset) and the next offset to be given.
	Bounds() (floor, next uint64)
	// Version is the latest version given to SetSubscriptions or
	// ChangeSubscriptions that is applied here.
	Version() uint64
	// Read returns up to max events from offset on, fewer when they exceed
	// maxBytes (but at least one), in order, none when offset is the end. Events
	// are shared, and so is the slice: neither may be modified. Recent ones come
	// from memory, decoded once for all readers. The terms of what was returned
	// are known to Terms by then. ErrExpired below the floor. An error of a
	// damaged record names file and position, and is a *DamagedError that says
	// which offsets are lost; those before it are returned first. Behind damage
	// that was passed by command reading goes on where the *PassedError says.
	Read(ctx context.Context, offset uint64, max int, maxBytes int) ([]Stored, error)
	// Wait returns when next > offset or the terms' version > termsVersion, with
	// ErrNotFound once the channel is dropped.
	Wait(ctx context.Context, offset uint64, termsVersion uint64) error
	// Terms are those not yet closed and fully delivered, by UID and From, and
	// their version, which counts up with each change of the set.
	Terms() (terms []Term, version uint64)
	// TermsSince are those of the subscriptions that have changed since a version
	// of the terms, as Terms would tell them, and the ones that are gone. It says
	// no where that is not known any more. A call costs nothing where nothing has
	// changed.
	TermsSince(since uint64) (changed []Term, gone []string, version uint64, ok bool)
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

// History is what a Partition of the log in this package tells of the past
// beside its events; a backend that cannot does without.
type History interface {
	// TermsAt is the epoch of an offset: the terms that cover it, those of
	// deleted subscriptions included, for as long as the offset is retained.
	TermsAt(offset uint64) []Term
	// Outcomes reads up to max outcomes in log order from position from on, and
	// the position to go on from. The events an outcome speaks of precede it.
	Outcomes(ctx context.Context, from uint64, max int) (out []Outcome, next uint64, err error)
	// DeadLetterBounds are the positions kept in a subscription's dead letter log.
	DeadLetterBounds(uid string) (floor, next uint64)
}

// DamagedError says that events are in the log but cannot be read.
type DamagedError struct {
	Channel   ID
	Partition int
	Range     Range // what cannot be read, from the offset asked for on
	File      string
	Position  int64 // in File, in bytes; -1 where it is not known
	Err       error
}

func (e *DamagedError) Error() string {
	place := ""
	if e.File != "" {
		place = fmt.Sprintf(" (%s at byte %d)", e.File, e.Position)
	}
	return fmt.Sprintf("%s %s/%s, partition %d: offsets %d to %d are damaged%s: %v",
		e.Channel.Kind, e.Channel.Namespace, e.Channel.Name, e.Partition, e.Range.From, e.Range.To-1, place, e.Err)
}

// Unwrap is the cause.
func (e *DamagedError) Unwrap() error { return e.Err }
