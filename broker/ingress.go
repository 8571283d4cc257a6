// Package broker takes events in over HTTP and appends them to the log of a
// broker or channel.
package broker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/broker/http1"
	"github.com/leat-dev/leat/channel"
)

// Resolver finds what a request's path names. It is used from many goroutines
// at once.
type Resolver interface {
	// Broker and Channel return the log of a Broker or Channel; false where
	// there is none. Its Append must be done with the events when it returns:
	// they, and the buffers with their data, are used again.
	Broker(namespace, name string) (channel.Channel, bool)
	Channel(namespace, name string) (channel.Channel, bool)
}

// Authenticator decides who may send. Its errors are ErrUnauthenticated or
// ErrForbidden, wrapped with a reason that the sender may see; any other says
// that it cannot decide now, and has the sender try again.
type Authenticator interface {
	// Authorize is given the Authorization header, as it came, and the
	// namespace of the path, also where the path names nothing. Only who sends
	// events is asked for it.
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
	// Limits are those of events. Replies have them too.
	Limits event.Limits
	// MaxBodyBytes bounds one request's body; 8 MiB.
	MaxBodyBytes int64
	// MaxBodyMemory bounds the bodies of all requests together; 128 MiB.
	MaxBodyMemory int64
	// MaxChannelMemory bounds the bodies of requests to one broker or channel,
	// but for small ones; half of MaxBodyMemory. More is 429.
	MaxChannelMemory int64
	// MaxRequests bounds the requests at once; 10,000.
	MaxRequests int64
	// MaxHeaderLines bounds the lines of a request's headers, which may be many
	// and short; 1,000. More is 431.
	MaxHeaderLines int
	// MaxCauseDepth bounds the chain of causes: a reply to a reply, and so on.
	// The TTL ends it sooner where it is kept; 1,000.
	MaxCauseDepth int
	// RetryAfter is what a 503 asks the sender to wait; 1 s.
	RetryAfter time.Duration
	// WebHookRate is what OPTIONS allows, in requests a minute; 0: any ("*").
	WebHookRate int
	// AppendTimeout bounds how long a request waits to become durable; 30 s.
	AppendTimeout time.Duration
	// Now is the clock; time.Now when nil.
	Now func() time.Time
	// Counted is told of each request.
	Counted func(Served)
	// Accepted is told of events that are in the log. It must neither wait nor
	// keep anything of them: their memory is used again.
	Accepted func(id channel.ID, events []*event.Event)
	// Told says whether Accepted has been told of events like these, and need not
	// be of these. It may be asked before they are in the log: where they are read,
	// and so are at hand.
	Told func(id channel.ID, events []*event.Event) bool
	// Spans records the steps of traces; nil where nobody does.
	Spans event.Spans
}

// Served is a request that was answered.
type Served struct {
	// Kind ("Broker" or "Channel"), Namespace and Name are empty where the path
	// names nothing that exists, or nothing that the sender may know of.
	Kind, Namespace, Name string
	Status                int
	// Events that were accepted, and the bytes of the body, as far as it was read.
	Events, Bytes int
	Took          time.Duration
	// Shortage says what a 503 was for, in one word; one of the Shortage
	// constants.
	Shortage string
}

// Ingress serves /NAMESPACE/BROKER and /channels/NAMESPACE/NAME.
type Ingress struct {
	o         IngressOptions
	bodies    bodies
	requests  atomic.Int64 // being handled
	deadlines deadlines
	readers   sync.Pool // of *event.Reader
}

// NewIngress makes an ingress.
func NewIngress(o IngressOptions) *Ingress {
	o.Limits = o.Limits.WithDefaults()
	setDefault(&o.MaxBodyBytes, 8<<20)
	setDefault(&o.MaxBodyMemory, 128<<20)
	setDefault(&o.MaxChannelMemory, o.MaxBodyMemory/2)
	setDefault(&o.MaxRequests, 10_000)
	setDefault(&o.MaxHeaderLines, 1_000)
	setDefault(&o.MaxCauseDepth, 1_000)
	setDefault(&o.RetryAfter, time.Second)
	setDefault(&o.AppendTimeout, 30*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Counted == nil {
		o.Counted = func(Served) {}
	}
	if o.Accepted == nil {
		o.Accepted = func(channel.ID, []*event.Event) {}
	}
	if o.Told == nil {
		o.Told = func(channel.ID, []*event.Event) bool { return false }
	}
	i := &Ingress{o: o, deadlines: deadlines{after: o.AppendTimeout}}
	i.bodies.init(o.MaxBodyMemory, o.MaxChannelMemory)
	return i
}

// reader is one for a request, which is kept when that is answered.
func (i *Ingress) reader() *event.Reader {
	if r, _ := i.readers.Get().(*event.Reader); r != nil {
		return r
	}
	return event.NewReader(i.o.Limits)
}

func (i *Ingress) keep(r *event.Reader) {
	r.Forget()
	i.readers.Put(r)
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// target is what a path names.
type target struct {
	kind, namespace, name string
	channel               channel.Channel
}

// resource is the kind of the object that is named.
func (t *target) resource() string {
	if t.kind == "channel" {
		return "Channel"
	}
	return "Broker"
}

// serve does what a request asks for, and notes what it was.
func (i *Ingress) serve(q *request, a *http1.Answer, served *serving) error {
	defer i.requests.Add(-1)
	if err := i.enter(); err != nil {
		return err
	}
	t, err := i.target(q)
	if err != nil {
		return err
	}
	if t.channel != nil {
		served.Kind, served.Namespace, served.Name = t.resource(), t.namespace, t.name
	}
	switch q.method {
	case http.MethodPost:
		a.Status = http.StatusAccepted
		return i.accept(q, t, served)
	case http.MethodOptions:
		i.options(q, a)
		return nil
	}
	return refuse(http.StatusMethodNotAllowed, "method %s is not allowed: send events with POST", q.method)
}

// enter counts a request that is being handled.
func (i *Ingress) enter() error {
	if i.requests.Add(1) > i.o.MaxRequests {
		return refuse(http.StatusServiceUnavailable, "%d requests are being handled already, which is the limit; send again later", i.o.MaxRequests).short(ShortageRequests)
	}
	return nil
}

const allow = "POST, OPTIONS"

// target resolves a request's path; a trailing slash does not matter. Whoever
// may not send to a namespace does not learn what is in it, by another method
// neither: there nothing is looked up.
func (i *Ingress) target(q *request) (target, error) {
	namespace, name, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(q.path, "/"), "/"), "/")
	t := target{kind: "broker", namespace: namespace, name: name}
	if ns, n, isChannel := strings.Cut(name, "/"); isChannel && namespace == "channels" {
		t = target{kind: "channel", namespace: ns, name: n}
	}
	if !ok || t.namespace == "" || t.name == "" || strings.Contains(t.name, "/") {
		return target{}, refuse(http.StatusNotFound, "no events are taken here: send them to /NAMESPACE/BROKER or /channels/NAMESPACE/NAME")
	}
	if i.o.Authenticator != nil {
		if q.method != http.MethodPost {
			return target{}, nil
		}
		ctx, cancel := i.within(q)
		defer cancel()
		if err := i.o.Authenticator.Authorize(ctx, q.headers.Get("Authorization"), t.namespace); err != nil {
			return target{}, err
		}
	}
	if t.kind == "broker" {
		t.channel, ok = i.o.Resolver.Broker(t.namespace, t.name)
	} else {
		t.channel, ok = i.o.Resolver.Channel(t.namespace, t.name)
	}
	if !ok {
		return target{}, refuse(http.StatusNotFound, "%s %s/%s is not there, or not ready yet", t.kind, t.namespace, t.name)
	}
	return t, nil
}

// options answers a web hook's request for validation, as the CloudEvents
// specification of web hooks says.
func (i *Ingress) options(q *request, a *http1.Answer) {
	origin := q.headers.Get("WebHook-Request-Origin")
	if origin == "" {
		origin = "*"
	}
	rate := "*"
	if i.o.WebHookRate > 0 {
		rate = strconv.Itoa(i.o.WebHookRate)
	}
	a.Status = http.StatusOK
	a.Headers = []event.Header{{Name: "Allow", Value: allow}, {Name: "WebHook-Allowed-Origin", Value: origin}, {Name: "WebHook-Allowed-Rate", Value: rate}}
}

// accept reads a request and appends its events.
func (i *Ingress) accept(q *request, t target, served *serving) error {
	var b body
	defer i.bodies.release(&b)
	r := i.reader()
	defer i.keep(r)
	events, err := i.take(q, t, served, &b, r)
	if err != nil || len(events) == 0 {
		return err
	}
	ctx, cancel := i.within(q)
	defer cancel()
	if i.o.Spans != nil {
		served.appendBegan = time.Now()
		defer func() { served.appendEnded = time.Now() }()
	}
	if err := t.channel.Append(ctx, events); err != nil {
		return err
	}
	served.Events = len(events)
	i.o.Accepted(t.channel.ID(), events)
	return nil
}

// take reads a request's events, which are good until its body is released, also
// where there is an error, and until their reader is used again.
func (i *Ingress) take(q *request, t target, served *serving, b *body, r *event.Reader) ([]*event.Event, error) {
	if err := i.checkHeaders(q.headers); err != nil {
		return nil, err
	}
	limit, err := i.bodyLimit(q.headers)
	if err != nil {
		return nil, err
	}
	b.of = t.channel.ID().UID
	if q.inMemory {
		err = i.bodies.borrow(b, q.whole, q.large, limit)
	} else {
		err = i.bodies.read(b, q.body, q.length, limit)
	}
	served.Bytes = len(b.bytes)
	if err != nil {
		return nil, err
	}
	events, _, err := r.Read(q.headers, b.bytes)
	if err != nil || len(events) == 0 {
		return nil, err
	}
	return events, i.stamp(events, t, q, served, r)
}

// checkHeaders refuses what no event can be read under.
func (i *Ingress) checkHeaders(h event.HeaderList) error {
	if lines := len(h); lines > i.o.MaxHeaderLines {
		return refuse(http.StatusRequestHeaderFieldsTooLarge, "%d header lines are over the limit of %d", lines, i.o.MaxHeaderLines)
	}
	// The data would go on to subscribers still encoded, without a word of it.
	if c := h.Get("Content-Encoding"); c != "" && !strings.EqualFold(c, "identity") {
		return &event.FormatError{Index: -1, Attribute: "Content-Encoding", Reason: fmt.Sprintf("%.80q is not supported: send the body as it is", c)}
	}
	return nil
}

// bodyLimit is how large a request's body may be. In binary mode it is the
// data, so the limit of one event holds before it is read; but not where the
// data is yet to be decoded.
func (i *Ingress) bodyLimit(h event.HeaderList) (int64, error) {
	mode, bad := event.ModeOf(h.Get("Content-Type"))
	if bad != nil {
		return 0, bad
	}
	if mode == event.Binary && h.Get("Ce-Datacontentencoding") == "" {
		return min(i.o.MaxBodyBytes, int64(i.o.Limits.MaxDataBytes)), nil
	}
	return i.o.MaxBodyBytes, nil
}
