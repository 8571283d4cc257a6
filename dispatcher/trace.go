package dispatcher

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
)

// within makes a request a new step of an event's trace, if that has one.
func (r *Request) within(ev *event.Event) {
	if trace, ok := ev.Trace(); ok {
		r.Trace, r.Parent = trace.Child(), trace.SpanID
	}
}

// spanNames are the names of attempts, by what they go to.
var spanNames = map[string]string{"subscriber": "deliver", "reply": "reply", "dead-letter": "dead letter"}

// traceAttempt offers an attempt, a step of the event's trace.
func (s *sub) traceAttempt(t *Target, to string, number int, r *Request, began time.Time, code int, err error) {
	ok := err == nil && code >= 200 && code < 300
	if r.Trace == (event.TraceContext{}) || ok && !r.Trace.Sampled() {
		return
	}
	span := event.Span{Context: r.Trace, Parent: r.Parent, Kind: event.SpanClient, Name: spanNames[to], Start: began, End: time.Now()}
	span.Describe(r.Event)
	s.describe(&span, t)
	span.Text("http.request.method", http.MethodPost)
	span.Text(event.AttributeURL, withoutQuery(r.URL))
	span.Number("leat.attempt", int64(number))
	if number > 1 {
		span.Number(event.AttributeResend, int64(number-1))
	}
	switch {
	case err != nil:
		span.Error = err.Error()
	default:
		span.Number(event.AttributeStatus, int64(code))
		if !ok {
			span.Error = statusText(code)
		}
	}
	s.r.d.o.Spans.Record(span)
}

// statusText is a status in words.
func statusText(code int) string { return strconv.Itoa(code) + " " + http.StatusText(code) }

func (s *sub) describe(span *event.Span, t *Target) {
	span.Text(event.AttributeChannel, t.Namespace+"/"+t.Channel)
	span.Text("leat.subscription.kind", t.Kind)
	span.Text("leat.subscription.name", t.Namespace+"/"+t.Name)
}

// withoutQuery is a URL without what may be a secret in it.
func withoutQuery(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return "(malformed URL)"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// traceKept offers the end of an event that is kept as a dead letter.
func (s *sub) traceKept(t *Target, ev *event.Event, code int) {
	trace, ok := ev.Trace()
	if !ok {
		return
	}
	span := event.Step(s.r.d.o.Spans, trace, true)
	span.Name, span.End, span.Error = "keep dead letter", span.Start, "not delivered: no answer"
	if code > 0 {
		span.Error = "not delivered: " + statusText(code)
	}
	span.Describe(ev)
	s.describe(&span, t)
	s.r.d.o.Spans.Record(span)
}

// traceMatch offers the matching of an event with the filters of all that
// follow the log.
func (r *runner) traceMatch(st *channel.Stored, began time.Time) {
	trace, ok := st.Event.Trace()
	if !ok || !trace.Sampled() {
		return
	}
	id := r.p.Channel()
	span := event.Span{Context: trace.Child(), Parent: trace.SpanID, Name: "match", Start: began, End: time.Now()}
	span.Text(event.AttributeChannel, id.Namespace+"/"+id.Name)
	span.Number("messaging.destination.partition.id", int64(r.p.Number()))
	span.Number("leat.offset", int64(st.Offset))
	span.Number("leat.matches", int64(len(r.matched)))
	r.d.o.Spans.Record(span)
}
