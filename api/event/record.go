package event

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// A record is an event as the log keeps it: recordVersion, the length of the
// head as a uvarint, the head, then the data. The head is each core attribute
// as a length and its bytes, in the order of coreOrder; the number of
// extensions, and each one's name, kind and value; the number of pass-through
// headers, and each one's name and value; and hasData. The name of an extension
// that is known (knownName) is a zero and its number, any other is a length and
// its bytes.
const recordVersion = 1

// knownNames is one more than the largest number of a known name.
const knownNames = 11

// knownName has the names that Leat itself gives to extensions; the numbers
// are part of the format. Number 0 is the empty name, which no valid event has.
func knownName(n byte) string {
	return [knownNames]string{
		"", "knativearrivaltime", "knativebrokerttl", Traceparent, Tracestate, "partitionkey",
		"leatcause", "leatdepth", "leatreplay", "leatlate", "leatresentfrom",
	}[n]
}

// knownNumber is the inverse of knownName.
func knownNumber(name string) (byte, bool) {
	switch name {
	case "":
		return 0, true
	case "knativearrivaltime":
		return 1, true
	case "knativebrokerttl":
		return 2, true
	case Traceparent:
		return 3, true
	case Tracestate:
		return 4, true
	case "partitionkey":
		return 5, true
	case "leatcause":
		return 6, true
	case "leatdepth":
		return 7, true
	case "leatreplay":
		return 8, true
	case "leatlate":
		return 9, true
	case "leatresentfrom":
		return 10, true
	}
	return 0, false
}

// extensionName is a name as a string; one that is known costs no memory.
func extensionName(name []byte) string {
	if n, ok := knownNumber(string(name)); ok {
		return knownName(n)
	}
	return string(name)
}

// coreOrder is the core attributes but for specversion, by their place.
func coreOrder(e *Event) [coreSpecVersion]*string {
	return [7]*string{&e.ID, &e.Source, &e.Type, &e.Subject, &e.Time, &e.DataContentType, &e.DataSchema}
}

// core is the core attribute at a place, which is not specversion's.
func (e *Event) core(i int) *string {
	switch i {
	case coreID:
		return &e.ID
	case coreSource:
		return &e.Source
	case coreType:
		return &e.Type
	case coreSubject:
		return &e.Subject
	case coreTime:
		return &e.Time
	case coreDataContentType:
		return &e.DataContentType
	}
	return &e.DataSchema
}

// AppendRecord appends an event's record to dst. Every event has one that reads
// back, also one that is not valid.
func AppendRecord(dst []byte, e *Event) []byte {
	return append(AppendRecordHead(dst, e), e.Data...)
}

// AppendRecordHead appends what of an event's record stands in front of its data,
// which ends it.
func AppendRecordHead(dst []byte, e *Event) []byte {
	e = ordered(e)
	dst = append(dst, recordVersion)
	size := headSize(e)
	dst = binary.AppendUvarint(dst, uint64(size))
	for _, s := range coreOrder(e) {
		dst = appendString(dst, *s)
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.Extensions)))
	for _, x := range e.Extensions {
		if n, ok := knownNumber(x.Name); ok {
			dst = append(dst, 0, n)
		} else {
			dst = appendString(dst, x.Name)
		}
		switch x.Value.Kind {
		case Integer:
			dst = binary.AppendVarint(append(dst, byte(Integer)), int64(x.Value.Int))
		case Boolean:
			dst = append(dst, byte(Boolean), 2*truth(x.Value)) // the varint of 0 or 1
		default:
			dst = appendString(append(dst, byte(String)), x.Value.Str)
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
	return append(dst, hasData)
}

// ordered is the event with its extensions as they have to be: sorted, each
// name once. Where they are so already, as they should be, it is e itself.
func ordered(e *Event) *Event {
	x := e.Extensions
	for i := 1; i < len(x); i++ {
		if x[i-1].Name >= x[i].Name {
			c := e.Clone()
			slices.SortStableFunc(c.Extensions, byName)
			c.Extensions = slices.CompactFunc(c.Extensions, func(a, b Extension) bool { return a.Name == b.Name })
			return c
		}
	}
	return e
}

func truth(v Value) byte {
	if v.Int != 0 {
		return 1
	}
	return 0
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
		if _, ok := knownNumber(x.Name); ok {
			n += 2 + 1
		} else {
			n += stringSize(x.Name) + 1
		}
		switch x.Value.Kind {
		case Integer:
			n += uvarintSize(uint64(int64(x.Value.Int)<<1 ^ int64(x.Value.Int)>>63))
		case Boolean:
			n++
		default:
			n += stringSize(x.Value.Str)
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
	e := &Event{}
	if _, err := e.FromRecord(b, nil); err != nil {
		return nil, err
	}
	return e, nil
}

// FromRecord makes e the event of a record, as DecodeRecord does. Its extensions
// lie behind those in room, where there is capacity for them; the list to give with
// the next record is returned. After an error e is empty.
func (e *Event) FromRecord(b []byte, room []Extension) ([]Extension, error) {
	room, err := e.fromRecord(b, room)
	if err != nil {
		*e = Event{}
	}
	return room, err
}

func (e *Event) fromRecord(b []byte, room []Extension) ([]Extension, error) {
	*e = Event{}
	if len(b) == 0 {
		return room, fmt.Errorf("%w: it is empty", errRecord)
	}
	if b[0] != recordVersion {
		return room, fmt.Errorf("%w: its version is %d, and only %d is known; was it written by a newer leat?", errRecord, b[0], recordVersion)
	}
	size, w := binary.Uvarint(b[1:])
	if w <= 0 || size > uint64(len(b)-1-w) {
		return room, fmt.Errorf("%w: the head runs past the end", errRecord)
	}
	rest := b[1+w:]
	r := recordReader{head: string(rest[:size])}
	for i := range coreSpecVersion {
		*e.core(i) = r.string()
	}
	if n := r.count(2); n > 0 {
		if n > cap(room)-len(room) {
			room = make([]Extension, 0, max(n, 2*cap(room)))
		}
		at := len(room)
		room = room[:at+n]
		e.Extensions = room[at : at+n : at+n]
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
		return room, fmt.Errorf("%w: the head is malformed", errRecord)
	case hasData == 1:
		e.Data = data
	case len(data) > 0:
		return room, fmt.Errorf("%w: %d bytes too many", errRecord, len(data))
	}
	for i := 1; i < len(e.Extensions); i++ {
		if e.Extensions[i-1].Name >= e.Extensions[i].Name {
			return room, fmt.Errorf("%w: extensions are not in order", errRecord)
		}
	}
	return room, nil
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
	if x.Name == "" {
		n := r.byte()
		if n >= knownNames {
			r.fail()
			return x
		}
		x.Name = knownName(n)
	}
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
