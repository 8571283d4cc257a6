package event

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner reads JSON (RFC 8259) from memory. It finds where values begin and
// end, so that data can be kept byte for byte; it builds no tree. The text must
// be UTF-8 already.
type scanner struct {
	b        []byte
	i        int
	maxDepth int
}

// syntax is an error at the byte that the scanner stands on.
func (s *scanner) syntax(format string, args ...any) *FormatError {
	return wrong("", "the JSON does not parse at byte %d: %s", s.i, fmt.Sprintf(format, args...))
}

// expected is the error of a byte that must not stand here.
func (s *scanner) expected(what string) *FormatError {
	if s.i >= len(s.b) {
		return s.syntax("it ends where %s must follow", what)
	}
	r, _ := utf8.DecodeRune(s.b[s.i:])
	return s.syntax("%q stands where %s must", r, what)
}

// peek skips white space and returns the next byte; 0 at the end.
func (s *scanner) peek() byte {
	for s.i < len(s.b) {
		switch c := s.b[s.i]; c {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return c
		}
	}
	return 0
}

// take skips white space and the byte c, which must be there.
func (s *scanner) take(c byte, what string) *FormatError {
	if s.peek() != c || s.i >= len(s.b) {
		return s.expected(what)
	}
	s.i++
	return nil
}

// text reads a string, and returns what stands between its quotes.
func (s *scanner) text() (raw []byte, escaped bool, err *FormatError) {
	if err := s.take('"', "a string"); err != nil {
		return nil, false, err
	}
	start := s.i
	for {
		s.i += plain(s.b[s.i:])
		if s.i >= len(s.b) {
			return nil, false, s.syntax("a string has no end")
		}
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return s.b[start : s.i-1], escaped, nil
		case c == '\\':
			escaped = true
			if err := s.escape(); err != nil {
				return nil, false, err
			}
		default:
			return nil, false, s.syntax("the control character %U must be escaped in a string", rune(c))
		}
	}
}

const ones, highs = 0x0101010101010101, 0x8080808080808080

// careful is not zero where one of the first eight bytes of b is a quote, a
// backslash or a control character.
func careful(b []byte) uint64 {
	v := binary.LittleEndian.Uint64(b)
	quote, slash := v^ones*'"', v^ones*'\\'
	return ((quote-ones)&^quote | (slash-ones)&^slash | (v-ones*0x20)&^v) & highs
}

// stretch is how much of a long string is looked at together. Where care is
// needed, that was in vain.
const stretch = 128

// carefree says whether none of the bytes of a stretch needs care.
func carefree(b []byte) bool {
	if bytes.IndexByte(b, '"') >= 0 || bytes.IndexByte(b, '\\') >= 0 {
		return false
	}
	controls := uint64(0)
	for ; len(b) >= 8; b = b[8:] {
		v := binary.LittleEndian.Uint64(b)
		controls |= (v - ones*0x20) &^ v
	}
	return controls&highs == 0
}

// plain is how many bytes of b need no care in a string: none of them is a
// quote, a backslash or a control character. Most strings are short: so it looks
// at eight at a time first.
func plain(b []byte) int {
	n := 0
	for n+8 <= len(b) && careful(b[n:]) == 0 {
		if n += 8; n != 32 {
			continue
		}
		for n+stretch <= len(b) && carefree(b[n:n+stretch]) {
			n += stretch
		}
	}
	for n < len(b) && b[n] >= 0x20 && b[n] != '"' && b[n] != '\\' {
		n++
	}
	return n
}

// escape skips one escape sequence.
func (s *scanner) escape() *FormatError {
	if s.i+1 >= len(s.b) {
		s.i = len(s.b)
		return s.syntax("a string has no end")
	}
	switch s.b[s.i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i += 2
		return nil
	case 'u':
		if _, ok := hex4(s.b[s.i+2:]); ok {
			s.i += 6
			return nil
		}
	}
	return s.syntax("an escape must be one of \\\" \\\\ \\/ \\b \\f \\n \\r \\t, or \\u and four hex digits")
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range b[:4] {
		d, ok := unhex(c)
		if !ok {
			return 0, false
		}
		r = r<<4 | rune(d)
	}
	return r, true
}

func unhex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// unescape gives the string that raw stands for; false where half of a
// surrogate pair stands alone, which no UTF-8 can express.
func unescape(raw []byte) ([]byte, bool) {
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); {
		n := plain(raw[i:])
		out = append(out, raw[i:i+n]...)
		if i += n; i >= len(raw) {
			break
		}
		c := raw[i+1] // text has seen to it that escapes are whole
		i += 2
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r, _ := hex4(raw[i:])
			i += 4
			if utf16.IsSurrogate(r) {
				if i+6 > len(raw) || raw[i] != '\\' || raw[i+1] != 'u' {
					return nil, false
				}
				low, _ := hex4(raw[i+2:])
				if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
					return nil, false
				}
				i += 6
			}
			out = utf8.AppendRune(out, r)
			continue
		}
		out = append(out, c)
	}
	return out, true
}

// value skips one value of any kind and returns its bytes.
func (s *scanner) value() ([]byte, *FormatError) {
	var buf [64]byte
	open := buf[:0] // what closes each array and object that is open
	first := s.peek()
	start := s.i
	for c := first; ; c = s.peek() {
		switch c {
		case '{', '[':
			if len(open) == s.maxDepth {
				return nil, s.syntax("values nest deeper than the limit of %d", s.maxDepth)
			}
			s.i++
			end := c + 2 // ']' and '}' follow their opening so
			if s.peek() != end || s.i >= len(s.b) {
				open = append(open, end)
				if err := s.name(end); err != nil {
					return nil, err
				}
				continue
			}
			s.i++
		default:
			if err := s.scalar(c); err != nil {
				return nil, err
			}
		}
		more, rest, err := s.after(open)
		if err != nil {
			return nil, err
		}
		if !more {
			return s.b[start:s.i], nil
		}
		open = rest
	}
}

// after closes what ends behind a value; more says that another one follows.
func (s *scanner) after(open []byte) (more bool, rest []byte, err *FormatError) {
	for len(open) > 0 {
		end := open[len(open)-1]
		switch c := s.peek(); {
		case c == ',':
			s.i++
			return true, open, s.name(end)
		case c == end:
			s.i++
			open = open[:len(open)-1]
		default:
			return false, nil, s.expected("a comma or " + string(rune(end)))
		}
	}
	return false, nil, nil
}

// name skips the name of a member, if the value to come is one of an object.
func (s *scanner) name(end byte) *FormatError {
	if end != '}' {
		return nil
	}
	if _, _, err := s.text(); err != nil {
		return err
	}
	return s.take(':', "a colon")
}

// scalar skips a string, number or literal that begins with c.
func (s *scanner) scalar(c byte) *FormatError {
	switch {
	case c == '"':
		_, _, err := s.text()
		return err
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	}
	return s.expected("a value")
}

func (s *scanner) literal(word string) *FormatError {
	if len(s.b)-s.i < len(word) || string(s.b[s.i:s.i+len(word)]) != word {
		return s.expected(word)
	}
	s.i += len(word)
	return nil
}

func (s *scanner) number() *FormatError {
	if s.b[s.i] == '-' {
		s.i++
	}
	if s.i < len(s.b) && s.b[s.i] == '0' {
		s.i++
	} else if err := s.digits(); err != nil {
		return err
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		s.i++
		if err := s.digits(); err != nil {
			return err
		}
	}
	if s.i < len(s.b) && (s.b[s.i] == 'e' || s.b[s.i] == 'E') {
		s.i++
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		return s.digits()
	}
	return nil
}

func (s *scanner) digits() *FormatError {
	start := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	if s.i == start {
		return s.expected("a digit")
	}
	return nil
}
