package cesql

import (
	"fmt"
	"strconv"
	"strings"
)

// Type is the type of a value, or what is known of an expression's type.
type Type uint8

const (
	// Any is the static type of an extension attribute: it is known only when
	// there is an event.
	Any Type = iota
	String
	Integer
	Boolean
)

func (t Type) String() string {
	switch t {
	case String:
		return "String"
	case Integer:
		return "Integer"
	case Boolean:
		return "Boolean"
	default:
		return "Any"
	}
}

// Value is a String, an Integer or a Boolean. The field that belongs to Type
// holds it, the others are zero.
type Value struct {
	Type Type
	Str  string
	Int  int32
	Bool bool
}

// zero is the zero value of a type; where the type is unknown it is false.
func zero(t Type) Value {
	if t == Any {
		t = Boolean
	}
	return Value{Type: t}
}

func stringValue(s string) Value { return Value{Type: String, Str: s} }
func intValue(i int32) Value     { return Value{Type: Integer, Int: i} }
func boolValue(b bool) Value     { return Value{Type: Boolean, Bool: b} }

// cast converts v by the specification's table of casts. When it cannot, it
// gives the zero value of t and false.
func cast(v Value, t Type) (Value, bool) {
	if t == Any || v.Type == t {
		return v, true
	}
	switch t {
	case String:
		if v.Type == Integer {
			return stringValue(strconv.Itoa(int(v.Int))), true
		}
		return stringValue(strconv.FormatBool(v.Bool)), true
	case Integer:
		if v.Type == Boolean {
			if v.Bool {
				return intValue(1), true
			}
			return intValue(0), true
		}
		i, ok := ParseInteger(v.Str)
		return intValue(i), ok
	default:
		if v.Type == Integer {
			return boolValue(v.Int != 0), true
		}
		b, ok := ParseBoolean(v.Str)
		return boolValue(b), ok
	}
}

// ParseInteger is the cast of a String to an Integer: base 10, 32 bits, with
// an optional sign. It is false, with 0, for anything else.
func ParseInteger(s string) (int32, bool) {
	if s == "" {
		return 0, false
	}
	negative := false
	digits := s
	if s[0] == '+' || s[0] == '-' {
		negative = s[0] == '-'
		digits = s[1:]
	}
	if digits == "" {
		return 0, false
	}
	var n int64
	for i := range len(digits) {
		c := digits[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
		if n > 1<<31 {
			return 0, false
		}
	}
	if negative {
		n = -n
	}
	if n > 1<<31-1 {
		return 0, false
	}
	return int32(n), true
}

// ParseBoolean is the cast of a String to a Boolean: true and false in any
// case. The second result is false for anything else.
func ParseBoolean(s string) (value, ok bool) {
	switch len(s) {
	case 4:
		ok = strings.EqualFold(s, "true")
		return ok, ok
	case 5:
		// The length keeps out U+017F, which folds to s but is two bytes.
		return false, strings.EqualFold(s, "false")
	}
	return false, false
}

// ErrorKind is the specification's type of an error.
type ErrorKind uint8

const (
	GenericError ErrorKind = iota
	ParseError
	MathError
	CastError
	MissingAttributeError
	MissingFunctionError
	FunctionEvaluationError
)

func (k ErrorKind) String() string {
	switch k {
	case ParseError:
		return "parse error"
	case MathError:
		return "math error"
	case CastError:
		return "cast error"
	case MissingAttributeError:
		return "missing attribute"
	case MissingFunctionError:
		return "missing function"
	case FunctionEvaluationError:
		return "function evaluation error"
	default:
		return "error"
	}
}

// Error is a fault of an expression or of its evaluation, with its place in
// the expression. Errors of an evaluation name no values of the event: they
// are made once, with the expression, and may be compared by identity.
type Error struct {
	Kind ErrorKind
	// Offset is in bytes from 0; Line and Column count from 1, Column in
	// characters.
	Offset, Line, Column int
	Reason               string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%d:%d: %s: %s", e.Line, e.Column, e.Kind, e.Reason)
}
