package filter

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// steps bounds the work of one evaluation.
type steps struct{ left int }

var errSteps = errors.New("the evaluation takes more steps than the limit")

func (s *steps) take(n int) error {
	s.left -= n
	if s.left < 0 {
		return errSteps
	}
	return nil
}

// Bytes that count as one step: where they are compared, and where they are
// copied, which takes memory too.
const (
	comparedBytes = 256
	copiedBytes   = 16
	maxGrown      = 1 << 16 // the longest string that an expression can make
)

func compared(a, b string) int { return 1 + min(len(a), len(b))/comparedBytes }

// exprBuiltins are the functions that a filter may call.
func exprBuiltins() []string {
	return []string{
		"abs", "all", "any", "ceil", "count", "float", "floor", "hasPrefix", "hasSuffix", "indexOf", "int", "lastIndexOf",
		"len", "lower", "none", "one", "round", "string", "trim", "trimPrefix", "trimSuffix", "upper",
	}
}

// exprFunction is a function that a rewritten expression calls. of is a nil
// pointer to its type.
type exprFunction struct {
	name string
	call func(args ...any) (any, error)
	of   any
}

// exprFunctions are all of them. Where an argument is nil, which means absent,
// a comparison is false and any other result is nil.
func exprFunctions() []exprFunction {
	list := []exprFunction{
		{"$data", func(a ...any) (any, error) { return a[0].(*View).Data() }, new(func(any) any)},
		{"$get", func(a ...any) (any, error) { return get(a[0], a[1]), nil }, new(func(any, any) any)},
		{"$index", getDynamic, new(func(any, any, any) any)},
		{"$bool", truth, new(func(any) bool)},
		{"$list", elements, new(func(any) []any)},
		{"$step", func(a ...any) (any, error) { return true, a[0].(*steps).take(a[1].(int)) }, new(func(any, int) bool)},
		{"$eq", func(a ...any) (any, error) { return equal(a[0].(*steps), a[1], a[2]) }, new(func(any, any, any) bool)},
		{"$ne", notEqual, new(func(any, any, any) bool)},
		{"$+", add, new(func(any, any, any) any)},
		{"$in", func(a ...any) (any, error) { return in(a[0].(*steps), a[1], a[2]) }, new(func(any, any, any) bool)},
		{"$not_in", notIn, new(func(any, any, any) bool)},
		{"$len", length, new(func(any, any) any)},
		{"$int", toInt, new(func(any, any) any)},
		{"$float", toFloat, new(func(any, any) any)},
		{"$string", toString, new(func(any, any) any)},
	}
	for _, f := range []struct {
		name string
		of   func(order int) bool
	}{
		{"$<", func(o int) bool { return o < 0 }}, {"$<=", func(o int) bool { return o <= 0 }},
		{"$>", func(o int) bool { return o > 0 }}, {"$>=", func(o int) bool { return o >= 0 }},
	} {
		list = append(list, exprFunction{f.name, ordered(f.of), new(func(any, any, any) bool)})
	}
	for _, f := range []struct {
		name, function string
		of             func(s, t string) bool
	}{
		{"contains", "", strings.Contains}, {"startsWith", "hasPrefix", strings.HasPrefix}, {"endsWith", "hasSuffix", strings.HasSuffix},
	} {
		list = append(list,
			exprFunction{"$" + f.name, stringTest(f.of, true), new(func(any, any, any) bool)},
			exprFunction{"$not_" + f.name, stringTest(f.of, false), new(func(any, any, any) bool)})
		if f.function != "" {
			list = append(list, exprFunction{"$" + f.function, stringTest(f.of, true), new(func(any, any, any) bool)})
		}
	}
	for name, of := range map[string]func(string) string{"$lower": strings.ToLower, "$upper": strings.ToUpper, "$trim": strings.TrimSpace} {
		list = append(list, exprFunction{name, stringChange(of), new(func(any, any) any)})
	}
	for name, of := range map[string]func(s, t string) any{
		"$trimPrefix":  func(s, t string) any { return strings.TrimPrefix(s, t) },
		"$trimSuffix":  func(s, t string) any { return strings.TrimSuffix(s, t) },
		"$indexOf":     func(s, t string) any { return strings.Index(s, t) },
		"$lastIndexOf": func(s, t string) any { return strings.LastIndex(s, t) },
	} {
		list = append(list, exprFunction{name, stringPair(of), new(func(any, any, any) any)})
	}
	for name, of := range map[string]func(float64) float64{"$ceil": math.Ceil, "$floor": math.Floor, "$round": math.Round, "$abs": math.Abs} {
		list = append(list, exprFunction{name, rounding(name, of), new(func(any, any) any)})
	}
	return list
}

func wrongType(what string, v any) error {
	return fmt.Errorf("%s: %s is not of a type for it", what, typeName(v))
}

func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "nothing"
	case string:
		return "a string"
	case int, float64:
		return "a number"
	case bool:
		return "a boolean"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	default:
		return fmt.Sprintf("a %T", v)
	}
}

func stringTest(of func(s, t string) bool, want bool) func(a ...any) (any, error) {
	return func(a ...any) (any, error) {
		if a[1] == nil || a[2] == nil {
			return false, nil
		}
		s, okS := a[1].(string)
		t, okT := a[2].(string)
		if !okS || !okT {
			return false, fmt.Errorf("a test of strings has %s and %s", typeName(a[1]), typeName(a[2]))
		}
		return of(s, t) == want, a[0].(*steps).take(1 + (len(s)+len(t))/comparedBytes)
	}
}

func stringChange(of func(string) string) func(a ...any) (any, error) {
	return func(a ...any) (any, error) {
		switch s := a[1].(type) {
		case nil:
			return nil, nil
		case string:
			if err := a[0].(*steps).take(1 + len(s)/copiedBytes); err != nil {
				return nil, err
			}
			return of(s), nil
		default:
			return nil, wrongType("a function on strings", s)
		}
	}
}

func stringPair(of func(s, t string) any) func(a ...any) (any, error) {
	return func(a ...any) (any, error) {
		if a[1] == nil || a[2] == nil {
			return nil, nil
		}
		s, okS := a[1].(string)
		t, okT := a[2].(string)
		if !okS || !okT {
			return nil, fmt.Errorf("a function on strings has %s and %s", typeName(a[1]), typeName(a[2]))
		}
		return of(s, t), a[0].(*steps).take(1 + (len(s)+len(t))/comparedBytes)
	}
}

// length counts characters of a string, elements of a list or object.
func length(a ...any) (any, error) {
	switch v := a[1].(type) {
	case nil:
		return nil, nil
	case string:
		return utf8.RuneCountInString(v), a[0].(*steps).take(1 + len(v)/comparedBytes)
	case []any:
		return len(v), nil
	case map[string]any:
		return len(v), nil
	default:
		return nil, wrongType("len", v)
	}
}

func toInt(a ...any) (any, error) {
	switch v := a[1].(type) {
	case nil:
		return nil, nil
	case int:
		return v, nil
	case float64:
		if v < -1<<63 || v >= 1<<63 || v != v {
			return nil, errors.New("int: the number is outside the range of 64 bits")
		}
		return int(v), nil
	case string:
		if n, err := strconv.Atoi(v); len(v) <= 32 && err == nil {
			return n, nil
		}
		return nil, errors.New("int: the string is no whole number")
	default:
		return nil, wrongType("int", v)
	}
}

func toFloat(a ...any) (any, error) {
	switch v := a[1].(type) {
	case nil:
		return nil, nil
	case int:
		return float64(v), nil
	case float64:
		return v, nil
	case string:
		if len(v) <= 512 {
			if f, err := strconv.ParseFloat(v, 64); err == nil {
				return f, nil
			}
		}
		return nil, errors.New("float: the string is no number")
	default:
		return nil, wrongType("float", v)
	}
}

func toString(a ...any) (any, error) {
	switch v := a[1].(type) {
	case nil:
		return nil, nil
	case string:
		return v, nil
	case int:
		return strconv.Itoa(v), nil
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), nil
	case bool:
		return strconv.FormatBool(v), nil
	default:
		return nil, wrongType("string", v)
	}
}

// rounding: whole numbers stay as they are.
func rounding(name string, of func(float64) float64) func(a ...any) (any, error) {
	return func(a ...any) (any, error) {
		switch v := a[1].(type) {
		case nil:
			return nil, nil
		case int:
			if name == "$abs" && v < 0 {
				return -v, nil
			}
			return v, nil
		case float64:
			return of(v), nil
		default:
			return nil, wrongType(name[1:], v)
		}
	}
}
