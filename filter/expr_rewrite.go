package filter

import (
	"fmt"
	"reflect"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
)

// stepsName and viewName are the variables that hold the steps that are left
// and the View. No text can name them, or the functions that begin with $:
// inspect refuses such names.
const (
	stepsName = "$steps"
	viewName  = "$view"
)

// rewriter makes an expression total and bounded: reads of what is absent,
// comparisons and functions become calls of exprFunctions, which know what is
// absent and count their work, and the bodies of any, all, none, one and count
// take steps.
type rewriter struct{ err *file.Error }

// at gives a new node the place of the old one.
func at[N ast.Node](n N, old ast.Node) N {
	n.SetLocation(old.Location())
	return n
}

func (r *rewriter) call(old ast.Node, function string, args ...ast.Node) ast.Node {
	return at(&ast.CallNode{Callee: at(&ast.IdentifierNode{Value: function}, old), Arguments: args}, old)
}

// counted is a call of a function whose first parameter are the steps.
func (r *rewriter) counted(old ast.Node, function string, args ...ast.Node) ast.Node {
	return r.call(old, function, append([]ast.Node{at(&ast.IdentifierNode{Value: stepsName}, old)}, args...)...)
}

// node rewrites a node. It changes none: the parser lets comparisons share
// them.
func (r *rewriter) node(n ast.Node) ast.Node {
	switch n := n.(type) {
	case *ast.ChainNode:
		return r.node(n.Node)
	case *ast.MemberNode:
		return r.member(n)
	case *ast.UnaryNode:
		return r.unary(n)
	case *ast.BinaryNode:
		return r.binary(n)
	case *ast.BuiltinNode:
		return r.builtin(n)
	case *ast.SliceNode:
		s := &ast.SliceNode{Node: r.node(n.Node)}
		if n.From != nil {
			s.From = r.node(n.From)
		}
		if n.To != nil {
			s.To = r.node(n.To)
		}
		return at(s, n)
	case *ast.ConditionalNode:
		return at(&ast.ConditionalNode{Ternary: n.Ternary, Cond: r.boolean(n.Cond), Exp1: r.node(n.Exp1), Exp2: r.node(n.Exp2)}, n)
	case *ast.VariableDeclaratorNode:
		return at(&ast.VariableDeclaratorNode{Name: n.Name, Value: r.node(n.Value), Expr: r.node(n.Expr)}, n)
	case *ast.SequenceNode:
		return at(&ast.SequenceNode{Nodes: r.nodes(n.Nodes)}, n)
	case *ast.ArrayNode:
		return r.array(n)
	case *ast.MapNode:
		return at(&ast.MapNode{Pairs: r.nodes(n.Pairs)}, n)
	case *ast.PairNode:
		return at(&ast.PairNode{Key: r.node(n.Key), Value: r.node(n.Value)}, n)
	case *ast.IdentifierNode:
		if n.Value == "data" {
			return r.call(n, "$data", at(&ast.IdentifierNode{Value: viewName}, n))
		}
		return n
	case *ast.NilNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.StringNode, *ast.PointerNode:
		return n
	default:
		if r.err == nil {
			r.err = &file.Error{Message: fmt.Sprintf("%T is not available", n)}
		}
		return n
	}
}

func (r *rewriter) nodes(list []ast.Node) []ast.Node {
	out := make([]ast.Node, len(list))
	for i := range list {
		out[i] = r.node(list[i])
	}
	return out
}

func (r *rewriter) member(n *ast.MemberNode) ast.Node {
	switch n.Property.(type) {
	case *ast.StringNode, *ast.IntegerNode:
		return r.call(n, "$get", r.node(n.Node), n.Property)
	default:
		return r.counted(n, "$index", r.node(n.Node), r.node(n.Property))
	}
}

// array turns a list of literals into a constant, so that it is not built at
// each evaluation.
func (r *rewriter) array(n *ast.ArrayNode) ast.Node {
	values := make([]any, len(n.Nodes))
	for i := range n.Nodes {
		v, ok := literal(n.Nodes[i])
		if !ok {
			return at(&ast.ArrayNode{Nodes: r.nodes(n.Nodes)}, n)
		}
		values[i] = v
	}
	c := at(&ast.ConstantNode{Value: values}, n)
	c.SetType(reflect.TypeOf(values))
	return c
}

// boolean rewrites a node that stands where a boolean must: what is absent
// counts as false there.
func (r *rewriter) boolean(n ast.Node) ast.Node {
	rewritten := r.node(n)
	switch n := n.(type) {
	case *ast.BoolNode:
		return rewritten
	case *ast.UnaryNode:
		if n.Operator == "not" || n.Operator == "!" {
			return rewritten
		}
	case *ast.BinaryNode:
		switch n.Operator {
		case "and", "&&", "or", "||", "==", "!=", "<", "<=", ">", ">=", "in", "contains", "startsWith", "endsWith":
			return rewritten
		}
	case *ast.BuiltinNode:
		switch n.Name {
		case "any", "all", "none", "one":
			return rewritten
		}
	}
	return r.call(n, "$bool", rewritten)
}

// negatable are the operators that may be written with "not" before them.
func negatable(operator string) bool {
	switch operator {
	case "in", "contains", "startsWith", "endsWith":
		return true
	default:
		return false
	}
}

// negatedOperator says whether n is "a not in b" (or contains, startsWith,
// endsWith), which unlike "not (a in b)" is false when a or b is absent. The
// parser makes the same tree of both, but for the place of the not.
func negatedOperator(n *ast.UnaryNode) (*ast.BinaryNode, bool) {
	b, ok := n.Node.(*ast.BinaryNode)
	if !ok || n.Operator != "not" || !negatable(b.Operator) {
		return nil, false
	}
	return b, n.Location() == b.Location()
}

func (r *rewriter) unary(n *ast.UnaryNode) ast.Node {
	switch n.Operator {
	case "not", "!":
		if b, ok := negatedOperator(n); ok {
			return r.counted(b, "$not_"+b.Operator, r.node(b.Left), r.node(b.Right))
		}
		return at(&ast.UnaryNode{Operator: n.Operator, Node: r.boolean(n.Node)}, n)
	default:
		return at(&ast.UnaryNode{Operator: n.Operator, Node: r.node(n.Node)}, n)
	}
}

func (r *rewriter) binary(n *ast.BinaryNode) ast.Node {
	switch n.Operator {
	case "and", "&&", "or", "||":
		return at(&ast.BinaryNode{Operator: n.Operator, Left: r.boolean(n.Left), Right: r.boolean(n.Right)}, n)
	}
	left, right := r.node(n.Left), r.node(n.Right)
	_, leftNil := n.Left.(*ast.NilNode)
	_, rightNil := n.Right.(*ast.NilNode)
	_, leftLiteral := literal(n.Left)
	_, rightLiteral := literal(n.Right)
	switch n.Operator {
	case "==":
		if !leftNil && !rightNil && !leftLiteral && !rightLiteral {
			return r.counted(n, "$eq", left, right)
		}
	case "!=":
		if !leftNil && !rightNil {
			return r.counted(n, "$ne", left, right)
		}
	case "<", "<=", ">", ">=":
		if !isNumber(n.Left) || !isNumber(n.Right) {
			return r.counted(n, "$"+n.Operator, left, right)
		}
	case "in", "contains", "startsWith", "endsWith":
		return r.counted(n, "$"+n.Operator, left, right)
	case "+":
		if !isNumber(n.Left) || !isNumber(n.Right) {
			return r.counted(n, "$+", left, right)
		}
	}
	return at(&ast.BinaryNode{Operator: n.Operator, Left: left, Right: right}, n)
}

// isNumber says that a node is certain to be a number after rewriting too.
func isNumber(n ast.Node) bool {
	if _, ok := number(n); ok {
		return true
	}
	switch n := n.(type) {
	case *ast.BinaryNode:
		switch n.Operator {
		case "-", "*", "/", "%", "**", "^":
			return true
		case "+":
			return isNumber(n.Left) && isNumber(n.Right)
		}
	case *ast.BuiltinNode:
		return n.Name == "count"
	}
	return false
}

func (r *rewriter) builtin(n *ast.BuiltinNode) ast.Node {
	switch n.Name {
	case "any", "all", "none", "one", "count":
	default:
		return r.counted(n, "$"+n.Name, r.nodes(n.Arguments)...)
	}
	predicate, ok := n.Arguments[1].(*ast.PredicateNode)
	if !ok {
		r.err = &file.Error{Location: n.Location(), Message: n.Name + " needs a list and a condition"}
		return n
	}
	body := r.boolean(predicate.Node)
	size := &nodeCounter{}
	ast.Walk(&body, size)
	step := r.counted(n, "$step", at(&ast.IntegerNode{Value: size.nodes + 1}, n))
	body = at(&ast.BinaryNode{Operator: "&&", Left: step, Right: body}, predicate)
	return at(&ast.BuiltinNode{Name: n.Name, Arguments: []ast.Node{
		r.call(n, "$list", r.node(n.Arguments[0])),
		at(&ast.PredicateNode{Node: body}, predicate),
	}}, n)
}

type nodeCounter struct{ nodes int }

// Visit counts a node.
func (c *nodeCounter) Visit(*ast.Node) { c.nodes++ }
