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
	i      *Ingress
	r      *http1.Request
	events []*event.Event
	err    error
	// reader is of events. It stays here as long as it is small, and forgets them
	// when it reads again: they are no more than the connection's buffer had.
	reader *event.Reader
	told   bool // Accepted need not be told of them
	s      serving
	t      target
	body   body
	done   func(error) // is end, made once
	q      request
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
	if b.reader == nil {
		b.reader = y.i.reader()
	}
	if y.arrival.Str == "" {
		y.arrival = y.i.arrival()
	}
	b.r, b.s = r, serving{began: r.Began}
	b.q = request{method: http.MethodPost, path: r.Path, headers: r.Headers, arrival: y.arrival, length: r.Length, whole: whole, inMemory: true}
	mine := true // until it is end's
	defer func() {
		if mine {
			b.release()
		}
	}()
	err := y.i.enter()
	if err == nil {
		b.t, err = y.i.target(&b.q)
		to, ok := b.t.channel.(channel.Beginner)
		if !ok {
			return false // also what names nothing here
		}
		// The channel's own names are in memory that all requests to it share.
		id := b.t.channel.ID()
		b.s.Kind, b.s.Namespace, b.s.Name = b.t.resource(), id.Namespace, id.Name
		if b.events, err = y.i.take(&b.q, b.t, &b.s, &b.body, b.reader); err == nil && len(b.events) > 0 {
			b.told = y.i.o.Told(id, b.events)
			if err = y.append(b, to); err == nil {
				mine = false
				return true
			}
		}
	}
	mine = false
	if errors.Is(err, raftlog.ErrWouldWait) {
		go b.wait() // as long as a request may at most; there are no more than MaxRequests
	} else {
		b.end(err)
	}
	return true
}

// append begins to append the events of a request. Where it does, the request is
// end's, which may be called before it returns.
func (y *async) append(b *begun, to channel.Beginner) error {
	if y.to != to {
		y.Flush()
	}
	if y.i.o.Spans != nil {
		b.s.appendBegan = time.Now()
	}
	y.to = to
	return to.Begin(b.events, b.s.began.Add(y.i.o.AppendTimeout), b.done)
}

// wait appends as a request does that has a goroutine.
func (b *begun) wait() {
	b.end(b.t.channel.Append(b.i.deadlines.context(time.Now()), b.events))
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
	if !b.s.appendBegan.IsZero() {
		b.s.appendEnded = now
	}
	a.Status = http.StatusAccepted
	if b.err != nil {
		i.refuse(a, b.err, &b.s.Served)
	} else if len(b.events) > 0 {
		b.s.Events = len(b.events)
		if !b.told {
			i.o.Accepted(b.t.channel.ID(), b.events)
		}
	}
	i.served(&b.q, a, &b.s, b.err, now)
}

// release ends a request, and the use of its events.
func (b *begun) release() {
	b.i.requests.Add(-1)
	b.i.bodies.release(&b.body)
	if !b.reader.Small() {
		b.i.keep(b.reader)
		b.reader = nil
	}
	b.t, b.events, b.err, b.s.received = target{}, nil, nil, nil
}

// Flush implements http1.Async.
func (y *async) Flush() {
	y.arrival = event.Value{}
	if y.to != nil {
		y.to.Flush()
		y.to = nil
	}
}
