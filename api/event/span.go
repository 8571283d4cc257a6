package event

import "time"

// SpanKind is the part that a step has between two programs.
type SpanKind uint8

// The kinds of spans.
const (
	SpanInternal SpanKind = iota
	SpanServer            // answers a request
	SpanClient            // makes one
)

// Span is one step of an event's way, when it is over.
type Span struct {
	// Context is the step's own, Parent what it is part of; zero where it begins
	// the trace.
	Context TraceContext
	Parent  [8]byte
	Kind    SpanKind
	Name    string
	// Start and End are when it began and ended.
	Start, End time.Time
	Attributes []SpanAttribute
	// Error says what went wrong; empty where nothing did.
	Error string
}

// SpanAttribute is something to know about a step: a text, or a number.
type SpanAttribute struct {
	Name   string
	Text   string
	Number int64 // where Text is empty
}

// Spans records the steps of traces. It is used from many goroutines at once
// and never blocks.
type Spans interface {
	// Samples decides for a trace that begins here.
	Samples(trace [16]byte) bool
	// Record is offered every step. It keeps those of sampled traces, and those
	// that went wrong.
	Record(Span)
}

// flagSampled is the flag of a trace that is recorded.
const flagSampled = 1

// Sampled says whether the steps of the trace are recorded.
func (t TraceContext) Sampled() bool { return t.Flags&flagSampled != 0 }

// Step begins a step: of the trace that it comes with, where there is one,
// else of a new one, for which to decides whether it is sampled.
func Step(to Spans, from TraceContext, ok bool) Span {
	s := Span{Start: time.Now()}
	if ok {
		s.Context, s.Parent = from.Child(), from.SpanID
		return s
	}
	s.Context = NewTrace()
	if to.Samples(s.Context.TraceID) {
		s.Context.Flags |= flagSampled
	}
	return s
}

// Text and Number add an attribute.
func (s *Span) Text(name, value string) {
	if value != "" {
		s.Attributes = append(s.Attributes, SpanAttribute{Name: name, Text: value})
	}
}

// Number adds an attribute.
func (s *Span) Number(name string, value int64) {
	s.Attributes = append(s.Attributes, SpanAttribute{Name: name, Number: value})
}

// Names of attributes: OpenTelemetry's conventions where these have one.
const (
	AttributeEventID   = "cloudevents.event_id"
	AttributeEventType = "cloudevents.event_type"
	AttributeSource    = "cloudevents.event_source"
	AttributeChannel   = "messaging.destination.name"
	AttributeStatus    = "http.response.status_code"
	AttributeURL       = "url.full"
	AttributeResend    = "http.request.resend_count"
)

// Describe adds what an event is.
func (s *Span) Describe(e *Event) {
	s.Text(AttributeEventID, e.ID)
	s.Text(AttributeEventType, e.Type)
	s.Text(AttributeSource, e.Source)
}
