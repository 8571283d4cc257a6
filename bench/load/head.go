//go:build linux

package load

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

var (
	crlf    = []byte("\r\n")
	headEnd = []byte("\r\n\r\n")
)

// cutHead is the head of a message, its empty line included, where all of it
// is there.
func cutHead(b []byte) ([]byte, bool) {
	i := bytes.Index(b, headEnd)
	if i < 0 {
		return nil, false
	}
	return b[:i+len(headEnd)], true
}

// field is the value of a header, nil where there is none. name is in lower
// case.
func field(head []byte, name string) []byte {
	for {
		_, rest, ok := bytes.Cut(head, crlf)
		if !ok || len(rest) <= len(name) {
			return nil
		}
		head = rest
		if head[len(name)] == ':' && equalFold(head[:len(name)], name) {
			value, _, _ := bytes.Cut(head[len(name)+1:], crlf)
			return bytes.TrimSpace(value)
		}
	}
}

// equalFold compares with a name in lower case.
func equalFold(b []byte, lower string) bool {
	for i := range b {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

var errChunked = errors.New("a body of unknown length: the bench takes only messages with a Content-Length")

// bodyLength is the length of a message's body.
func bodyLength(head []byte) (int, error) {
	v := field(head, "content-length")
	if v == nil {
		if field(head, "transfer-encoding") != nil {
			return 0, errChunked
		}
		return 0, nil
	}
	n, err := strconv.Atoi(string(v))
	if err != nil || n < 0 {
		return 0, fmt.Errorf("Content-Length %q is no length", v)
	}
	return n, nil
}

// eventNumber is the number in an event's id.
func eventNumber(head []byte) (int, error) {
	id := field(head, "ce-id")
	n, err := strconv.Atoi(string(id))
	if err != nil || n < 0 {
		return 0, fmt.Errorf("the id %q is not one that was sent", id)
	}
	return n, nil
}

// requestPath is the path of a request.
func requestPath(head []byte) []byte {
	_, rest, _ := bytes.Cut(head, []byte(" "))
	path, _, _ := bytes.Cut(rest, []byte(" "))
	return path
}

var accepted = []byte("HTTP/1.1 202 ")
