package filter

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/leat-dev/leat/filter/payload"
)

// Spec is a trigger's filter as it is written: filter.attributes and filters.
// Filters, when there are any, override Attributes. A Spec with neither
// matches every event.
type Spec struct {
	// Attributes must each be on the event with this value in string form; an
	// empty value stands for any that is not empty.
	Attributes map[string]string
	// Filters must all match.
	Filters []Node
}

// Node is one filter of one dialect: exactly one field is set.
type Node struct {
	// Exact, Prefix and Suffix compare attributes in string form; all keys
	// must match.
	Exact, Prefix, Suffix map[string]string
	All, Any              []Node
	Not                   *Node
	CESQL                 string
	Expr                  string
}

// ParseSpec parses a filter from JSON: an object with the fields filter and
// filters, as a Trigger's spec has them. The error is an *Error. What parses
// need not compile.
func ParseSpec(text []byte) (Spec, error) { return Limits{}.ParseSpec(text) }

// ParseSpec is the function of that name under these limits.
func (l Limits) ParseSpec(text []byte) (Spec, error) {
	l = l.withDefaults()
	v, err := payload.Parse(text, payload.Limits{MaxBytes: l.MaxBytes, MaxDepth: 2*l.MaxDepth + 8})
	if err != nil {
		return Spec{}, &Error{Reason: err.Error()}
	}
	fields, ok := v.(map[string]any)
	if !ok {
		return Spec{}, &Error{Reason: "an object with the fields filter and filters is expected"}
	}
	var s Spec
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		switch key {
		case "filter":
			err = decodeLegacy(fields[key], &s)
		case "filters":
			s.Filters, err = decodeNodes(fields[key], "filters", true)
		default:
			err = &Error{Path: key, Reason: "unknown field: filter and filters are known"}
		}
		if err != nil {
			return Spec{}, err
		}
	}
	return s, nil
}

func decodeLegacy(v any, s *Spec) error {
	if v == nil {
		return nil
	}
	fields, ok := v.(map[string]any)
	if !ok {
		return &Error{Path: "filter", Reason: "an object is expected"}
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if key != "attributes" {
			return &Error{Path: "filter." + key, Reason: "unknown field: attributes is known"}
		}
		if fields[key] == nil {
			continue
		}
		var err error
		if s.Attributes, err = decodeStrings(fields[key], "filter.attributes"); err != nil {
			return err
		}
	}
	return nil
}

func decodeStrings(v any, path string) (map[string]string, error) {
	fields, ok := v.(map[string]any)
	if !ok {
		return nil, &Error{Path: path, Reason: "an object of attribute names and values is expected"}
	}
	m := make(map[string]string, len(fields))
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if m[name], ok = fields[name].(string); !ok {
			return nil, &Error{Path: keyPath(path, name), Reason: "a string is expected: attributes are compared in their string form"}
		}
	}
	return m, nil
}

// keyPath is the path of a key of a map.
func keyPath(path, key string) string { return fmt.Sprintf("%s[%q]", path, key) }

func decodeNodes(v any, path string, mayBeEmpty bool) ([]Node, error) {
	if v == nil && mayBeEmpty {
		return nil, nil
	}
	list, ok := v.([]any)
	if !ok {
		return nil, &Error{Path: path, Reason: "an array of filters is expected"}
	}
	if len(list) == 0 {
		if mayBeEmpty {
			return nil, nil
		}
		return nil, &Error{Path: path, Reason: "at least one filter is expected"}
	}
	nodes := make([]Node, len(list))
	for i, element := range list {
		var err error
		if nodes[i], err = decodeNode(element, fmt.Sprintf("%s[%d]", path, i)); err != nil {
			return nil, err
		}
	}
	return nodes, nil
}

const dialects = "exact, prefix, suffix, all, any, not, cesql and expr"

func decodeNode(v any, path string) (Node, error) {
	fields, ok := v.(map[string]any)
	if !ok {
		return Node{}, &Error{Path: path, Reason: "an object with one dialect is expected"}
	}
	keys := slices.Sorted(maps.Keys(fields))
	for _, key := range keys {
		switch key {
		case "exact", "prefix", "suffix", "all", "any", "not", "cesql", "expr":
		default:
			return Node{}, &Error{Path: path + "." + key, Reason: "unknown dialect: " + dialects + " are known"}
		}
	}
	switch len(keys) {
	case 0:
		return Node{}, &Error{Path: path, Reason: "empty filter: give one of " + dialects}
	case 1:
		var n Node
		err := n.decodeDialect(keys[0], fields[keys[0]], path+"."+keys[0])
		return n, err
	default:
		return Node{}, &Error{Path: path, Reason: fmt.Sprintf("%s and %s in one filter: write each as a filter of its own", keys[0], keys[1])}
	}
}

func (n *Node) decodeDialect(dialect string, v any, path string) error {
	var err error
	switch dialect {
	case "exact":
		n.Exact, err = decodeStrings(v, path)
	case "prefix":
		n.Prefix, err = decodeStrings(v, path)
	case "suffix":
		n.Suffix, err = decodeStrings(v, path)
	case "all":
		n.All, err = decodeNodes(v, path, false)
	case "any":
		n.Any, err = decodeNodes(v, path, false)
	case "not":
		n.Not = new(Node)
		*n.Not, err = decodeNode(v, path)
	default:
		s, ok := v.(string)
		if !ok || s == "" {
			return &Error{Path: path, Reason: "an expression is expected, a string that is not empty"}
		}
		if dialect == "cesql" {
			n.CESQL = s
		} else {
			n.Expr = s
		}
	}
	if err == nil && len(n.Exact)+len(n.Prefix)+len(n.Suffix) == 0 && (n.Exact != nil || n.Prefix != nil || n.Suffix != nil) {
		return &Error{Path: path, Reason: "at least one attribute is expected"}
	}
	return err
}

// Canonical is the filter as JSON in one stable form: specs that mean the same
// by their structure have the same bytes. ParseSpec reads it.
func (s Spec) Canonical() []byte {
	var b bytes.Buffer
	switch {
	case len(s.Filters) > 0:
		b.WriteString(`{"filters":`)
		writeNodes(&b, s.Filters)
		b.WriteByte('}')
	case len(s.Attributes) > 0:
		b.WriteString(`{"filter":{"attributes":`)
		writeStrings(&b, s.Attributes)
		b.WriteString(`}}`)
	default:
		b.WriteString(`{}`)
	}
	return b.Bytes()
}

// MarshalJSON gives the canonical form.
func (s Spec) MarshalJSON() ([]byte, error) { return s.Canonical(), nil }

// UnmarshalJSON is ParseSpec with the default limits.
func (s *Spec) UnmarshalJSON(text []byte) (err error) {
	*s, err = ParseSpec(text)
	return err
}

func writeNodes(b *bytes.Buffer, nodes []Node) {
	b.WriteByte('[')
	for i := range nodes {
		if i > 0 {
			b.WriteByte(',')
		}
		nodes[i].write(b)
	}
	b.WriteByte(']')
}

// write writes every dialect that is set, so that a Node that would not
// compile keeps what is wrong with it.
func (n *Node) write(b *bytes.Buffer) {
	b.WriteByte('{')
	first := true
	field := func(name string) *bytes.Buffer {
		if !first {
			b.WriteByte(',')
		}
		first = false
		b.WriteString(`"` + name + `":`)
		return b
	}
	for _, m := range []struct {
		name   string
		values map[string]string
	}{{"exact", n.Exact}, {"prefix", n.Prefix}, {"suffix", n.Suffix}} {
		if m.values != nil {
			writeStrings(field(m.name), m.values)
		}
	}
	if n.All != nil {
		writeNodes(field("all"), n.All)
	}
	if n.Any != nil {
		writeNodes(field("any"), n.Any)
	}
	if n.Not != nil {
		n.Not.write(field("not"))
	}
	if n.CESQL != "" {
		writeString(field("cesql"), n.CESQL)
	}
	if n.Expr != "" {
		writeString(field("expr"), n.Expr)
	}
	b.WriteByte('}')
}

func writeStrings(b *bytes.Buffer, m map[string]string) {
	b.WriteByte('{')
	for i, name := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b.WriteByte(',')
		}
		writeString(b, name)
		b.WriteByte(':')
		writeString(b, m[name])
	}
	b.WriteByte('}')
}

func writeString(b *bytes.Buffer, s string) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	e.Encode(s) // a string always encodes, into memory
	b.Truncate(b.Len() - 1)
}
