package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/leat-dev/leat/broker/operations"
)

// TailQuery says which events Tail reads.
type TailQuery struct {
	Channel bool // a Channel instead of a Broker
	Since   string
	Filter  string
	Follow  bool
	Limit   int
	// Reconnect is how long it is tried to go on, where a stream broke off; 0:
	// not at all.
	Reconnect time.Duration
	// Notice is told, in a sentence, of a stream that broke off and goes on, and
	// of events that are gone. Nil: nobody is.
	Notice func(string)
	// Waits is called before more is waited for: whoever gathers what it shows
	// shows it now. Nil: nobody does. Its error ends the stream.
	Waits func() error
}

// Waits between attempts to go on.
const (
	firstWait = 50 * time.Millisecond
	maxWait   = 2 * time.Second
)

// Tail calls each for every event, once, until ctx ends, the limit or, without
// Follow, the end of the log is reached. A stream that breaks off goes on with
// the event that follows in each partition. An error says why it could not.
func (c *Client) Tail(ctx context.Context, name string, q TailQuery, each func(operations.Line) error) error {
	t := &tail{Client: c, name: name, kind: "brokers", q: q, each: each, next: operations.Positions{}}
	if q.Channel {
		t.kind = "channels"
	}
	err := t.stream(ctx)
	for broke := (*brokenError)(nil); errors.As(err, &broke); {
		if t.q.Reconnect <= 0 || len(t.next) == 0 {
			return t.brokeOff(broke.error)
		}
		t.notice(fmt.Sprintf("the stream broke off: %v; trying to go on with --since %s", broke.error, t.onwards()))
		err = t.again(ctx, broke)
	}
	if ctx.Err() != nil {
		return nil // it was asked to end
	}
	return c.orThoseThereAre(ctx, err, t.kind)
}

// tail is a stream of events, over the requests that it takes.
type tail struct {
	*Client
	name, kind string
	q          TailQuery
	each       func(operations.Line) error

	log    string               // which log it is, once that is known
	next   operations.Positions // what comes next, in each partition
	moved  bool                 // something has come, in some of them
	events int
}

// brokenError says that a stream that had begun broke off.
type brokenError struct{ error }

// Unwrap returns the reason.
func (e *brokenError) Unwrap() error { return e.error }

// logError is why a stream can be read no further, by the server or here.
type logError struct{ reason string }

func (e *logError) Error() string { return e.reason }

var (
	// errEnded is why a stream that was to go on is over.
	errEnded = errors.New("the server ended it: it stops, or the broker or channel was deleted")
	// errAnotherLog is why one cannot go on.
	errAnotherLog = errors.New("it was deleted and made anew in the meantime: what was in the former one and had not been shown is gone")
)

// again goes on with a stream that broke off. While the server is not there, or
// not ready, it is asked again, until the time for that is up.
func (t *tail) again(ctx context.Context, broke *brokenError) error {
	give := time.Now().Add(t.q.Reconnect)
	for wait := firstWait; ; wait = min(2*wait, maxWait) {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(min(wait, time.Until(give))):
		}
		err := t.stream(ctx)
		another := (*brokenError)(nil)
		if err == nil || ctx.Err() != nil || errors.As(err, &another) || !t.passing(ctx, err) {
			return err
		}
		if time.Now().After(give) {
			return t.brokeOff(fmt.Errorf("%w; since then, %s long: %w", broke.error, t.q.Reconnect, err))
		}
	}
}

// passing says whether what keeps a stream from going on may end by itself.
func (t *tail) passing(ctx context.Context, err error) bool {
	refused := (*statusError)(nil)
	if !errors.As(err, &refused) {
		return !errors.Is(err, errAnotherLog) && !errors.As(err, new(*eachError)) && !errors.As(err, new(*logError))
	}
	switch {
	case refused.code >= 500, refused.code == http.StatusTooManyRequests:
		return true
	case refused.code == http.StatusNotFound: // of a log that is not open yet, too
		group := groups[t.kind]
		body, err := t.get(ctx, nil, "apis", group, "namespaces", t.Namespace, t.kind, t.name)
		if err == nil {
			body.Close()
		}
		gone := (*statusError)(nil)
		return !errors.As(err, &gone) || gone.code != http.StatusNotFound
	}
	return false
}

// eachError is an error of who takes the events.
type eachError struct{ error }

// Unwrap returns the error itself.
func (e *eachError) Unwrap() error { return e.error }

// onwards is where the stream begins that goes on: with what comes next, or where
// it was to begin as long as that is not known. An offset of which nothing has come
// may be beyond the end, where no positions can be: it stays one.
func (t *tail) onwards() string {
	if _, err := strconv.ParseUint(t.q.Since, 10, 64); len(t.next) == 0 || err == nil && !t.moved {
		return t.q.Since
	}
	return t.next.String()
}

// query is that of the next request.
func (t *tail) query() url.Values {
	v := url.Values{"follow": {fmt.Sprint(t.q.Follow)}}
	if since := t.onwards(); since != "" {
		v.Set("since", since)
	}
	if t.q.Filter != "" {
		v.Set("filter", t.q.Filter)
	}
	if t.q.Limit > 0 {
		v.Set("limit", fmt.Sprint(t.q.Limit-t.events))
	}
	return v
}

// stream makes a request, and takes what it brings. The error is nil where the
// events are at an end, a *brokenError where there may be more.
func (t *tail) stream(ctx context.Context) error {
	body, h, err := t.open(ctx, t.query(), "leat/v1/namespaces", t.Namespace, t.kind, t.name, "events")
	if err != nil {
		return err
	}
	defer body.Close()
	if err := t.begin(h); err != nil {
		return err
	}
	for r := newLineReader(body, t.q.Waits); ; {
		line, err := r.next()
		if err != nil {
			whole := errors.Is(err, io.EOF)
			if ctx.Err() != nil || whole && !t.q.Follow {
				return nil
			}
			if whole {
				err = errEnded
			}
			if errors.As(err, new(*eachError)) || errors.As(err, new(*logError)) {
				return err
			}
			return &brokenError{err}
		}
		if done, err := t.take(line); done || err != nil {
			return err
		}
	}
}

// begin notes which log it is and where its stream begins.
func (t *tail) begin(h http.Header) error {
	log := h.Get(operations.LogHeader)
	if t.log != "" && t.log != log {
		return fmt.Errorf("%s/%s: %w", t.Namespace, t.name, errAnotherLog)
	}
	t.log = log
	positions, err := operations.ParsePositions(h.Get(operations.PositionsHeader))
	if err != nil {
		return nil // the server is an earlier one, which says nothing of them
	}
	for n, at := range positions {
		if was, known := t.next[n]; known && at > was { // an offset that was asked for again
			t.notice(gapNotice(operations.Line{Partition: n, Offset: was, Gap: &operations.Gap{To: at, Reason: operations.GapExpired}}))
		}
	}
	t.next = positions
	return nil
}

// take takes a line. It is done with the last that was asked for.
func (t *tail) take(line operations.Line) (done bool, err error) {
	switch {
	case line.Again:
		return true, &brokenError{errors.New(line.Error)}
	case line.Error != "":
		return true, &logError{line.Error}
	case line.Gap != nil:
		t.notice(gapNotice(line))
		t.went(line.Partition, line.Gap.To)
		return false, nil
	}
	if err := t.each(line); err != nil {
		return true, &eachError{err}
	}
	t.went(line.Partition, line.Offset+1)
	t.events++
	return t.events == t.q.Limit, nil
}

func (t *tail) went(partition int, to uint64) {
	t.moved = true
	if len(t.next) > 0 {
		t.next[partition] = to
	}
}

func gapNotice(line operations.Line) string {
	why := "retention has passed them"
	if line.Gap.Reason == operations.GapDamaged {
		why = "they lay in a damaged range, which was skipped"
	}
	return fmt.Sprintf("the events at offsets %d to %d of partition %d are gone: %s", line.Offset, line.Gap.To-1, line.Partition, why)
}

func (t *tail) notice(s string) {
	if t.q.Notice != nil {
		t.q.Notice(s)
	}
}

// brokeOff says how to go on where a stream ended before its time.
func (t *tail) brokeOff(err error) error {
	if len(t.next) == 0 {
		return fmt.Errorf("the stream broke off: %w\nIs the server running? See `leat status`", err)
	}
	return fmt.Errorf("the stream broke off after %d events: %w\nGo on with --since %s, which begins with the event that follows", t.events, err, t.onwards())
}
