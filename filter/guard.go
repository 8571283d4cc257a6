package filter

import (
	"slices"
	"strconv"
	"strings"

	"github.com/leat-dev/leat/filter/cesql"
)

// A guard is a list of keys of which at least one holds on every event that
// the filter matches: a necessary condition, so an index that looks at guards
// alone may find too many filters, but never misses one. A filter may have
// several guards; each of them is necessary.
type guard []key

type keyKind uint8

// In the order in which they are preferred.
const (
	// keyEqual: the attribute's string form is value.
	keyEqual keyKind = iota
	// keyData: the data has this scalar at path.
	keyData
	// keyPrefix and keySuffix: the attribute's string form begins or ends with
	// value.
	keyPrefix
	keySuffix
	// keyPresent: the event has the attribute.
	keyPresent
)

type key struct {
	kind      keyKind
	attribute attribute
	value     string
	path      *dataPath
	scalar    scalarKey
}

func (k *key) same(o *key) bool {
	if k.kind != o.kind || k.attribute != o.attribute || k.value != o.value || k.scalar != o.scalar {
		return false
	}
	return k.kind != keyData || k.path.text == o.path.text
}

func presentGuard(a attribute) []guard {
	if a.required() {
		return nil
	}
	return []guard{{{kind: keyPresent, attribute: a}}}
}

// affixGuard is the guard of a prefix or suffix, which may be empty.
func affixGuard(kind keyKind, a attribute, value string) []guard {
	if value == "" {
		return presentGuard(a)
	}
	return []guard{{{kind: kind, attribute: a, value: value}}}
}

// unite makes the guards of a condition that holds when one of its branches
// does, from those of each branch.
func (l Limits) unite(branches [][]guard) []guard {
	var united guard
	for _, guards := range branches {
		best := bestGuard(guards)
		if best == nil {
			return nil
		}
		for i := range best {
			if !slices.ContainsFunc(united, func(k key) bool { return k.same(&best[i]) }) {
				united = append(united, best[i])
			}
		}
		if len(united) > l.MaxIndexKeys {
			return nil
		}
	}
	if united == nil {
		return nil
	}
	return []guard{united}
}

// bestGuard is the one that is likely to hold least often, nil when there is
// none.
func bestGuard(guards []guard) guard {
	var best guard
	worst := func(g guard) (rank int) {
		for i := range g {
			rank = max(rank, int(g[i].kind))
		}
		return rank*1000 + len(g)
	}
	for _, g := range guards {
		if best == nil || worst(g) < worst(best) {
			best = g
		}
	}
	return best
}

// equalGuard is the guard of an attribute's string form being one of values.
func (l Limits) equalGuard(a attribute, values []string) []guard {
	slices.Sort(values)
	values = slices.Compact(values)
	if len(values) == 0 || len(values) > l.MaxIndexKeys {
		return nil
	}
	g := make(guard, len(values))
	for i, value := range values {
		g[i] = key{kind: keyEqual, attribute: a, value: value}
	}
	return []guard{g}
}

// cesqlGuards finds what must hold for a CESQL expression to be true. It has
// to allow for the language's implicit casts: whatever value of whatever type
// an attribute has, if the expression is true then a key of the guard is the
// attribute's string form.
func (l Limits) cesqlGuards(n cesql.Node) []guard {
	switch n := n.(type) {
	case *cesql.Binary:
		switch n.Op {
		case "AND":
			return append(l.cesqlGuards(n.Left), l.cesqlGuards(n.Right)...)
		case "OR":
			return l.unite([][]guard{l.cesqlGuards(n.Left), l.cesqlGuards(n.Right)})
		case "=":
			return l.cesqlEqual(n)
		}
	case *cesql.In:
		return l.cesqlIn(n)
	case *cesql.Like:
		if a, ok := n.X.(*cesql.Attribute); ok {
			return l.likeGuards(attributeOf(a.Name), n)
		}
	case *cesql.Exists:
		return presentGuard(attributeOf(n.Name))
	}
	return nil
}

// cesqlEqual: the left operand is cast to the right one's type.
func (l Limits) cesqlEqual(n *cesql.Binary) []guard {
	if a, ok := n.Left.(*cesql.Attribute); ok {
		// Only a String on the right compares the attribute's string form; an
		// Integer or Boolean has many ("5", "+5" and "05" are all 5).
		if c, ok := n.Right.(*cesql.Literal); ok && c.Value.Type == cesql.String {
			return l.equalGuard(attributeOf(a.Name), []string{c.Value.Str})
		}
		return nil
	}
	if a, ok := n.Right.(*cesql.Attribute); ok {
		if c, ok := n.Left.(*cesql.Literal); ok {
			return l.equalGuard(attributeOf(a.Name), castForms(c.Value))
		}
	}
	return nil
}

// cesqlIn: the elements are cast to the left operand's type.
func (l Limits) cesqlIn(n *cesql.In) []guard {
	a, ok := n.X.(*cesql.Attribute)
	if !ok {
		return nil
	}
	var values []string
	for _, element := range n.Set {
		c, ok := element.(*cesql.Literal)
		if !ok {
			return nil
		}
		values = append(values, castForms(c.Value)...)
	}
	return l.equalGuard(attributeOf(a.Name), values)
}

// castForms gives the string forms of what a literal becomes when it is cast
// to the type of an attribute: the attribute that equals it has one of them.
func castForms(v cesql.Value) []string {
	switch v.Type {
	case cesql.Integer:
		return []string{strconv.Itoa(int(v.Int)), strconv.FormatBool(v.Int != 0)}
	case cesql.Boolean:
		if v.Bool {
			return []string{"true", "1"}
		}
		return []string{"false", "0"}
	default:
		forms := []string{v.Str}
		if i, ok := cesql.ParseInteger(v.Str); ok {
			forms = append(forms, strconv.Itoa(int(i)))
		}
		if b, ok := cesql.ParseBoolean(v.Str); ok {
			forms = append(forms, strconv.FormatBool(b))
		}
		return forms
	}
}

func (l Limits) likeGuards(a attribute, n *cesql.Like) []guard {
	prefix, suffix, exact := n.Edges()
	if exact {
		return l.equalGuard(a, []string{prefix})
	}
	return append(affixGuard(keyPrefix, a, prefix), affixGuard(keySuffix, a, suffix)...)
}

// dataPath is a place in the data: names of object fields and places in
// arrays.
type dataPath struct {
	steps []dataStep
	text  string // one text for each path
}

type dataStep struct {
	name  string
	index int // when name is not used
	array bool
}

func newDataPath(steps []dataStep) *dataPath {
	var b strings.Builder
	for _, s := range steps {
		if s.array {
			b.WriteString("[" + strconv.Itoa(s.index) + "]")
		} else {
			b.WriteString("." + strconv.Quote(s.name))
		}
	}
	return &dataPath{steps: steps, text: b.String()}
}

// of gives what stands at the path, nil when there is nothing.
func (p *dataPath) of(data any) any {
	for i := range p.steps {
		s := &p.steps[i]
		if s.array {
			a, _ := data.([]any)
			if s.index >= len(a) {
				return nil
			}
			data = a[s.index]
			continue
		}
		m, _ := data.(map[string]any)
		data = m[s.name] // nil of a nil map
	}
	return data
}

// scalarKey is a scalar of the data as a key of a hash. Numbers that are equal
// as expr compares them have equal keys.
type scalarKey struct {
	kind   scalarKind
	text   string
	number float64 // 1 and 0 of a boolean
}

type scalarKind uint8

const (
	noScalar scalarKind = iota
	textScalar
	numberScalar
	boolScalar
)

func scalarKeyOf(v any) scalarKey {
	switch v := v.(type) {
	case string:
		return scalarKey{kind: textScalar, text: v}
	case int:
		return scalarKey{kind: numberScalar, number: float64(v)}
	case float64:
		return scalarKey{kind: numberScalar, number: v}
	case bool:
		k := scalarKey{kind: boolScalar}
		if v {
			k.number = 1
		}
		return k
	default:
		return scalarKey{}
	}
}
