package filter

import (
	"strings"

	"github.com/leat-dev/leat/filter/cesql"
)

// predicate is a condition of the compiled form. Its logic has three values:
// true, false and, beside an error, unknown. An error comes with false.
type predicate interface {
	match(v *View) (bool, error)
}

// always is the condition of an empty filter.
type always struct{}

func (always) match(*View) (bool, error) { return true, nil }

// equals, hasPrefix and hasSuffix compare an attribute's string form.
type equals struct {
	attribute attribute
	value     string
}

func (p *equals) match(v *View) (bool, error) {
	a, ok := v.attribute(p.attribute)
	return ok && a.Str == p.value, nil
}

type hasPrefix struct {
	attribute attribute
	value     string
}

func (p *hasPrefix) match(v *View) (bool, error) {
	a, ok := v.attribute(p.attribute)
	return ok && strings.HasPrefix(a.Str, p.value), nil
}

type hasSuffix struct {
	attribute attribute
	value     string
}

func (p *hasSuffix) match(v *View) (bool, error) {
	a, ok := v.attribute(p.attribute)
	return ok && strings.HasSuffix(a.Str, p.value), nil
}

// filled: the attribute is there and not empty.
type filled struct{ attribute attribute }

func (p *filled) match(v *View) (bool, error) {
	a, ok := v.attribute(p.attribute)
	return ok && a.Str != "", nil
}

// allOf is false when one of its conditions is, else unknown when one is.
type allOf []predicate

func (p allOf) match(v *View) (bool, error) {
	var unknown error
	for _, q := range p {
		ok, err := q.match(v)
		switch {
		case err != nil && unknown == nil:
			unknown = err
		case err == nil && !ok:
			return false, nil
		}
	}
	return unknown == nil, unknown
}

// anyOf is true when one of its conditions is, else unknown when one is.
type anyOf []predicate

func (p anyOf) match(v *View) (bool, error) {
	var unknown error
	for _, q := range p {
		ok, err := q.match(v)
		switch {
		case err != nil && unknown == nil:
			unknown = err
		case err == nil && ok:
			return true, nil
		}
	}
	return false, unknown
}

// negation stays unknown when its condition is.
type negation struct{ of predicate }

func (p *negation) match(v *View) (bool, error) {
	ok, err := p.of.match(v)
	return !ok && err == nil, err
}

// cesqlPredicate is a CESQL expression: true when its value is, unknown when
// it has an error or its value is no Boolean.
type cesqlPredicate struct {
	expression *cesql.Expression
	notBoolean error // made once, so that matching allocates nothing
}

func (p *cesqlPredicate) match(v *View) (bool, error) {
	value, err := p.expression.Evaluate(v)
	if err != nil {
		return false, err
	}
	if value.Type != cesql.Boolean {
		return false, p.notBoolean
	}
	return value.Bool, nil
}
