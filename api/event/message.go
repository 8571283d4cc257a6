package event

import (
	"mime"
	"slices"
	"strings"
	"unicode/utf8"
)

// Headers are a message's headers, of whatever HTTP library.
type Headers interface {
	// Get returns a header's first value; the name's case does not matter.
	Get(name string) string
	// Each calls f for each header and value.
	Each(f func(name, value string))
}

// Mode is how a message carries its events.
type Mode uint8

// The content modes of HTTP.
const (
	Binary     Mode = iota // attributes are headers, data is the body
	Structured             // the body is one event in the JSON format
	Batch                  // the body is a JSON array of events
)

// Media types of the JSON formats.
const (
	StructuredType = "application/cloudevents+json"
	BatchType      = "application/cloudevents-batch+json"
)

// HeaderList are headers as they came.
type HeaderList []Header

// Get implements Headers.
func (l HeaderList) Get(name string) string {
	for i := range l {
		if n := l[i].Name; len(n) == len(name) && (n == name || strings.EqualFold(n, name)) {
			return l[i].Value
		}
	}
	return ""
}

// Each implements Headers.
func (l HeaderList) Each(f func(name, value string)) {
	for i := range l {
		f(l[i].Name, l[i].Value)
	}
}

// FromMessage reads the events of a message. The error is a *FormatError, or a
// BatchError that says which events of a batch are bad: then there are no
// events at all. Data aliases body wherever it stands there as it is.
func FromMessage(h Headers, body []byte, l Limits) ([]*Event, Mode, error) {
	var list HeaderList
	h.Each(func(name, value string) { list = append(list, Header{name, value}) })
	return NewReader(l).Read(list, body)
}

// ModeOf is the mode of a message with this content type. What says that it is
// an event format, but is none that is known, is a *FormatError.
func ModeOf(contentType string) (Mode, *FormatError) {
	const prefix = "application/cloudevents"
	if len(contentType) > 0 && contentType[0] == ' ' {
		contentType = strings.TrimSpace(contentType)
	}
	if !hasPrefixFold(contentType, prefix) {
		return Binary, nil
	}
	media, parameters, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	if strings.TrimSpace(parameters) != "" {
		_, p, err := mime.ParseMediaType(contentType)
		if err != nil {
			return Binary, wrong("Content-Type", "%q does not parse: %v", clip(contentType), err)
		}
		if c, ok := p["charset"]; ok && !strings.EqualFold(c, "utf-8") {
			return Binary, wrong("Content-Type", "charset %q is not supported: send utf-8", clip(c))
		}
	}
	switch media {
	case StructuredType:
		return Structured, nil
	case BatchType:
		return Batch, nil
	}
	return Binary, wrong("Content-Type", "the event format %q is not supported: send %s, %s, or binary mode", clip(media), StructuredType, BatchType)
}

// IsPassThrough says whether a header goes on to subscribers.
func IsPassThrough(name string) bool {
	// Most are none, and each header of each request is asked.
	return name != "" && (name[0]|0x20 == 'x' || name[0]|0x20 == 'k') && isPassThrough(name)
}

func isPassThrough(name string) bool {
	return strings.EqualFold(name, "X-Request-Id") || hasPrefixFold(name, "Knative-") || hasPrefixFold(name, "X-B3-")
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// passThrough adds the headers that go on to subscribers.
func passThrough(to []Header, h HeaderList, l *Limits) ([]Header, *FormatError) {
	size := 0
	for i := range h {
		name, value := h[i].Name, h[i].Value
		if !IsPassThrough(name) {
			continue
		}
		if i := strings.IndexFunc(value, notInHeader); i >= 0 {
			return nil, wrong(clip(name), "byte %d of the header's value is a control character or not UTF-8", i)
		}
		if size += len(name) + len(value); size > l.MaxPassThrough {
			return nil, wrong(clip(name), "the headers that are passed through (x-request-id, knative-*, x-b3-*) have more bytes than the limit of %d", l.MaxPassThrough)
		}
		to = append(to, h[i])
	}
	if len(to) > 1 {
		slices.SortStableFunc(to, func(a, b Header) int { return strings.Compare(a.Name, b.Name) })
	}
	return to, nil
}

func notInHeader(r rune) bool { return r < 0x20 && r != '\t' || r == 0x7f || r == utf8.RuneError }

// binary reads an event in binary mode.
func (r *Reader) binary(h HeaderList, contentType string, body []byte) (*Event, *FormatError) {
	b := builder{e: r.event()}
	for i := range h {
		if name := h[i].Name; len(name) >= 3 && name[0]|0x20 == 'c' && name[1]|0x20 == 'e' && name[2] == '-' {
			if err := b.header(name[3:], h[i].Value, &r.limits); err != nil {
				return nil, err
			}
		}
	}
	if err := b.attributes(); err != nil {
		return nil, err
	}
	b.e.DataContentType = contentType
	if len(body) > 0 {
		b.e.Data = body
	}
	if b.base64 && b.e.Data != nil {
		var err *FormatError
		if b.e.Data, err = decodeBase64("data", body); err != nil {
			return nil, err
		}
	}
	return b.e, b.e.validate(&r.limits)
}

// header takes the attribute of a ce- header; its name's case does not matter.
func (b *builder) header(name, value string, l *Limits) *FormatError {
	value = decodeHeader(value)
	core := coreOfHeader(name)
	if core != noCore {
		return b.setCore(core, Value{Str: value})
	}
	var buf [64]byte
	lower := append(buf[:0], name...)
	for i, c := range lower {
		if c >= 'A' && c <= 'Z' {
			lower[i] = c + 'a' - 'A'
		}
	}
	switch core = coreOf(string(lower)); core {
	case noCore:
		return b.set(extensionName(lower), Value{Str: value}, l)
	case coreDataContentType:
		return wrong("datacontenttype", "must come as the Content-Type header in binary mode, not as Ce-Datacontenttype")
	}
	return b.setCore(core, Value{Str: value})
}

// decodeHeader undoes quoting and percent-encoding, as the HTTP binding says.
// Raw UTF-8 is taken as it is, and so is a percent sign that encodes nothing.
func decodeHeader(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = unquote(s[1 : len(s)-1])
	}
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			high, ok1 := unhex(s[i+1])
			low, ok2 := unhex(s[i+2])
			if ok1 && ok2 {
				b = append(b, high<<4|low)
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

func unquote(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
