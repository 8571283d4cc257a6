package filter

import (
	"fmt"
	"strings"

	"github.com/leat-dev/leat/filter/payload"
)

// ParseFlag parses the filter of a command line: "k=v,…", which is exact, or
// DIALECT:… with cesql:EXPRESSION, expr:EXPRESSION, exact:k=v,…, prefix:k=v,…,
// suffix:k=v,…, and all:, any: or not: with JSON. A comma in a value is written
// \, and a backslash \\. Empty text is the filter that matches every event.
// The error is an *Error. What parses need not compile.
func ParseFlag(s string) (Spec, error) {
	if s == "" {
		return Spec{}, nil
	}
	dialect, rest, found := strings.Cut(s, ":")
	if !found || strings.ContainsAny(dialect, "=,") {
		dialect, rest = "exact", s
	}
	var n Node
	var err error
	switch dialect {
	case "exact", "prefix", "suffix":
		err = n.parsePairs(dialect, rest)
	case "cesql", "expr":
		err = n.decodeDialect(dialect, rest, dialect)
	case "all", "any", "not":
		l := Limits{}.withDefaults()
		v, parseErr := payload.Parse([]byte(rest), payload.Limits{MaxBytes: l.MaxBytes, MaxDepth: 2*l.MaxDepth + 8})
		if parseErr != nil {
			return Spec{}, &Error{Path: dialect, Reason: parseErr.Error()}
		}
		err = n.decodeDialect(dialect, v, dialect)
	default:
		err = &Error{Path: dialect, Reason: "unknown dialect: " + dialects + " are known; k=v,… compares attributes exactly"}
	}
	if err != nil {
		return Spec{}, err
	}
	return Spec{Filters: []Node{n}}, nil
}

func (n *Node) parsePairs(dialect, text string) error {
	m := map[string]string{}
	for text != "" {
		var pair string
		pair, text = cutUnescaped(text)
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return &Error{Path: dialect, Reason: fmt.Sprintf("%q is not of the form ATTRIBUTE=VALUE", pair)}
		}
		name = strings.TrimSpace(name)
		if _, twice := m[name]; twice {
			return &Error{Path: keyPath(dialect, name), Reason: "the attribute is given twice: all must match, which no event can; use any: for alternatives"}
		}
		m[name] = value
	}
	if len(m) == 0 {
		return &Error{Path: dialect, Reason: "at least one ATTRIBUTE=VALUE is expected"}
	}
	switch dialect {
	case "exact":
		n.Exact = m
	case "prefix":
		n.Prefix = m
	default:
		n.Suffix = m
	}
	return nil
}

// cutUnescaped gives the text up to the first comma that has no backslash
// before it, without the backslashes that escape, and the rest.
func cutUnescaped(s string) (first, rest string) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && (s[i+1] == ',' || s[i+1] == '\\'):
			i++
		case s[i] == ',':
			return b.String(), s[i+1:]
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}
