package event

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// A record is an event as the log keeps it: recordVersion, the length of the
// head as a uvarint, the head, then the data. The head is each core attribute
// as a length and its bytes, in the order of coreOrder; the number of
// extensions, and each one's name, kind and value; the number of pass-through
// headers, and each one's name and value; and hasData.
const recordVersion = 1

func coreOrder(e *Event) [7]*string {
	return [7]*string{&e.ID, &e.Source, &e.Type, &e.Subject, &e.Time, &e.DataContentType, &e.DataSchema}
}

// AppendRecord appends an event's record to dst.
func AppendRecord(dst []byte, e *Event) []byte {
	dst = append(dst, recordVersion)
	size := headSize(e)
	dst = binary.AppendUvarint(dst, uint64(size))
	for _, s := range coreOrder(e) {
		dst = appendString(dst, *s)
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.Extensions)))
	for _, x := range e.Extensions {
		dst = appendString(dst, x.Name)
		dst = append(dst, byte(x.Value.Kind))
		if x.Value.Kind == String {
			dst = appendString(dst, x.Value.Str)
		} else {
			dst = binary.AppendVarint(dst, int64(x.Value.Int))
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.PassThrough)))
	for _, h := range e.PassThrough {
		dst = appendString(dst, h.Name)
		dst = appendString(dst, h.Value)
	}
	hasData := byte(0)
	if e.Data != nil {
		hasData = 1
	}
	dst = append(dst, hasData)
	return append(dst, e.Data...)
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func stringSize(s string) int { return uvarintSize(uint64(len(s))) + len(s) }

func uvarintSize(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

func headSize(e *Event) int {
	n := 1 // hasData
	for _, s := range coreOrder(e) {
		n += stringSize(*s)
	}
	n += uvarintSize(uint64(len(e.Extensions)))
	for _, x := range e.Extensions {
		n += stringSize(x.Name) + 1
		if x.Value.Kind == String {
			n += stringSize(x.Value.Str)
		} else {
			n += uvarintSize(uint64(int64(x.Value.Int)<<1 ^ int64(x.Value.Int)>>63))
		}
	}
	n += uvarintSize(uint64(len(e.PassThrough)))
	for _, h := range e.PassThrough {
		n += stringSize(h.Name) + stringSize(h.Value)
	}
	return n
}

var errRecord = errors.New("event record does not read back")

// DecodeRecord reads a record. The event's strings share one copy of the head;
// its data aliases b.
func DecodeRecord(b []byte) (*Event, error) {
	if len(b) == 0 || b[0] != recordVersion {
		return nil, fmt.Errorf("%w: unknown version; was it written by a newer version?", errRecord)
	}
	size, w := binary.Uvarint(b[1:])
	if w <= 0 || size > uint64(len(b)-1-w) {
		return nil, fmt.Errorf("%w: the head runs past the end", errRecord)
	}
	rest := b[1+w:]
	r := recordReader{head: string(rest[:size])}
	e := &Event{}
	for _, s := range coreOrder(e) {
		*s = r.string()
	}
	if n := r.count(2); n > 0 {
		e.Extensions = make([]Extension, n)
		for i := range e.Extensions {
			e.Extensions[i] = r.extension()
		}
	}
	if n := r.count(2); n > 0 {
		e.PassThrough = make([]Header, n)
		for i := range e.PassThrough {
			e.PassThrough[i] = Header{r.string(), r.string()}
		}
	}
	hasData := r.byte()
	data := rest[size:len(rest):len(rest)]
	switch {
	case r.failed || r.head != "" || hasData > 1:
		return nil, fmt.Errorf("%w: the head is malformed", errRecord)
	case hasData == 1:
		e.Data = data
	case len(data) > 0:
		return nil, fmt.Errorf("%w: %d bytes too many", errRecord, len(data))
	}
	for i := 1; i < len(e.Extensions); i++ {
		if e.Extensions[i-1].Name >= e.Extensions[i].Name {
			return nil, fmt.Errorf("%w: extensions are not in order", errRecord)
		}
	}
	return e, nil
}

// recordReader takes a head apart. After the first fault it gives zeros.
type recordReader struct {
	head   string
	failed bool
}

func (r *recordReader) uvarint() uint64 {
	var v uint64
	for i := 0; i < len(r.head) && i < binary.MaxVarintLen64; i++ {
		c := r.head[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			r.head = r.head[i+1:]
			return v
		}
	}
	r.fail()
	return 0
}

func (r *recordReader) fail() { r.failed, r.head = true, "" }

func (r *recordReader) string() string {
	n := r.uvarint()
	if n > uint64(len(r.head)) {
		r.fail()
		return ""
	}
	s := r.head[:n]
	r.head = r.head[n:]
	return s
}

func (r *recordReader) byte() byte {
	if r.head == "" {
		r.fail()
		return 0
	}
	c := r.head[0]
	r.head = r.head[1:]
	return c
}

// count reads a number of items that take at least least bytes each.
func (r *recordReader) count(least uint64) int {
	n := r.uvarint()
	if n > uint64(len(r.head))/least {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *recordReader) extension() Extension {
	x := Extension{Name: r.string()}
	kind := Kind(r.byte())
	if kind == String {
		x.Value.Str = r.string()
		return x
	}
	u := r.uvarint()
	n := int64(u>>1) ^ -int64(u&1)
	switch {
	case kind == Integer && n >= math.MinInt32 && n <= math.MaxInt32:
		x.Value = IntegerValue(int32(n))
	case kind == Boolean && (n == 0 || n == 1):
		x.Value = BooleanValue(n == 1)
	default:
		r.fail()
	}
	return x
}
