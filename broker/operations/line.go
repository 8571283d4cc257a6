package operations

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/leat-dev/leat/channel"
)

// Line is one line of a stream of events: an event with its place in the log,
// events that are gone, or the error that ended the stream.
type Line struct {
	Partition int             `json:"partition"`
	Offset    uint64          `json:"offset"`
	Time      time.Time       `json:"time,omitzero"` // when it was accepted
	Event     json.RawMessage `json:"event,omitempty"`
	// Gap says that the events from Offset on, up to its end, cannot be shown.
	Gap   *Gap   `json:"gap,omitempty"`
	Error string `json:"error,omitempty"`
	// Again says of an error that the events did not end with it: those that
	// follow are there for who asks again.
	Again bool `json:"again,omitempty"`
}

// Gap is a part of a partition that a stream had to leave out.
type Gap struct {
	To     uint64 `json:"to"` // the offset that the stream goes on at
	Reason string `json:"reason"`
}

// Why events cannot be shown.
const (
	GapExpired = "expired" // retention passed them
	GapDamaged = "damaged" // they lay in a damaged range that was passed by command
)

// What stands between the parts of a line with an event.
const (
	partitionKey = `{"partition":`
	offsetKey    = `,"offset":`
	timeKey      = `,"time":"`
	eventKey     = `","event":`
)

// appendEvent appends the line of an event, as encoding/json has it but for
// characters of HTML, which are not escaped: an event's data is shown as it
// came. Most of what a stream has are such lines.
func appendEvent(dst []byte, partition int, s channel.Stored) []byte {
	dst = appendPlace(dst, partition, s.Offset, time.UnixMicro(s.Time).UTC())
	begin := len(dst)
	dst = s.Event.AppendJSON(dst)
	dst = dst[:begin+len(compact(dst[begin:]))]
	return append(dst, "}\n"...)
}

func appendPlace(dst []byte, partition int, offset uint64, at time.Time) []byte {
	dst = strconv.AppendInt(append(dst, partitionKey...), int64(partition), 10)
	dst = strconv.AppendUint(append(dst, offsetKey...), offset, 10)
	return append(at.AppendFormat(append(dst, timeKey...), time.RFC3339Nano), eventKey...)
}

// compact takes the white space out of a JSON value, in its place.
func compact(b []byte) []byte {
	n := 0
	for i := 0; i < len(b); {
		end := i + 1
		switch b[i] {
		case ' ', '\t', '\n', '\r':
			i++
			continue
		case '"':
			end += closing(b[end:])
		}
		if n != i {
			copy(b[n:], b[i:end])
		}
		n += end - i
		i = end
	}
	return b[:n]
}

// closing is how long the rest of a string is, its closing quote included.
func closing(b []byte) int {
	for n := 0; ; {
		quote := bytes.IndexByte(b[n:], '"')
		if quote < 0 {
			return len(b)
		}
		escaped := 0 // by as many backslashes before it
		for n+quote-escaped > 0 && b[n+quote-escaped-1] == '\\' {
			escaped++
		}
		n += quote + 1
		if escaped%2 == 0 {
			return n
		}
	}
}

// AppendLine appends a line as a stream has it.
func AppendLine(dst []byte, l Line) ([]byte, error) {
	if l.Event != nil && l.Gap == nil && l.Error == "" && !l.Time.IsZero() {
		return append(append(appendPlace(dst, l.Partition, l.Offset, l.Time), l.Event...), "}\n"...), nil
	}
	b, err := json.Marshal(l)
	if err != nil {
		return dst, err
	}
	return append(append(dst, b...), '\n'), nil
}

// ParseLine reads a line of a stream. Its event is a part of b.
func ParseLine(b []byte) (Line, error) {
	if l, ok := parseEvent(b); ok {
		return l, nil
	}
	var l Line
	err := json.Unmarshal(b, &l)
	return l, err
}

// parseEvent reads the line of an event in the very form in which it is written;
// it says no where the line has any other, which may mean the same.
func parseEvent(line []byte) (l Line, ok bool) {
	line = bytes.TrimSuffix(line, []byte("\n"))
	place, event, ok := bytes.Cut(line, []byte(eventKey))
	if !ok || !bytes.HasSuffix(event, []byte("}")) {
		return l, false
	}
	partition, rest, ok := bytes.Cut(bytes.TrimPrefix(place, []byte(partitionKey)), []byte(offsetKey))
	if !ok {
		return l, false
	}
	offset, at, ok := bytes.Cut(rest, []byte(timeKey))
	if !ok {
		return l, false
	}
	var errs [3]error
	l.Partition, errs[0] = strconv.Atoi(string(partition))
	l.Offset, errs[1] = strconv.ParseUint(string(offset), 10, 64)
	l.Time, errs[2] = time.Parse(time.RFC3339Nano, string(at))
	l.Event = event[:len(event)-1]
	if errs != [3]error{} || !json.Valid(l.Event) {
		return l, false
	}
	var as [128]byte
	written := appendPlace(as[:0], l.Partition, l.Offset, l.Time)
	return l, bytes.Equal(written, line[:len(place)+len(eventKey)])
}

// Members are those of the line's event, each value as it stands there. Whoever
// wants a few of them is given them at a small part of the cost of decoding.
func (l Line) Members(yield func(name string, value []byte) bool) {
	b := l.Event // it was found to be JSON when it was read
	for i := bytes.IndexByte(b, '{') + 1; i > 0; {
		begin := bytes.IndexByte(b[i:], '"')
		if begin < 0 {
			return // the object ends
		}
		i += begin
		name := b[i : i+1+closing(b[i+1:])]
		i += len(name)
		i += bytes.IndexByte(b[i:], ':') + 1
		n := valueLength(b[i:])
		if !yield(Text(name), bytes.TrimSpace(b[i:i+n])) {
			return
		}
		i += n
	}
}

// valueLength is how far it is to the comma or the bracket that follows a value.
func valueLength(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i += closing(b[i+1:])
		case '{', '[':
			depth++
		case ',', '}', ']':
			if depth == 0 {
				return i
			}
			if b[i] != ',' {
				depth--
			}
		}
	}
	return len(b)
}

// Text is what a JSON string says; "" for any other value.
func Text(value []byte) (s string) {
	if len(value) >= 2 && value[0] == '"' && bytes.IndexByte(value, '\\') < 0 && utf8.Valid(value) {
		return string(value[1 : len(value)-1])
	}
	if json.Unmarshal(value, &s) != nil {
		return ""
	}
	return s
}
