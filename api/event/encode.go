package event

import (
	"encoding/base64"
	"encoding/json"
	"mime"
	"strings"
	"unicode/utf8"
)

// MarshalJSON writes the event in the JSON format.
func (e *Event) MarshalJSON() ([]byte, error) {
	return e.AppendJSON(make([]byte, 0, len(e.Data)+512)), nil
}

// AppendBatch appends events in the JSON batch format.
func AppendBatch(dst []byte, events []*Event) []byte {
	dst = append(dst, '[')
	for i, e := range events {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = e.AppendJSON(dst)
	}
	return append(dst, ']')
}

// AppendJSON appends the event in the JSON format. Data that is JSON stands
// there byte for byte; text as a string, the rest as base64.
func (e *Event) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"specversion":"1.0"`...)
	for i, s := range coreOrder(e) {
		if *s != "" {
			dst = appendMember(dst, coreName(i), *s)
		}
	}
	for _, x := range e.Extensions {
		if x.Value.Kind == String {
			dst = appendMember(dst, x.Name, x.Value.Str)
			continue
		}
		dst = append(appendQuoted(append(dst, ','), x.Name), ':')
		dst = append(dst, x.Value.normal().Str...)
	}
	switch {
	case e.Data == nil:
	case IsJSON(e.DataContentType) && utf8.Valid(e.Data) && json.Valid(e.Data): // json takes strings that are not UTF-8
		dst = append(append(dst, `,"data":`...), e.Data...)
	case !IsJSON(e.DataContentType) && isUTF8Text(e.DataContentType, e.Data):
		dst = appendQuoted(append(dst, `,"data":`...), string(e.Data))
	default:
		dst = append(dst, `,"data_base64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, e.Data)
		dst = append(dst, '"')
	}
	return append(dst, '}')
}

// isUTF8Text says whether data can stand in JSON as a string: it is UTF-8, and
// its content type does not say that it is anything else.
func isUTF8Text(contentType string, data []byte) bool {
	if !utf8.Valid(data) {
		return false
	}
	if !strings.ContainsRune(contentType, ';') {
		return true
	}
	_, p, err := mime.ParseMediaType(contentType)
	charset, ok := p["charset"]
	return err == nil && (!ok || strings.EqualFold(charset, "utf-8") || strings.EqualFold(charset, "us-ascii"))
}

func appendMember(dst []byte, name, value string) []byte {
	dst = append(appendQuoted(append(dst, ','), name), ':')
	return appendQuoted(dst, value)
}

const hexDigits = "0123456789abcdef"

// appendQuoted appends s as a JSON string. What is not UTF-8 becomes U+FFFD.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(append(dst, s[start:i]...), `\ufffd`...)
				start = i + 1
			}
			i += n
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}

// AppendMessage appends the headers of a message that carries the event, and
// returns its body. The mode is binary, but where the data is of a type that
// means an event itself: in binary mode the data would be taken for the event.
func (e *Event) AppendMessage(dst []Header) (headers []Header, body []byte) {
	if mode, unknown := ModeOf(e.DataContentType); mode == Binary && unknown == nil {
		return e.AppendBinary(dst), e.Data
	}
	dst = append(dst, Header{"Content-Type", StructuredType})
	return append(dst, e.PassThrough...), e.AppendJSON(nil)
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
		dst = append(dst, Header{headerName(x.Name), encodeHeader(x.Value.normal().Str)})
	}
	if e.DataContentType != "" {
		dst = append(dst, Header{"Content-Type", e.DataContentType})
	}
	return append(dst, e.PassThrough...)
}

// AppendLines appends what AppendBinary does as the lines of a message of
// HTTP/1.1, but for an extension to be left out, the content type and
// PassThrough. It says no where an extension's name may be none of a header.
func (e *Event) AppendLines(dst []byte, leftOut string) ([]byte, bool) {
	dst = append(dst, "Ce-Specversion: 1.0\r\n"...)
	dst = appendLine(dst, "Ce-Id: ", e.ID)
	dst = appendLine(dst, "Ce-Source: ", e.Source)
	dst = appendLine(dst, "Ce-Type: ", e.Type)
	dst = appendLine(dst, "Ce-Subject: ", e.Subject)
	dst = appendLine(dst, "Ce-Time: ", e.Time)
	dst = appendLine(dst, "Ce-Dataschema: ", e.DataSchema)
	for i := range e.Extensions {
		x := &e.Extensions[i]
		if x.Name == leftOut {
			continue
		}
		if !isName(x.Name) {
			return dst, false
		}
		dst = append(dst, "Ce-"...)
		first := len(dst)
		dst = append(dst, x.Name...)
		if c := dst[first]; c >= 'a' {
			dst[first] = c - 'a' + 'A'
		}
		dst = append(dst, ": "...)
		dst = append(appendEncoded(dst, x.Value.normal().Str), "\r\n"...)
	}
	return dst, true
}

func appendLine(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	return append(appendEncoded(append(dst, name...), value), "\r\n"...)
}

// isName says whether s is a name as CloudEvents has them.
func isName(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// headerName is an extension's header, as net/http would write it; those that
// most events have cost no memory.
func headerName(name string) string {
	switch name {
	case "knativearrivaltime":
		return "Ce-Knativearrivaltime"
	case "knativebrokerttl":
		return "Ce-Knativebrokerttl"
	case "partitionkey":
		return "Ce-Partitionkey"
	case Traceparent:
		return "Ce-Traceparent"
	case "":
		return "Ce-"
	}
	b := append(make([]byte, 0, 3+len(name)), "Ce-"...)
	b = append(b, name...)
	if c := b[3]; c >= 'a' && c <= 'z' {
		b[3] = c - 'a' + 'A'
	}
	return string(b)
}

// encodeHeader percent-encodes what a header's value must not hold: space,
// double quote, percent, and all that is not printable ASCII.
func encodeHeader(s string) string {
	if asItIs(s) == len(s) {
		return s
	}
	return string(appendEncoded(make([]byte, 0, len(s)+16), s))
}

// asItIs is how much of s needs no encoding.
func asItIs(s string) int {
	i := 0
	for i < len(s) && visible(s[i]) {
		i++
	}
	return i
}

func visible(c byte) bool { return c > 0x20 && c < 0x7f && c != '"' && c != '%' }

// appendEncoded appends s as encodeHeader has it.
func appendEncoded(dst []byte, s string) []byte {
	i := asItIs(s)
	dst = append(dst, s[:i]...)
	const hex = "0123456789ABCDEF"
	for ; i < len(s); i++ {
		if c := s[i]; visible(c) {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		}
	}
	return dst
}
