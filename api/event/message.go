package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"slices"
	"strconv"
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

// FromMessage reads the events of a message. Data aliases body in binary mode.
// The error is a *FormatError, or a BatchError for a batch of which events are
// bad: then there are no events at all.
func FromMessage(h Headers, body []byte, l Limits) ([]*Event, Mode, error) {
	l = l.WithDefaults()
	mode, err := modeOf(h.Get("Content-Type"))
	if err != nil {
		return nil, mode, err
	}
	pass, err := passThrough(h, l)
	if err != nil {
		return nil, mode, err
	}
	var events []*Event
	switch mode {
	case Binary:
		e, err := fromBinary(h, body, l)
		if err != nil {
			return nil, mode, err
		}
		events = []*Event{e}
	case Structured:
		e, err := fromJSON(body, l)
		if err != nil {
			return nil, mode, err
		}
		events = []*Event{e}
	case Batch:
		var failed error
		if events, failed = fromBatch(body, l); failed != nil {
			return nil, mode, failed
		}
	}
	for _, e := range events {
		e.PassThrough = pass
	}
	return events, mode, nil
}

func modeOf(contentType string) (Mode, error) {
	media, parameters, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	if !strings.HasPrefix(media, "application/cloudevents") {
		return Binary, nil
	}
	if parameters != "" {
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
	return strings.EqualFold(name, "X-Request-Id") || hasPrefixFold(name, "Knative-") || hasPrefixFold(name, "X-B3-")
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

func passThrough(h Headers, l Limits) ([]Header, error) {
	var out []Header
	size := 0
	var bad error
	h.Each(func(name, value string) {
		if !IsPassThrough(name) {
			return
		}
		if strings.ContainsFunc(value, func(r rune) bool { return r < 0x20 && r != '\t' || r == 0x7f || r == utf8.RuneError }) {
			bad = wrong(clip(name), "the header's value holds a character that is not allowed")
			return
		}
		size += len(name) + len(value)
		out = append(out, Header{name, value})
	})
	if size > l.MaxPassThrough {
		bad = &FormatError{Index: -1, TooLarge: true, Reason: fmt.Sprintf("%d bytes of headers to pass through are more than the limit of %d", size, l.MaxPassThrough)}
	}
	slices.SortFunc(out, func(a, b Header) int { return strings.Compare(a.Name, b.Name) })
	return out, bad
}

// builder collects the attributes of one event, of either specversion.
type builder struct {
	e           *Event
	specVersion string
	encoding    string // 0.3's datacontentencoding
	seen        map[string]bool
}

func newBuilder() *builder { return &builder{e: &Event{}, seen: make(map[string]bool, 16)} }

func (b *builder) set(name string, v Value, l Limits) *FormatError {
	if b.seen[name] {
		return wrong(clip(name), "is given more than once")
	}
	b.seen[name] = true
	if name == "specversion" {
		b.specVersion = v.Str
		return nil
	}
	if p := b.e.core(name); p != nil {
		if v.Kind != String {
			return wrong(name, "must be a string")
		}
		if v.Str == "" {
			return wrong(name, "must not be empty; leave it out where there is none")
		}
		*p = v.Str
		return nil
	}
	if err := checkName(name, l); err != nil {
		return err
	}
	if len(b.e.Extensions) >= l.MaxExtensions {
		return wrong(name, "there are more extension attributes than the limit of %d", l.MaxExtensions)
	}
	b.e.Extensions = append(b.e.Extensions, Extension{name, v})
	return nil
}

// finish converts 0.3, and checks the whole.
func (b *builder) finish(l Limits) (*Event, *FormatError) {
	switch b.specVersion {
	case "1.0":
	case "0.3":
		if err := b.from03(); err != nil {
			return nil, err
		}
	case "":
		return nil, wrong("specversion", "is required: 1.0 (or 0.3); without it this is not a CloudEvent")
	default:
		return nil, wrong("specversion", "%q is not supported: send 1.0", clip(b.specVersion))
	}
	slices.SortFunc(b.e.Extensions, func(x, y Extension) int { return strings.Compare(x.Name, y.Name) })
	return b.e, b.e.validate(l)
}

func (b *builder) from03() *FormatError {
	for i := 0; i < len(b.e.Extensions); {
		x := b.e.Extensions[i]
		switch x.Name {
		case "schemaurl":
			b.e.DataSchema = x.Value.Str
		case "datacontentencoding":
			if !strings.EqualFold(x.Value.Str, "base64") {
				return wrong("datacontentencoding", "%q is not supported: base64, or leave it out", clip(x.Value.Str))
			}
			b.encoding = "base64"
		default:
			i++
			continue
		}
		b.e.Extensions = slices.Delete(b.e.Extensions, i, i+1)
	}
	return nil
}

func fromBinary(h Headers, body []byte, l Limits) (*Event, error) {
	b := newBuilder()
	var failed *FormatError
	h.Each(func(name, value string) {
		if failed != nil || len(name) < 4 || !strings.EqualFold(name[:3], "ce-") {
			return
		}
		name = strings.ToLower(name[3:])
		if name == "datacontenttype" {
			failed = wrong("Ce-Datacontenttype", "in binary mode the Content-Type header says this")
			return
		}
		var v string
		if v, failed = decodeHeader(name, value); failed == nil {
			failed = b.set(name, Value{Str: v}, l)
		}
	})
	if failed != nil {
		return nil, failed
	}
	if ct := h.Get("Content-Type"); ct != "" {
		b.e.DataContentType = ct
	}
	b.e.Data = body
	if len(body) == 0 {
		b.e.Data = nil
	}
	e, err := b.finish(l)
	if err != nil {
		return nil, err
	}
	if b.encoding != "" {
		if e.Data, err = decodeBase64(e.Data); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// decodeHeader undoes quoting and percent-encoding, as the HTTP binding says.
// Raw UTF-8 is taken as it is.
func decodeHeader(name, s string) (string, *FormatError) {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = unquote(s[1 : len(s)-1])
	}
	if strings.IndexByte(s, '%') >= 0 {
		b := make([]byte, 0, len(s))
		for i := 0; i < len(s); i++ {
			if s[i] == '%' && i+2 < len(s) {
				if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
					b = append(b, byte(v))
					i += 2
					continue
				}
			}
			b = append(b, s[i])
		}
		s = string(b)
	}
	if !utf8.ValidString(s) {
		return "", wrong(name, "the header's value is not UTF-8 once it is decoded")
	}
	return s, nil
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

func fromBatch(body []byte, l Limits) ([]*Event, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return nil, wrong("", "a batch must be a JSON array of events")
	}
	var events []*Event
	var bad BatchError
	for i := 0; d.More(); i++ {
		if i == l.MaxBatchEvents {
			return nil, &FormatError{Index: -1, TooLarge: true, Reason: fmt.Sprintf("the batch has more than %d events", l.MaxBatchEvents)}
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, syntaxError(err, d.InputOffset())
		}
		e, err := fromJSON(raw, l)
		if err != nil {
			f := &FormatError{Reason: err.Error()}
			errors.As(err, &f)
			f.Index = i
			bad = append(bad, f)
			continue
		}
		events = append(events, e)
	}
	if _, err := d.Token(); err != nil {
		return nil, syntaxError(err, d.InputOffset())
	}
	if err := atEnd(d); err != nil {
		return nil, err
	}
	if len(bad) > 0 {
		return nil, bad
	}
	return events, nil
}

func syntaxError(err error, offset int64) *FormatError {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		offset = syntax.Offset
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return wrong("", "the JSON does not parse at byte %d: %v", offset, err)
}

func atEnd(d *json.Decoder) error {
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return wrong("", "something follows the JSON at byte %d", d.InputOffset())
	}
	return nil
}
