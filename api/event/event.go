// Package event holds the CloudEvent as Leat sees it: its attributes and data,
// the HTTP formats (binary, structured, batch), the record format of the log,
// and W3C trace context. It depends on no HTTP library.
package event

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
}
