package filter

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/checker"
	exprcompiler "github.com/expr-lang/expr/compiler"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"

	"github.com/leat-dev/leat/api/event"
)

// exprPredicate is an expr expression that runs on the library's machine.
type exprPredicate struct {
	program    *vm.Program
	attributes []attribute
	maxSteps   int
	path       string
}

func (p *exprPredicate) match(v *View) (bool, error) {
	v.load(p)
	v.steps.left = p.maxSteps
	v.vm.MemoryBudget = uint(p.maxSteps)
	out, err := v.vm.Run(p.program, v.env)
	if err != nil {
		return false, p.runError(err)
	}
	matched, _ := out.(bool)
	return matched, nil
}

// runError keeps the machine's error short: it may quote values of the event.
func (p *exprPredicate) runError(err error) error {
	reason := err.Error()
	if e, ok := errors.AsType[*file.Error](err); ok {
		reason = e.Message
	}
	const most = 200
	if len(reason) > most {
		reason = reason[:most] + "…"
	}
	if e, ok := errors.AsType[*file.Error](err); ok {
		reason = fmt.Sprintf("%d:%d: %s", e.Line, e.Column+1, reason)
	}
	return &EvalError{Path: p.path, Reason: reason, Err: err}
}

// load makes the variables that an expression reads. The data is not among
// them: it is parsed when the expression comes to ask for it.
func (v *View) load(p *exprPredicate) {
	if v.env == nil {
		v.env = map[string]any{}
	}
	if !v.envUsed {
		v.envUsed = true
		v.env[stepsName] = &v.steps
		v.env[viewName] = v
	}
	for _, a := range p.attributes {
		if _, loaded := v.env[a.name]; !loaded {
			v.env[a.name] = v.exprValue(a)
		}
	}
}

// exprValue is an attribute as expr sees it: a string, an int, a bool, or nil
// when the event does not have it.
func (v *View) exprValue(a attribute) any {
	value, ok := v.attribute(a)
	if !ok {
		return nil
	}
	switch value.Kind {
	case event.Integer:
		return int(value.Int)
	case event.Boolean:
		return value.Int != 0
	default:
		return value.Str
	}
}

// expr compiles an expr expression.
func (c *compiler) expr(src, path string) (predicate, []guard) {
	if !c.node(path) {
		return always{}, nil
	}
	tree, err := c.parseExpr(src)
	if err != nil {
		c.exprError(err, src, path)
		return always{}, nil
	}
	names, err := inspect(tree.Node)
	if err != nil {
		c.exprError(err, src, path)
		return always{}, nil
	}
	var guards []guard
	if !names.variables {
		guards = c.limits.exprGuards(tree.Node)
		if p := nativeExpr(tree.Node, path); p != nil {
			return p, guards
		}
	}
	program, err := compileExpr(tree)
	if err != nil {
		c.exprError(err, src, path)
		return always{}, nil
	}
	return &exprPredicate{program: program, attributes: names.attributes, maxSteps: c.limits.MaxSteps, path: path}, guards
}

// exprConfig is the library's configuration: the attributes that every event
// has are strings, any other name is of unknown type and nil when it is
// absent. Of its functions only those are left that exprFunctions reworks.
func exprConfig(maxNodes int) *conf.Config {
	config := conf.CreateNew()
	config.WithEnv(map[string]any{"id": "", "source": "", "type": "", "specversion": ""})
	config.Strict = false
	config.Expect, config.ExpectAny = reflect.Bool, true
	config.MaxNodes = uint(maxNodes)
	// The optimizer would undo what rewrite does, and its faults would become
	// part of the filters' semantics.
	config.Optimize = false
	for name := range config.Builtins {
		config.Disabled[name] = !slices.Contains(exprBuiltins(), name)
	}
	// A name that is not called is an attribute's, also where a function has
	// the same.
	clear(config.Builtins)
	return config
}

// parseExpr parses an expression and checks its types, as its author wrote it.
func (c *compiler) parseExpr(src string) (*parser.Tree, error) {
	if len(src) > c.limits.MaxExpressionBytes {
		return nil, fmt.Errorf("the expression has %d bytes, more than the limit of %d", len(src), c.limits.MaxExpressionBytes)
	}
	if at := nestedDeeper(src, c.limits.MaxExpressionDepth); at >= 0 {
		return nil, &file.Error{Location: file.Location{From: at}, Message: fmt.Sprintf("the expression nests deeper than %d", c.limits.MaxExpressionDepth)}
	}
	config := exprConfig(c.limits.MaxExpressionNodes)
	return checker.ParseCheck(src, config)
}

// compileExpr compiles a tree, rewritten so that it is total and bounded.
func compileExpr(tree *parser.Tree) (*vm.Program, error) {
	config := exprConfig(0)
	for _, f := range exprFunctions() {
		expr.Function(f.name, f.call, f.of)(config)
	}
	r := rewriter{}
	rewritten := &parser.Tree{Node: r.boolean(tree.Node), Source: tree.Source}
	if r.err != nil {
		return nil, r.err
	}
	if _, err := checker.Check(rewritten, config); err != nil {
		return nil, err
	}
	return exprcompiler.Compile(rewritten, config)
}

func (c *compiler) exprError(err error, src, path string) {
	if e, ok := errors.AsType[*file.Error](err); ok {
		if e.Line == 0 {
			e = e.Bind(file.NewSource(src))
		}
		c.errors = append(c.errors, expressionError(path, src, e.Line, e.Column+1, e.Message))
		return
	}
	c.errors = append(c.errors, expressionError(path, src, 1, 1, err.Error()))
}

// nestedDeeper gives the place, in characters, where brackets and unary
// operators nest deeper than a limit, or -1. The library's parser has no bound
// of its own, and the stack that it needs is more than a handler can catch.
func nestedDeeper(src string, limit int) int {
	depth, unary, at := 0, 0, -1
	var quote rune
	escaped := false
	for _, c := range src {
		at++
		switch {
		case quote != 0:
			switch {
			case escaped:
				escaped = false
			case c == '\\' && quote != '`':
				escaped = true
			case c == quote:
				quote = 0
			}
			continue
		case c == '\'' || c == '"' || c == '`':
			quote = c
		case c == '(' || c == '[' || c == '{' || c == '?':
			depth++
		case c == ')' || c == ']' || c == '}':
			depth = max(depth-1, 0)
		case c == '!' || c == '-' || c == '+':
			unary++
		}
		if c != '!' && c != '-' && c != '+' && c != ' ' {
			unary = 0
		}
		if depth > limit || unary > limit {
			return at
		}
	}
	return -1
}

// exprNames is what an expression reads.
type exprNames struct {
	attributes []attribute
	variables  bool // it declares some with let
}

// inspect collects the names that an expression reads and refuses what a
// filter may not do.
func inspect(root ast.Node) (exprNames, error) {
	v := &inspector{declared: map[string]bool{}}
	ast.Walk(&root, v)
	if v.err != nil {
		return exprNames{}, v.err
	}
	names := exprNames{variables: len(v.declared) > 0}
	for _, n := range v.read {
		switch {
		case v.declared[n.Value]:
		case n.Value == "data":
		case !validAttribute(n.Value):
			return exprNames{}, &file.Error{Location: n.Location(), Message: fmt.Sprintf("unknown name %s: the attributes of the event (lower-case letters and digits) and data are known", n.Value)}
		case !slices.ContainsFunc(names.attributes, func(a attribute) bool { return a.name == n.Value }):
			names.attributes = append(names.attributes, attributeOf(n.Value))
		}
	}
	return names, nil
}

type inspector struct {
	declared map[string]bool
	read     []*ast.IdentifierNode
	err      error
}

func (v *inspector) refuse(n ast.Node, format string, args ...any) {
	if v.err == nil {
		v.err = &file.Error{Location: n.Location(), Message: fmt.Sprintf(format, args...)}
	}
}

// Visit is called for each node, the leaves first.
func (v *inspector) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		v.read = append(v.read, n)
	case *ast.VariableDeclaratorNode:
		v.declared[n.Name] = true
		if n.Name == "data" {
			v.refuse(n, "data is the payload: give the variable another name")
		}
	case *ast.CallNode:
		name := n.Callee.String()
		v.refuse(n, "there is no function %.40s: %s are known", name, exprBuiltins())
	case *ast.BuiltinNode:
		v.builtin(n)
	case *ast.BinaryNode:
		switch n.Operator {
		case "matches":
			v.refuse(n, "matches is not available: regular expressions have no bound; use startsWith, endsWith, contains, or LIKE in cesql")
		case "..":
			v.refuse(n, "ranges are not available: compare with >= and <=")
		}
	case *ast.BytesNode:
		v.refuse(n, "bytes are not available: compare strings")
	}
}

func (v *inspector) builtin(n *ast.BuiltinNode) {
	if !slices.Contains(exprBuiltins(), n.Name) {
		v.refuse(n, "there is no function %s: %s are known", n.Name, exprBuiltins())
		return
	}
	if n.Name == "count" && len(n.Arguments) != 2 {
		v.refuse(n, "count needs a list and a condition")
	}
	if n.Name == "trim" && len(n.Arguments) != 1 {
		v.refuse(n, "trim takes one argument and removes white space")
	}
}

// number gives the value of a number's literal, signed or not: an int or a
// float64.
func number(n ast.Node) (any, bool) {
	switch n := n.(type) {
	case *ast.IntegerNode:
		return n.Value, true
	case *ast.FloatNode:
		return n.Value, true
	case *ast.UnaryNode:
		v, ok := number(n.Node)
		if !ok || n.Operator != "-" && n.Operator != "+" {
			return nil, false
		}
		if _, again := n.Node.(*ast.UnaryNode); again {
			return nil, false
		}
		if n.Operator == "+" {
			return v, true
		}
		switch v := v.(type) {
		case int:
			return -v, v != math.MinInt
		case float64:
			return -v, true
		}
	}
	return nil, false
}

// literal gives the value of a scalar literal: a string, int, float64 or bool.
func literal(n ast.Node) (any, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.BoolNode:
		return n.Value, true
	default:
		return number(n)
	}
}
