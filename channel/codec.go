package channel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// errFormat: bytes are not what this version writes.
var errFormat = errors.New("not in a known format")

func appendString[S string | []byte](b []byte, s S) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// decoder reads fields until the first error, which it keeps; after that it
// returns zero values.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", errFormat, what)
	}
	d.b = nil
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("a number is cut short or too large")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail("a number is cut short or too large")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint32() uint32 {
	v := d.uvarint()
	if v > 1<<32-1 {
		d.fail("a number exceeds 32 bits")
		return 0
	}
	return uint32(v)
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail("a byte is missing")
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

// bytes aliases the input.
func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.fail("a field runs past the end")
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) string() string { return string(d.bytes()) }

// copied is bytes in memory of its own; nil when empty.
func (d *decoder) copied() []byte { return append([]byte(nil), d.bytes()...) }

// count reads a number of elements of at least one byte each, so that what is
// allocated for them is bounded by the input.
func (d *decoder) count() int {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.fail("more elements than bytes")
		return 0
	}
	return int(n)
}

// done is the first error, or one where something is left.
func (d *decoder) done() error {
	if d.err == nil && len(d.b) > 0 {
		d.fail(fmt.Sprintf("%d bytes too many", len(d.b)))
	}
	return d.err
}

func appendID(b []byte, id ID) []byte {
	b = appendString(b, id.Kind)
	b = appendString(b, id.Namespace)
	b = appendString(b, id.Name)
	return appendString(b, id.UID)
}

func (d *decoder) id() ID {
	return ID{Kind: d.string(), Namespace: d.string(), Name: d.string(), UID: d.string()}
}

func appendConfig(b []byte, c Config) []byte {
	b = binary.AppendUvarint(b, uint64(c.Partitions))
	b = binary.AppendVarint(b, int64(c.RetentionAge))
	return binary.AppendVarint(b, c.RetentionBytes)
}

func (d *decoder) config() Config {
	return Config{Partitions: int(d.uint32()), RetentionAge: time.Duration(d.varint()), RetentionBytes: d.varint()}
}

// starts are the forms of Start; a start's code is its place here.
var starts = [...]string{"end", "beginning", "offset", "time"}

func appendSubscription(b []byte, s *Subscription) []byte {
	b = appendString(b, s.UID)
	b = binary.AppendVarint(b, s.Generation)
	b = appendString(b, s.Filter)
	b = binary.AppendUvarint(b, uint64(s.Engine))
	flags := byte(0)
	if s.Ordered {
		flags = 1
	}
	for code, at := range starts {
		if at == s.Start.At {
			flags |= byte(code) << 1
		}
	}
	b = append(b, flags)
	switch s.Start.At {
	case "offset":
		b = binary.AppendUvarint(b, s.Start.Offset)
	case "time":
		b = binary.AppendVarint(b, s.Start.Time.UnixMicro())
	}
	return b
}

func (d *decoder) subscription() Subscription {
	s := Subscription{UID: d.string(), Generation: d.varint(), Filter: d.copied(), Engine: int(d.uint32())}
	flags := d.byte()
	s.Ordered = flags&1 != 0
	if flags>>1 >= byte(len(starts)) {
		d.fail("unknown start of a subscription")
		return s
	}
	s.Start.At = starts[flags>>1]
	switch s.Start.At {
	case "offset":
		s.Start.Offset = d.uvarint()
	case "time":
		s.Start.Time = time.UnixMicro(d.varint()).UTC()
	}
	return s
}

// normalize makes equal starts compare equal: only what the form uses, in the
// log's precision.
func (s Start) normalize() (Start, error) {
	switch s.At {
	case "", "end", "beginning":
		if s.At == "" {
			s.At = "end"
		}
		return Start{At: s.At}, nil
	case "offset":
		return Start{At: s.At, Offset: s.Offset}, nil
	case "time":
		return Start{At: s.At, Time: time.UnixMicro(s.Time.UnixMicro()).UTC()}, nil
	}
	return s, fmt.Errorf("start %q must be one of %v", s.At, starts)
}

// maxDone is how many acknowledged ranges a cursor may hold.
const maxDone = 256

func appendCursor(b []byte, c Cursor) []byte {
	flags := byte(0)
	if c.Detached {
		flags = 1
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, c.Low)
	b = binary.AppendUvarint(b, c.Next-c.Low)
	b = binary.AppendUvarint(b, uint64(len(c.Done)))
	at := c.Low
	for _, r := range c.Done {
		b = binary.AppendUvarint(b, r.From-at)
		b = binary.AppendUvarint(b, r.To-r.From)
		at = r.To
	}
	return b
}

func (d *decoder) cursor() Cursor {
	c := Cursor{Detached: d.byte() == 1, Low: d.uvarint()}
	c.Next = c.Low + d.uvarint()
	n := d.count()
	if n > maxDone {
		d.fail("too many ranges in a cursor")
		return Cursor{}
	}
	if n > 0 {
		c.Done = make([]Range, 0, n)
	}
	at := c.Low
	for range n {
		r := Range{From: at + d.uvarint()}
		r.To = r.From + d.uvarint()
		c.Done = append(c.Done, r)
		at = r.To
	}
	if d.err == nil {
		if err := c.check(); err != nil {
			d.fail(err.Error())
		}
	}
	return c
}

// check says whether a cursor is one.
func (c Cursor) check() error {
	if c.Next < c.Low {
		return fmt.Errorf("cursor's Next %d is below its Low %d", c.Next, c.Low)
	}
	if len(c.Done) > maxDone {
		return fmt.Errorf("cursor has %d ranges, at most %d are kept", len(c.Done), maxDone)
	}
	at := c.Low
	for _, r := range c.Done {
		if r.From < at || r.To <= r.From {
			return fmt.Errorf("cursor's range [%d, %d) is empty or out of order", r.From, r.To)
		}
		at = r.To
	}
	return nil
}
