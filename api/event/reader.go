package event

import "strings"

// Reader reads messages, one after another, into memory that it uses again: the
// events of one are good until the next is read. Their strings may be kept.
type Reader struct {
	limits Limits
	// known are events to be used again, of which the latest message has used
	// so many. Each keeps the room of its extensions.
	known []*Event
	used  int
	// events are what was read of the latest message, and pass what is passed
	// through with each of them.
	events []*Event
	pass   []Header
	// traces has the latest traceparent headers, until it is full.
	traces strings.Builder
	// one has the room for one event, as most messages have no more.
	one struct {
		known, events [1]*Event
		event         Event
		extensions    [4]Extension
	}
}

// NewReader makes a reader.
func NewReader(l Limits) *Reader {
	r := &Reader{limits: l.WithDefaults()}
	r.one.event.Extensions = r.one.extensions[:0]
	r.one.known[0] = &r.one.event
	r.known, r.events = r.one.known[:], r.one.events[:0]
	return r
}

// Read reads the events of a message, as FromMessage does.
func (r *Reader) Read(h HeaderList, body []byte) ([]*Event, Mode, error) {
	r.Forget()
	contentType := h.Get("Content-Type")
	mode, bad := ModeOf(contentType)
	if bad != nil {
		return nil, mode, bad
	}
	if r.pass, bad = passThrough(r.pass, h, &r.limits); bad != nil {
		return nil, mode, bad
	}
	var e *Event
	switch mode {
	case Batch:
		if err := r.batch(body); err != nil {
			return nil, mode, err
		}
	case Structured:
		e, bad = r.structured(body)
	default:
		e, bad = r.binary(h, contentType, body)
	}
	if bad != nil {
		return nil, mode, bad
	}
	if e != nil {
		r.events = append(r.events, e)
	}
	if len(r.pass) > 0 {
		for _, e := range r.events {
			e.PassThrough = r.pass
		}
	}
	return r.events, mode, nil
}

// mostKept is how many events' memory a reader keeps for the next message.
const mostKept = 128

// Forget ends the use of what was read last.
func (r *Reader) Forget() {
	for _, e := range r.known[:min(r.used, mostKept)] {
		clear(e.Extensions)
		*e = Event{Extensions: e.Extensions[:0]}
	}
	if r.used > mostKept {
		r.known = append([]*Event(nil), r.known[:mostKept]...)
		r.events = nil
	}
	clear(r.events)
	clear(r.pass)
	r.used, r.events, r.pass = 0, r.events[:0], r.pass[:0]
}

// event is an empty one.
func (r *Reader) event() *Event {
	if r.used == len(r.known) {
		more := make([]Event, min(r.used, mostKept))
		for i := range more {
			r.known = append(r.known, &more[i])
		}
	}
	e := r.known[r.used]
	if r.used++; e.Extensions == nil {
		e.Extensions = make([]Extension, 0, len(r.one.extensions))
	}
	return e
}

// tracesAtOnce is for how many traceparent headers memory is taken at once: they
// are all that most events need of their own.
const tracesAtOnce = 18

// EnsureTrace is the event's, for many events one after another.
func (r *Reader) EnsureTrace(e *Event) {
	if _, ok := e.Trace(); ok {
		return
	}
	e.endHop()
	t := NewTrace()
	var room [55]byte
	parent := t.Append(room[:0])
	if r.traces.Cap()-r.traces.Len() < len(parent) {
		r.traces.Reset() // what it had is kept by the events
		r.traces.Grow(tracesAtOnce * len(parent))
	}
	from := r.traces.Len()
	r.traces.Write(parent)
	e.begin(t, r.traces.String()[from:])
}
