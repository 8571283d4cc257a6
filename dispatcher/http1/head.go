package http1

import (
	"bytes"
	"strings"
)

// verdict is what a peer's first bytes are.
type verdict uint8

const (
	other      verdict = iota // to be read by net/http
	incomplete                // the beginning of a head that may be plain
	plain                     // the head of a plain answer
)

// head is what the head of a plain answer says.
type head struct {
	size   int // of the head
	status int
	length int64 // of the body
}

const protocol = "HTTP/1.1 2"

// parse looks at the first bytes of an answer.
func parse(b []byte) (h head, v verdict) {
	if n := min(len(b), len(protocol)); string(b[:n]) != protocol[:n] {
		return h, other
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if bytes.Count(b, []byte("\n")) != bytes.Count(b, []byte("\r\n")) {
			return h, other // lines that end otherwise: this may be all of it
		}
		return h, incomplete
	}
	h.size, h.length = end+4, -1
	line, rest, _ := bytes.Cut(b[:end+2], []byte("\r\n"))
	if len(line) < len(protocol)+2 || !digit(line[10]) || !digit(line[11]) || len(line) > 12 && line[12] != ' ' || !text(line) {
		return h, other
	}
	h.status = 200 + int(line[10]-'0')*10 + int(line[11]-'0')
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		if !h.line(line) {
			return h, other
		}
	}
	if h.length < 0 {
		if h.status != 204 {
			return h, other // its body ends with the connection
		}
		h.length = 0
	}
	if h.status == 204 && h.length > 0 || h.status == 205 {
		return h, other
	}
	return h, plain
}

// line looks at one header line; it says no to one that says more than a plain
// answer does.
func (h *head) line(line []byte) bool {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok || !token(name) || !text(value) {
		return false
	}
	switch len(name) { // only these lengths need a closer look
	case 10, 12, 14, 17, 7:
	default:
		return len(name) < 3 || !fold(name[:3], "ce-")
	}
	value = bytes.Trim(value, " \t")
	switch {
	case fold(name, "Content-Length"):
		return h.length < 0 && h.setLength(value)
	case fold(name, "Connection"):
		return fold(value, "keep-alive")
	case fold(name, "Transfer-Encoding"), fold(name, "Trailer"), fold(name, "Upgrade"), fold(name[:3], "ce-"):
		return false
	case fold(name, "Content-Type"):
		const events = "application/cloudevents"
		return len(value) < len(events) || !fold(value[:len(events)], events)
	}
	return true
}

func (h *head) setLength(digits []byte) bool {
	if len(digits) == 0 || len(digits) > 15 {
		return false
	}
	h.length = 0
	for _, c := range digits {
		if !digit(c) {
			return false
		}
		h.length = 10*h.length + int64(c-'0')
	}
	return true
}

func fold(b []byte, s string) bool { return len(b) == len(s) && strings.EqualFold(string(b), s) }

func digit(c byte) bool { return c >= '0' && c <= '9' }

// token says whether b may be the name of a header, of those that are plain.
func token(b []byte) bool {
	for _, c := range b {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !digit(c) && c != '-' && c != '_' {
			return false
		}
	}
	return len(b) > 0
}

func text(b []byte) bool {
	for _, c := range b {
		if c < 0x20 && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
