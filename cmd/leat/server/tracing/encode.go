package tracing

import (
	"strings"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/leat-dev/leat/api/event"
)

// encode makes steps what OTLP sends.
func (e *Exporter) encode(batch []event.Span) []*tracepb.ResourceSpans {
	spans := make([]*tracepb.Span, len(batch))
	for i := range batch {
		spans[i] = encodeSpan(&batch[i])
	}
	return []*tracepb.ResourceSpans{{
		Resource: &resourcepb.Resource{Attributes: []*commonpb.KeyValue{
			text("service.name", "leat"), text("service.version", e.o.Version), text("service.instance.id", e.o.Node),
		}},
		ScopeSpans: []*tracepb.ScopeSpans{{Scope: &commonpb.InstrumentationScope{Name: "leat"}, Spans: spans}},
	}}
}

var kinds = map[event.SpanKind]tracepb.Span_SpanKind{
	event.SpanInternal: tracepb.Span_SPAN_KIND_INTERNAL,
	event.SpanServer:   tracepb.Span_SPAN_KIND_SERVER,
	event.SpanClient:   tracepb.Span_SPAN_KIND_CLIENT,
}

func encodeSpan(s *event.Span) *tracepb.Span {
	out := &tracepb.Span{
		TraceId: s.Context.TraceID[:], SpanId: s.Context.SpanID[:], TraceState: s.Context.State, Flags: uint32(s.Context.Flags),
		Name: s.Name, Kind: kinds[s.Kind],
		StartTimeUnixNano: uint64(s.Start.UnixNano()), EndTimeUnixNano: uint64(s.End.UnixNano()),
		Attributes: make([]*commonpb.KeyValue, len(s.Attributes)),
	}
	if s.Parent != [8]byte{} {
		out.ParentSpanId = s.Parent[:]
	}
	for i, a := range s.Attributes {
		if a.Text != "" {
			out.Attributes[i] = text(a.Name, a.Text)
		} else {
			out.Attributes[i] = &commonpb.KeyValue{Key: a.Name, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: a.Number}}}
		}
	}
	if s.Error != "" {
		out.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: valid(s.Error)}
	}
	return out
}

func text(name, value string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: name, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: valid(value)}}}
}

// valid is a text that protobuf takes.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
