package filter

import (
	"cmp"

	"github.com/leat-dev/leat/filter/cesql"
	"github.com/leat-dev/leat/filter/payload"
)

// Limits bound what a filter may cost. A zero field means its default.
type Limits struct {
	// MaxBytes is the largest filter as JSON, in bytes; 262,144.
	MaxBytes int
	// MaxDepth is how deep all, any and not may nest; 16.
	MaxDepth int
	// MaxNodes is how many conditions a filter may have: each dialect of a
	// node and each key of exact, prefix and suffix counts; 1,000.
	MaxNodes int
	// MaxExpressionBytes is the longest cesql or expr expression; 16,384.
	MaxExpressionBytes int
	// MaxExpressionNodes is how many operators and operands a cesql or expr
	// expression may have; 500.
	MaxExpressionNodes int
	// MaxExpressionDepth is how deep an expression's parentheses and calls may
	// nest; 64.
	MaxExpressionDepth int
	// MaxIndexKeys is under how many keys of the index one filter may stand
	// (the elements of IN, the branches of any); beyond it the filter runs on
	// every event; 512.
	MaxIndexKeys int
	// MaxSteps is how many steps one evaluation of an expr expression may
	// take, each of some 100 ns at most; 500,000. Work on strings and lists
	// counts by their length.
	MaxSteps int
	// MaxDataBytes, MaxDataDepth and MaxDataValues bound the payload that a
	// filter can look into: its bytes (1 MiB), the nesting of its arrays and
	// objects (64) and the number of its values (100,000). On a larger payload
	// a filter that asks for data errs, which means that it does not match.
	MaxDataBytes, MaxDataDepth, MaxDataValues int
}

func (l Limits) withDefaults() Limits {
	l.MaxBytes = cmp.Or(l.MaxBytes, 256<<10)
	l.MaxDepth = cmp.Or(l.MaxDepth, 16)
	l.MaxNodes = cmp.Or(l.MaxNodes, 1000)
	l.MaxExpressionBytes = cmp.Or(l.MaxExpressionBytes, 16<<10)
	l.MaxExpressionNodes = cmp.Or(l.MaxExpressionNodes, 500)
	l.MaxExpressionDepth = cmp.Or(l.MaxExpressionDepth, 64)
	l.MaxIndexKeys = cmp.Or(l.MaxIndexKeys, 512)
	l.MaxSteps = cmp.Or(l.MaxSteps, 500_000)
	d := l.payload().WithDefaults()
	l.MaxDataBytes, l.MaxDataDepth, l.MaxDataValues = d.MaxBytes, d.MaxDepth, d.MaxValues
	return l
}

func (l Limits) payload() payload.Limits {
	return payload.Limits{MaxBytes: l.MaxDataBytes, MaxDepth: l.MaxDataDepth, MaxValues: l.MaxDataValues}
}

func (l Limits) cesql() cesql.Limits {
	return cesql.Limits{MaxBytes: l.MaxExpressionBytes, MaxNodes: l.MaxExpressionNodes, MaxDepth: l.MaxExpressionDepth}
}
