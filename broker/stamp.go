package broker

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/dispatcher"
)

// Extensions that the ingress sets.
const (
	ttlExtension     = "knativebrokerttl"
	arrivalExtension = "knativearrivaltime"
	causeExtension   = "leatcause"
	depthExtension   = "leatdepth"
)

// defaultTTL is how many brokers an event may pass that says nothing itself.
const defaultTTL = 255

// maxDepth bounds the chain of causes: a reply to a reply, and so on. The TTL
// ends loops first; this bounds what sets its TTL anew.
const maxDepth = 1000

// stamp sets what the ingress sets: the TTL for brokers, the time of arrival,
// and the trace.
func (i *Ingress) stamp(events []*event.Event, t target, h http.Header) error {
	now := i.o.Now().UTC().Format(time.RFC3339Nano)
	header, headerErr := event.ParseTraceparent(h.Get("Traceparent"))
	header.State = h.Get("Tracestate")
	if t.kind == "broker" {
		if err := spendTTLs(events); err != nil {
			return err
		}
	}
	for _, e := range events {
		e.SetExtension(arrivalExtension, event.Value{Str: now})
		if _, ok := e.Trace(); ok {
			continue // the event is further along than the request that carries it
		}
		trace := header
		if headerErr != nil {
			trace = event.NewTrace()
		}
		e.SetTrace(trace)
	}
	return nil
}

func spendTTLs(events []*event.Event) error {
	var bad event.BatchError
	for n, e := range events {
		if err := spendTTL(e); err != nil {
			err.Index = n
			bad = append(bad, err)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	if len(events) == 1 {
		bad[0].Index = -1
		return bad[0]
	}
	return bad
}

// spendTTL counts the TTL down, then checks it.
func spendTTL(e *event.Event) *event.FormatError {
	ttl := defaultTTL
	if v, ok := e.Attribute(ttlExtension); ok {
		if n, err := strconv.Atoi(v.Str); err == nil {
			ttl = n - 1
		}
	}
	if ttl <= 0 {
		return &event.FormatError{Index: -1, Attribute: ttlExtension, Reason: "the event has passed as many brokers as it may: is there a loop of replies?"}
	}
	e.SetExtension(ttlExtension, event.IntegerValue(int32(min(ttl, defaultTTL))))
	return nil
}

// AcceptReply appends a subscriber's reply to a channel, as an event caused by
// the original. Its TTL is what is left of the original's. The error is a
// *dispatcher.RefusedError where the reply can never be taken as it is.
func (i *Ingress) AcceptReply(ctx context.Context, ch channel.Channel, original *dispatcher.Original, reply *event.Event) error {
	reply.DeleteExtension(ttlExtension)
	if v, ok := original.Event.Attribute(ttlExtension); ok {
		reply.SetExtension(ttlExtension, v)
	}
	if err := spendTTL(reply); err != nil {
		return &dispatcher.RefusedError{Code: http.StatusBadRequest, Reason: err.Error()}
	}
	if len(reply.Data) > i.o.Limits.MaxDataBytes {
		return &dispatcher.RefusedError{Code: http.StatusRequestEntityTooLarge, Reason: fmt.Sprintf("data: %d bytes are more than the limit of %d", len(reply.Data), i.o.Limits.MaxDataBytes)}
	}
	if err := reply.Validate(); err != nil {
		return &dispatcher.RefusedError{Code: http.StatusBadRequest, Reason: err.Error()}
	}
	depth := int32(1)
	if v, ok := original.Event.Attribute(depthExtension); ok && v.Kind == event.Integer {
		depth = v.Int + 1
	}
	if depth > maxDepth {
		return &dispatcher.RefusedError{Code: http.StatusBadRequest, Reason: fmt.Sprintf("the chain of causes is longer than %d events: is there a loop?", maxDepth)}
	}
	reply.SetExtension(depthExtension, event.IntegerValue(depth))
	reply.SetExtension(causeExtension, event.Value{Str: fmt.Sprintf("%s/%s/%d/%d", original.Channel.Namespace, original.Channel.Name, original.Partition, original.Offset)})
	reply.SetExtension(arrivalExtension, event.Value{Str: i.o.Now().UTC().Format(time.RFC3339Nano)})
	if t, ok := original.Event.Trace(); ok {
		reply.SetTrace(t)
	}
	ctx, cancel := context.WithTimeout(ctx, i.o.AppendTimeout)
	defer cancel()
	return ch.Append(ctx, []*event.Event{reply})
}
