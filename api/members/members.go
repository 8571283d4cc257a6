// Package members finds the members of JSON objects where they stand in a text,
// so that one can be read, replaced or left out without decoding the others. It
// is for texts that were written by this program or are checked elsewhere: it
// sees that the parts fit together, and not what stands inside of them.
package members

import (
	"bytes"
	"errors"
)

// ErrForm: the text is not JSON in the compact form that encoders give it, or a
// name in it is written with escapes.
var ErrForm = errors.New("not compact JSON with plain names")

// Member is one of an object. Its name and its value are parts of the text.
type Member struct {
	Name, Value []byte
	// From and To are where the value stands, At where the name's quote does.
	At, From, To int
}

// Object is what an object consists of, in the order of the text.
type Object []Member

// Of takes an object apart. Nothing but a line's end may follow it.
func Of(text []byte) (Object, error) {
	o := make(Object, 0, 8) // as many as most have
	err := walk(text, '{', '}', func(at int) (int, error) {
		end, err := stringEnd(text, at)
		if err != nil || end >= len(text) || text[end] != ':' {
			return 0, ErrForm
		}
		name := text[at+1 : end-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			return 0, ErrForm
		}
		to, err := valueEnd(text, end+1)
		if err == nil {
			o = append(o, Member{Name: name, Value: text[end+1 : to], At: at, From: end + 1, To: to})
		}
		return to, err
	})
	return o, err
}

// Items takes a list apart.
func Items(text []byte) ([][]byte, error) {
	var items [][]byte
	err := walk(text, '[', ']', func(at int) (int, error) {
		to, err := valueEnd(text, at)
		if err == nil {
			items = append(items, text[at:to])
		}
		return to, err
	})
	return items, err
}

// walk calls part where each part of an object or a list begins; it gives where
// that ends.
func walk(text []byte, opening, closing byte, part func(at int) (int, error)) error {
	text = bytes.TrimSuffix(text, []byte("\n"))
	if len(text) < 2 || text[0] != opening || text[len(text)-1] != closing {
		return ErrForm
	}
	if len(text) == 2 {
		return nil
	}
	for at := 1; ; at++ { // behind the comma
		to, err := part(at)
		switch {
		case err != nil:
			return err
		case to == len(text)-1:
			return nil
		case to >= len(text) || text[to] != ',':
			return ErrForm
		}
		at = to
	}
}

// stringEnd is behind the quote that ends the string at i.
func stringEnd(text []byte, i int) (int, error) {
	if i >= len(text) || text[i] != '"' {
		return 0, ErrForm
	}
	for i++; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1, nil
		}
	}
	return 0, ErrForm
}

// valueEnd is behind the value at i.
func valueEnd(text []byte, i int) (int, error) {
	depth := 0
	for begin := i; i < len(text); {
		switch text[i] {
		case '"':
			end, err := stringEnd(text, i)
			if err != nil {
				return 0, err
			}
			if i = end; depth == 0 {
				return i, nil
			}
		case '{', '[':
			depth++
			i++
		case '}', ']':
			if depth == 0 {
				return scalar(begin, i)
			}
			depth--
			if i++; depth == 0 {
				return i, nil
			}
		case ',':
			if depth == 0 {
				return scalar(begin, i)
			}
			i++
		case ' ', '\t', '\r', '\n':
			return 0, ErrForm
		default:
			i++
		}
	}
	return 0, ErrForm
}

// scalar is the end of a number, true, false or null, which is not empty.
func scalar(begin, end int) (int, error) {
	if begin == end {
		return 0, ErrForm
	}
	return end, nil
}

// Get is the member of a name; nil where there is none.
func (o Object) Get(name string) *Member {
	for i := range o {
		if string(o[i].Name) == name {
			return &o[i]
		}
	}
	return nil
}

// Text is the string that a member is; it is not ok where that is not there, is no
// string, or one with escapes.
func (o Object) Text(name string) (s string, ok bool) {
	m := o.Get(name)
	if m == nil || len(m.Value) < 2 || m.Value[0] != '"' || bytes.IndexByte(m.Value, '\\') >= 0 {
		return "", false
	}
	return string(m.Value[1 : len(m.Value)-1]), true
}

// Sorted says whether the members stand in the order of their names, each once.
func (o Object) Sorted() bool {
	for i := 1; i < len(o); i++ {
		if bytes.Compare(o[i-1].Name, o[i].Name) >= 0 {
			return false
		}
	}
	return true
}

// AppendWith appends the object, whose text it was made of, with one member's
// value replaced, or added in the order of names.
func (o Object) AppendWith(to, text []byte, name string, value []byte) []byte {
	text = bytes.TrimSuffix(text, []byte("\n"))
	if m := o.Get(name); m != nil {
		to = append(to, text[:m.From]...)
		to = append(to, value...)
		return append(to, text[m.To:]...)
	}
	at, before, after := len(text)-1, ",", ""
	if len(o) == 0 {
		before = ""
	}
	for _, m := range o {
		if string(m.Name) > name {
			at, before, after = m.At, "", ","
			break
		}
	}
	to = append(to, text[:at]...)
	to = append(append(append(to, before...), '"'), name...)
	to = append(append(to, `":`...), value...)
	return append(append(to, after...), text[at:]...)
}

// Without gives the text of the object without a member.
func (o Object) Without(text []byte, name string) []byte {
	for i, m := range o {
		if string(m.Name) != name {
			continue
		}
		from, to := m.At, m.To
		switch {
		case i > 0:
			from-- // with the comma before
		case len(o) > 1:
			to++
		}
		return append(bytes.Clone(text[:from]), text[to:]...)
	}
	return text
}
