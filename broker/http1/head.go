package http1

import (
	"bytes"
	"net/textproto"
	"strconv"
	"strings"

	"github.com/leat-dev/leat/api/event"
)

// verdict is what a connection's next bytes are.
type verdict uint8

const (
	other      verdict = iota // not plain: net/http's
	incomplete                // the beginning of a head that may be plain
	plain                     // a plain head
)

const (
	method   = "POST "
	protocol = " HTTP/1.1"
	// maxLines is how many header lines a plain head has at most.
	maxLines = 64
	// maxLength is how many digits a Content-Length has at most.
	maxLength = 15
)

// head is what a plain head says.
type head struct {
	size    int // of the head, its last empty line included
	path    string
	host    string
	headers event.HeaderList // but for Host
	length  int64            // of the body
}

// parse looks at the bytes that a connection has sent and fills in h, whose
// headers it uses again. Nothing of b is kept: the strings are a copy of it.
func (h *head) parse(b []byte) verdict {
	if n := min(len(b), len(method)); string(b[:n]) != method[:n] {
		return other
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		// What ends its lines by itself would be waited for in vain.
		if bytes.Count(b, []byte("\n")) != bytes.Count(b, []byte("\r\n")) {
			return other
		}
		return incomplete
	}
	h.size = end + 4
	h.host, h.length, h.headers = "", -1, h.headers[:0]
	line, rest, _ := strings.Cut(string(b[len(method):end+2]), "\r\n")
	path, ok := strings.CutSuffix(line, protocol)
	if !ok || !plainPath(path) {
		return other
	}
	h.path = path
	for rest != "" {
		line, rest, _ = strings.Cut(rest, "\r\n")
		if !h.line(line) {
			return other
		}
	}
	if h.host == "" {
		return other
	}
	h.length = max(h.length, 0)
	return plain
}

// line takes one header line; it says no to one that is not plain.
func (h *head) line(line string) bool {
	name, value, ok := strings.Cut(line, ":")
	if !ok || !token(name) || len(h.headers) == maxLines {
		return false
	}
	value = strings.Trim(value, " \t")
	if !text(value) {
		return false
	}
	switch len(name) { // only these lengths need a closer look
	case 4:
		if strings.EqualFold(name, "Host") {
			ok, h.host = h.host == "" && plainHost(value), value
			return ok
		}
	case 2, 6, 7, 10, 14, 17:
		switch {
		case strings.EqualFold(name, "Content-Length"):
			ok = h.length < 0 && h.setLength(value)
		case strings.EqualFold(name, "Connection"):
			ok = strings.EqualFold(value, "keep-alive")
		case strings.EqualFold(name, "Transfer-Encoding"), strings.EqualFold(name, "Expect"),
			strings.EqualFold(name, "Upgrade"), strings.EqualFold(name, "Trailer"), strings.EqualFold(name, "TE"):
			ok = false
		}
	}
	if event.IsPassThrough(name) {
		name = textproto.CanonicalMIMEHeaderKey(name) // as subscribers get it
	}
	h.headers = append(h.headers, event.Header{Name: name, Value: value})
	return ok
}

func (h *head) setLength(digits string) bool {
	if len(digits) > maxLength {
		return false
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	h.length = int64(n)
	return err == nil
}

// class says what a byte may be part of.
type class uint8

const (
	inPath class = 1 << iota
	inHost
	inToken
	inText
)

// classes has a class for each byte.
var classes = makeClasses()

func makeClasses() (c [256]class) {
	for i := range c {
		if i >= 0x20 && i != 0x7f || i == '\t' {
			c[i] |= inText
		}
	}
	for i := byte(0); i < 0x7f; i++ {
		if i >= 'a' && i <= 'z' || i >= 'A' && i <= 'Z' || i >= '0' && i <= '9' {
			c[i] |= inPath | inHost | inToken
		}
	}
	for of, bytes := range map[class]string{inPath: "/-._~", inHost: "-.:[]", inToken: "!#$%&'*+-.^_`|~"} {
		for i := range len(bytes) {
			c[bytes[i]] |= of
		}
	}
	return c
}

func all(s string, of class) bool {
	for i := range len(s) {
		if classes[s[i]]&of == 0 {
			return false
		}
	}
	return true
}

// plainPath: no escapes, no query, and no beginning that could be a host.
func plainPath(s string) bool {
	return s != "" && s[0] == '/' && (len(s) == 1 || s[1] != '/') && all(s, inPath)
}

func plainHost(s string) bool { return s != "" && all(s, inHost) }

func token(s string) bool { return s != "" && all(s, inToken) }

func text(s string) bool { return all(s, inText) }
