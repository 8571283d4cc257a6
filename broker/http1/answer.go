package http1

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/leat-dev/leat/api/event"
)

// Answer is what a request is answered with.
type Answer struct {
	Status  int
	Headers []event.Header
	Body    []byte
}

// append writes an answer.
func (a *Answer) append(dst []byte, date string, last bool) []byte {
	if a.Status == http.StatusAccepted {
		dst = append(dst, "HTTP/1.1 202 Accepted\r\nDate: "...)
	} else {
		dst = strconv.AppendInt(append(dst, "HTTP/1.1 "...), int64(a.Status), 10)
		dst = append(append(append(dst, ' '), http.StatusText(a.Status)...), "\r\nDate: "...)
	}
	dst = append(dst, date...)
	for _, h := range a.Headers {
		dst = append(append(append(append(dst, "\r\n"...), h.Name...), ": "...), h.Value...)
	}
	if last {
		dst = append(dst, "\r\nConnection: close"...)
	}
	dst = strconv.AppendInt(append(dst, "\r\nContent-Length: "...), int64(len(a.Body)), 10)
	return append(append(dst, "\r\n\r\n"...), a.Body...)
}

// clock writes the time for the Date header, once a second.
type clock struct {
	latest atomic.Pointer[second]
}

type second struct {
	unix int64
	text string
}

func (c *clock) date(now time.Time) string {
	s := c.latest.Load()
	if s == nil || s.unix != now.Unix() {
		s = &second{now.Unix(), now.UTC().Format(http.TimeFormat)}
		c.latest.Store(s)
	}
	return s.text
}
