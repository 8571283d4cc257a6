package broker

import (
	"net/http"
	"time"

	"github.com/leat-dev/leat/api/event"
)

// serving is a request being served: what is counted of it, and what is traced.
type serving struct {
	Served
	began time.Time
	// received are the steps in which its events came, each in its own trace
	// where the request has none, but for when they end.
	received []event.Span
	// appendBegan and appendEnded are zero where it did not come to that.
	appendBegan, appendEnded time.Time
}

// trace makes events part of the trace of their request, or of their own; an
// event without one begins one. Where traces are recorded, what comes of the
// events is part of the step in which they were received.
func (i *Ingress) trace(events []*event.Event, h event.HeaderList, s *serving, r *event.Reader) {
	request, traced := requestTrace(h)
	if i.o.Spans == nil {
		for _, e := range events {
			if traced {
				e.SetTrace(request)
			} else {
				r.EnsureTrace(e)
			}
		}
		return
	}
	for n, e := range events {
		if n == 0 || !traced {
			from, ok := request, traced
			if !traced {
				from, ok = e.Trace()
			}
			step := event.Step(i.o.Spans, from, ok)
			if recorded(step) && (!traced || len(events) == 1) {
				step.Describe(e)
			}
			s.received = append(s.received, step)
		}
		e.SetTrace(s.received[len(s.received)-1].Context)
	}
}

// recorded says whether a step is worth being described.
func recorded(s event.Span) bool { return s.Context.Sampled() }

// record offers the steps of a request: each reception, and within it the time
// that it took to make the events durable. A request without events is a step
// of its own.
func (i *Ingress) record(h event.HeaderList, s *serving, failure error) {
	now := time.Now()
	if len(s.received) == 0 {
		from, ok := requestTrace(h)
		if !ok && s.Status < http.StatusInternalServerError {
			return // nobody asked, and nothing is wrong here
		}
		s.received = []event.Span{event.Step(i.o.Spans, from, ok)}
	}
	for _, step := range s.received {
		step.Name, step.Kind, step.Start, step.End = "receive", event.SpanServer, s.began, now
		if s.Status >= http.StatusInternalServerError && failure != nil {
			step.Error = failure.Error()
		}
		if recorded(step) || step.Error != "" {
			if s.Name != "" {
				step.Text(event.AttributeChannel, s.Namespace+"/"+s.Name)
			}
			step.Number(event.AttributeStatus, int64(s.Status))
			step.Number("messaging.batch.message_count", int64(s.Events))
		}
		i.o.Spans.Record(step)
		if !s.appendBegan.IsZero() {
			i.o.Spans.Record(appended(step, s.appendBegan, s.appendEnded))
		}
	}
}

// appended is the step in which events became durable.
func appended(within event.Span, began, ended time.Time) event.Span {
	return event.Span{
		Context: within.Context.Child(), Parent: within.Context.SpanID, Name: "append", Start: began, End: ended, Error: within.Error,
	}
}

// traceReply makes a reply part of a trace, that of its original where it has
// none itself.
func (i *Ingress) traceReply(reply, original *event.Event) (step event.Span) {
	from, ok := reply.Trace()
	own := ok
	if !ok {
		from, ok = original.Trace()
	}
	if i.o.Spans != nil {
		step = event.Step(i.o.Spans, from, ok)
		step.Name = "receive"
		reply.SetTrace(step.Context)
		return step
	}
	switch {
	case own:
	case ok:
		reply.SetTrace(from)
	default:
		reply.EnsureTrace()
	}
	return step
}

// recordReply offers the steps of a reply.
func (i *Ingress) recordReply(step event.Span, reply *event.Event, channel string, began time.Time, failure error) {
	if i.o.Spans == nil {
		return
	}
	step.End = time.Now()
	if failure != nil {
		step.Error = failure.Error()
	}
	if recorded(step) || step.Error != "" {
		step.Describe(reply)
		step.Text(event.AttributeChannel, channel)
	}
	i.o.Spans.Record(step)
	i.o.Spans.Record(appended(step, began, step.End))
}
