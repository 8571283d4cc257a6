package dispatcher

import (
	"context"
	"fmt"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
)

// ID names a channel.
type ID = channel.ID

// Sender attempts an event at a URL, once. It is the seam between delivery and
// the HTTP client under it. It is used from many goroutines at once.
type Sender interface {
	// Send returns what was answered, whatever the status. An error means
	// that there was no answer; a *DeniedError that none will be asked for.
	// ctx bounds the whole exchange. Errors do not show credentials.
	Send(ctx context.Context, r *Request) (Response, error)
	// Close ends idle connections.
	Close()
}

// Request is one attempt.
type Request struct {
	URL string
	// Event is sent in binary mode where it can be, without the time to live. It
	// is shared and not modified.
	Event *event.Event
	// Namespace is what Kn-Namespace says.
	Namespace string
	// Trace is the span that the attempt is; the zero value where the event
	// belongs to no trace.
	Trace event.TraceContext
	// Parent is what that span is part of.
	Parent [8]byte
	// WantReply sends "Prefer: reply" and decodes events in the answer.
	WantReply bool
}

// Response is what was answered.
type Response struct {
	Status int
	// RetryAfter is the header, as it came.
	RetryAfter string
	// Replies are the events in a 2xx answer, where they were asked for. They
	// are the caller's own.
	Replies []*event.Event
	// Refused: the answer says it is an event, and is too large or malformed.
	// RefusedReply is as much of it as can be kept.
	Refused      *RefusedError
	RefusedReply *event.Event
	// NotEvent: the 2xx answer had a body that does not say it is an event.
	NotEvent bool
	// Body is the start of an answer outside 2xx, at most maxAnswer bytes.
	Body []byte
}

// DeniedError says that a destination is not allowed.
type DeniedError struct {
	Host, Addr, Reason string
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("%s resolves to %s, which is refused: %s", e.Host, e.Addr, e.Reason)
}
