package cesql

import (
	"strings"
	"unicode/utf8"
)

// pattern is a compiled LIKE pattern: what stands between its % signs. The
// first segment is held at the start of the text, the last at its end.
type pattern struct {
	segments []segment
}

// segment is a run of literal text and single characters (_).
type segment struct {
	// lit is the whole segment when it has no _.
	lit   string
	parts []part // nil when there is no _
	runes int    // how many characters it takes
}

// part is a literal, or any one character when lit is empty.
type part struct{ lit string }

func compilePattern(s string) pattern {
	var p pattern
	var seg segment
	var lit strings.Builder
	flush := func() {
		if lit.Len() > 0 {
			seg.parts = append(seg.parts, part{lit: lit.String()})
			seg.runes += utf8.RuneCountInString(lit.String())
			lit.Reset()
		}
	}
	closeSegment := func() {
		flush()
		if len(seg.parts) == 0 || len(seg.parts) == 1 && seg.parts[0].lit != "" {
			if len(seg.parts) == 1 {
				seg.lit = seg.parts[0].lit
			}
			seg.parts = nil
		}
		p.segments = append(p.segments, seg)
		seg = segment{}
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s) && (s[i+1] == '%' || s[i+1] == '_'):
			i++
			lit.WriteByte(s[i])
		case c == '%':
			closeSegment()
		case c == '_':
			flush()
			seg.parts = append(seg.parts, part{})
			seg.runes++
		default:
			lit.WriteByte(c)
		}
	}
	closeSegment()
	return p
}

// at gives the end of the segment when it stands at the start of text, or -1.
func (s *segment) at(text string) int {
	if s.parts == nil {
		if strings.HasPrefix(text, s.lit) {
			return len(s.lit)
		}
		return -1
	}
	end := 0
	for _, p := range s.parts {
		rest := text[end:]
		switch {
		case p.lit != "":
			if !strings.HasPrefix(rest, p.lit) {
				return -1
			}
			end += len(p.lit)
		case rest == "":
			return -1
		default:
			_, size := utf8.DecodeRuneInString(rest)
			end += size
		}
	}
	return end
}

// find gives the text after the segment's first place in it.
func (s *segment) find(text string) (rest string, ok bool) {
	if s.parts == nil {
		i := strings.Index(text, s.lit)
		if i < 0 {
			return "", false
		}
		return text[i+len(s.lit):], true
	}
	for {
		if end := s.at(text); end >= 0 {
			return text[end:], true
		}
		if text == "" {
			return "", false
		}
		_, size := utf8.DecodeRuneInString(text)
		text = text[size:]
	}
}

// atEnd says whether the segment stands at the end of text.
func (s *segment) atEnd(text string) bool {
	if s.parts == nil {
		return strings.HasSuffix(text, s.lit)
	}
	start := len(text)
	for range s.runes {
		if start == 0 {
			return false
		}
		_, size := utf8.DecodeLastRuneInString(text[:start])
		start -= size
	}
	return s.at(text[start:]) == len(text)-start
}

func (p *pattern) match(text string) bool {
	first := &p.segments[0]
	end := first.at(text)
	if end < 0 {
		return false
	}
	if len(p.segments) == 1 {
		return end == len(text)
	}
	text = text[end:]
	last := len(p.segments) - 1
	for i := 1; i < last; i++ {
		var ok bool
		if text, ok = p.segments[i].find(text); !ok {
			return false
		}
	}
	return p.segments[last].atEnd(text)
}

// edges gives the literal text that every match begins and ends with, and
// whether the pattern is that literal text alone.
func (p *pattern) edges() (prefix, suffix string, exact bool) {
	first, last := &p.segments[0], &p.segments[len(p.segments)-1]
	prefix, suffix = first.lit, last.lit
	if first.parts != nil {
		prefix = first.parts[0].lit
	}
	if last.parts != nil {
		suffix = last.parts[len(last.parts)-1].lit
	}
	return prefix, suffix, len(p.segments) == 1 && first.parts == nil
}
