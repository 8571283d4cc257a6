package client

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/leat-dev/leat/api/event"
)

// Source gives the events of a send one after another, in the JSON format, and
// io.EOF after the last.
type Source func() (json.RawMessage, error)

// Events gives count events that look like the template.
func (t Template) Events(count int) Source {
	n := 0
	return func() (json.RawMessage, error) {
		if n == count {
			return nil, io.EOF
		}
		n++
		b, err := json.Marshal(t.event(n-1, count))
		if err != nil {
			return nil, fmt.Errorf("encode event: %w", err)
		}
		return b, nil
	}
}

// ReadEvents gives the events that r holds: one as a JSON object, several one
// after another (NDJSON), or a JSON array. It holds one at a time. An error
// says which event is bad, and why.
func ReadEvents(r io.Reader) Source {
	s := &eventReader{}
	buffered := bufio.NewReader(r)
	return func() (json.RawMessage, error) {
		if s.decoder == nil {
			if err := s.begin(buffered); err != nil {
				return nil, err
			}
		}
		return s.next()
	}
}

type eventReader struct {
	decoder *json.Decoder
	array   bool
	ended   bool
	n       int
}

// begin finds out which of the forms it is.
func (s *eventReader) begin(r *bufio.Reader) error {
	for {
		b, err := r.ReadByte()
		if err != nil {
			return err
		}
		switch b {
		case ' ', '\t', '\r', '\n', 0xEF, 0xBB, 0xBF: // white space, or a byte order mark
			continue
		case '[':
			s.array = true
		}
		if err := r.UnreadByte(); err != nil {
			return err
		}
		s.decoder = json.NewDecoder(r)
		if s.array {
			_, err = s.decoder.Token()
		}
		return err
	}
}

func (s *eventReader) next() (json.RawMessage, error) {
	if s.ended {
		return nil, io.EOF
	}
	if s.array && !s.decoder.More() {
		if _, err := s.decoder.Token(); err != nil {
			return nil, s.broken(err)
		}
		s.ended = true
		if _, err := s.decoder.Token(); !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("something follows the array, at byte %d", s.decoder.InputOffset())
		}
		return nil, io.EOF
	}
	var raw json.RawMessage
	if err := s.decoder.Decode(&raw); err != nil {
		if errors.Is(err, io.EOF) && !s.array {
			return nil, io.EOF
		}
		return nil, s.broken(err)
	}
	s.n++
	if _, _, err := event.FromMessage(structured{}, raw, generous); err != nil {
		return nil, fmt.Errorf("event %d, which ends at byte %d: %w", s.n, s.decoder.InputOffset(), err)
	}
	return raw, nil
}

func (s *eventReader) broken(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("after %d events, near byte %d: %w", s.n, s.decoder.InputOffset(), err)
}

// generous leaves the limits to the server.
var generous = event.Limits{
	MaxDataBytes: math.MaxInt32, MaxExtensions: math.MaxInt32, MaxNameBytes: math.MaxInt32,
	MaxValueBytes: math.MaxInt32, MaxAttributeBytes: math.MaxInt32, MaxPassThrough: math.MaxInt32,
}

// structured are the headers of an event in the JSON format.
type structured struct{}

// Get implements event.Headers.
func (structured) Get(name string) string {
	if name == "Content-Type" {
		return event.StructuredType
	}
	return ""
}

// Each implements event.Headers.
func (s structured) Each(f func(name, value string)) { f("Content-Type", event.StructuredType) }
