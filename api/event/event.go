// Package event holds the CloudEvent as Leat sees it: its attributes and data,
// the HTTP formats (binary, structured, batch), the record format of the log,
// and W3C trace context. It depends on no HTTP library.
package event

import (
	"slices"
	"strconv"
)

// Kind is the CloudEvents type of an extension's value.
type Kind uint8

// The kinds an extension can keep in the log. What comes in an HTTP header is
// always a String; JSON formats know Integer and Boolean too.
const (
	String Kind = iota
	Integer
	Boolean
)

// Value is an extension's value.
type Value struct {
	Kind Kind
	// Str is the canonical string form, for every Kind.
	Str string
	// Int is the number of an Integer; 1 or 0 of a Boolean.
	Int int32
}

// Extension is a named extension attribute.
type Extension struct {
	Name  string
	Value Value
}

// Event is a CloudEvent of specversion 1.0 (0.3 is converted on entry).
// An empty core attribute is an absent one. An Event that has been appended or
// read is shared and must not be modified: Clone first.
type Event struct {
	ID, Source, Type string
	Subject          string
	// Time keeps the spelling and offset it came with.
	Time            string
	DataContentType string
	DataSchema      string
	// Extensions are sorted by name, each name once.
	Extensions []Extension
	// Data is the payload as it is delivered in binary mode; nil when absent.
	Data []byte
	// PassThrough are headers that came with the event and go on to its
	// subscribers. They are no attributes: filters do not see them. Events of a
	// batch share them.
	PassThrough []Header
}

// Header is a header of a message.
type Header struct{ Name, Value string }

// IntegerValue is the Integer n.
func IntegerValue(n int32) Value {
	return Value{Kind: Integer, Int: n, Str: strconv.FormatInt(int64(n), 10)}
}

// BooleanValue is the Boolean b.
func BooleanValue(b bool) Value {
	if b {
		return Value{Kind: Boolean, Int: 1, Str: "true"}
	}
	return Value{Kind: Boolean, Str: "false"}
}

// normal is the value with Str and Int in agreement, whoever made it.
func (v Value) normal() Value {
	switch v.Kind {
	case String:
		return v
	case Integer:
		var buf [11]byte
		if string(strconv.AppendInt(buf[:0], int64(v.Int), 10)) == v.Str {
			return v
		}
		return IntegerValue(v.Int)
	case Boolean:
		return BooleanValue(v.Int != 0)
	}
	return Value{Str: v.Str}
}

// Attribute returns a core attribute (specversion is always "1.0") or an
// extension, and whether it is present.
func (e *Event) Attribute(name string) (Value, bool) {
	switch core := coreOf(name); core {
	case noCore:
	case coreSpecVersion:
		return Value{Str: "1.0"}, true
	default:
		s := *e.core(core)
		return Value{Str: s}, s != ""
	}
	return e.extension(name)
}

func (e *Event) extension(name string) (Value, bool) {
	i, ok := e.find(name)
	if !ok {
		return Value{}, false
	}
	return e.Extensions[i].Value, true
}

// find is where an extension is, or would be. Each event is asked several times.
func (e *Event) find(name string) (int, bool) {
	from, to := 0, len(e.Extensions)
	for from < to {
		middle := int(uint(from+to) / 2)
		if e.Extensions[middle].Name < name {
			from = middle + 1
		} else {
			to = middle
		}
	}
	return from, from < len(e.Extensions) && e.Extensions[from].Name == name
}

// SetExtension sets an extension attribute.
func (e *Event) SetExtension(name string, v Value) {
	v = v.normal()
	switch i, ok := e.find(name); {
	case ok:
		e.Extensions[i].Value = v
	case i == len(e.Extensions):
		e.Extensions = append(e.Extensions, Extension{name, v})
	default:
		e.Extensions = slices.Insert(e.Extensions, i, Extension{name, v})
	}
}

// DeleteExtension removes an extension attribute, if it is there.
func (e *Event) DeleteExtension(name string) {
	if i, ok := e.find(name); ok {
		e.Extensions = slices.Delete(e.Extensions, i, i+1)
	}
}

// Clone copies an event, so that its attributes can be changed. The data and
// the pass-through headers are shared: they are not changed in place, but by a
// Reader that is used again, whose events end with their request.
func (e *Event) Clone() *Event {
	c := *e
	c.Extensions = slices.Clone(e.Extensions)
	return &c
}

// PartitionKey is what events are distributed and ordered by: the extension
// partitionkey, else the source.
func (e *Event) PartitionKey() string {
	if i, ok := e.find("partitionkey"); ok && e.Extensions[i].Value.Str != "" {
		return e.Extensions[i].Value.Str
	}
	return e.Source
}
