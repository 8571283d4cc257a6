package system

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/leat-dev/leat/api/members"
)

// clean is an object as it appears, made of its text without decoding it: most hold
// no credential, and are stored in the form that they appear in. It is not ok where
// that is in any doubt; then the object is decoded.
func (r redactor) clean(stored []byte, version string) (data []byte, ok bool) {
	stored = bytes.TrimSuffix(stored, []byte("\n"))
	object, err := members.Of(stored)
	if err != nil {
		return nil, false
	}
	text := object.Get("metadata")
	if text == nil {
		return nil, false
	}
	metadata, err := members.Of(text.Value)
	if err != nil || metadata.Get("resourceVersion") != nil {
		return nil, false
	}
	if metadata.Get("managedFields") != nil {
		// Most of an object, and nothing of it appears.
		less := metadata.Without(text.Value, "managedFields")
		stored = slices.Concat(stored[:text.From], less, stored[text.To:])
		text.To, text.Value = text.From+len(less), less
		if metadata, err = members.Of(less); err != nil || metadata.Get("managedFields") != nil {
			return nil, false
		}
	}
	s := scan{r: r, text: stored, out: make([]byte, 0, len(stored)+32)}
	if !s.object(0) || s.at != len(stored) || !utf8.Valid(stored) {
		return nil, false
	}
	if object, err = members.Of(s.out); err != nil {
		return nil, false
	}
	text = object.Get("metadata")
	if metadata, err = members.Of(text.Value); err != nil {
		return nil, false
	}
	out := append(make([]byte, 0, len(s.out)+32), s.out[:text.From]...)
	out = metadata.AppendWith(out, text.Value, "resourceVersion", strconv.AppendQuote(nil, version))
	return append(out, s.out[text.To:]...), true
}

// mostDepth is how deep a value is looked into.
const mostDepth = 64

// scan looks at a value in compact JSON, and writes it as it would be encoded. Each
// of its methods passes a part, and says whether that is beyond doubt what encoding
// would make of it, and holds nothing that is a credential, or might be.
type scan struct {
	r    redactor
	text []byte
	at   int
	out  []byte
}

func (s *scan) next() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

// take passes one character.
func (s *scan) take(c byte) bool {
	if s.next() != c {
		return false
	}
	s.at++
	s.out = append(s.out, c)
	return true
}

func (s *scan) value(depth int) bool {
	switch s.next() {
	case '{':
		return s.object(depth + 1)
	case '[':
		return s.list(depth + 1)
	case '"':
		text, ok := s.string()
		return ok && s.harmless(text)
	}
	from := s.at
	for s.at < len(s.text) && !bytes.ContainsRune([]byte(",]}\"{[: \t\r\n"), rune(s.text[s.at])) {
		s.at++
	}
	s.out = append(s.out, s.text[from:s.at]...)
	return json.Valid(s.text[from:s.at]) // a number, true, false or null
}

func (s *scan) object(depth int) bool {
	if depth > mostDepth || !s.take('{') {
		return false
	}
	var before []byte
	for !s.take('}') {
		if before != nil && !s.take(',') {
			return false
		}
		name, ok := s.string()
		// In order, and each once.
		if !ok || before != nil && bytes.Compare(before, name) >= 0 || s.r.names.isCredential(string(name)) || !s.take(':') || !s.member(name, depth) {
			return false
		}
		before = name
	}
	return true
}

// member is the value of one.
func (s *scan) member(name []byte, depth int) bool {
	if s.next() != '"' {
		return s.value(depth)
	}
	if string(name) == lastApplied {
		return s.document()
	}
	text, ok := s.string()
	switch {
	case !ok, string(name) == "kind" && string(text) == "Secret", string(name) == "name" && s.r.names.isCredential(string(text)):
		return false
	}
	return s.harmless(text)
}

func (s *scan) list(depth int) bool {
	if depth > mostDepth || !s.take('[') {
		return false
	}
	for first := true; !s.take(']'); first = false {
		if !first && !s.take(',') || !s.value(depth) {
			return false
		}
	}
	return true
}

// string passes one in which nothing is escaped, or had to be.
func (s *scan) string() (text []byte, ok bool) {
	if !s.take('"') {
		return nil, false
	}
	from := s.at
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '"':
			text = s.text[from:s.at]
			s.at++
			s.out = append(append(s.out, text...), '"')
			return text, !bytes.Contains(text, []byte("\u2028")) && !bytes.Contains(text, []byte("\u2029"))
		case c == '\\' || c < ' ':
			return nil, false
		}
	}
	return nil, false
}

// harmless says whether no pattern of a credential can be in a text.
func (s *scan) harmless(text []byte) bool {
	if len(text) == 0 {
		return true
	}
	if text[0] == '{' || text[0] <= ' ' || text[0] >= utf8.RuneSelf { // JSON, or what may be space before it
		return false
	}
	for i := range s.r.patterns {
		if s.r.patterns[i].maybe(text) {
			return false
		}
	}
	return true
}

// document passes what was applied: an object as JSON in a string, in which nothing
// but the quotes is escaped, and the end of its line, which does not appear.
func (s *scan) document() bool {
	from := s.at + 1
	to := from
	for ; to < len(s.text) && s.text[to] != '"'; to++ {
		if s.text[to] == '\\' {
			to++
		}
	}
	if to >= len(s.text) {
		return false
	}
	escaped := bytes.TrimSuffix(s.text[from:to], []byte(`\n`))
	text := bytes.ReplaceAll(escaped, []byte(`\"`), []byte(`"`))
	inner := scan{r: s.r, text: text, out: make([]byte, 0, len(text))}
	if !inner.object(0) || inner.at != len(inner.text) {
		return false // any other escape is one inside too
	}
	s.out = append(append(append(s.out, '"'), escaped...), '"')
	s.at = to + 1
	return true
}
