package event

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
)

// TraceContext is a W3C trace context (https://www.w3.org/TR/trace-context/),
// as the headers and the extensions traceparent and tracestate carry it.
type TraceContext struct {
	TraceID [16]byte
	SpanID  [8]byte
	Flags   byte
	State   string
}

var errTraceparent = errors.New("traceparent must be 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, not all zeros")

// ParseTraceparent reads a traceparent header.
func ParseTraceparent(s string) (t TraceContext, err error) {
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' || (len(s) > 55 && (s[:2] == "00" || s[55] != '-')) || s[:2] == "ff" {
		return t, errTraceparent
	}
	var version, flags [1]byte
	ok := unhexAll(version[:], s[:2]) && unhexAll(t.TraceID[:], s[3:35]) && unhexAll(t.SpanID[:], s[36:52]) && unhexAll(flags[:], s[53:55])
	if !ok || t.TraceID == [16]byte{} || t.SpanID == [8]byte{} {
		return TraceContext{}, errTraceparent
	}
	t.Flags = flags[0]
	return t, nil
}

// lowerHex are the values of the digits, and one more; 0 is of what is none. It is
// asked for each request and each delivery.
var lowerHex = [256]byte{
	'0': 1, '1': 2, '2': 3, '3': 4, '4': 5, '5': 6, '6': 7, '7': 8, '8': 9, '9': 10,
	'a': 11, 'b': 12, 'c': 13, 'd': 14, 'e': 15, 'f': 16,
}

// unhexAll reads digits in lower case, as these headers have them.
func unhexAll(dst []byte, s string) bool {
	s = s[:2*len(dst)]
	for i := range dst {
		high, low := lowerHex[s[2*i]], lowerHex[s[2*i+1]]
		if high == 0 || low == 0 {
			return false
		}
		dst[i] = (high-1)<<4 | (low - 1)
	}
	return true
}

// NewTrace begins a trace, which is not sampled: nobody has recorded a span.
func NewTrace() TraceContext {
	var t TraceContext
	for t.TraceID == [16]byte{} {
		binary.LittleEndian.PutUint64(t.TraceID[:], rand.Uint64())
		binary.LittleEndian.PutUint64(t.TraceID[8:], rand.Uint64())
	}
	return t.Child()
}

// Child is a new span of the same trace. IDs need to be unique, not secret.
func (t TraceContext) Child() TraceContext {
	for t.SpanID = [8]byte{}; t.SpanID == [8]byte{}; {
		binary.LittleEndian.PutUint64(t.SpanID[:], rand.Uint64())
	}
	return t
}

// String is the traceparent header.
func (t TraceContext) String() string { return string(t.Append(make([]byte, 0, 55))) }

// Append appends the traceparent header.
func (t *TraceContext) Append(b []byte) []byte {
	const size = len("00-") + 2*len(t.TraceID) + len("-") + 2*len(t.SpanID) + len("-00")
	b = slices.Grow(b, size)
	w := b[len(b) : len(b)+size] // of a length that is known, as each event has one written
	copy(w, "00-")
	for i, c := range t.TraceID {
		w[3+2*i], w[4+2*i] = hexDigits[c>>4], hexDigits[c&15]
	}
	w[35] = '-'
	for i, c := range t.SpanID {
		w[36+2*i], w[37+2*i] = hexDigits[c>>4], hexDigits[c&15]
	}
	w[52], w[53], w[54] = '-', hexDigits[t.Flags>>4], hexDigits[t.Flags&15]
	return b[:len(b)+size]
}

// Names of the distributed tracing extension.
const (
	Traceparent = "traceparent"
	Tracestate  = "tracestate"
)

// maxTracestate is how many bytes of tracestate are passed on; the standard
// asks for 512 at least, and that a longer one is dropped as a whole.
const maxTracestate = 4 << 10

// ParseTrace reads the two headers. A tracestate that cannot be passed on is
// dropped, which the standard allows; one without a traceparent means nothing.
func ParseTrace(traceparent, tracestate string) (TraceContext, bool) {
	if traceparent == "" {
		return TraceContext{}, false
	}
	t, err := ParseTraceparent(traceparent)
	if err != nil {
		return TraceContext{}, false
	}
	if len(tracestate) <= maxTracestate && !strings.ContainsFunc(tracestate, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		t.State = tracestate
	}
	return t, true
}

// Trace is the trace that the event belongs to, at the span that is nearest:
// that of the request it came with, else the one it began with.
func (e *Event) Trace() (TraceContext, bool) {
	if len(e.PassThrough) > 0 {
		var hop [2]string
		for _, h := range e.PassThrough {
			switch h.Name {
			case traceparentHeader:
				hop[0] = h.Value
			case tracestateHeader:
				hop[1] = h.Value
			}
		}
		if t, ok := ParseTrace(hop[0], hop[1]); ok {
			return t, true
		}
	}
	return e.origin()
}

// origin is the trace that the event began with: the distributed tracing
// extension.
func (e *Event) origin() (TraceContext, bool) {
	var parent, state string
	for i := range e.Extensions {
		switch x := &e.Extensions[i]; x.Name {
		case Traceparent:
			parent = x.Value.Str
		case Tracestate:
			state = x.Value.Str
		}
	}
	return ParseTrace(parent, state)
}

// Names of the headers that carry the trace of one hop.
const (
	traceparentHeader = "Traceparent"
	tracestateHeader  = "Tracestate"
)

// SetTrace makes the event part of a trace. The distributed tracing extension
// says where an event began, so it is set where there is none, and otherwise
// left alone: then the trace goes with the event as that of its last hop.
func (e *Event) SetTrace(t TraceContext) {
	e.endHop()
	if began, ok := e.origin(); ok {
		if began == t {
			return
		}
		// Others may have these headers too, and go on with them otherwise.
		e.PassThrough = append(slices.Clip(e.PassThrough), Header{traceparentHeader, t.String()})
		if t.State != "" {
			e.PassThrough = append(e.PassThrough, Header{tracestateHeader, t.State})
		}
		return
	}
	e.begin(t, t.String())
}

// endHop has the event know nothing of its last hop.
func (e *Event) endHop() {
	if slices.ContainsFunc(e.PassThrough, isHop) {
		e.PassThrough = slices.DeleteFunc(slices.Clone(e.PassThrough), isHop)
	}
}

// begin has the event begin with a trace, whose traceparent header is parent.
func (e *Event) begin(t TraceContext, parent string) {
	e.SetExtension(Traceparent, Value{Str: parent})
	if t.State == "" {
		e.DeleteExtension(Tracestate)
		return
	}
	e.SetExtension(Tracestate, Value{Str: t.State})
}

func isHop(h Header) bool { return h.Name == traceparentHeader || h.Name == tracestateHeader }

// EnsureTrace has the event begin a trace, where it is part of none.
func (e *Event) EnsureTrace() {
	if _, ok := e.Trace(); !ok {
		e.endHop()
		t := NewTrace()
		e.begin(t, t.String())
	}
}
