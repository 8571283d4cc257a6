package broker

import (
	"fmt"
	"strconv"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
)

// Extensions that the ingress sets.
const (
	ttlExtension     = "knativebrokerttl"
	arrivalExtension = "knativearrivaltime"
	causeExtension   = "leatcause"
	depthExtension   = "leatdepth"
)

// maxTTL is how many brokers an event may pass; one that says nothing itself
// begins with it.
const maxTTL = 255

// fullTTL is what most events begin with.
var fullTTL = event.IntegerValue(maxTTL)

// stamp sets what the ingress sets: the TTL for brokers, the time of arrival,
// and the trace. Events without one begin each its own. They were read by r.
func (i *Ingress) stamp(events []*event.Event, t target, q *request, s *serving, r *event.Reader) error {
	arrival := q.arrival
	if arrival.Str == "" {
		arrival = i.arrival()
	}
	for _, e := range events { // in the order of their names, which leaves the ones before where they are
		e.SetExtension(arrivalExtension, arrival)
	}
	if t.kind == "broker" {
		if err := spendTTLs(events); err != nil {
			return err
		}
	}
	i.trace(events, q.headers, s, r)
	return nil
}

// Admit checks an event that is made in this process, and stamps it as if it
// had come by a request, where it is appended to a Broker or channel next.
func (i *Ingress) Admit(to channel.ID, e *event.Event) error {
	if err := e.ValidateWithin(i.o.Limits); err != nil {
		return err
	}
	switch to.Kind {
	case "Broker":
		if err := spendTTL(e); err != nil {
			return err
		}
		e.SetExtension(arrivalExtension, i.arrival())
	case "Channel":
		e.SetExtension(arrivalExtension, i.arrival())
	}
	e.EnsureTrace()
	return nil
}

// arrival is now, in microseconds.
func (i *Ingress) arrival() event.Value {
	return event.Value{Str: i.o.Now().UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano)}
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
	v, ok := e.Attribute(ttlExtension)
	if !ok {
		e.SetExtension(ttlExtension, fullTTL)
		return nil
	}
	ttl := maxTTL
	if n, err := strconv.Atoi(v.Str); err == nil {
		ttl = min(max(n, 1)-1, maxTTL)
	}
	if ttl == 0 {
		return &event.FormatError{Index: -1, Attribute: ttlExtension, Reason: fmt.Sprintf(
			"the event has passed as many brokers as it may (at most %d): is there a loop of replies?", maxTTL)}
	}
	e.SetExtension(ttlExtension, event.IntegerValue(int32(ttl)))
	return nil
}
