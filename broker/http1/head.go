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
	newline  = "\r\n"
	protocol = " HTTP/1.1" + newline
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
	end := lastLine(b)
	if end < 0 {
		// What ends its lines by itself would be waited for in vain.
		if bytes.Count(b, []byte("\n")) != bytes.Count(b, []byte("\r\n")) {
			return other
		}
		return incomplete
	}
	h.size = end + 4
	h.host, h.length, h.headers = "", -1, h.headers[:0]
	text := string(b[len(method) : end+2])
	at := run(text, 0, inPath)
	if !plainPath(text[:at]) || !strings.HasPrefix(text[at:], protocol) {
		return other
	}
	h.path = text[:at]
	for at += len(protocol); at < len(text); {
		var ok bool
		if at, ok = h.line(text, at); !ok {
			return other
		}
	}
	if h.host == "" {
		return other
	}
	h.length = max(h.length, 0)
	return plain
}

// lastLine is where the first empty line is, with the end of the line before it;
// -1 where there is none yet.
func lastLine(b []byte) int {
	for at := 0; ; {
		n := bytes.IndexByte(b[at:], '\n')
		if n < 0 {
			return -1
		}
		at += n + 1
		if at >= 2 && at+2 <= len(b) && b[at] == '\r' && b[at+1] == '\n' && b[at-2] == '\r' {
			return at - 2
		}
	}
}

// line takes the header line of text that begins at a byte, and returns where the
// next one does; it says no to one that is not plain. The last ends in CRLF as
// well.
func (h *head) line(text string, at int) (next int, ok bool) {
	colon := run(text, at, inToken)
	if colon == at || text[colon] != ':' || len(h.headers) == maxLines {
		return 0, false
	}
	from := run(text, colon+1, inBlank)
	end := run(text, from+event.Printable(text[from:]), inText)
	if !strings.HasPrefix(text[end:], newline) {
		return 0, false
	}
	next = end + len(newline)
	for end > from && classes[text[end-1]]&inBlank != 0 {
		end--
	}
	return next, h.header(text[at:colon], text[from:end])
}

// header takes one header, whose bytes are plain; it says no to one that is not.
func (h *head) header(name, value string) bool {
	ok := true
	switch len(name) { // only these lengths need a closer look
	case 4:
		if is(name, "Host") {
			ok, h.host = h.host == "" && plainHost(value), value
			return ok
		}
	case 2, 6, 7, 10, 14, 17:
		switch {
		case len(name) > 2 && name[2] == '-': // none of these, but Ce-Type
		case is(name, "Content-Length"):
			ok = h.length < 0 && h.setLength(value)
		case is(name, "Connection"):
			ok = strings.EqualFold(value, "keep-alive")
		case is(name, "Transfer-Encoding"), is(name, "Expect"), is(name, "Upgrade"), is(name, "Trailer"), is(name, "TE"):
			ok = false
		}
	}
	if event.IsPassThrough(name) {
		name = textproto.CanonicalMIMEHeaderKey(name) // as subscribers get it
	}
	h.headers = append(h.headers, event.Header{Name: name, Value: value})
	return ok
}

// is says whether a header's name is this one, which most spell so.
func is(name, canonical string) bool {
	return name == canonical || len(name) == len(canonical) && strings.EqualFold(name, canonical)
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
	inBlank
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
	for of, bytes := range map[class]string{inPath: "/-._~", inHost: "-.:[]", inBlank: " \t", inToken: "!#$%&'*+-.^_`|~"} {
		for i := range len(bytes) {
			c[bytes[i]] |= of
		}
	}
	return c
}

// run is where the bytes of a class that begin at i end.
func run(s string, i int, of class) int {
	for i < len(s) && classes[s[i]]&of != 0 {
		i++
	}
	return i
}

// plainPath: no beginning that could be a host.
func plainPath(s string) bool {
	return s != "" && s[0] == '/' && (len(s) == 1 || s[1] != '/')
}

func plainHost(s string) bool { return s != "" && run(s, 0, inHost) == len(s) }
