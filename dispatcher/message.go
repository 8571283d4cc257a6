package dispatcher

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"strings"

	"github.com/leat-dev/leat/api/event"
)

// encode writes the headers of a request: the event's, what came with it to be
// passed through, and this attempt's span of its trace. It returns the body.
func encode(h http.Header, r *Request) []byte {
	var buf [24]event.Header
	all, body := r.Event.AppendMessage(buf[:0])
	for _, x := range all {
		h.Add(textproto.CanonicalMIMEHeaderKey(x.Name), x.Value)
	}
	h.Set("Kn-Namespace", r.Namespace)
	if r.WantReply {
		h.Set("Prefer", "reply")
	}
	if r.Trace != (event.TraceContext{}) {
		h.Set("Traceparent", r.Trace.String())
		if r.Trace.State != "" {
			h.Set("Tracestate", r.Trace.State)
		}
	}
	h.Set("User-Agent", "leat")
	return body
}

// saysEvent says whether an answer's headers claim that it is an event.
func saysEvent(h http.Header) bool {
	return h.Get("Ce-Specversion") != "" || strings.HasPrefix(strings.ToLower(h.Get("Content-Type")), "application/cloudevents")
}

// headers makes net/http's headers those of package event.
type headers struct{ http.Header }

// Each calls f for each header and value.
func (h headers) Each(f func(name, value string)) {
	for k, vs := range h.Header {
		for _, v := range vs {
			f(k, v)
		}
	}
}

// maxKeptReply is how much of a refused reply is kept, in bytes.
const maxKeptReply = 64 << 10

// replies decodes the events of an answer that claims to hold some. The JSON
// formats may take a third more than the data itself.
func (h *httpSender) replies(out *Response, res *http.Response) error {
	limit := int64(h.o.MaxReplyBytes)
	if res.Header.Get("Ce-Specversion") == "" {
		limit += limit/3 + 64<<10
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err != nil {
		return fmt.Errorf("the answer broke off: %w", err)
	}
	if int64(len(body)) > limit {
		out.refuse(res, body, &RefusedError{
			Code: http.StatusRequestEntityTooLarge, Reason: fmt.Sprintf("the reply is larger than %d bytes; what is kept of it is cut", h.o.MaxReplyBytes),
		})
		return nil
	}
	events, _, err := event.FromMessage(headers{res.Header}, body, event.Limits{MaxDataBytes: h.o.MaxReplyBytes})
	if err != nil {
		refused := &RefusedError{Code: http.StatusBadRequest, Reason: "the reply is malformed: " + err.Error()}
		var format *event.FormatError
		if errors.As(err, &format) && format.TooLarge {
			refused.Code = http.StatusRequestEntityTooLarge
		}
		out.refuse(res, body, refused)
		return nil
	}
	out.Replies = events
	return nil
}

// refuse keeps what an answer said. It need not be an event, so it is wrapped
// in one; whoever keeps it fills in which event it is the reply to.
func (out *Response) refuse(res *http.Response, body []byte, why *RefusedError) {
	out.Refused = why
	out.RefusedReply = &event.Event{
		Type:            "dev.leat.reply.refused",
		DataContentType: res.Header.Get("Content-Type"),
		Data:            body[:min(len(body), maxKeptReply):min(len(body), maxKeptReply)],
	}
}
