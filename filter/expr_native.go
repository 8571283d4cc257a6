package filter

import (
	"strings"

	"github.com/expr-lang/expr/ast"

	"github.com/leat-dev/leat/api/event"
)

// An expression made of nothing but comparisons of attributes and places in
// the data with literals needs no machine: it becomes a tree of the conditions
// below. They mean what the rewritten expression means; errors too, and the
// order in which and and or look at their operands. A test compares the two on
// random expressions.

// operand is an attribute, or a place in the data.
type operand struct {
	attribute attribute
	path      *dataPath // nil for an attribute
}

// scalar is an operand's value without the allocation of an interface.
type scalar struct {
	kind   valueKind
	text   string
	whole  int     // of a whole number
	number float64 // of a fraction
	truth  bool
}

type valueKind uint8

const (
	absentValue valueKind = iota
	textValue
	wholeValue
	fractionValue
	truthValue
	otherValue // a list or an object
)

func scalarOf(v any) scalar {
	switch v := v.(type) {
	case nil:
		return scalar{}
	case string:
		return scalar{kind: textValue, text: v}
	case int:
		return scalar{kind: wholeValue, whole: v}
	case float64:
		return scalar{kind: fractionValue, number: v}
	case bool:
		return scalar{kind: truthValue, truth: v}
	default:
		return scalar{kind: otherValue}
	}
}

func (o *operand) value(v *View) (scalar, error) {
	if o.path != nil {
		data, err := v.Data()
		if err != nil {
			return scalar{}, err
		}
		return scalarOf(o.path.of(data)), nil
	}
	a, ok := v.attribute(o.attribute)
	switch {
	case !ok:
		return scalar{}, nil
	case a.Kind == event.Integer:
		return scalar{kind: wholeValue, whole: int(a.Int)}, nil
	case a.Kind == event.Boolean:
		return scalar{kind: truthValue, truth: a.Int != 0}, nil
	default:
		return scalar{kind: textValue, text: a.Str}, nil
	}
}

func (s *scalar) asFloat() (float64, bool) {
	switch s.kind {
	case wholeValue:
		return float64(s.whole), true
	case fractionValue:
		return s.number, true
	default:
		return 0, false
	}
}

func (s *scalar) equal(o *scalar) bool {
	if s.kind == o.kind {
		return *s == *o && s.kind != otherValue
	}
	x, okX := s.asFloat()
	y, okY := o.asFloat()
	return okX && okY && x == y
}

// order compares two numbers or two strings.
func (s *scalar) order(o *scalar) (int, bool) {
	switch {
	case s.kind == textValue && o.kind == textValue:
		return strings.Compare(s.text, o.text), true
	case s.kind == wholeValue && o.kind == wholeValue:
		return compare(s.whole, o.whole), true
	default:
		x, okX := s.asFloat()
		y, okY := o.asFloat()
		return compare(x, y), okX && okY
	}
}

// exprCompare is operand OP literal.
type exprCompare struct {
	left     operand
	operator string
	right    scalar
	err      error
}

func (p *exprCompare) match(v *View) (bool, error) {
	left, err := p.left.value(v)
	if err != nil {
		return false, err
	}
	if left.kind == absentValue {
		return false, nil
	}
	switch p.operator {
	case "==":
		return left.equal(&p.right), nil
	case "!=":
		return !left.equal(&p.right), nil
	}
	order, ok := left.order(&p.right)
	if !ok {
		return false, p.err
	}
	switch p.operator {
	case "<":
		return order < 0, nil
	case "<=":
		return order <= 0, nil
	case ">":
		return order > 0, nil
	default:
		return order >= 0, nil
	}
}

// exprAbsent is operand == nil, and with present its opposite.
type exprAbsent struct {
	of      operand
	present bool
}

func (p *exprAbsent) match(v *View) (bool, error) {
	x, err := p.of.value(v)
	if err != nil {
		return false, err
	}
	return (x.kind == absentValue) != p.present, nil
}

// exprIn is operand in [literals].
type exprIn struct {
	of      operand
	list    []scalar
	negated bool
}

func (p *exprIn) match(v *View) (bool, error) {
	x, err := p.of.value(v)
	if err != nil || x.kind == absentValue {
		return false, err
	}
	for i := range p.list {
		if x.equal(&p.list[i]) {
			return !p.negated, nil
		}
	}
	return p.negated, nil
}

// exprText is operand contains, startsWith or endsWith literal.
type exprText struct {
	of       operand
	operator string
	text     string
	negated  bool
	err      error
}

func (p *exprText) match(v *View) (bool, error) {
	x, err := p.of.value(v)
	if err != nil || x.kind == absentValue {
		return false, err
	}
	if x.kind != textValue {
		return false, p.err
	}
	switch p.operator {
	case "contains":
		return strings.Contains(x.text, p.text) != p.negated, nil
	case "startsWith":
		return strings.HasPrefix(x.text, p.text) != p.negated, nil
	default:
		return strings.HasSuffix(x.text, p.text) != p.negated, nil
	}
}

// exprTruth is an operand that stands alone where a boolean must.
type exprTruth struct {
	of  operand
	err error
}

func (p *exprTruth) match(v *View) (bool, error) {
	x, err := p.of.value(v)
	if err != nil || x.kind == absentValue {
		return false, err
	}
	if x.kind != truthValue {
		return false, p.err
	}
	return x.truth, nil
}

// exprBoth and exprEither look at the right operand only when the left one
// leaves it open; an error on the way is the result.
type exprBoth struct{ left, right predicate }

func (p *exprBoth) match(v *View) (bool, error) {
	if ok, err := p.left.match(v); !ok || err != nil {
		return false, err
	}
	return p.right.match(v)
}

type exprEither struct{ left, right predicate }

func (p *exprEither) match(v *View) (bool, error) {
	if ok, err := p.left.match(v); ok || err != nil {
		return ok, err
	}
	return p.right.match(v)
}

// never is the literal false.
type never struct{}

func (never) match(*View) (bool, error) { return false, nil }

// nativeExpr makes the conditions of an expression that stands where a boolean
// must, or nil when it needs the machine.
func nativeExpr(n ast.Node, path string) predicate {
	switch n := n.(type) {
	case *ast.BoolNode:
		if n.Value {
			return always{}
		}
		return never{}
	case *ast.UnaryNode:
		return nativeNot(n, path)
	case *ast.BinaryNode:
		switch n.Operator {
		case "and", "&&", "or", "||":
			left, right := nativeExpr(n.Left, path), nativeExpr(n.Right, path)
			switch {
			case left == nil || right == nil:
				return nil
			case n.Operator == "and" || n.Operator == "&&":
				return &exprBoth{left, right}
			default:
				return &exprEither{left, right}
			}
		}
		return nativeComparison(n, false, path)
	default:
		if o, ok := operandOf(n); ok {
			return &exprTruth{of: o, err: typeError(path, "a value that is no boolean stands where a boolean must")}
		}
		return nil
	}
}

func typeError(path, reason string) error { return &EvalError{Path: path, Reason: reason} }

func nativeNot(n *ast.UnaryNode, path string) predicate {
	if n.Operator != "not" && n.Operator != "!" {
		return nil
	}
	if b, ok := negatedOperator(n); ok {
		return nativeComparison(b, true, path)
	}
	if of := nativeExpr(n.Node, path); of != nil {
		return &negation{of}
	}
	return nil
}

func nativeComparison(n *ast.BinaryNode, negated bool, path string) predicate {
	left, ok := operandOf(n.Left)
	if !ok {
		return nativeReversed(n, path)
	}
	switch n.Operator {
	case "==", "!=", "<", "<=", ">", ">=":
		if _, isNil := n.Right.(*ast.NilNode); isNil {
			if n.Operator != "==" && n.Operator != "!=" {
				return nil
			}
			return &exprAbsent{of: left, present: n.Operator == "!="}
		}
		if v, ok := literal(n.Right); ok {
			return &exprCompare{left: left, operator: n.Operator, right: scalarOf(v), err: typeError(path, "the operands of "+n.Operator+" cannot be ordered")}
		}
	case "in":
		if list, ok := literals(n.Right); ok {
			return &exprIn{of: left, list: list, negated: negated}
		}
	case "contains", "startsWith", "endsWith":
		if s, ok := n.Right.(*ast.StringNode); ok {
			return &exprText{of: left, operator: n.Operator, text: s.Value, negated: negated, err: typeError(path, "the left side of "+n.Operator+" is no string")}
		}
	}
	return nil
}

// nativeReversed is literal OP operand.
func nativeReversed(n *ast.BinaryNode, path string) predicate {
	right, ok := operandOf(n.Right)
	if !ok {
		return nil
	}
	operator := n.Operator
	switch operator {
	case "==", "!=":
	case "<":
		operator = ">"
	case "<=":
		operator = ">="
	case ">":
		operator = "<"
	case ">=":
		operator = "<="
	default:
		return nil
	}
	if _, isNil := n.Left.(*ast.NilNode); isNil && (operator == "==" || operator == "!=") {
		return &exprAbsent{of: right, present: operator == "!="}
	}
	if v, ok := literal(n.Left); ok {
		return &exprCompare{left: right, operator: operator, right: scalarOf(v), err: typeError(path, "the operands of "+n.Operator+" cannot be ordered")}
	}
	return nil
}

func literals(n ast.Node) ([]scalar, bool) {
	a, ok := n.(*ast.ArrayNode)
	if !ok {
		return nil, false
	}
	list := make([]scalar, len(a.Nodes))
	for i := range a.Nodes {
		v, ok := literal(a.Nodes[i])
		if !ok {
			return nil, false
		}
		list[i] = scalarOf(v)
	}
	return list, true
}

// operandOf gives the attribute or the place in the data that a node reads.
func operandOf(n ast.Node) (operand, bool) {
	if name, ok := n.(*ast.IdentifierNode); ok && name.Value != "data" {
		return operand{attribute: attributeOf(name.Value)}, true
	}
	steps, ok := dataSteps(n, 0)
	if !ok {
		return operand{}, false
	}
	return operand{path: newDataPath(steps)}, true
}

func dataSteps(n ast.Node, depth int) ([]dataStep, bool) {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return make([]dataStep, 0, depth), n.Value == "data"
	case *ast.ChainNode:
		return dataSteps(n.Node, depth)
	case *ast.MemberNode:
		steps, ok := dataSteps(n.Node, depth+1)
		if !ok {
			return nil, false
		}
		switch p := n.Property.(type) {
		case *ast.StringNode:
			return append(steps, dataStep{name: p.Value}), true
		case *ast.IntegerNode:
			return append(steps, dataStep{index: p.Value, array: true}), p.Value >= 0
		}
	}
	return nil, false
}
