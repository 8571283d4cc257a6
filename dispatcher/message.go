package dispatcher

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/dispatcher/http1"
)

// headers appends the headers of a request: the event's, what came with it to be
// passed through, and this attempt's span of its trace. It returns the body, too.
func (r *Request) headers(dst []event.Header) (headers []event.Header, body []byte) {
	headers, body = outgoing(r.Event).AppendMessage(dst)
	kept := headers[:len(dst)]
	traced := r.traced()
	for _, x := range headers[len(dst):] {
		x.Name = textproto.CanonicalMIMEHeaderKey(x.Name)
		if !r.says(x.Name) {
			kept = append(kept, x)
		}
	}
	headers = append(kept, event.Header{Name: "Kn-Namespace", Value: r.Namespace})
	if r.WantReply {
		headers = append(headers, event.Header{Name: "Prefer", Value: "reply"})
	}
	if traced {
		headers = append(headers, event.Header{Name: "Traceparent", Value: r.Trace.String()})
		if r.Trace.State != "" {
			headers = append(headers, event.Header{Name: "Tracestate", Value: r.Trace.State})
		}
	}
	return headers, body
}

// traced says whether the attempt is a step of a trace.
func (r *Request) traced() bool { return r.Trace.TraceID != [16]byte{} }

// says is whether what came with the event has no say in a header: the request
// says it otherwise, or it is about the request itself.
func (r *Request) says(name string) bool {
	switch name {
	case "Kn-Namespace":
		return true
	case "Prefer":
		return r.WantReply
	case "Traceparent":
		return r.traced()
	case "Tracestate":
		return r.traced() && r.Trace.State != ""
	}
	return ofRequest(name)
}

// plain appends a whole request for package http1 to dst, which has its first
// lines. It says no where it is one for net/http: it is too large, or there is
// something wrong with a header, which net/http tells better.
func (r *Request) plain(dst []byte) (request []byte, ok bool) {
	if mode, unknown := event.ModeOf(r.Event.DataContentType); mode != event.Binary || unknown != nil {
		headers, body := r.headers(nil)
		return appendRequest(dst, headers, body)
	}
	if dst, ok = r.Event.AppendLines(dst, ttlExtension); !ok {
		return dst, false
	}
	var buf [8]event.Header
	headers := buf[:0]
	if t := r.Event.DataContentType; t != "" {
		headers = append(headers, event.Header{Name: "Content-Type", Value: t})
	}
	for _, x := range r.Event.PassThrough {
		if x.Name = textproto.CanonicalMIMEHeaderKey(x.Name); !r.says(x.Name) {
			headers = append(headers, x)
		}
	}
	headers = append(headers, event.Header{Name: "Kn-Namespace", Value: r.Namespace})
	if r.WantReply {
		dst = append(dst, "Prefer: reply\r\n"...)
	}
	if r.traced() {
		dst = append(r.Trace.Append(append(dst, "Traceparent: "...)), "\r\n"...)
		if r.Trace.State != "" {
			headers = append(headers, event.Header{Name: "Tracestate", Value: r.Trace.State})
		}
	}
	return appendRequest(dst, headers, r.Event.Data)
}

// appendRequest appends what is left of a request: headers that are to be
// checked, and the body.
func appendRequest(dst []byte, headers []event.Header, body []byte) ([]byte, bool) {
	for i := range headers {
		x := &headers[i]
		if !httpguts.ValidHeaderFieldName(x.Name) || !httpguts.ValidHeaderFieldValue(x.Value) {
			return dst, false
		}
		dst = append(append(append(append(dst, x.Name...), ": "...), x.Value...), "\r\n"...)
	}
	dst = append(strconv.AppendInt(append(dst, "Content-Length: "...), int64(len(body)), 10), "\r\n\r\n"...)
	if len(dst)+len(body) > http1.MaxRequest {
		return dst, false
	}
	return append(dst, body...), true
}

// ofRequest says whether a header is about a request itself: where it goes, who
// sends it, and where it ends.
func ofRequest(name string) bool {
	switch name {
	case "Authorization", "Connection", "Content-Length", "Expect", "Host", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "User-Agent":
		return true
	}
	return false
}

// saysEvent says whether an answer's headers claim that it is an event.
func saysEvent(h http.Header) bool {
	return h.Get("Ce-Specversion") != "" || strings.HasPrefix(strings.ToLower(h.Get("Content-Type")), "application/cloudevents")
}

// answerHeaders makes net/http's headers those of package event.
type answerHeaders struct{ http.Header }

// Each calls f for each header and value.
func (h answerHeaders) Each(f func(name, value string)) {
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
	events, _, err := event.FromMessage(answerHeaders{res.Header}, body, event.Limits{MaxDataBytes: h.o.MaxReplyBytes})
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
