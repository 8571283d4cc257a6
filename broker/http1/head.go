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

	// first and lines are the lines of the latest head, by their places: a sender's
	// next one has most of them again, which are not read anew then.
	first string // its path is path
	lines []line
}

// line is a header line that is plain.
type line struct {
	text        string // all of it
	name, value string // of its header
	kind        lineKind
	length      int64 // that it gives
}

// lineKind is what a header line is for.
type lineKind uint8

const (
	attribute lineKind = iota // as most
	hostLine
	lengthLine
)

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
	b = b[:end+len(newline)]
	var text string // of all lines, where none is known
	if len(h.lines) == 0 {
		text, h.first = string(b), ""
	}
	if !begins(b, h.first) && !h.request(lineOf(text, b, 0)) {
		return other
	}
	n := 0
	for at := len(h.first); at < len(b); n++ {
		if n == len(h.lines) {
			h.lines = append(h.lines, line{})
		}
		l := &h.lines[n]
		if !begins(b[at:], l.text) && !l.read(lineOf(text, b, at)) || !h.take(l) {
			return other
		}
		at += len(l.text)
	}
	clear(h.lines[n:]) // what is kept is of one head
	h.lines = h.lines[:n]
	if h.host == "" {
		return other
	}
	h.length = max(h.length, 0)
	return plain
}

// forget has h keep nothing of the heads that it has read but its room.
func (h *head) forget() {
	clear(h.headers)
	clear(h.lines[:cap(h.lines)])
	*h = head{headers: h.headers[:0], lines: h.lines[:0]}
}

// begins says whether b begins with a line that is known.
func begins(b []byte, line string) bool {
	return line != "" && len(b) >= len(line) && string(b[:len(line)]) == line
}

// lineOf is the line of b that begins at a byte, which ends in it, as part of all
// the text where that was copied.
func lineOf(text string, b []byte, at int) string {
	end := at + bytes.IndexByte(b[at:], '\n') + 1
	if text != "" {
		return text[at:end]
	}
	return string(b[at:end])
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

// request takes the first line; it says no to one that is not plain.
func (h *head) request(text string) bool {
	h.first = ""
	end := run(text, len(method), inPath)
	if path := text[len(method):end]; plainPath(path) && text[end:] == protocol {
		h.first, h.path = text, path
	}
	return h.first != ""
}

// read takes a header line; it says no to one that is not plain.
func (l *line) read(text string) bool {
	*l = line{}
	colon := run(text, 0, inToken)
	if colon == 0 || text[colon] != ':' {
		return false
	}
	from := run(text, colon+1, inBlank)
	end := run(text, from+event.Printable(text[from:]), inText)
	if text[end:] != newline {
		return false
	}
	for end > from && classes[text[end-1]]&inBlank != 0 {
		end--
	}
	read := line{text: text, name: text[:colon], value: text[from:end]}
	if !read.header() {
		return false
	}
	*l = read
	return true
}

// header looks at a line's header, whose bytes are plain; it says no to one that is
// not.
func (l *line) header() (ok bool) {
	ok = true
	switch name := l.name; len(name) { // only these lengths need a closer look
	case 4:
		if is(name, "Host") {
			l.kind = hostLine
			return plainHost(l.value)
		}
	case 2, 6, 7, 10, 14, 17:
		switch {
		case len(name) > 2 && name[2] == '-': // none of these, but Ce-Type
		case is(name, "Content-Length"):
			l.kind = lengthLine
			ok = l.setLength()
		case is(name, "Connection"):
			ok = strings.EqualFold(l.value, "keep-alive")
		case is(name, "Transfer-Encoding"), is(name, "Expect"), is(name, "Upgrade"), is(name, "Trailer"), is(name, "TE"):
			ok = false
		}
	}
	if event.IsPassThrough(l.name) {
		l.name = textproto.CanonicalMIMEHeaderKey(l.name) // as subscribers get it
	}
	return ok
}

// take makes a line part of the head; it says no where it makes none that is plain.
func (h *head) take(l *line) bool {
	if len(h.headers) == maxLines {
		return false
	}
	switch l.kind {
	case hostLine:
		if h.host != "" {
			return false
		}
		h.host = l.value
		return true
	case lengthLine:
		if h.length >= 0 {
			return false
		}
		h.length = l.length
	}
	h.headers = append(h.headers, event.Header{Name: l.name, Value: l.value})
	return true
}

// is says whether a header's name is this one, which most spell so.
func is(name, canonical string) bool {
	return name == canonical || len(name) == len(canonical) && strings.EqualFold(name, canonical)
}

func (l *line) setLength() bool {
	if len(l.value) > maxLength {
		return false
	}
	n, err := strconv.ParseUint(l.value, 10, 63)
	l.length = int64(n)
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
