// Package broker takes events in over HTTP and appends them to the log of a
// broker or channel.
package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/raftlog"
)

// Resolver finds what a request's path names.
type Resolver interface {
	// Broker and Channel return the log of a Broker or Channel; false where
	// there is none.
	Broker(namespace, name string) (channel.Channel, bool)
	Channel(namespace, name string) (channel.Channel, bool)
}

// Authenticator decides who may send. Its errors are ErrUnauthenticated or
// ErrForbidden, wrapped with a reason.
type Authenticator interface {
	Authorize(ctx context.Context, authorization, namespace string) error
}

// Errors of an Authenticator.
var (
	ErrUnauthenticated = errors.New("no valid credentials")
	ErrForbidden       = errors.New("these credentials may not send here")
)

// IngressOptions configure an Ingress. Zero values mean the defaults.
type IngressOptions struct {
	Resolver Resolver
	// Authenticator is nil where anyone may send.
	Authenticator Authenticator
	Limits        event.Limits
	// MaxBodyBytes bounds one request's body; 8 MiB.
	MaxBodyBytes int64
	// MaxBodyMemory bounds the bodies of all requests together; 128 MiB.
	MaxBodyMemory int64
	// MaxRequests bounds the requests at once; 10,000.
	MaxRequests int64
	// RetryAfter is what a 503 asks the sender to wait; 1 s.
	RetryAfter time.Duration
	// WebHookRate is what OPTIONS allows, in requests a minute; 0: any ("*").
	WebHookRate int
	// AppendTimeout bounds how long a request waits to become durable; 30 s.
	AppendTimeout time.Duration
	// Now is the clock; time.Now when nil.
	Now func() time.Time
	// Counted is told of each request; namespace and name are empty where the
	// path names nothing that exists.
	Counted func(namespace, name string, status, events int)
}

// Ingress serves /NAMESPACE/BROKER and /channels/NAMESPACE/NAME.
type Ingress struct {
	o        IngressOptions
	memory   *semaphore.Weighted
	requests *semaphore.Weighted
	buffers  sync.Pool
}

// NewIngress makes an ingress.
func NewIngress(o IngressOptions) *Ingress {
	o.Limits = o.Limits.WithDefaults()
	setDefault(&o.MaxBodyBytes, 8<<20)
	setDefault(&o.MaxBodyMemory, 128<<20)
	setDefault(&o.MaxRequests, 10_000)
	setDefault(&o.RetryAfter, time.Second)
	setDefault(&o.AppendTimeout, 30*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Counted == nil {
		o.Counted = func(string, string, int, int) {}
	}
	return &Ingress{
		o: o, memory: semaphore.NewWeighted(o.MaxBodyMemory), requests: semaphore.NewWeighted(o.MaxRequests),
		buffers: sync.Pool{New: func() any { return new([]byte) }},
	}
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// refusal is an answer that is not 202.
type refusal struct {
	status int
	reason string
}

func (r *refusal) Error() string { return r.reason }

func refuse(status int, format string, args ...any) *refusal {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// target is what a path names.
type target struct {
	kind, namespace, name string
	channel               channel.Channel
}

// ServeHTTP implements http.Handler.
func (i *Ingress) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t, err := i.target(r.URL.Path)
	if err == nil {
		switch r.Method {
		case http.MethodPost:
		case http.MethodOptions:
			i.options(w, r)
			return
		default:
			w.Header().Set("Allow", allow)
			err = refuse(http.StatusMethodNotAllowed, "method %s is not allowed: send events with POST", r.Method)
		}
	}
	events := 0
	if err == nil {
		events, err = i.accept(r, t)
	}
	if err != nil {
		i.answer(w, t, err)
		return
	}
	i.o.Counted(t.namespace, t.name, http.StatusAccepted, events)
	w.WriteHeader(http.StatusAccepted)
}

const allow = "POST, OPTIONS"

// target resolves a path; a trailing slash does not matter.
func (i *Ingress) target(path string) (target, error) {
	parts := strings.Split(strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/"), "/")
	var t target
	ok := false
	switch {
	case len(parts) == 3 && parts[0] == "channels":
		t = target{kind: "channel", namespace: parts[1], name: parts[2]}
		t.channel, ok = i.o.Resolver.Channel(t.namespace, t.name)
	case len(parts) == 2:
		t = target{kind: "broker", namespace: parts[0], name: parts[1]}
		t.channel, ok = i.o.Resolver.Broker(t.namespace, t.name)
	default:
		return t, refuse(http.StatusNotFound, "send events to /NAMESPACE/BROKER or /channels/NAMESPACE/NAME")
	}
	if !ok {
		err := refuse(http.StatusNotFound, "%s %s/%s is not there, or not ready yet", t.kind, t.namespace, t.name)
		return target{}, err
	}
	return t, nil
}

// options answers a web hook's validation request
// (https://github.com/cloudevents/spec/blob/main/cloudevents/http-webhook.md).
func (i *Ingress) options(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Allow", allow)
	origin := r.Header.Get("WebHook-Request-Origin")
	if origin == "" {
		origin = "*"
	}
	h.Set("WebHook-Allowed-Origin", origin)
	rate := "*"
	if i.o.WebHookRate > 0 {
		rate = strconv.Itoa(i.o.WebHookRate)
	}
	h.Set("WebHook-Allowed-Rate", rate)
	w.WriteHeader(http.StatusOK)
}

// accept reads a request and appends its events. It returns how many they are.
func (i *Ingress) accept(r *http.Request, t target) (int, error) {
	if i.o.Authenticator != nil {
		if err := i.o.Authenticator.Authorize(r.Context(), r.Header.Get("Authorization"), t.namespace); err != nil {
			return 0, err
		}
	}
	if !i.requests.TryAcquire(1) {
		return 0, refuse(http.StatusServiceUnavailable, "%d requests are being handled already", i.o.MaxRequests)
	}
	defer i.requests.Release(1)
	body, release, err := i.read(r)
	if err != nil {
		return 0, err
	}
	defer release()
	events, _, err := event.FromMessage(requestHeaders(r.Header), body, i.o.Limits)
	if err != nil {
		return 0, err
	}
	if len(events) == 0 {
		return 0, nil
	}
	if err := i.stamp(events, t, r.Header); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), i.o.AppendTimeout)
	defer cancel()
	return len(events), t.channel.Append(ctx, events)
}

// requestHeaders are net/http's headers, as the event formats read them.
type requestHeaders http.Header

// Get implements event.Headers.
func (h requestHeaders) Get(name string) string { return http.Header(h).Get(name) }

// Each implements event.Headers.
func (h requestHeaders) Each(f func(name, value string)) {
	for name, values := range h {
		for _, v := range values {
			f(name, v)
		}
	}
}

// smallBody is what a body of unknown length is expected to hold, in bytes.
const smallBody = 16 << 10

// read reads a body into memory that is accounted for. The body may be used
// until release is called.
func (i *Ingress) read(r *http.Request) (body []byte, release func(), err error) {
	if r.ContentLength > i.o.MaxBodyBytes {
		return nil, nil, refuse(http.StatusRequestEntityTooLarge, "a body of %d bytes is over the limit of %d", r.ContentLength, i.o.MaxBodyBytes)
	}
	reserved := int64(0)
	reserve := func(n int64) error {
		if n <= reserved {
			return nil
		}
		if !i.memory.TryAcquire(n - reserved) {
			return refuse(http.StatusServiceUnavailable, "the bodies of the requests at hand fill the %d bytes there are for them", i.o.MaxBodyMemory)
		}
		reserved = n
		return nil
	}
	size := r.ContentLength
	if size < 0 {
		size = smallBody
	}
	if err := reserve(size + 1); err != nil {
		return nil, nil, err
	}
	buf := i.buffers.Get().(*[]byte)
	release = func() {
		i.memory.Release(reserved)
		if cap(*buf) <= maxPooled {
			i.buffers.Put(buf)
		}
	}
	b := (*buf)[:0]
	for {
		if len(b) == cap(b) {
			grown := max(2*int64(cap(b)), size+1)
			if err := reserve(min(grown, i.o.MaxBodyBytes+1)); err != nil {
				release()
				return nil, nil, err
			}
			next := make([]byte, len(b), min(grown, i.o.MaxBodyBytes+1))
			copy(next, b)
			b = next
		}
		n, err := r.Body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if int64(len(b)) > i.o.MaxBodyBytes {
			release()
			return nil, nil, refuse(http.StatusRequestEntityTooLarge, "the body is over the limit of %d bytes", i.o.MaxBodyBytes)
		}
		if errors.Is(err, io.EOF) {
			*buf = b
			return b, release, nil
		}
		if err != nil {
			release()
			return nil, nil, refuse(http.StatusBadRequest, "the body broke off after %d bytes: %v", len(b), err)
		}
	}
}

// maxPooled is the largest body buffer that is kept for later requests.
const maxPooled = 64 << 10

// answer sends a refusal, with its reason.
func (i *Ingress) answer(w http.ResponseWriter, t target, err error) {
	status := statusOf(err)
	i.o.Counted(t.namespace, t.name, status, 0)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	switch status {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		h.Set("Retry-After", strconv.Itoa(max(1, int(i.o.RetryAfter.Seconds()))))
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
	}
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(problemOf(err))
}

// Problem is the body of a refusal.
type Problem struct {
	Reason string `json:"reason"`
	// Attribute is the attribute or header that is wrong, when one is.
	Attribute string `json:"attribute,omitempty"`
	// Events are the bad events of a batch. None of the batch was stored.
	Events []EventProblem `json:"events,omitempty"`
}

// EventProblem is what is wrong with one event of a batch.
type EventProblem struct {
	Index     int    `json:"index"`
	Attribute string `json:"attribute,omitempty"`
	Reason    string `json:"reason"`
}

// maxProblems is how many bad events of a batch are told of.
const maxProblems = 100

func problemOf(err error) Problem {
	var one *event.FormatError
	var batch event.BatchError
	switch {
	case errors.As(err, &batch):
		p := Problem{Reason: fmt.Sprintf("%d events of the batch are bad; none was stored", len(batch))}
		for _, f := range batch[:min(len(batch), maxProblems)] {
			p.Events = append(p.Events, EventProblem{f.Index, f.Attribute, f.Reason})
		}
		return p
	case errors.As(err, &one):
		return Problem{Reason: one.Error(), Attribute: one.Attribute}
	}
	return Problem{Reason: err.Error()}
}

func statusOf(err error) int {
	var r *refusal
	var one *event.FormatError
	var batch event.BatchError
	switch {
	case errors.As(err, &r):
		return r.status
	case errors.As(err, &batch):
		for _, f := range batch {
			if !f.TooLarge {
				return http.StatusBadRequest
			}
		}
		return http.StatusRequestEntityTooLarge
	case errors.As(err, &one):
		if one.TooLarge {
			return http.StatusRequestEntityTooLarge
		}
		return http.StatusBadRequest
	case errors.Is(err, ErrUnauthenticated):
		return http.StatusUnauthorized
	case errors.Is(err, ErrForbidden):
		return http.StatusForbidden
	case errors.Is(err, channel.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, raftlog.ErrDiskFull), errors.Is(err, raftlog.ErrOverloaded), errors.Is(err, raftlog.ErrUnknownOutcome),
		errors.Is(err, raftlog.ErrNotLeader), errors.Is(err, raftlog.ErrClosed), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
