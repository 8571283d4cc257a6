package broker

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/broker/http1"
)

// request is what the ingress looks at of a request, whichever server read it.
type request struct {
	// ctx ends with the request. It is nil where nobody sees the sender leave:
	// then what is asked of others ends by itself, in time.
	ctx          context.Context
	method, path string
	headers      event.HeaderList
	// arrival is when its events have arrived; empty where they have yet to.
	arrival event.Value
	// whole is the body where inMemory says so, in a large buffer or in one that every
	// connection has; else it is to be read: length bytes, -1 where that is not known.
	whole           []byte
	inMemory, large bool
	body            io.Reader
	length          int64
}

// listed are net/http's headers.
func listed(h http.Header) event.HeaderList {
	list := make(event.HeaderList, 0, len(h))
	for name, values := range h {
		for _, v := range values {
			list = append(list, event.Header{Name: name, Value: v})
		}
	}
	return list
}

// requestTrace is the trace that a request says it belongs to.
func requestTrace(h event.HeaderList) (event.TraceContext, bool) {
	parent := h.Get("Traceparent")
	if parent == "" {
		return event.TraceContext{}, false
	}
	var states []string
	for _, x := range h {
		if strings.EqualFold(x.Name, "Tracestate") {
			states = append(states, x.Value)
		}
	}
	return event.ParseTrace(parent, strings.Join(states, ","))
}

// ServeHTTP implements http.Handler.
func (i *Ingress) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := serving{began: time.Now()}
	q := request{ctx: r.Context(), method: r.Method, path: r.URL.Path, headers: listed(r.Header), body: r.Body, length: r.ContentLength}
	var a http1.Answer
	err := i.serve(&q, &a, &s)
	if err != nil {
		i.refuse(&a, err, &s.Served)
	}
	i.served(q.headers, &a, &s, err, time.Now())
	for _, h := range a.Headers {
		w.Header().Set(h.Name, h.Value)
	}
	w.WriteHeader(a.Status)
	if len(a.Body) > 0 {
		_, _ = w.Write(a.Body) // a peer that is gone needs no answer
	}
}

// ServePlain is the handler of an http1.Server. What is refused before its body
// has come is net/http's, which knows what to do with the rest, and so is what
// names nothing here.
func (i *Ingress) ServePlain(r *http1.Request, a *http1.Answer) bool {
	s := serving{began: r.Began}
	q := request{method: http.MethodPost, path: r.Path, headers: r.Headers, body: &r.Body, length: r.Length}
	q.whole, q.inMemory = r.Body.Whole()
	q.large = r.Body.Large()
	err := i.serve(&q, a, &s)
	if err != nil {
		i.refuse(a, err, &s.Served)
		if !r.Body.Begun() && (!q.inMemory || a.Status == http.StatusNotFound) {
			return false
		}
	}
	i.served(q.headers, a, &s, err, time.Now())
	return true
}

// served tells of a request that is about to be answered.
func (i *Ingress) served(h event.HeaderList, a *http1.Answer, s *serving, failure error, now time.Time) {
	s.Status, s.Took = a.Status, now.Sub(s.began)
	i.o.Counted(s.Served)
	if i.o.Spans != nil {
		i.record(h, s, failure)
	}
}

// within is a context in which others may be asked on behalf of a request, and
// what has to be called when that is over.
func (i *Ingress) within(q *request) (context.Context, context.CancelFunc) {
	if q.ctx == nil {
		return i.deadlines.context(time.Now()), func() {}
	}
	return context.WithTimeout(q.ctx, i.o.AppendTimeout)
}

// deadlines are contexts that end some time after they were asked for, shared by
// all who ask at about the same time: one for each request would cost more than
// what is asked for in it.
type deadlines struct {
	after  time.Duration
	latest atomic.Pointer[deadline]
}

type deadline struct {
	context.Context
	until time.Time // it is given to those who come before
}

// context returns a context that ends after d.after, or an eighth of it later.
func (d *deadlines) context(now time.Time) context.Context {
	latest := d.latest.Load()
	if latest != nil && now.Before(latest.until) {
		return latest
	}
	ctx, cancel := context.WithTimeout(context.Background(), d.after+d.after/8)
	next := &deadline{ctx, now.Add(d.after / 8)}
	if !d.latest.CompareAndSwap(latest, next) {
		cancel() // another was faster
		return d.context(now)
	}
	context.AfterFunc(ctx, cancel) // it ends by its time, when nobody waits in it
	return next
}
