package dispatcher

import (
	"context"
	"fmt"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
)

// Target is the current spec of a subscription: where its events go and how.
// It may change at any time; each attempt uses the one that holds then. Which
// events match, in which order and from where on is not here: that is the
// channel's term.
type Target struct {
	// UID is the subscription's, as in channel.Subscription.
	UID string
	// Kind ("Trigger" or "Subscription"), Namespace and Name name it in
	// metrics, in status and in logs. Namespace is what Kn-Namespace says.
	Kind, Namespace, Name string
	// Channel is the name of the Broker or Channel, for metrics.
	Channel string

	// URL is the subscriber's. While it is empty the cursor waits and no
	// attempt is spent. It has to stay empty as long as any address that the
	// spec names (subscriber, reply) does not resolve, because an empty
	// ReplyURL means that no reply is wanted.
	URL string
	// Delivery is how often, how fast and how long is tried.
	Delivery Policy
	// DeadLetterURL takes what ran out of attempts. Where it is empty, or
	// fails, the event stays in the subscription's dead letter log.
	DeadLetterURL string
	// Reply takes the events that the subscriber answers with. It wins over
	// ReplyURL. Where both are unset, replies are dropped and counted.
	Reply ReplyFunc
	// ReplyURL takes the events that the subscriber answers with, over HTTP.
	ReplyURL string

	// MaxInFlight bounds the requests out plus those acknowledged whose
	// cursor is not yet committed, in each partition; 0 is 100. More than
	// Options.MaxRanges is not used: a cursor could not hold it.
	MaxInFlight int
	// MaxWaiting bounds the events that wait for their next attempt or for
	// their key, in each partition; 0 is 1,000. Beyond, the subscription pauses.
	MaxWaiting int
}

// Backoff is how the wait between attempts grows.
type Backoff string

// The backoffs of the eventing API.
const (
	Exponential Backoff = "exponential" // Delay * 2^n, n from 0; the default
	Linear      Backoff = "linear"      // Delay * (n+1), n from 0
)

// Policy is a delivery policy. The dead letter sink and a reply sink are tried
// by the same policy as the subscriber.
type Policy struct {
	// Retry is the number of attempts after the first.
	Retry   int
	Backoff Backoff
	// Delay is the backoff's unit; 0 is 200 ms.
	Delay time.Duration
	// MaxDelay caps each wait; 0 is 10 minutes.
	MaxDelay time.Duration
	// Timeout bounds each request, its answer included; 0 is 60 seconds.
	Timeout time.Duration
	// RetryAfterMax caps what a Retry-After header of a 429 or 503 asks for;
	// nil caps it by MaxDelay, and 0 ignores the header.
	RetryAfterMax *time.Duration
	// Jitter draws each wait evenly from 0 to what the backoff says.
	Jitter bool
}

// Original is a delivered event with the place it came from.
type Original struct {
	Channel   channel.ID
	Partition int
	channel.Stored
}

// ReplyFunc takes a subscriber's reply in process. The reply is the
// function's own; the original is shared. A *RefusedError keeps the reply in
// the dead letter log, and the delivery is done; any other error is tried
// again by the policy, after which the original becomes a dead letter.
// It is called from many goroutines at once.
type ReplyFunc func(ctx context.Context, original *Original, reply *event.Event) error

// RefusedError says that a reply will never be accepted as it is.
type RefusedError struct {
	// Code is the status that the ingress would have answered with.
	Code   int
	Reason string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("reply refused (%d): %s", e.Code, e.Reason)
}

// Status is how a subscription is doing, over all partitions.
type Status struct {
	// Lag is how many offsets of the log have not been looked at for it.
	Lag uint64
	// InFlight requests are out; Uncommitted ones are acknowledged, and their
	// cursor is on its way to disk; Waiting ones wait for their next attempt,
	// Blocked ones for an event of their key.
	InFlight, Uncommitted, Waiting, Blocked int
	// DeadLetters are kept in its dead letter log.
	DeadLetters uint64
	// Detached: in some partition it reads from a position of its own.
	Detached bool
	// Paused: in some partition nothing new is looked at until something
	// changes. Reason (CamelCase) and Message say what.
	Paused          bool
	Reason, Message string
	// LastError is that of the last failed attempt, without credentials.
	LastError   string
	LastErrorAt time.Time
	// LastSuccessAt is when an event was last acknowledged.
	LastSuccessAt time.Time
}

// Reasons of a paused subscription.
const (
	ReasonUnresolved   = "Unresolved"     // the target has no URL yet
	ReasonMaxWaiting   = "MaxWaiting"     // too many events wait for their next attempt
	ReasonCursorFull   = "CursorFull"     // too many ranges acknowledged above the oldest open event
	ReasonDamaged      = "Damaged"        // a damaged range of the log lies ahead
	ReasonUnreadable   = "Unreadable"     // the log cannot be read, for another reason
	ReasonFilter       = "FilterUnusable" // the term's filter does not compile here
	ReasonCommitFailed = "CommitFailed"   // cursors cannot be made durable
)
