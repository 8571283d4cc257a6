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

// append writes an answer in a second.
func (a *Answer) append(dst []byte, at *second, last bool) []byte {
	if a.Status == http.StatusAccepted && len(a.Headers) == 0 && len(a.Body) == 0 && !last {
		return append(dst, at.accepted...) // as nearly all are
	}
	return a.write(dst, at.text, last)
}

func (a *Answer) write(dst []byte, date string, last bool) []byte {
	dst = strconv.AppendInt(append(dst, "HTTP/1.1 "...), int64(a.Status), 10)
	dst = append(append(append(dst, ' '), http.StatusText(a.Status)...), "\r\nDate: "...)
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

// clock writes what of an answer is the same for a second, once in it.
type clock struct {
	latest atomic.Pointer[second]
}

type second struct {
	unix     int64
	text     string // for the Date header
	accepted []byte // an answer that says no more than that
}

func (c *clock) date(now time.Time) *second {
	s := c.latest.Load()
	if s == nil || s.unix != now.Unix() {
		s = &second{unix: now.Unix(), text: now.UTC().Format(http.TimeFormat)}
		s.accepted = (&Answer{Status: http.StatusAccepted}).write(nil, s.text, false)
		c.latest.Store(s)
	}
	return s
}
