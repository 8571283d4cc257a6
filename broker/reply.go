package broker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/dispatcher"
)

// AcceptReply appends a subscriber's reply to a channel, as an event caused by
// the original. Its TTL is what is left of the original's, whatever it says
// itself. The error is a *dispatcher.RefusedError where the reply can never be
// taken as it is; after any other it may be offered again. What it is offered
// is not changed, or a second look would find the stamps of the first in it.
func (i *Ingress) AcceptReply(ctx context.Context, ch channel.Channel, original *dispatcher.Original, reply *event.Event) error {
	reply = reply.Clone()
	for _, name := range []string{ttlExtension, arrivalExtension, causeExtension, depthExtension} {
		reply.DeleteExtension(name) // the original's perhaps, sent back
	}
	if err := reply.ValidateWithin(i.o.Limits); err != nil {
		return refusedReply(err)
	}
	if v, ok := original.Event.Attribute(ttlExtension); ok {
		reply.SetExtension(ttlExtension, v)
	}
	if err := spendTTL(reply); err != nil {
		return refusedReply(err)
	}
	depth, err := i.nextDepth(original.Event)
	if err != nil {
		return err
	}
	reply.SetExtension(depthExtension, event.IntegerValue(depth))
	reply.SetExtension(causeExtension, event.Value{Str: cause(original)})
	reply.SetExtension(arrivalExtension, i.arrival())
	step := i.traceReply(reply, original.Event)
	ctx, cancel := context.WithTimeout(ctx, i.o.AppendTimeout)
	defer cancel()
	began := time.Now()
	err = ch.Append(ctx, []*event.Event{reply})
	id := ch.ID()
	i.recordReply(step, reply, id.Namespace+"/"+id.Name, began, err)
	if err == nil {
		i.o.Accepted(id, []*event.Event{reply})
	}
	return err
}

func refusedReply(err error) *dispatcher.RefusedError {
	code := http.StatusBadRequest
	var f *event.FormatError
	if errors.As(err, &f) && f.TooLarge {
		code = http.StatusRequestEntityTooLarge
	}
	return &dispatcher.RefusedError{Code: code, Reason: err.Error()}
}

// nextDepth is the depth of what an event causes.
func (i *Ingress) nextDepth(e *event.Event) (int32, error) {
	depth := int64(0)
	if v, ok := e.Attribute(depthExtension); ok {
		if n, err := strconv.ParseInt(v.Str, 10, 32); err == nil && n > 0 {
			depth = n
		}
	}
	if depth >= int64(i.o.MaxCauseDepth) {
		return 0, &dispatcher.RefusedError{Code: http.StatusBadRequest, Reason: fmt.Sprintf(
			"%s: the chain of causes is %d events long already, which is the limit: is there a loop of replies?", depthExtension, i.o.MaxCauseDepth)}
	}
	return int32(depth + 1), nil
}

// cause names a place in the log: NAMESPACE/NAME/PARTITION/OFFSET.
func cause(o *dispatcher.Original) string {
	return fmt.Sprintf("%s/%s/%d/%d", o.Channel.Namespace, o.Channel.Name, o.Partition, o.Offset)
}
