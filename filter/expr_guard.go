package filter

import (
	"fmt"
	"math"

	"github.com/expr-lang/expr/ast"
)

// exprGuards finds what must hold for an expression to be true. The expression
// declares no variables.
func (l Limits) exprGuards(n ast.Node) []guard {
	if b, ok := n.(*ast.BinaryNode); ok {
		switch b.Operator {
		case "and", "&&":
			return append(l.exprGuards(b.Left), l.exprGuards(b.Right)...)
		case "or", "||":
			return l.unite([][]guard{l.exprGuards(b.Left), l.exprGuards(b.Right)})
		}
	}
	return l.nativeGuards(nativeExpr(n, ""))
}

// nativeGuards gives the guards of one comparison.
func (l Limits) nativeGuards(p predicate) []guard {
	switch p := p.(type) {
	case *exprCompare:
		if p.operator == "==" {
			return l.operandGuard(p.left, []scalar{p.right})
		}
		return p.left.presentGuard()
	case *exprIn:
		if !p.negated {
			return l.operandGuard(p.of, p.list)
		}
		return p.of.presentGuard()
	case *exprTruth:
		return l.operandGuard(p.of, []scalar{{kind: truthValue, truth: true}})
	case *exprAbsent:
		if p.present {
			return p.of.presentGuard()
		}
	case *exprText:
		switch {
		case p.negated || p.of.path != nil:
			return p.of.presentGuard()
		case p.operator == "startsWith":
			return affixGuard(keyPrefix, p.of.attribute, p.text)
		case p.operator == "endsWith":
			return affixGuard(keySuffix, p.of.attribute, p.text)
		default:
			return p.of.presentGuard()
		}
	}
	return nil
}

func (o operand) presentGuard() []guard {
	if o.path != nil {
		return nil
	}
	return presentGuard(o.attribute)
}

// operandGuard: the operand is one of values.
func (l Limits) operandGuard(o operand, values []scalar) []guard {
	if len(values) == 0 || len(values) > l.MaxIndexKeys {
		return nil
	}
	if o.path != nil {
		g := make(guard, len(values))
		for i := range values {
			g[i] = key{kind: keyData, path: o.path, scalar: values[i].key()}
		}
		return []guard{dedupe(g)}
	}
	forms := make([]string, len(values))
	for i := range values {
		var ok bool
		if forms[i], ok = values[i].attributeForm(); !ok {
			return nil
		}
	}
	return l.equalGuard(o.attribute, forms)
}

func dedupe(g guard) guard {
	seen := map[scalarKey]bool{}
	kept := g[:0]
	for _, k := range g {
		if !seen[k.scalar] {
			seen[k.scalar] = true
			kept = append(kept, k)
		}
	}
	return kept
}

func (s *scalar) key() scalarKey {
	switch s.kind {
	case textValue:
		return scalarKeyOf(s.text)
	case wholeValue:
		return scalarKeyOf(s.whole)
	case fractionValue:
		return scalarKeyOf(s.number)
	default:
		return scalarKeyOf(s.truth)
	}
}

// attributeForm is the string form of the attribute that equals s; false where
// an attribute of more than one form could.
func (s *scalar) attributeForm() (string, bool) {
	switch s.kind {
	case textValue:
		return s.text, true
	case wholeValue:
		return fmt.Sprint(s.whole), true
	case truthValue:
		return fmt.Sprint(s.truth), true
	default:
		if s.number == math.Trunc(s.number) && math.Abs(s.number) <= math.MaxUint32 {
			return fmt.Sprint(int(s.number)), true
		}
		return "", false
	}
}
