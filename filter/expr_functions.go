package filter

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/vm/runtime"
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

// get is a.b and a[b]; nil when there is no such thing.
func get(from, at any) any {
	switch from := from.(type) {
	case map[string]any:
		if name, ok := at.(string); ok {
			return from[name]
		}
	case []any:
		if i, ok := at.(int); ok {
			if i < 0 {
				i += len(from)
			}
			if i >= 0 && i < len(from) {
				return from[i]
			}
		}
	}
	return nil
}

// getDynamic is get for a key that is not a literal.
func getDynamic(a ...any) (any, error) {
	if name, ok := a[2].(string); ok {
		if err := a[0].(*steps).take(1 + len(name)/comparedBytes); err != nil {
			return nil, err
		}
	}
	return get(a[1], a[2]), nil
}

func truth(a ...any) (any, error) {
	switch v := a[0].(type) {
	case nil:
		return false, nil
	case bool:
		return v, nil
	default:
		return false, fmt.Errorf("%s stands where a boolean must", typeName(v))
	}
}

func elements(a ...any) (any, error) {
	switch v := a[0].(type) {
	case nil:
		return []any{}, nil
	case []any:
		return v, nil
	default:
		return nil, fmt.Errorf("%s stands where a list must", typeName(v))
	}
}

// equal compares scalars as expr does, and lists and objects by their
// elements. What is absent equals nothing.
func equal(s *steps, a, b any) (bool, error) {
	switch x := a.(type) {
	case nil:
		return false, s.take(1)
	case string:
		y, ok := b.(string)
		return ok && x == y, s.take(compared(x, y))
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			return false, s.take(1)
		}
		for i := range x {
			if same, err := equalElements(s, x[i], y[i]); !same || err != nil {
				return false, err
			}
		}
		return true, s.take(1)
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok || len(x) != len(y) {
			return false, s.take(1)
		}
		for name := range x {
			other, ok := y[name]
			if !ok {
				return false, s.take(1 + len(name)/comparedBytes)
			}
			if same, err := equalElements(s, x[name], other); !same || err != nil {
				return false, err
			}
		}
		return true, s.take(1)
	default:
		if b == nil {
			return false, s.take(1)
		}
		return runtime.Equal(a, b), s.take(1)
	}
}

// equalElements: within lists and objects null equals null.
func equalElements(s *steps, a, b any) (bool, error) {
	if a == nil && b == nil {
		return true, s.take(1)
	}
	return equal(s, a, b)
}

func notEqual(a ...any) (any, error) {
	if a[1] == nil || a[2] == nil {
		return false, nil
	}
	same, err := equal(a[0].(*steps), a[1], a[2])
	return !same, err
}

// ordered compares two numbers or two strings.
func ordered(of func(order int) bool) func(a ...any) (any, error) {
	return func(a ...any) (any, error) {
		x, y := a[1], a[2]
		if x == nil || y == nil {
			return false, nil
		}
		order, ok := order(x, y)
		if !ok {
			return false, fmt.Errorf("%s and %s cannot be ordered", typeName(x), typeName(y))
		}
		if s, ok := x.(string); ok {
			return of(order), a[0].(*steps).take(compared(s, y.(string)))
		}
		return of(order), nil
	}
}

// order compares two numbers or two strings; false for other pairs.
func order(a, b any) (int, bool) {
	switch x := a.(type) {
	case string:
		y, ok := b.(string)
		return strings.Compare(x, y), ok
	case int:
		if y, ok := b.(int); ok {
			return compare(x, y), true
		}
	case float64:
	default:
		return 0, false
	}
	x, okX := toFloat64(a)
	y, okY := toFloat64(b)
	return compare(x, y), okX && okY
}

func compare[T int | float64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

func toFloat64(v any) (float64, bool) {
	switch v := v.(type) {
	case int:
		return float64(v), true
	case float64:
		return v, true
	default:
		return 0, false
	}
}

// add adds numbers or joins strings.
func add(a ...any) (any, error) {
	s := a[0].(*steps)
	switch x := a[1].(type) {
	case nil:
		return nil, nil
	case string:
		y, ok := a[2].(string)
		if ok {
			if len(x)+len(y) > maxGrown {
				return nil, fmt.Errorf("+ makes a string longer than %d bytes", maxGrown)
			}
			return x + y, s.take(1 + (len(x)+len(y))/copiedBytes)
		}
	case int:
		if y, ok := a[2].(int); ok {
			return x + y, nil
		}
	}
	if a[2] == nil {
		return nil, nil
	}
	x, okX := toFloat64(a[1])
	y, okY := toFloat64(a[2])
	if !okX || !okY {
		return nil, fmt.Errorf("%s and %s cannot be added", typeName(a[1]), typeName(a[2]))
	}
	return x + y, nil
}

func in(s *steps, needle, in any) (bool, error) {
	if needle == nil {
		return false, nil
	}
	switch in := in.(type) {
	case nil:
		return false, nil
	case []any:
		for _, element := range in {
			if same, err := equal(s, needle, element); same || err != nil {
				return same, err
			}
		}
		return false, nil
	case map[string]any:
		name, ok := needle.(string)
		if !ok {
			return false, nil
		}
		_, ok = in[name]
		return ok, s.take(1 + len(name)/comparedBytes)
	default:
		return false, wrongType("in", in)
	}
}

func notIn(a ...any) (any, error) {
	if a[1] == nil || a[2] == nil {
		return false, nil
	}
	found, err := in(a[0].(*steps), a[1], a[2])
	return !found, err
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
