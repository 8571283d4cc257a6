package filter

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/leat-dev/leat/filter/cesql"
)

// Filter is a compiled Spec. It is immutable and safe for concurrent use.
type Filter struct {
	condition predicate
	// guards are what must hold for the filter to match: of each guard, at
	// least one key. The index files a filter under one of them.
	guards []guard
}

// Compile compiles a filter under the default limits. The error is the first
// *Error that Check would give.
func Compile(s Spec) (*Filter, error) { return Limits{}.Compile(s) }

// Check gives every fault of a filter, in the order of its fields.
func Check(s Spec) []*Error { return Limits{}.Check(s) }

// Compile is the function of that name under these limits.
func (l Limits) Compile(s Spec) (*Filter, error) {
	c := compiler{limits: l.withDefaults()}
	f := c.spec(s)
	if len(c.errors) > 0 {
		return nil, c.errors[0]
	}
	return f, nil
}

// Check is the function of that name under these limits.
func (l Limits) Check(s Spec) []*Error {
	c := compiler{limits: l.withDefaults()}
	c.spec(s)
	return c.errors
}

// Match says whether the filter matches an event. An error means that it could
// not be decided; such a filter does not match. It is an *EvalError or a
// *cesql.Error.
func (f *Filter) Match(v *View) (bool, error) { return f.condition.match(v) }

type compiler struct {
	limits Limits
	nodes  int
	errors []*Error
}

func (c *compiler) fail(path, format string, args ...any) {
	c.errors = append(c.errors, &Error{Path: path, Reason: fmt.Sprintf(format, args...)})
}

// node counts a condition; false when there are too many.
func (c *compiler) node(path string) bool {
	c.nodes++
	if c.nodes == c.limits.MaxNodes+1 {
		c.fail(path, "the filter has more than %d conditions", c.limits.MaxNodes)
	}
	return c.nodes <= c.limits.MaxNodes
}

func (c *compiler) spec(s Spec) *Filter {
	var all allOf
	var guards []guard
	if len(s.Filters) > 0 {
		for i := range s.Filters {
			p, g := c.filter(&s.Filters[i], fmt.Sprintf("filters[%d]", i), 1)
			all, guards = append(all, p), append(guards, g...)
		}
	} else {
		all, guards = c.legacy(s.Attributes)
	}
	switch len(all) {
	case 0:
		return &Filter{condition: always{}}
	case 1:
		return &Filter{condition: all[0], guards: guards}
	default:
		return &Filter{condition: all, guards: guards}
	}
}

func (c *compiler) legacy(attributes map[string]string) (all allOf, guards []guard) {
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		path := keyPath("filter.attributes", name)
		if !c.node(path) {
			break
		}
		a, value := c.attribute(name, path), attributes[name]
		if value == "" {
			all = append(all, &filled{a})
			guards = append(guards, presentGuard(a)...)
			continue
		}
		c.utf8(value, path)
		all = append(all, &equals{a, value})
		guards = append(guards, guard{{kind: keyEqual, attribute: a, value: value}})
	}
	return all, guards
}

// attribute checks an attribute's name.
func (c *compiler) attribute(name, path string) attribute {
	if !validAttribute(name) {
		c.fail(path, "%q is no attribute: their names are lower-case letters and digits", name)
	}
	return attributeOf(name)
}

func validAttribute(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

func (c *compiler) utf8(value, path string) {
	if !utf8.ValidString(value) {
		c.fail(path, "the value is not valid UTF-8")
	}
}

// filter compiles a node and what must hold for it. Where there is a fault it
// notes it and goes on.
func (c *compiler) filter(n *Node, path string, depth int) (predicate, []guard) {
	if depth > c.limits.MaxDepth {
		c.fail(path, "filters nest deeper than %d", c.limits.MaxDepth)
		return always{}, nil
	}
	var set []string
	for _, d := range []struct {
		name string
		set  bool
	}{
		{"exact", n.Exact != nil}, {"prefix", n.Prefix != nil}, {"suffix", n.Suffix != nil}, {"all", n.All != nil},
		{"any", n.Any != nil}, {"not", n.Not != nil}, {"cesql", n.CESQL != ""}, {"expr", n.Expr != ""},
	} {
		if d.set {
			set = append(set, d.name)
		}
	}
	switch len(set) {
	case 0:
		c.fail(path, "empty filter: give one of %s", dialects)
		return always{}, nil
	case 1:
		return c.dialect(n, set[0], path+"."+set[0], depth)
	default:
		c.fail(path, "%s and %s in one filter: write each as a filter of its own", set[0], set[1])
		return always{}, nil
	}
}

func (c *compiler) dialect(n *Node, dialect, path string, depth int) (predicate, []guard) {
	switch dialect {
	case "exact":
		return c.compare(n.Exact, path, keyEqual, func(a attribute, value string) predicate { return &equals{a, value} })
	case "prefix":
		return c.compare(n.Prefix, path, keyPrefix, func(a attribute, value string) predicate { return &hasPrefix{a, value} })
	case "suffix":
		return c.compare(n.Suffix, path, keySuffix, func(a attribute, value string) predicate { return &hasSuffix{a, value} })
	case "all":
		all, guards := c.branches(n.All, path, depth)
		return allOf(all), slices.Concat(guards...)
	case "any":
		branches, guards := c.branches(n.Any, path, depth)
		return anyOf(branches), c.limits.unite(guards)
	case "not":
		if !c.node(path) {
			return always{}, nil
		}
		p, _ := c.filter(n.Not, path, depth+1)
		return &negation{p}, nil
	case "cesql":
		return c.cesql(n.CESQL, path)
	default:
		return c.expr(n.Expr, path)
	}
}

// compare compiles exact, prefix and suffix.
func (c *compiler) compare(m map[string]string, path string, kind keyKind, of func(attribute, string) predicate) (predicate, []guard) {
	if len(m) == 0 {
		c.fail(path, "at least one attribute is expected")
	}
	var all allOf
	var guards []guard
	for _, name := range slices.Sorted(maps.Keys(m)) {
		at := keyPath(path, name)
		if !c.node(at) {
			break
		}
		a, value := c.attribute(name, at), m[name]
		if value == "" {
			c.fail(at, "empty value: give what the attribute is compared with")
		}
		c.utf8(value, at)
		all = append(all, of(a, value))
		guards = append(guards, guard{{kind: kind, attribute: a, value: value}})
	}
	if len(all) == 1 {
		return all[0], guards
	}
	return all, guards
}

// branches compiles all and any; it gives the guards of each branch.
func (c *compiler) branches(nodes []Node, path string, depth int) ([]predicate, [][]guard) {
	if len(nodes) == 0 {
		c.fail(path, "at least one filter is expected")
	}
	var conditions []predicate
	var guards [][]guard
	for i := range nodes {
		at := fmt.Sprintf("%s[%d]", path, i)
		if !c.node(at) {
			break
		}
		p, g := c.filter(&nodes[i], at, depth+1)
		conditions, guards = append(conditions, p), append(guards, g)
	}
	return conditions, guards
}

func (c *compiler) cesql(src, path string) (predicate, []guard) {
	if !c.node(path) {
		return always{}, nil
	}
	e, err := cesql.Parse(src, c.limits.cesql())
	if err == nil {
		err = e.Check()
	}
	if err != nil {
		c.cesqlError(err, src, path)
		return always{}, nil
	}
	if t := e.Type(); t != cesql.Any && t != cesql.Boolean {
		c.errors = append(c.errors, expressionError(path, src, 1, 1, fmt.Sprintf("the expression is of type %s: a filter must be Boolean, for example a comparison", t)))
		return always{}, nil
	}
	p := &cesqlPredicate{expression: e, notBoolean: &EvalError{Path: path, Reason: "the value of the expression is no Boolean"}}
	return p, c.limits.cesqlGuards(e.Root())
}

func (c *compiler) cesqlError(err error, src, path string) {
	if e, ok := errors.AsType[*cesql.Error](err); ok {
		c.errors = append(c.errors, expressionError(path, src, e.Line, e.Column, e.Kind.String()+": "+e.Reason))
		return
	}
	c.fail(path, "%v", err)
}
