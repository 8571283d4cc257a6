package broker

import (
	"errors"
	"net/http"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/broker/http1"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/raftlog"
)

// async serves the plain requests of a loop of package http1: what ServePlain
// does, in two parts, with the wait for the log between them.
type async struct {
	i *Ingress
	// to has begun something since the last Flush.
	to channel.Beginner
	// arrival is that of all that has been begun since the last Flush.
	arrival event.Value
	// latest is what the latest path named since the last Flush: of many requests at
	// once, most have the same one.
	latest struct {
		path string
		target
		id channel.ID
		to channel.Beginner
	}
	// reader reads the events of each request: where nobody asks for them once they
	// have begun, as mostly, their memory is the next one's, and still at hand.
	reader *event.Reader
}

// async is nil where something else than the log may have to be waited for.
func (i *Ingress) async() func() http1.Async {
	if i.o.Authenticator != nil {
		return nil
	}
	return func() http1.Async { return &async{i: i} }
}

// begun is a request that was begun.
type begun struct {
	// What it is answered with comes first, and close together: another processor
	// does that.
	i       *Ingress
	r       *http1.Request
	channel channel.Channel
	count   int // of its events
	err     error
	reader  *event.Reader // of events; nil where nobody asks for them
	s       serving
	body    body
	events  []*event.Event
	done    func(error) // is end, made once
}

// Begin implements http1.Async.
func (y *async) Begin(r *http1.Request) bool {
	whole, inMemory := r.Body.Whole()
	if !inMemory {
		return false
	}
	b, _ := r.Slot.(*begun)
	if b == nil {
		b = &begun{i: y.i}
		b.done = b.end
		r.Slot = b
	}
	if y.arrival.Str == "" {
		y.arrival = y.i.arrival()
	}
	b.r, b.s = r, serving{began: r.Began}
	q := request{method: http.MethodPost, path: r.Path, headers: r.Headers, arrival: y.arrival, length: r.Length, whole: whole, inMemory: true, large: r.Body.Large()}
	mine := true // until it is end's
	defer func() {
		if mine {
			b.release()
		}
	}()
	err := y.i.enter()
	if err == nil {
		if (r.Path != y.latest.path || y.latest.to == nil) && !y.resolve(&q) {
			return false
		}
		if err = y.take(b, &q); err == nil && b.count > 0 {
			if err = y.append(b, y.latest.to); err == nil {
				mine = false
				return true
			}
		}
	}
	mine = false
	if errors.Is(err, raftlog.ErrWouldWait) {
		y.keep(b)
		go b.wait() // as long as a request may at most; there are no more than MaxRequests
	} else {
		b.end(err)
	}
	return true
}

// resolve says no to a path that names nothing, or nothing that can begin.
func (y *async) resolve(q *request) (ok bool) {
	l := &y.latest
	l.path, l.target, l.to = "", target{}, nil
	t, err := y.i.target(q)
	if l.to, ok = t.channel.(channel.Beginner); err != nil || !ok {
		return false
	}
	l.path, l.target, l.id = q.path, t, t.channel.ID()
	return true
}

// take reads a request's events.
func (y *async) take(b *begun, q *request) (err error) {
	t, id := y.latest.target, &y.latest.id
	b.channel = t.channel
	// The channel's own names are in memory that all requests to it share.
	b.s.Kind, b.s.Namespace, b.s.Name = t.resource(), id.Namespace, id.Name
	if y.reader == nil {
		y.reader = y.i.reader()
	}
	if b.events, err = y.i.take(q, t, &b.s, &b.body, y.reader); err != nil {
		return err
	}
	b.count = len(b.events)
	if b.count > 0 && !y.i.o.Told(*id, b.events) {
		y.keep(b)
	}
	return nil
}

// keep has a request keep its events until it is answered.
func (y *async) keep(b *begun) {
	if b.reader == nil {
		b.reader, y.reader = y.reader, nil
	}
}

// append begins to append the events of a request. Where it does, the request is
// end's, which may be called before it returns.
func (y *async) append(b *begun, to channel.Beginner) error {
	if y.to != nil && y.to != to {
		y.to.Flush()
	}
	if y.i.o.Spans != nil {
		b.s.appendBegan = time.Now()
	}
	y.to = to
	return to.Begin(b.events, b.s.began.Add(y.i.o.AppendTimeout), b.done)
}

// wait appends as a request does that has a goroutine.
func (b *begun) wait() {
	b.end(b.channel.Append(b.i.deadlines.context(time.Now()), b.events))
}

// end is called when it is known what becomes of a request.
func (b *begun) end(err error) {
	b.err = err
	b.r.Done()
}

// Finish implements http1.Async.
func (*async) Finish(r *http1.Request, a *http1.Answer, now time.Time) {
	b := r.Slot.(*begun)
	defer b.release()
	i := b.i
	if i.o.Spans != nil && !b.s.appendBegan.IsZero() {
		b.s.appendEnded = now
	}
	a.Status = http.StatusAccepted
	if b.err != nil {
		i.refuse(a, b.err, &b.s.Served)
	} else if b.count > 0 {
		b.s.Events = b.count
		if b.reader != nil {
			i.o.Accepted(b.channel.ID(), b.events)
		}
	}
	i.served(r.Headers, a, &b.s, b.err, now)
}

// release ends a request, and the use of its events.
func (b *begun) release() {
	b.i.requests.Add(-1)
	b.i.bodies.release(&b.body)
	if b.reader != nil {
		b.i.keep(b.reader)
		b.reader = nil
	}
	b.channel, b.count, b.err = nil, 0, nil
	if b.i.o.Spans != nil {
		b.s.received = nil
	}
}

// Flush implements http1.Async.
func (y *async) Flush() (wait func()) {
	y.arrival, y.latest.path, y.latest.target, y.latest.to = event.Value{}, "", target{}, nil
	to := y.to
	if y.to = nil; to == nil {
		return nil
	}
	return to.Commit
}
