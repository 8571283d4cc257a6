package event

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"
)

// TraceContext is a W3C trace context (https://www.w3.org/TR/trace-context/),
// as the extensions traceparent and tracestate carry it.
type TraceContext struct {
	TraceID [16]byte
	SpanID  [8]byte
	Flags   byte
	State   string
}

var errTraceparent = errors.New("traceparent must be 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, not all zeros")

// ParseTraceparent reads a traceparent header.
func ParseTraceparent(s string) (t TraceContext, err error) {
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' || (len(s) > 55 && (s[:2] == "00" || s[55] != '-')) ||
		s[:2] == "ff" || s[:55] != strings.ToLower(s[:55]) {
		return t, errTraceparent
	}
	var version, flags [1]byte
	for _, f := range []struct {
		to   []byte
		from string
	}{{version[:], s[:2]}, {t.TraceID[:], s[3:35]}, {t.SpanID[:], s[36:52]}, {flags[:], s[53:55]}} {
		if _, err := hex.Decode(f.to, []byte(f.from)); err != nil {
			return TraceContext{}, errTraceparent
		}
	}
	if t.TraceID == [16]byte{} || t.SpanID == [8]byte{} {
		return TraceContext{}, errTraceparent
	}
	t.Flags = flags[0]
	return t, nil
}

// NewTrace begins a trace.
func NewTrace() TraceContext {
	var t TraceContext
	rand.Read(t.TraceID[:]) // never fails
	rand.Read(t.SpanID[:])
	return t
}

// Child is a new span of the same trace.
func (t TraceContext) Child() TraceContext {
	rand.Read(t.SpanID[:]) // never fails
	return t
}

// String is the traceparent header.
func (t TraceContext) String() string {
	b := make([]byte, 0, 55)
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, t.TraceID[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, t.SpanID[:])
	b = append(b, '-')
	return string(hex.AppendEncode(b, []byte{t.Flags}))
}

// Names of the distributed tracing extension.
const (
	Traceparent = "traceparent"
	Tracestate  = "tracestate"
)

// Trace is the trace that the event belongs to, if it carries a valid one.
func (e *Event) Trace() (TraceContext, bool) {
	v, ok := e.Attribute(Traceparent)
	if !ok {
		return TraceContext{}, false
	}
	t, err := ParseTraceparent(v.Str)
	if s, ok := e.Attribute(Tracestate); ok {
		t.State = s.Str
	}
	return t, err == nil
}

// SetTrace keeps a trace with the event.
func (e *Event) SetTrace(t TraceContext) {
	e.SetExtension(Traceparent, Value{Str: t.String()})
	if t.State == "" {
		e.DeleteExtension(Tracestate)
		return
	}
	e.SetExtension(Tracestate, Value{Str: t.State})
}
