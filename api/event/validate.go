package event

import (
	"fmt"
	"mime"
	"net/url"
	"strings"
	"unicode/utf8"
)

// Limits bound what is taken in. Zero values mean the defaults.
type Limits struct {
	MaxDataBytes      int // data of one event, as delivered; 1 MiB
	MaxExtensions     int // extension attributes of one event; 128
	MaxNameBytes      int // name of an attribute; 64
	MaxValueBytes     int // value of an attribute; 16 KiB
	MaxAttributeBytes int // names and values of all attributes together; 64 KiB
	MaxBatchEvents    int // events in one batch; 10,000
	MaxPassThrough    int // bytes of pass-through headers; 8 KiB
	MaxDepth          int // arrays and objects in each other, in JSON data; 1,000
}

// WithDefaults fills in what is not set.
func (l Limits) WithDefaults() Limits {
	for _, f := range [...]struct {
		v *int
		d int
	}{
		{&l.MaxDataBytes, 1 << 20}, {&l.MaxExtensions, 128}, {&l.MaxNameBytes, 64}, {&l.MaxValueBytes, 16 << 10},
		{&l.MaxAttributeBytes, 64 << 10}, {&l.MaxBatchEvents, 10_000}, {&l.MaxPassThrough, 8 << 10}, {&l.MaxDepth, 1_000},
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

// Validate checks an event against the CloudEvents specification, and against
// the default limits. The error is a *FormatError.
func (e *Event) Validate() error { return e.ValidateWithin(Limits{}) }

// ValidateWithin is Validate under other limits.
func (e *Event) ValidateWithin(l Limits) error {
	l = l.WithDefaults()
	if err := e.validate(&l); err != nil {
		return err
	}
	return nil
}

func (e *Event) validate(l *Limits) *FormatError {
	if n := len(e.Extensions); n > l.MaxExtensions {
		return wrong("", "%d extension attributes are more than the limit of %d", n, l.MaxExtensions)
	}
	size := 0
	for i, s := range coreOrder(e) {
		if *s == "" {
			if i <= coreType {
				return wrong(coreName(i), "is required and must not be empty")
			}
			continue
		}
		if err := checkValue(coreName(i), *s, l); err != nil {
			return err
		}
		size += len(*s)
	}
	for _, x := range e.Extensions {
		if err := checkName(x.Name, l); err != nil {
			return err
		}
		if err := checkValue(x.Name, x.Value.Str, l); err != nil {
			return err
		}
		size += len(x.Name) + len(x.Value.Str)
	}
	if size > l.MaxAttributeBytes {
		return wrong("", "the attributes have %d bytes in all, over the limit of %d", size, l.MaxAttributeBytes)
	}
	if n := len(e.Data); n > l.MaxDataBytes {
		return &FormatError{Index: -1, Attribute: "data", TooLarge: true, Reason: fmt.Sprintf("%d bytes are over the limit of %d for one event", n, l.MaxDataBytes)}
	}
	return e.validateFormats()
}

func (e *Event) validateFormats() *FormatError {
	if !plainPath(e.Source) {
		if _, err := url.Parse(e.Source); err != nil {
			return wrong("source", "%q must be a URI reference, such as /orders or https://example.com/orders", clip(e.Source))
		}
	}
	if e.Time != "" && !validTime(e.Time) {
		return wrong("time", "%q must be an RFC 3339 time, such as 2026-01-02T15:04:05Z", clip(e.Time))
	}
	if e.DataSchema != "" {
		if u, err := url.Parse(e.DataSchema); err != nil || !u.IsAbs() {
			return wrong("dataschema", "%q must be an absolute URI, such as https://example.com/schema", clip(e.DataSchema))
		}
	}
	if e.DataContentType != "" && e.DataContentType != "application/json" {
		if _, _, err := mime.ParseMediaType(e.DataContentType); err != nil || !strings.Contains(e.DataContentType, "/") {
			return wrong("datacontenttype", "%q must be a media type, such as application/json", clip(e.DataContentType))
		}
	}
	return nil
}

// plainPath knows the commonest URI references without parsing them.
func plainPath(s string) bool {
	if s == "" || s[0] != '/' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '/' || c > '9') && (c < 'A' || c > 'Z') && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return len(s) < 2 || s[1] != '/' // which would begin an authority
}

// validTime takes RFC 3339: the T and Z in either case, any number of digits
// of a fraction, a leap second.
func validTime(s string) bool {
	const shape = "0000-00-00T00:00:00"
	if len(s) <= len(shape) {
		return false
	}
	for i := range len(shape) {
		c := s[i]
		if shape[i] == '0' && (c < '0' || c > '9') || shape[i] != '0' && shape[i] != c && (shape[i] != 'T' || c != 't') {
			return false
		}
	}
	year, month, day := int(s[0]-'0')*1000+int(s[1]-'0')*100+pair(s[2:]), pair(s[5:]), pair(s[8:])
	if month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || pair(s[11:]) > 23 || pair(s[14:]) > 59 || pair(s[17:]) > 60 {
		return false
	}
	rest := s[len(shape):]
	if rest[0] == '.' {
		n := 1
		for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
			n++
		}
		if n == 1 {
			return false
		}
		rest = rest[n:]
	}
	if rest == "Z" || rest == "z" {
		return true
	}
	if len(rest) != 6 || rest[0] != '+' && rest[0] != '-' || rest[3] != ':' {
		return false
	}
	for _, i := range [...]int{1, 2, 4, 5} {
		if rest[i] < '0' || rest[i] > '9' {
			return false
		}
	}
	return pair(rest[1:]) <= 23 && pair(rest[4:]) <= 59
}

func pair(s string) int { return int(s[0]-'0')*10 + int(s[1]-'0') }

func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

func checkName(name string, l *Limits) *FormatError {
	if name == "" || len(name) > l.MaxNameBytes {
		return wrong(clip(name), "the name of an attribute must have 1 to %d characters", l.MaxNameBytes)
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return wrong(clip(name), "the name of an attribute may hold only a-z and 0-9")
		}
	}
	if name == "data" || coreOf(name) != noCore {
		return wrong(name, "is no name for an extension")
	}
	return nil
}

func checkValue(name, value string, l *Limits) *FormatError {
	if len(value) > l.MaxValueBytes {
		return wrong(name, "%d bytes are over the limit of %d for an attribute", len(value), l.MaxValueBytes)
	}
	for i := Printable(value); i < len(value); {
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

// Printable is a number of bytes with which s begins that are printable ASCII:
// all such, but for up to seven. Most texts are no more than that, and it takes
// eight bytes at a time.
func Printable(s string) int {
	const each = 0x0101010101010101
	i := 0
	for ; i+8 <= len(s); i += 8 {
		w := s[i : i+8]
		x := uint64(w[0]) | uint64(w[1])<<8 | uint64(w[2])<<16 | uint64(w[3])<<24 |
			uint64(w[4])<<32 | uint64(w[5])<<40 | uint64(w[6])<<48 | uint64(w[7])<<56
		// The highest bit of a byte is set where it is below a space, or DEL, or has
		// that bit itself.
		if ((x-' '*each)|(x^0x7f*each-each)|x)&(0x80*each) != 0 {
			break
		}
	}
	return i
}

// clip shortens what an error quotes, and makes it UTF-8.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return strings.ToValidUTF8(s, "\ufffd")
}
