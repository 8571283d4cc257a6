package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/broker/http1"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/raftlog"
)

// refusal is an answer that is not 202.
type refusal struct {
	status   int
	reason   string
	shortage string
}

func (r *refusal) Error() string { return r.reason }

func refuse(status int, format string, args ...any) *refusal {
	return &refusal{status: status, reason: fmt.Sprintf(format, args...)}
}

// short says what a 503 is for.
func (r *refusal) short(of string) *refusal {
	r.shortage = of
	return r
}

// What a 503 is for.
const (
	ShortageRequests = "requests"    // as many are being handled as may
	ShortageMemory   = "body_memory" // the bodies at hand fill the memory there is for them
	ShortageDisk     = "disk"        // free space is below the floor, or the log at its bound
	ShortageStall    = "stall"       // the disk does not answer
	ShortageQueue    = "queue"       // as many bytes wait for the disk as may
	ShortageTime     = "time"        // it did not become durable in time, and may yet
	ShortageLeader   = "leader"      // the log cannot be written here
	ShortageOther    = "other"
)

// shortage is what a 503 is for.
func shortage(err error) string {
	var r *refusal
	switch {
	case errors.As(err, &r):
		return r.shortage
	case errors.Is(err, raftlog.ErrStalled):
		return ShortageStall
	case errors.Is(err, raftlog.ErrUnknownOutcome), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return ShortageTime
	case errors.Is(err, raftlog.ErrDiskFull):
		return ShortageDisk
	case errors.Is(err, raftlog.ErrOverloaded):
		return ShortageQueue
	case errors.Is(err, raftlog.ErrNotLeader), errors.Is(err, raftlog.ErrClosed):
		return ShortageLeader
	}
	return ShortageOther
}

// Problem is the body of a refusal, as JSON.
type Problem struct {
	// Reason says what is wrong, and what would be right.
	Reason string `json:"reason"`
	// Attribute is the attribute, member or header that is wrong, when one is.
	Attribute string `json:"attribute,omitempty"`
	// Events are the bad events of a batch, the first hundred. None of the
	// batch was stored.
	Events []EventProblem `json:"events,omitempty"`
}

// EventProblem is what is wrong with one event of a batch.
type EventProblem struct {
	// Index counts from 0.
	Index     int    `json:"index"`
	Attribute string `json:"attribute,omitempty"`
	Reason    string `json:"reason"`
}

// maxProblems is how many bad events of a batch are told of.
const maxProblems = 100

// refuse makes the answer to what is refused, with the reason.
func (i *Ingress) refuse(a *http1.Answer, err error, served *Served) {
	status, p := explain(err)
	if status == http.StatusServiceUnavailable {
		served.Shortage = shortage(err)
	}
	a.Status = status
	a.Headers = append(a.Headers[:0], event.Header{Name: "Content-Type", Value: "application/json"})
	switch status {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		a.Headers = append(a.Headers, event.Header{Name: "Retry-After", Value: strconv.FormatInt(max(1, int64((i.o.RetryAfter+time.Second-1)/time.Second)), 10)})
	case http.StatusUnauthorized:
		a.Headers = append(a.Headers, event.Header{Name: "WWW-Authenticate", Value: "Bearer"})
	case http.StatusMethodNotAllowed:
		a.Headers = append(a.Headers, event.Header{Name: "Allow", Value: allow})
	}
	text, err := json.Marshal(p)
	if err != nil {
		text = []byte(`{}`) // strings and numbers always marshal
	}
	a.Body = append(text, '\n')
}

// explain is the status of an error, and what the sender is told of it.
func explain(err error) (int, Problem) {
	var r *refusal
	var one *event.FormatError
	var batch event.BatchError
	switch {
	case errors.As(err, &r):
		return r.status, Problem{Reason: r.reason}
	case errors.As(err, &batch):
		status := http.StatusRequestEntityTooLarge
		p := Problem{Reason: fmt.Sprintf("of this batch, %d events are bad; none was accepted", len(batch))}
		for n, f := range batch {
			if !f.TooLarge {
				status = http.StatusBadRequest
			}
			if n < maxProblems {
				p.Events = append(p.Events, EventProblem{f.Index, f.Attribute, f.Reason})
			}
		}
		return status, p
	case errors.As(err, &one):
		status := http.StatusBadRequest
		if one.TooLarge {
			status = http.StatusRequestEntityTooLarge
		}
		return status, Problem{Reason: one.Error(), Attribute: one.Attribute}
	case errors.Is(err, ErrUnauthenticated):
		return http.StatusUnauthorized, Problem{Reason: err.Error()}
	case errors.Is(err, ErrForbidden):
		return http.StatusForbidden, Problem{Reason: err.Error()}
	}
	return explainAppend(err)
}

// explainAppend is explain for what Append returns. An outcome that is not
// known is a 503 like any other: whoever sends again may store twice.
func explainAppend(err error) (int, Problem) {
	switch {
	case errors.Is(err, channel.ErrNotFound):
		return http.StatusNotFound, Problem{Reason: "the broker or channel is being deleted"}
	case errors.Is(err, raftlog.ErrStalled): // also where the wait for it was given up
		return http.StatusServiceUnavailable, Problem{Reason: "the server's disk does not answer; nothing was accepted"}
	case errors.Is(err, raftlog.ErrUnknownOutcome), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return http.StatusServiceUnavailable, Problem{Reason: "it could not be confirmed in time that the events are stored; they may be"}
	case errors.Is(err, raftlog.ErrDiskFull):
		return http.StatusServiceUnavailable, Problem{Reason: "the server has too little disk space to store events; nothing was accepted"}
	case errors.Is(err, raftlog.ErrOverloaded):
		return http.StatusServiceUnavailable, Problem{Reason: "more events are waiting for the disk than may; nothing was accepted"}
	case errors.Is(err, raftlog.ErrNotLeader), errors.Is(err, raftlog.ErrClosed):
		return http.StatusServiceUnavailable, Problem{Reason: "the log is not ready to be written; nothing was accepted"}
	}
	// What is not known may have stored the events, so it is not for the sender
	// to give up on.
	return http.StatusServiceUnavailable, Problem{Reason: "the events could not be stored: " + err.Error()}
}
