//go:build linux

// Package load drives a server by HTTP/1.1, and is a subscriber to one, for as
// little processor time as that can be done with: requests are encoded before
// they are needed, connections stay open, and one thread serves them all. The
// client runs on the server's cores, so what it takes the server lacks. The
// same client and subscriber serve for whatever is measured.
package load

import (
	"bytes"
	"fmt"
	"strings"
)

// digits is how long an event's number is, in its id.
const digits = 12

// Request is an encoded request. The numbers of its events are written into it
// before it is sent.
type Request struct {
	Events int
	encoded
}

type encoded struct {
	bytes []byte
	at    []int // where the numbers stand
}

// Event says what an event looks like.
type Event struct {
	Type    string // bench.event when empty
	Subject string // none when empty
	Data    string // a JSON value
}

const placeholder = "############"

// Binary is a request with one event in binary mode.
func Binary(host, path string, e Event) Request {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nCe-Specversion: 1.0\r\nCe-Id: %s\r\nCe-Source: /bench\r\nCe-Type: %s\r\n", path, host, placeholder, e.kind())
	if e.Subject != "" {
		fmt.Fprintf(&b, "Ce-Subject: %s\r\n", e.Subject)
	}
	fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(e.Data), e.Data)
	return Request{1, find(b.Bytes())}
}

// Batch is a request with n events as one batch.
func Batch(host, path string, n int, e Event) Request {
	var events bytes.Buffer
	for i := range n {
		events.WriteByte("[,"[min(i, 1)])
		fmt.Fprintf(&events, `{"specversion":"1.0","id":"%s","source":"/bench","type":"%s","datacontenttype":"application/json","data":%s}`, placeholder, e.kind(), e.Data)
	}
	events.WriteByte(']')
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/cloudevents-batch+json\r\nContent-Length: %d\r\n\r\n", path, host, events.Len())
	return Request{n, find(append([]byte(head), events.Bytes()...))}
}

func (e Event) kind() string {
	if e.Type == "" {
		return "bench.event"
	}
	return e.Type
}

func find(b []byte) encoded {
	e := encoded{bytes: b}
	for from := 0; ; {
		i := bytes.Index(b[from:], []byte(placeholder))
		if i < 0 {
			return e
		}
		e.at = append(e.at, from+i)
		from += i + digits
	}
}

// clone is a copy that can be sent beside the original.
func (e encoded) clone() encoded { return encoded{bytes.Clone(e.bytes), e.at} }

// number writes the numbers of the events, from first on.
func (e encoded) number(first int) {
	for i, at := range e.at {
		n := first + i
		for d := at + digits - 1; d >= at; d-- {
			e.bytes[d] = byte('0' + n%10)
			n /= 10
		}
	}
}

// Payload is a JSON object of the given size, with the members named before
// the padding.
func Payload(size int, members string) string {
	head, tail := "{"+members+`"pad":"`, `"}`
	return head + strings.Repeat("x", max(0, size-len(head)-len(tail))) + tail
}
