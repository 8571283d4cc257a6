package cesql

// Node is a node of a parsed expression: *Literal, *Attribute, *Not, *Negate,
// *Binary, *Like, *In, *Exists or *Call. Nodes must not be modified.
type Node interface {
	// Type is the type of the node's value as far as it is known without an
	// event.
	Type() Type
	eval(a Attributes) (Value, error)
}

// Literal is a constant.
type Literal struct{ Value Value }

// Attribute reads a context attribute.
type Attribute struct {
	Name    string
	missing *Error
}

// Not is NOT x.
type Not struct {
	X    Node
	cast *Error
}

// Negate is -x.
type Negate struct {
	X          Node
	cast, math *Error
}

// Binary is a binary operator on two operands. Op is one of = != < <= > >= + -
// * / % AND OR XOR (<> is !=).
type Binary struct {
	Op         string
	Left       Node
	Right      Node
	op         operator
	cast, math *Error
}

// Like is x LIKE pattern. (NOT LIKE is a Not around it.)
type Like struct {
	X       Node
	pattern pattern
}

// Edges gives the literal text that every matching string begins and ends
// with, and whether the pattern is that literal alone.
func (n *Like) Edges() (prefix, suffix string, exact bool) { return n.pattern.edges() }

// In is x IN (set). (NOT IN is a Not around it.)
type In struct {
	X    Node
	Set  []Node
	cast *Error
}

// Exists is EXISTS name.
type Exists struct{ Name string }

// Call is a call of a function. One that no function answers to is a
// MissingFunctionError when it is evaluated; Expression.Check finds it before.
type Call struct {
	Function string // in upper case
	Args     []Node
	fn       *function // nil when there is none
	err      [4]*Error // by callError
}

type callError uint8

const (
	callMissing callError = iota
	callCast
	callMath
	callEvaluation
)

func (n *Literal) Type() Type   { return n.Value.Type }
func (n *Attribute) Type() Type { return attributeType(n.Name) }
func (*Not) Type() Type         { return Boolean }
func (*Negate) Type() Type      { return Integer }
func (n *Binary) Type() Type    { return n.op.result() }
func (*Like) Type() Type        { return Boolean }
func (*In) Type() Type          { return Boolean }
func (*Exists) Type() Type      { return Boolean }
func (n *Call) Type() Type {
	if n.fn == nil {
		return Any
	}
	return n.fn.result
}

// attributeType: the attributes of the specification itself are Strings (URIs
// and times too), an extension can be anything.
func attributeType(name string) Type {
	switch name {
	case "id", "source", "type", "specversion", "subject", "time", "datacontenttype", "dataschema":
		return String
	default:
		return Any
	}
}

// required says that an attribute is on every event.
func required(name string) bool {
	switch name {
	case "id", "source", "type", "specversion":
		return true
	default:
		return false
	}
}

type operator uint8

const (
	opEqual operator = iota
	opNotEqual
	opLess
	opLessOrEqual
	opGreater
	opGreaterOrEqual
	opAdd
	opSubtract
	opMultiply
	opDivide
	opModulo
	opAnd
	opOr
	opXor
)

func (o operator) result() Type {
	switch o {
	case opAdd, opSubtract, opMultiply, opDivide, opModulo:
		return Integer
	default:
		return Boolean
	}
}

// Precedences of binary and postfix operators, the loosest first.
const (
	precLogic = iota + 1
	precCompare
	precAdd
	precMultiply
	precIn
	precLike
)

type binaryOperator struct {
	op   operator
	name string
	prec int
}

func binaryOperatorOf(word string) (binaryOperator, bool) {
	switch word {
	case "=":
		return binaryOperator{opEqual, "=", precCompare}, true
	case "!=", "<>":
		return binaryOperator{opNotEqual, "!=", precCompare}, true
	case "<":
		return binaryOperator{opLess, "<", precCompare}, true
	case "<=":
		return binaryOperator{opLessOrEqual, "<=", precCompare}, true
	case ">":
		return binaryOperator{opGreater, ">", precCompare}, true
	case ">=":
		return binaryOperator{opGreaterOrEqual, ">=", precCompare}, true
	case "+":
		return binaryOperator{opAdd, "+", precAdd}, true
	case "-":
		return binaryOperator{opSubtract, "-", precAdd}, true
	case "*":
		return binaryOperator{opMultiply, "*", precMultiply}, true
	case "/":
		return binaryOperator{opDivide, "/", precMultiply}, true
	case "%":
		return binaryOperator{opModulo, "%", precMultiply}, true
	case "AND":
		return binaryOperator{opAnd, "AND", precLogic}, true
	case "OR":
		return binaryOperator{opOr, "OR", precLogic}, true
	case "XOR":
		return binaryOperator{opXor, "XOR", precLogic}, true
	default:
		return binaryOperator{}, false
	}
}
