package event

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// structured reads an event in the JSON format. Data that is JSON is kept byte
// for byte.
func (r *Reader) structured(body []byte) (*Event, *FormatError) {
	if err := checkUTF8(body); err != nil {
		return nil, err
	}
	s := scanner{b: body, maxDepth: r.limits.MaxDepth}
	e, bad, err := r.object(&s)
	if err != nil {
		return nil, err
	}
	if err := s.end(); err != nil {
		return nil, err
	}
	return e, bad
}

// batch reads a JSON array of events: all, or none. A batch that is no JSON is a
// *FormatError.
func (r *Reader) batch(body []byte) error {
	if err := checkUTF8(body); err != nil {
		return err
	}
	s := scanner{b: body, maxDepth: r.limits.MaxDepth}
	if s.peek() != '[' {
		return wrong("", "a batch must be a JSON array of events")
	}
	s.i++
	var bad BatchError
	for i := 0; i > 0 || s.peek() != ']'; i++ {
		if i == r.limits.MaxBatchEvents {
			return &FormatError{Index: -1, TooLarge: true, Reason: "the batch has more events than the limit of " + strconv.Itoa(r.limits.MaxBatchEvents)}
		}
		e, wrong, err := r.object(&s)
		if err != nil {
			return err
		}
		if wrong != nil {
			wrong.Index = i
			bad = append(bad, wrong)
		} else {
			r.events = append(r.events, e)
		}
		if s.peek() != ',' {
			break
		}
		s.i++
	}
	if err := s.take(']', "a comma or ]"); err != nil {
		return err
	}
	if err := s.end(); err != nil {
		return err
	}
	if len(bad) > 0 {
		return bad
	}
	return nil
}

func checkUTF8(body []byte) *FormatError {
	if utf8.Valid(body) {
		return nil
	}
	i := 0
	for {
		r, n := utf8.DecodeRune(body[i:])
		if r == utf8.RuneError && n <= 1 {
			return wrong("", "byte %d is not UTF-8, as JSON must be", i)
		}
		i += n
	}
}

func (s *scanner) end() *FormatError {
	if s.peek(); s.i < len(s.b) {
		return wrong("", "something follows the JSON at byte %d: send one value", s.i)
	}
	return nil
}

// object reads one event. It tells what is wrong with the event (bad; the
// scanner then stands behind it) from what is wrong with the JSON (err).
func (r *Reader) object(s *scanner) (e *Event, bad, err *FormatError) {
	if s.peek() != '{' {
		if _, err := s.value(); err != nil {
			return nil, nil, err
		}
		return nil, wrong("", "an event must be a JSON object"), nil
	}
	s.i++
	m := members{builder: builder{e: r.event()}}
	if n := len(r.events); n > 0 {
		m.before = r.events[n-1]
	}
	for first := true; first && s.peek() != '}' || !first; first = false {
		name, value, err := s.member()
		if err != nil {
			return nil, nil, err
		}
		if bad == nil {
			bad = m.take(name, value, &r.limits)
		}
		if s.peek() != ',' {
			break
		}
		s.i++
	}
	if err := s.take('}', "a comma or }"); err != nil {
		return nil, nil, err
	}
	if bad == nil {
		e, bad = m.finish(&r.limits)
	}
	return e, bad, nil
}

// member reads a name and its value.
func (s *scanner) member() (name, value []byte, err *FormatError) {
	start := s.i
	name, escaped, err := s.text()
	if err != nil {
		return nil, nil, err
	}
	if escaped {
		var ok bool
		if name, ok = unescape(name); !ok {
			s.i = start
			return nil, nil, s.syntax("the name holds half of a surrogate pair")
		}
	}
	if err := s.take(':', "a colon"); err != nil {
		return nil, nil, err
	}
	value, err = s.value()
	return name, value, err
}

// members are those of an event's JSON object.
type members struct {
	builder
	data, encoded []byte // as they stand there; nil: absent
	// before is the event before it in the batch, which is likely to have strings
	// in common with it; nil where there is none.
	before *Event
}

func (m *members) take(name, value []byte, l *Limits) *FormatError {
	switch string(name) {
	case "data":
		if m.data != nil {
			return twice("data")
		}
		m.data = value
		return nil
	case "data_base64":
		if m.encoded != nil {
			return twice("data_base64")
		}
		m.encoded = value
		return nil
	}
	core := coreOf(string(name))
	var v Value
	switch value[0] {
	case '"':
		s, err := unquoteJSON(name, value)
		if err != nil {
			return err
		}
		v.Str = m.text(core, s)
	case 't', 'f':
		v = BooleanValue(value[0] == 't')
	case 'n':
		return nil // null is the same as absent
	case '{', '[':
		return wrong(clip(string(name)), "must be a string, an integer or a boolean: attributes do not nest")
	default:
		n, err := strconv.ParseInt(string(value), 10, 32)
		if err != nil {
			return wrong(clip(string(name)), "the number %s must be an integer from %d to %d, written without fraction or exponent; send others as strings", clip(string(value)), math.MinInt32, math.MaxInt32)
		}
		v = IntegerValue(int32(n))
	}
	if core != noCore {
		return m.setCore(core, v)
	}
	return m.set(extensionName(name), v, l)
}

// text is an attribute's value as a string.
func (m *members) text(core int, s []byte) string {
	if core == coreSpecVersion && string(s) == "1.0" {
		return "1.0"
	}
	if m.before != nil && core != noCore && core != coreSpecVersion {
		if before := *coreOrder(m.before)[core]; before == string(s) {
			return before
		}
	}
	return string(s)
}

// unquoteJSON is the string that a JSON string, quotes included, stands for.
func unquoteJSON(name, value []byte) ([]byte, *FormatError) {
	s := value[1 : len(value)-1]
	if len(s) == plain(s) {
		return s, nil
	}
	s, ok := unescape(s)
	if !ok {
		return nil, wrong(clip(string(name)), "holds half of a surrogate pair, which is no character")
	}
	return s, nil
}

// finish sets the data, and checks the whole.
func (m *members) finish(l *Limits) (*Event, *FormatError) {
	if err := m.attributes(); err != nil {
		return nil, err
	}
	null := func(v []byte) bool { return v == nil || v[0] == 'n' }
	var err *FormatError
	switch {
	case !null(m.data) && !null(m.encoded):
		return nil, wrong("data_base64", "excludes data: send one of the two")
	case !null(m.encoded) && m.specVersion != "1.0":
		return nil, wrong("data_base64", "is no member of specversion 0.3: send data, and base64 as the datacontentencoding")
	case !null(m.encoded):
		m.e.Data, err = m.decode("data_base64", m.encoded)
	case m.base64 && !null(m.data):
		m.e.Data, err = m.decode("data", m.data)
	case m.base64:
	case !null(m.data), m.data != nil && m.encoded == nil: // null is a JSON payload too
		err = m.plainData()
	}
	if err != nil {
		return nil, err
	}
	return m.e, m.e.validate(l)
}

func (m *members) decode(name string, value []byte) ([]byte, *FormatError) {
	if value[0] != '"' {
		return nil, wrong(name, "must be a string of base64")
	}
	s, err := unquoteJSON([]byte(name), value)
	if err != nil {
		return nil, err
	}
	return decodeBase64(name, s)
}

// plainData takes the member data: JSON as it stands there, and for any other
// content type the string's content.
func (m *members) plainData() *FormatError {
	contentType := m.e.DataContentType
	m.e.Data = m.data[:len(m.data):len(m.data)]
	switch {
	case contentType == "":
		m.e.DataContentType = "application/json" // what the JSON format implies
	case IsJSON(contentType):
	case m.data[0] == 'n':
		m.e.Data = nil
	case m.data[0] != '"':
		return wrong("data", "must be a string, as %q is no JSON; send other bytes as data_base64", clip(contentType))
	default:
		s, err := unquoteJSON([]byte("data"), m.data)
		if err != nil {
			return err
		}
		m.e.Data = s[:len(s):len(s)]
	}
	return nil
}

// IsJSON says whether a content type declares JSON; an absent one does.
func IsJSON(contentType string) bool {
	if contentType == "" || contentType == "application/json" {
		return true
	}
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.TrimSpace(media)
	if len(media) < 5 {
		return false
	}
	end := media[len(media)-5:]
	return strings.EqualFold(end, "/json") || strings.EqualFold(end, "+json")
}
