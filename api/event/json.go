package event

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// fromJSON reads an event in the JSON format. Data that is JSON is kept byte
// for byte.
func fromJSON(body []byte, l Limits) (*Event, error) {
	if !utf8.Valid(body) {
		return nil, wrong("", "the JSON is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, wrong("", "an event must be a JSON object")
	}
	b := newBuilder()
	var data, encoded json.RawMessage
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, syntaxError(err, d.InputOffset())
		}
		name, _ := t.(string) // the decoder takes nothing else for a name
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, syntaxError(err, d.InputOffset())
		}
		switch name {
		case "data", "data_base64":
			to := &data
			if name == "data_base64" {
				to = &encoded
			}
			if *to != nil {
				return nil, wrong(name, "is given more than once")
			}
			*to = slices.Clone(raw)
			continue
		}
		if string(raw) == "null" {
			continue // absent
		}
		v, failed := attributeValue(name, raw)
		if failed == nil {
			failed = b.set(name, v, l)
		}
		if failed != nil {
			return nil, failed
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, syntaxError(err, d.InputOffset())
	}
	if err := atEnd(d); err != nil {
		return nil, err
	}
	return b.withData(data, encoded, l)
}

func attributeValue(name string, raw json.RawMessage) (Value, *FormatError) {
	switch raw[0] {
	case '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return Value{}, wrong(clip(name), "the string does not parse: %v", err)
		}
		return Value{Str: s}, nil
	case 't', 'f':
		return BooleanValue(raw[0] == 't'), nil
	case '{', '[':
		return Value{}, wrong(clip(name), "must be a string, an integer or a boolean: attributes do not nest")
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || n < math.MinInt32 || n > math.MaxInt32 {
		return Value{}, wrong(clip(name), "the number %s must be an integer from %d to %d; send others as strings", clip(string(raw)), math.MinInt32, math.MaxInt32)
	}
	return IntegerValue(int32(n)), nil
}

// withData sets the data and finishes the event.
func (b *builder) withData(data, encoded json.RawMessage, l Limits) (*Event, error) {
	hasData := data != nil && string(data) != "null"
	hasEncoded := encoded != nil && string(encoded) != "null"
	if hasData && hasEncoded {
		return nil, wrong("data_base64", "excludes data: send one of the two")
	}
	e, failed := b.finish(l)
	if failed != nil {
		return nil, failed
	}
	switch {
	case hasEncoded:
		var s string
		if err := json.Unmarshal(encoded, &s); err != nil {
			return nil, wrong("data_base64", "must be a string of base64")
		}
		e.Data, failed = decodeBase64([]byte(s))
	case hasData && b.encoding != "":
		var s string
		if err := json.Unmarshal(data, &s); err != nil {
			return nil, wrong("data", "must be a string of base64, as datacontentencoding says")
		}
		e.Data, failed = decodeBase64([]byte(s))
	case hasData:
		e.Data = data
		var s string
		if !IsJSON(e.DataContentType) && data[0] == '"' && json.Unmarshal(data, &s) == nil {
			e.Data = []byte(s)
		} else if e.DataContentType == "" {
			e.DataContentType = "application/json" // what the JSON format implies
		}
	}
	if failed == nil {
		failed = e.validate(l)
	}
	if failed != nil {
		return nil, failed
	}
	return e, nil
}

func decodeBase64(b []byte) ([]byte, *FormatError) {
	out := make([]byte, base64.StdEncoding.DecodedLen(len(b)))
	n, err := base64.StdEncoding.Strict().Decode(out, b)
	if err != nil {
		return nil, wrong("data", "the base64 does not decode: %v", err)
	}
	return out[:n:n], nil
}

// IsJSON says whether a content type declares JSON; an absent one does.
func IsJSON(contentType string) bool {
	if contentType == "" || contentType == "application/json" {
		return true
	}
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	return strings.HasSuffix(media, "/json") || strings.HasSuffix(media, "+json")
}

// MarshalJSON writes the event in the JSON format.
func (e *Event) MarshalJSON() ([]byte, error) {
	b := append(make([]byte, 0, len(e.Data)+512), `{"specversion":"1.0"`...)
	for _, name := range []string{"id", "source", "type", "subject", "time", "datacontenttype", "dataschema"} {
		if v := *e.core(name); v != "" {
			b = appendMember(b, name, v)
		}
	}
	for _, x := range e.Extensions {
		if x.Value.Kind == String {
			b = appendMember(b, x.Name, x.Value.Str)
			continue
		}
		b = append(b, `,"`+x.Name+`":`+x.Value.Str...)
	}
	switch {
	case e.Data == nil:
	case IsJSON(e.DataContentType) && json.Valid(e.Data):
		b = append(append(b, `,"data":`...), e.Data...)
	case !IsJSON(e.DataContentType) && utf8.Valid(e.Data):
		b = appendMember(b, "data", string(e.Data))
	default:
		b = append(b, `,"data_base64":"`...)
		b = base64.StdEncoding.AppendEncode(b, e.Data)
		b = append(b, '"')
	}
	return append(b, '}'), nil
}

func appendMember(b []byte, name, value string) []byte {
	b = append(b, `,"`+name+`":`...)
	s, err := json.Marshal(value)
	if err != nil { // a string always marshals
		s = []byte(`""`)
	}
	return append(b, s...)
}

// AppendBinary appends the headers of the event in binary mode; its body is
// Data. Attribute values are percent-encoded where they must be.
func (e *Event) AppendBinary(dst []Header) []Header {
	dst = append(dst, Header{"Ce-Specversion", "1.0"})
	for _, a := range [...]struct{ name, value string }{
		{"Ce-Id", e.ID}, {"Ce-Source", e.Source}, {"Ce-Type", e.Type}, {"Ce-Subject", e.Subject},
		{"Ce-Time", e.Time}, {"Ce-Dataschema", e.DataSchema},
	} {
		if a.value != "" {
			dst = append(dst, Header{a.name, encodeHeader(a.value)})
		}
	}
	for _, x := range e.Extensions {
		dst = append(dst, Header{"Ce-" + strings.ToUpper(x.Name[:1]) + x.Name[1:], encodeHeader(x.Value.Str)})
	}
	if e.DataContentType != "" {
		dst = append(dst, Header{"Content-Type", e.DataContentType})
	}
	return append(dst, e.PassThrough...)
}

// encodeHeader percent-encodes what a header's value must not hold: space,
// double quote, percent, and all that is not printable ASCII.
func encodeHeader(s string) string {
	plain := func(c byte) bool { return c > 0x20 && c < 0x7f && c != '"' && c != '%' }
	i := 0
	for i < len(s) && plain(s[i]) {
		i++
	}
	if i == len(s) {
		return s
	}
	const hex = "0123456789ABCDEF"
	b := append(make([]byte, 0, len(s)+16), s[:i]...)
	for ; i < len(s); i++ {
		if c := s[i]; plain(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}
