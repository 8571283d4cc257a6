package cesql

import "math"

// Attributes gives an event's context attributes by name. The second result
// says whether the event has it.
type Attributes interface {
	CESQLAttribute(name string) (Value, bool)
}

// Evaluate gives the expression's value on an event. The value is there beside
// an error too; the error is an *Error.
func (e *Expression) Evaluate(a Attributes) (Value, error) { return e.root.eval(a) }

func (n *Literal) eval(Attributes) (Value, error) { return n.Value, nil }

func (n *Attribute) eval(a Attributes) (Value, error) {
	v, ok := a.CESQLAttribute(n.Name)
	if !ok {
		return zero(Boolean), n.missing
	}
	return v, nil
}

func (n *Exists) eval(a Attributes) (Value, error) {
	if required(n.Name) {
		return boolValue(true), nil
	}
	_, ok := a.CESQLAttribute(n.Name)
	return boolValue(ok), nil
}

func (n *Not) eval(a Attributes) (Value, error) {
	v, err := n.X.eval(a)
	if err != nil {
		return zero(Boolean), err
	}
	v, ok := cast(v, Boolean)
	if !ok {
		return zero(Boolean), n.cast
	}
	return boolValue(!v.Bool), nil
}

func (n *Negate) eval(a Attributes) (Value, error) {
	v, err := n.X.eval(a)
	if err != nil {
		return zero(Integer), err
	}
	v, ok := cast(v, Integer)
	if !ok {
		return zero(Integer), n.cast
	}
	if v.Int == math.MinInt32 {
		return zero(Integer), n.math
	}
	return intValue(-v.Int), nil
}

func (n *Like) eval(a Attributes) (Value, error) {
	v, err := n.X.eval(a)
	if err != nil {
		return zero(Boolean), err
	}
	v, _ = cast(v, String)
	return boolValue(n.pattern.match(v.Str)), nil
}

func (n *In) eval(a Attributes) (Value, error) {
	x, err := n.X.eval(a)
	if err != nil {
		return zero(Boolean), err
	}
	for _, element := range n.Set {
		y, err := element.eval(a)
		if err != nil {
			return zero(Boolean), err
		}
		y, ok := cast(y, x.Type)
		if !ok {
			return zero(Boolean), n.cast
		}
		if x == y {
			return boolValue(true), nil
		}
	}
	return boolValue(false), nil
}

func (n *Binary) eval(a Attributes) (Value, error) {
	switch n.op {
	case opAnd, opOr, opXor:
		return n.logic(a)
	}
	x, err := n.Left.eval(a)
	if err != nil {
		return zero(n.op.result()), err
	}
	y, err := n.Right.eval(a)
	if err != nil {
		return zero(n.op.result()), err
	}
	if n.op == opEqual || n.op == opNotEqual {
		// The right operand's type selects the operator.
		x, ok := cast(x, y.Type)
		if !ok {
			return zero(Boolean), n.cast
		}
		return boolValue((x == y) == (n.op == opEqual)), nil
	}
	x, okX := cast(x, Integer)
	y, okY := cast(y, Integer)
	if !okX || !okY {
		return zero(n.op.result()), n.cast
	}
	return n.arithmetic(x.Int, y.Int)
}

func (n *Binary) arithmetic(x, y int32) (Value, error) {
	var r int64
	switch n.op {
	case opLess:
		return boolValue(x < y), nil
	case opLessOrEqual:
		return boolValue(x <= y), nil
	case opGreater:
		return boolValue(x > y), nil
	case opGreaterOrEqual:
		return boolValue(x >= y), nil
	case opAdd:
		r = int64(x) + int64(y)
	case opSubtract:
		r = int64(x) - int64(y)
	case opMultiply:
		r = int64(x) * int64(y)
	default:
		if y == 0 {
			return zero(Integer), n.math
		}
		if n.op == opDivide {
			r = int64(x) / int64(y)
		} else {
			r = int64(x) % int64(y)
		}
	}
	if r != int64(int32(r)) {
		return zero(Integer), n.math
	}
	return intValue(int32(r)), nil
}

func (n *Binary) logic(a Attributes) (Value, error) {
	x, err := n.Left.eval(a)
	if err != nil {
		return zero(Boolean), err
	}
	x, ok := cast(x, Boolean)
	if !ok {
		return zero(Boolean), n.cast
	}
	if n.op == opAnd && !x.Bool || n.op == opOr && x.Bool {
		return x, nil
	}
	y, err := n.Right.eval(a)
	if err != nil {
		return zero(Boolean), err
	}
	y, ok = cast(y, Boolean)
	if !ok {
		return zero(Boolean), n.cast
	}
	if n.op == opXor {
		return boolValue(x.Bool != y.Bool), nil
	}
	return y, nil // the left operand decides nothing any more
}

func (n *Call) eval(a Attributes) (Value, error) {
	if n.fn == nil {
		return zero(Boolean), n.err[callMissing]
	}
	var few [3]Value
	args := few[:0]
	for i, arg := range n.Args {
		v, err := arg.eval(a)
		if err != nil {
			return zero(n.fn.result), err
		}
		v, ok := cast(v, n.fn.param(i))
		if !ok {
			return zero(n.fn.result), n.err[callCast]
		}
		args = append(args, v)
	}
	v, failed := n.fn.apply(args)
	if failed != noError {
		return v, n.err[failed]
	}
	return v, nil
}
