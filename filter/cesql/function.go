package cesql

import (
	"math"
	"strings"
	"unicode/utf8"
)

// maxString bounds the strings that functions make, in bytes. Attributes are
// far shorter; without a bound nested calls of CONCAT could grow them.
const maxString = 1 << 20

type functionID uint8

const (
	fnAbs functionID = iota
	fnLength
	fnConcat
	fnConcatWS
	fnLower
	fnUpper
	fnTrim
	fnLeft
	fnRight
	fnSubstring
	fnInt
	fnBool
	fnString
	fnIsInt
	fnIsBool
)

// function is a built-in function: its fixed parameters, the type of the
// others when it is variadic, and what it means when its evaluation fails.
type function struct {
	id       functionID
	params   []Type
	variadic bool // further Strings
	result   Type
	fails    string
}

// resolve finds the function of a name in upper case for a number of
// arguments; nil when there is none.
func resolve(name string, args int) *function {
	f := function{}
	switch name {
	case "ABS":
		f = function{id: fnAbs, params: []Type{Integer}, result: Integer}
	case "LENGTH":
		f = function{id: fnLength, params: []Type{String}, result: Integer}
	case "CONCAT":
		f = function{id: fnConcat, variadic: true, result: String}
	case "CONCAT_WS":
		f = function{id: fnConcatWS, params: []Type{String}, variadic: true, result: String}
	case "LOWER":
		f = function{id: fnLower, params: []Type{String}, result: String}
	case "UPPER":
		f = function{id: fnUpper, params: []Type{String}, result: String}
	case "TRIM":
		f = function{id: fnTrim, params: []Type{String}, result: String}
	case "LEFT":
		f = function{id: fnLeft, params: []Type{String, Integer}, result: String, fails: "the second argument of LEFT is negative"}
	case "RIGHT":
		f = function{id: fnRight, params: []Type{String, Integer}, result: String, fails: "the second argument of RIGHT is negative"}
	case "SUBSTRING":
		f = function{id: fnSubstring, params: []Type{String, Integer}, result: String, fails: "the position of SUBSTRING is outside the string, or its length negative"}
		if args == 3 {
			f.params = []Type{String, Integer, Integer}
		}
	case "INT":
		f = function{id: fnInt, params: []Type{Any}, result: Integer}
	case "BOOL":
		f = function{id: fnBool, params: []Type{Any}, result: Boolean}
	case "STRING":
		f = function{id: fnString, params: []Type{Any}, result: String}
	case "IS_INT":
		f = function{id: fnIsInt, params: []Type{Any}, result: Boolean}
	case "IS_BOOL":
		f = function{id: fnIsBool, params: []Type{Any}, result: Boolean}
	default:
		return nil
	}
	if args < len(f.params) || args > len(f.params) && !f.variadic {
		return nil
	}
	if f.fails == "" {
		f.fails = "the result of " + name + " is too long"
	}
	return &f
}

func (f *function) param(i int) Type {
	if i < len(f.params) {
		return f.params[i]
	}
	return String
}

// noError is the callError of a call that went well.
const noError = callError(255)

// apply runs the function on arguments that were cast to its parameters.
func (f *function) apply(args []Value) (Value, callError) {
	switch f.id {
	case fnAbs:
		switch x := args[0].Int; {
		case x == math.MinInt32:
			return intValue(math.MaxInt32), callMath
		case x < 0:
			return intValue(-x), noError
		default:
			return args[0], noError
		}
	case fnLength:
		return intValue(int32(utf8.RuneCountInString(args[0].Str))), noError
	case fnConcat:
		return join(args, "")
	case fnConcatWS:
		return join(args[1:], args[0].Str)
	case fnLower:
		return stringValue(strings.ToLower(args[0].Str)), noError
	case fnUpper:
		return stringValue(strings.ToUpper(args[0].Str)), noError
	case fnTrim:
		return stringValue(strings.TrimSpace(args[0].Str)), noError
	case fnLeft, fnRight:
		return f.edge(args[0].Str, args[1].Int)
	case fnSubstring:
		length := int32(math.MaxInt32)
		if len(args) == 3 {
			length = args[2].Int
		}
		return substring(args[0].Str, args[1].Int, length)
	case fnIsInt:
		_, ok := cast(args[0], Integer)
		return boolValue(ok), noError
	case fnIsBool:
		_, ok := cast(args[0], Boolean)
		return boolValue(ok), noError
	default: // INT, BOOL, STRING
		v, ok := cast(args[0], f.result)
		if !ok {
			return v, callCast
		}
		return v, noError
	}
}

func join(args []Value, separator string) (Value, callError) {
	size := 0
	for _, a := range args {
		if size += len(a.Str) + len(separator); size > maxString {
			return stringValue(""), callEvaluation
		}
	}
	var b strings.Builder
	b.Grow(size)
	for i, a := range args {
		if i > 0 {
			b.WriteString(separator)
		}
		b.WriteString(a.Str)
	}
	return stringValue(b.String()), noError
}

// edge is LEFT and RIGHT.
func (f *function) edge(s string, n int32) (Value, callError) {
	if n < 0 {
		return stringValue(s), callEvaluation
	}
	if int(n) >= len(s) {
		return stringValue(s), noError
	}
	if f.id == fnLeft {
		return stringValue(s[:offset(s, int(n))]), noError
	}
	at := len(s)
	for range n {
		_, size := utf8.DecodeLastRuneInString(s[:at])
		at -= size
	}
	return stringValue(s[at:]), noError
}

// offset gives the byte at which the character n begins, at most the length.
func offset(s string, n int) int {
	at := 0
	for n > 0 && at < len(s) {
		_, size := utf8.DecodeRuneInString(s[at:])
		at += size
		n--
	}
	return at
}

func substring(s string, pos, length int32) (Value, callError) {
	if length < 0 {
		return stringValue(""), callEvaluation
	}
	if pos == 0 {
		return stringValue(""), noError
	}
	size := utf8.RuneCountInString(s)
	begin := int(pos) - 1
	if pos < 0 {
		begin = size + int(pos)
	}
	if int(pos) > size || begin < 0 {
		return stringValue(""), callEvaluation
	}
	s = s[offset(s, begin):]
	if int(length) < len(s) {
		s = s[:offset(s, int(length))]
	}
	return stringValue(s), noError
}
