package cesql

import (
	"cmp"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits bound what an expression may cost. A zero field means its default.
type Limits struct {
	// MaxBytes is the longest expression, in bytes; 16,384.
	MaxBytes int
	// MaxNodes is how many operators, operands and calls it may have; 1,000.
	MaxNodes int
	// MaxDepth is how deep parentheses, unary operators and calls may nest;
	// 64.
	MaxDepth int
}

func (l Limits) withDefaults() Limits {
	l.MaxBytes = cmp.Or(l.MaxBytes, 16<<10)
	l.MaxNodes = cmp.Or(l.MaxNodes, 1000)
	l.MaxDepth = cmp.Or(l.MaxDepth, 64)
	return l
}

// Expression is a parsed expression.
type Expression struct {
	root    Node
	missing *Error
}

// Parse parses an expression. The error is an *Error of kind ParseError. Calls
// of unknown functions parse: see Check.
func Parse(src string, l Limits) (*Expression, error) {
	l = l.withDefaults()
	if len(src) > l.MaxBytes {
		return nil, &Error{Kind: ParseError, Line: 1, Column: 1, Reason: fmt.Sprintf("the expression has %d bytes, more than the limit of %d", len(src), l.MaxBytes)}
	}
	p := &parser{lex: lexer{src: src}, limits: l}
	root := p.parse()
	if p.err != nil {
		place(p.err, src)
		return nil, p.err
	}
	return &Expression{root: root, missing: p.missing}, nil
}

// Root is the expression's tree.
func (e *Expression) Root() Node { return e.root }

// Type is the type of the expression's value as far as it is known.
func (e *Expression) Type() Type { return e.root.Type() }

// Check finds what can be seen to go wrong without an event: a call of a
// function that does not exist, an *Error of kind MissingFunctionError.
func (e *Expression) Check() error {
	if e.missing != nil {
		return e.missing
	}
	return nil
}

// place fills in line and column from the offset.
func place(e *Error, src string) {
	before := src[:min(e.Offset, len(src))]
	e.Line = 1 + strings.Count(before, "\n")
	e.Column = 1 + utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:])
}

type parser struct {
	lex    lexer
	limits Limits
	tok    token
	ahead  *token // read, but not taken
	nodes  int
	depth  int
	err    *Error
	// missing is the first call of an unknown function.
	missing *Error
}

func (p *parser) parse() Node {
	p.advance()
	n := p.expression(precLogic)
	if p.err == nil && p.tok.kind != tokEnd {
		p.fail(p.tok.pos, "unexpected %s: an operator or the end is expected here", p.tok)
	}
	return n
}

func (p *parser) fail(pos int, format string, args ...any) {
	if p.err == nil {
		p.err = &Error{Kind: ParseError, Offset: pos, Reason: fmt.Sprintf(format, args...)}
	}
}

func (p *parser) errorAt(k ErrorKind, pos int, format string, args ...any) *Error {
	e := &Error{Kind: k, Offset: pos, Reason: fmt.Sprintf(format, args...)}
	place(e, p.lex.src)
	return e
}

func (p *parser) advance() {
	if p.err != nil {
		p.tok = token{pos: len(p.lex.src), end: len(p.lex.src)}
		return
	}
	if p.ahead != nil {
		p.tok, p.ahead = *p.ahead, nil
		return
	}
	t, err := p.lex.next()
	if err != nil {
		p.err = err
	}
	p.tok = t
}

// peek gives the token after the current one.
func (p *parser) peek() token {
	if p.ahead == nil && p.err == nil {
		t, err := p.lex.next()
		if err != nil {
			// The fault is reported when the token is taken.
			t = token{kind: tokSymbol, pos: err.Offset, end: err.Offset}
			p.lex.pos = err.Offset
			return t
		}
		p.ahead = &t
	}
	if p.ahead == nil {
		return token{}
	}
	return *p.ahead
}

func (p *parser) expect(symbol, where string) {
	if p.tok.word != symbol {
		p.fail(p.tok.pos, "unexpected %s: %q is expected %s", p.tok, symbol, where)
		return
	}
	p.advance()
}

// node counts a node against the limit.
func (p *parser) node(pos int) {
	p.nodes++
	if p.nodes > p.limits.MaxNodes {
		p.fail(pos, "the expression has more than %d operators and operands", p.limits.MaxNodes)
	}
}

// expression parses operators that bind at least as tightly as prec.
func (p *parser) expression(prec int) Node {
	left := p.unary()
	for p.err == nil {
		pos := p.tok.pos
		word := p.tok.word
		negated := false
		if word == "NOT" {
			if word = p.peek().word; word != "LIKE" && word != "IN" {
				break
			}
			negated = true
		}
		switch word {
		case "LIKE":
			left = p.like(left, negated)
			continue
		case "IN":
			if precIn < prec {
				return left
			}
			left = p.in(left, negated)
			continue
		}
		o, ok := binaryOperatorOf(word)
		if !ok || o.prec < prec {
			break
		}
		p.node(pos)
		p.advance()
		right := p.expression(o.prec + 1)
		left = p.binary(o, pos, left, right)
	}
	return left
}

func (p *parser) binary(o binaryOperator, pos int, left, right Node) Node {
	n := &Binary{Op: o.name, Left: left, Right: right, op: o.op}
	n.cast = p.errorAt(CastError, pos, "an operand of %s cannot be cast to the type that it needs", o.name)
	if o.prec == precAdd || o.prec == precMultiply {
		n.math = p.errorAt(MathError, pos, "%s divides by zero or leaves the range of 32 bits", o.name)
	}
	return n
}

func (p *parser) negate(n Node, pos int, negated bool) Node {
	if !negated {
		return n
	}
	p.node(pos)
	return &Not{X: n}
}

func (p *parser) like(x Node, negated bool) Node {
	pos := p.tok.pos
	if negated {
		p.advance()
	}
	p.advance()
	p.node(pos)
	if p.tok.kind != tokString {
		p.fail(p.tok.pos, "unexpected %s: the pattern of LIKE is a string literal", p.tok)
		return x
	}
	n := &Like{X: x, pattern: compilePattern(p.tok.text)}
	p.advance()
	return p.negate(n, pos, negated)
}

func (p *parser) in(x Node, negated bool) Node {
	pos := p.tok.pos
	if negated {
		p.advance()
	}
	p.advance()
	p.node(pos)
	n := &In{X: x, cast: p.errorAt(CastError, pos, "an element of IN cannot be cast to the type of its left side")}
	p.expect("(", "after IN")
	if p.tok.word == ")" {
		p.fail(p.tok.pos, "the set of IN is empty: give it at least one element")
	}
	n.Set = p.list()
	return p.negate(n, pos, negated)
}

// list parses expressions up to the closing parenthesis, and it.
func (p *parser) list() []Node {
	if !p.enter() {
		return nil
	}
	defer p.leave()
	var nodes []Node
	for p.err == nil {
		nodes = append(nodes, p.expression(precLogic))
		if p.tok.word != "," {
			break
		}
		p.advance()
	}
	p.expect(")", "after the list")
	return nodes
}

func (p *parser) enter() bool {
	p.depth++
	if p.depth > p.limits.MaxDepth {
		p.fail(p.tok.pos, "the expression nests deeper than %d", p.limits.MaxDepth)
	}
	return p.err == nil
}

func (p *parser) leave() { p.depth-- }

func (p *parser) unary() Node {
	if p.err != nil {
		return nil
	}
	pos := p.tok.pos
	switch p.tok.word {
	case "NOT":
		p.node(pos)
		if !p.enter() {
			return nil
		}
		defer p.leave()
		p.advance()
		return &Not{X: p.unary(), cast: p.errorAt(CastError, pos, "the operand of NOT cannot be cast to Boolean")}
	case "-", "+":
		sign := p.tok
		if t := p.peek(); t.kind == tokInteger && t.pos == sign.end {
			p.advance()
			return p.integer(sign.text+t.text, sign.pos)
		}
		if sign.text == "+" {
			p.fail(pos, "unexpected '+': there is no unary +, but as the sign of a number")
			return nil
		}
		p.node(pos)
		if !p.enter() {
			return nil
		}
		defer p.leave()
		p.advance()
		return &Negate{X: p.unary(),
			cast: p.errorAt(CastError, pos, "the operand of - cannot be cast to Integer"),
			math: p.errorAt(MathError, pos, "- leaves the range of 32 bits")}
	default:
		return p.primary()
	}
}

func (p *parser) integer(text string, pos int) Node {
	p.node(pos)
	v, ok := ParseInteger(text)
	if !ok {
		p.fail(pos, "%s is not a 32 bit integer (-2147483648 to 2147483647)", text)
	}
	p.advance()
	return &Literal{Value: intValue(v)}
}

func (p *parser) primary() Node {
	t := p.tok
	switch {
	case t.word == "(":
		if !p.enter() {
			return nil
		}
		defer p.leave()
		p.advance()
		n := p.expression(precLogic)
		p.expect(")", "to close the parenthesis")
		return n
	case t.word == "EXISTS":
		return p.exists()
	case t.word == "TRUE" || t.word == "FALSE":
		p.node(t.pos)
		p.advance()
		return &Literal{Value: boolValue(t.word == "TRUE")}
	case t.kind == tokString:
		p.node(t.pos)
		p.advance()
		return &Literal{Value: stringValue(t.text)}
	case t.kind == tokInteger:
		return p.integer(t.text, t.pos)
	case t.kind == tokWord && t.word == "":
		if p.peek().word == "(" {
			return p.call()
		}
		return p.attribute()
	}
	p.fail(t.pos, "unexpected %s: a value, an attribute or a function is expected here", t)
	return nil
}

// attributeName checks and takes the name of an attribute.
func (p *parser) attributeName() string {
	t := p.tok
	if i := strings.IndexByte(t.text, '_'); i >= 0 {
		p.fail(t.pos+i, "'%s' is no attribute: their names are lower-case letters and digits", t.text)
	}
	p.node(t.pos)
	p.advance()
	return strings.ToLower(t.text)
}

func (p *parser) attribute() Node {
	pos := p.tok.pos
	name := p.attributeName()
	return &Attribute{Name: name, missing: p.errorAt(MissingAttributeError, pos, "the event has no attribute %s", name)}
}

func (p *parser) exists() Node {
	p.advance()
	if t := p.tok; p.err != nil || t.word != "" || t.kind != tokWord && t.kind != tokInteger {
		p.fail(t.pos, "unexpected %s: the name of an attribute is expected after EXISTS", t)
		return nil
	}
	return &Exists{Name: p.attributeName()}
}

func (p *parser) call() Node {
	t := p.tok
	for i := range len(t.text) {
		if c := t.text[i]; !isLetter(c) && (c != '_' || i == 0) {
			p.fail(t.pos+i, "'%s' is no function: their names are letters and _", t.text)
		}
	}
	p.node(t.pos)
	p.advance()
	p.advance()
	n := &Call{Function: strings.ToUpper(t.text)}
	if p.tok.word == ")" {
		p.advance()
	} else {
		n.Args = p.list()
	}
	n.fn = resolve(n.Function, len(n.Args))
	if n.fn == nil {
		n.err[callMissing] = p.errorAt(MissingFunctionError, t.pos, "there is no function %s with %d arguments", n.Function, len(n.Args))
		if p.missing == nil {
			p.missing = n.err[callMissing]
		}
		return n
	}
	n.err[callCast] = p.errorAt(CastError, t.pos, "an argument of %s cannot be cast to the type that it needs", n.Function)
	n.err[callMath] = p.errorAt(MathError, t.pos, "%s leaves the range of 32 bits", n.Function)
	n.err[callEvaluation] = p.errorAt(FunctionEvaluationError, t.pos, "%s", n.fn.fails)
	return n
}
