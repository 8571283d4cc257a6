package filter

import (
	"fmt"
	"strings"

	"github.com/expr-lang/expr/vm/runtime"
)

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
