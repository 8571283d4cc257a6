package event

import (
	"fmt"
	"mime"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits bound what is taken in. Zero values mean the defaults.
type Limits struct {
	MaxDataBytes   int // data of one event, as delivered; 1 MiB
	MaxExtensions  int // extension attributes of one event; 128
	MaxNameBytes   int // name of an attribute; 64
	MaxValueBytes  int // value of an attribute; 16 KiB
	MaxBatchEvents int // events in one batch; 10,000
	MaxPassThrough int // bytes of pass-through headers; 8 KiB
}

// WithDefaults fills in what is not set.
func (l Limits) WithDefaults() Limits {
	for _, f := range []struct {
		v *int
		d int
	}{
		{&l.MaxDataBytes, 1 << 20}, {&l.MaxExtensions, 128}, {&l.MaxNameBytes, 64}, {&l.MaxValueBytes, 16 << 10},
		{&l.MaxBatchEvents, 10_000}, {&l.MaxPassThrough, 8 << 10},
	} {
		if *f.v == 0 {
			*f.v = f.d
		}
	}
	return l
}

// FormatError says what is wrong with an event.
type FormatError struct {
	Index     int    // of the event in its batch; -1 outside a batch
	Attribute string // or "data", or a header; empty where it is the whole message
	Reason    string // what is wrong, and what would be right
	TooLarge  bool   // the event is over a limit of size
}

// Error names the event, the attribute and the reason.
func (e *FormatError) Error() string {
	s := e.Reason
	if e.Attribute != "" {
		s = e.Attribute + ": " + s
	}
	if e.Index >= 0 {
		s = fmt.Sprintf("event %d: %s", e.Index, s)
	}
	return s
}

func wrong(attribute, format string, args ...any) *FormatError {
	return &FormatError{Index: -1, Attribute: attribute, Reason: fmt.Sprintf(format, args...)}
}

// BatchError is what is wrong with the events of a batch.
type BatchError []*FormatError

// maxReasons is how many of a batch's bad events an error text tells of.
const maxReasons = 100

// Error has a line for each bad event.
func (e BatchError) Error() string {
	var b strings.Builder
	for i, f := range e[:min(len(e), maxReasons)] {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(f.Error())
	}
	if n := len(e) - maxReasons; n > 0 {
		fmt.Fprintf(&b, "\nand %d more", n)
	}
	return b.String()
}

// Validate checks an event against the CloudEvents specification. The error is
// a *FormatError.
func (e *Event) Validate() error {
	if err := e.validate(Limits{}.WithDefaults()); err != nil {
		return err
	}
	return nil
}

func (e *Event) validate(l Limits) *FormatError {
	for _, a := range []struct{ name, value string }{{"id", e.ID}, {"source", e.Source}, {"type", e.Type}} {
		if a.value == "" {
			return wrong(a.name, "is required and must not be empty")
		}
	}
	for _, name := range []string{"id", "source", "type", "subject", "time", "datacontenttype", "dataschema"} {
		if err := checkValue(name, *e.core(name), l); err != nil {
			return err
		}
	}
	if err := e.validateFormats(); err != nil {
		return err
	}
	if n := len(e.Extensions); n > l.MaxExtensions {
		return wrong("", "%d extension attributes are more than the limit of %d", n, l.MaxExtensions)
	}
	for _, x := range e.Extensions {
		if err := checkName(x.Name, l); err != nil {
			return err
		}
		if err := checkValue(x.Name, x.Value.Str, l); err != nil {
			return err
		}
	}
	if len(e.Data) > l.MaxDataBytes {
		return &FormatError{Index: -1, Attribute: "data", TooLarge: true, Reason: fmt.Sprintf("%d bytes are more than the limit of %d", len(e.Data), l.MaxDataBytes)}
	}
	return nil
}

func (e *Event) validateFormats() *FormatError {
	if _, err := url.Parse(e.Source); err != nil {
		return wrong("source", "%q must be a URI reference, such as /orders or https://example.com/orders", clip(e.Source))
	}
	if e.Time != "" && !validTime(e.Time) {
		return wrong("time", "%q must be an RFC 3339 time, such as 2026-01-02T15:04:05Z", clip(e.Time))
	}
	if e.DataSchema != "" {
		if u, err := url.Parse(e.DataSchema); err != nil || !u.IsAbs() {
			return wrong("dataschema", "%q must be an absolute URI", clip(e.DataSchema))
		}
	}
	if e.DataContentType != "" && e.DataContentType != "application/json" {
		if _, _, err := mime.ParseMediaType(e.DataContentType); err != nil || !strings.Contains(e.DataContentType, "/") {
			return wrong("datacontenttype", "%q must be a media type, such as application/json", clip(e.DataContentType))
		}
	}
	return nil
}

// validTime takes RFC 3339, also in lower case, and leap seconds.
func validTime(s string) bool {
	s = strings.ToUpper(s)
	if len(s) > 19 && s[17:19] == "60" {
		s = s[:17] + "59" + s[19:]
	}
	_, err := time.Parse(time.RFC3339Nano, s)
	return err == nil
}

func checkName(name string, l Limits) *FormatError {
	if name == "" || len(name) > l.MaxNameBytes {
		return wrong(clip(name), "the name of an attribute must have 1 to %d characters", l.MaxNameBytes)
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return wrong(clip(name), "the name of an attribute may hold only a-z and 0-9")
		}
	}
	if name == "data" || name == "specversion" {
		return wrong(name, "is no name for an extension")
	}
	return nil
}

func checkValue(name, value string, l Limits) *FormatError {
	if len(value) > l.MaxValueBytes {
		return wrong(name, "%d bytes are more than the limit of %d for an attribute", len(value), l.MaxValueBytes)
	}
	for i := 0; i < len(value); {
		c := value[i]
		if c >= 0x20 && c < 0x7f {
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(value[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			return wrong(name, "byte %d is not UTF-8", i)
		case r < 0x20 || (r >= 0x7f && r <= 0x9f):
			return wrong(name, "the control character %U at byte %d is not allowed", r, i)
		case r&0xfffe == 0xfffe || (r >= 0xfdd0 && r <= 0xfdef):
			return wrong(name, "the code point %U at byte %d is not a character", r, i)
		}
		i += size
	}
	return nil
}

// clip shortens what an error quotes.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
