// Package payload parses an event's JSON data for filters, within bounds.
//
// Values are nil, bool, int, float64, string, []any and map[string]any. A
// number without fraction and exponent that fits 64 bits is an int, so that it
// keeps all its digits; any other is a float64.
package payload

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Limits bound what parsing may cost. A zero field means its default.
type Limits struct {
	// MaxBytes is the largest text, in bytes; 1 MiB.
	MaxBytes int
	// MaxDepth is how deep arrays and objects may nest; 64.
	MaxDepth int
	// MaxValues is how many values the text may have, those in arrays and
	// objects included; 100,000.
	MaxValues int
}

// WithDefaults fills in the defaults.
func (l Limits) WithDefaults() Limits {
	l.MaxBytes = cmp.Or(l.MaxBytes, 1<<20)
	l.MaxDepth = cmp.Or(l.MaxDepth, 64)
	l.MaxValues = cmp.Or(l.MaxValues, 100_000)
	return l
}

// Error says why a text was not parsed, and where.
type Error struct {
	Offset int // in bytes, from 0
	Reason string
}

func (e *Error) Error() string { return fmt.Sprintf("JSON, byte %d: %s", e.Offset, e.Reason) }

// Parse parses one JSON value and nothing after it. Of keys that an object has
// twice the last one counts. The error is an *Error. The result does not alias
// text.
func Parse(text []byte, l Limits) (any, error) {
	l = l.WithDefaults()
	if len(text) > l.MaxBytes {
		return nil, &Error{Offset: l.MaxBytes, Reason: fmt.Sprintf("the text has %d bytes, more than the limit of %d", len(text), l.MaxBytes)}
	}
	p := parser{src: string(text), left: l.MaxValues, limits: l}
	p.space()
	v := p.value(0)
	p.space()
	if p.err == nil && p.pos < len(p.src) {
		p.fail("text after the value")
	}
	if p.err != nil {
		return nil, p.err
	}
	return v, nil
}

type parser struct {
	src    string
	pos    int
	left   int // values that may still come
	limits Limits
	err    *Error
}

func (p *parser) fail(reason string) any {
	if p.err == nil {
		p.err = &Error{Offset: p.pos, Reason: reason}
	}
	return nil
}

func (p *parser) space() {
	for p.pos < len(p.src) {
		switch p.src[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

// peek is the next byte, 0 at the end.
func (p *parser) peek() byte {
	if p.pos < len(p.src) {
		return p.src[p.pos]
	}
	return 0
}

func (p *parser) value(depth int) any {
	if p.left--; p.left < 0 {
		return p.fail(fmt.Sprintf("more values than the limit of %d", p.limits.MaxValues))
	}
	switch c := p.peek(); {
	case c == '{' || c == '[':
		if depth >= p.limits.MaxDepth {
			return p.fail(fmt.Sprintf("nested deeper than the limit of %d", p.limits.MaxDepth))
		}
		if c == '{' {
			return p.object(depth + 1)
		}
		return p.array(depth + 1)
	case c == '"':
		return p.str()
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	case c == 't':
		return p.word("true", true)
	case c == 'f':
		return p.word("false", false)
	case c == 'n':
		return p.word("null", nil)
	default:
		return p.fail("a value is expected")
	}
}

func (p *parser) word(w string, v any) any {
	if !strings.HasPrefix(p.src[p.pos:], w) {
		return p.fail("a value is expected")
	}
	p.pos += len(w)
	return v
}

func (p *parser) object(depth int) any {
	m := map[string]any{}
	p.pos++
	p.space()
	if p.peek() == '}' {
		p.pos++
		return m
	}
	for p.err == nil {
		if p.peek() != '"' {
			return p.fail("a key in quotes is expected")
		}
		key := p.str()
		p.space()
		if p.err == nil && p.peek() != ':' {
			return p.fail("a colon is expected")
		}
		p.pos++
		p.space()
		m[key] = p.value(depth)
		if p.separator('}') {
			return m
		}
	}
	return nil
}

func (p *parser) array(depth int) any {
	a := []any{}
	p.pos++
	p.space()
	if p.peek() == ']' {
		p.pos++
		return a
	}
	for p.err == nil {
		a = append(a, p.value(depth))
		if p.separator(']') {
			return a
		}
	}
	return nil
}

// separator takes a comma, or the end of an array or object, and says whether
// it was the end.
func (p *parser) separator(end byte) bool {
	p.space()
	if p.err != nil {
		return false
	}
	switch p.peek() {
	case end:
		p.pos++
		return true
	case ',':
		p.pos++
		p.space()
	default:
		p.fail(fmt.Sprintf("a comma or %c is expected", end))
	}
	return false
}

func (p *parser) digits() bool {
	start := p.pos
	for p.pos < len(p.src) && p.src[p.pos] >= '0' && p.src[p.pos] <= '9' {
		p.pos++
	}
	return p.pos > start
}

func (p *parser) number() any {
	start := p.pos
	if p.peek() == '-' {
		p.pos++
	}
	if p.peek() == '0' {
		p.pos++
	} else if !p.digits() {
		return p.fail("a digit is expected")
	}
	whole := true
	if p.peek() == '.' {
		whole = false
		p.pos++
		if !p.digits() {
			return p.fail("a digit is expected")
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		whole = false
		p.pos++
		if c := p.peek(); c == '+' || c == '-' {
			p.pos++
		}
		if !p.digits() {
			return p.fail("a digit is expected")
		}
	}
	text := p.src[start:p.pos]
	if whole && text != "-0" {
		if n, err := strconv.ParseInt(text, 10, strconv.IntSize); err == nil {
			return int(n)
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) {
		p.pos = start
		return p.fail("a number that is too large")
	}
	return f
}

func (p *parser) str() string {
	p.pos++
	start := p.pos
	for i := start; i < len(p.src); i++ {
		switch c := p.src[i]; {
		case c == '"':
			p.pos = i + 1
			return p.src[start:i]
		case c == '\\' || c >= utf8.RuneSelf:
			return p.slowString(start, i)
		case c < ' ':
			p.pos = i
			p.fail("a control character in a string")
			return ""
		}
	}
	p.fail("a string without an end")
	return ""
}

// slowString reads a string that has escapes or characters beyond ASCII, plain
// up to i.
func (p *parser) slowString(start, i int) string {
	var b strings.Builder
	escaped := false
	for i < len(p.src) {
		c := p.src[i]
		switch {
		case c == '"':
			p.pos = i + 1
			if !escaped {
				return p.src[start:i]
			}
			b.WriteString(p.src[start:i])
			return b.String()
		case c == '\\':
			escaped = true
			b.WriteString(p.src[start:i])
			p.pos = i
			r, size := p.escape()
			if p.err != nil {
				return ""
			}
			b.WriteRune(r)
			i += size
			start = i
		case c < ' ':
			p.pos = i
			p.fail("a control character in a string")
			return ""
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRuneInString(p.src[i:])
			if r == utf8.RuneError && size == 1 {
				escaped = true
				b.WriteString(p.src[start:i])
				b.WriteRune(r)
				start = i + 1
			}
			i += size
		default:
			i++
		}
	}
	p.fail("a string without an end")
	return ""
}

// escape reads the escape at pos, without moving. A surrogate without its
// other half is U+FFFD.
func (p *parser) escape() (r rune, size int) {
	if p.pos+1 >= len(p.src) {
		p.fail("a string without an end")
		return 0, 0
	}
	switch c := p.src[p.pos+1]; c {
	case '"', '\\', '/':
		return rune(c), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		r, ok := hex4(p.src[p.pos+2:])
		if !ok {
			p.fail("four hexadecimal digits are expected after \\u")
			return 0, 0
		}
		if !utf16.IsSurrogate(r) {
			return r, 6
		}
		if rest := p.src[p.pos+6:]; strings.HasPrefix(rest, `\u`) {
			if low, ok := hex4(rest[2:]); ok {
				if full := utf16.DecodeRune(r, low); full != utf8.RuneError {
					return full, 12
				}
			}
		}
		return utf8.RuneError, 6
	default:
		p.fail("an unknown escape")
		return 0, 0
	}
}

func hex4(s string) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(s[:4], 16, 16)
	if err != nil {
		return 0, false
	}
	return rune(n), true
}
