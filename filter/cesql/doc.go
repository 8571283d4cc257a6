// Package cesql implements the CloudEvents SQL Expression Language, version
// 1.0: a parser, a static check and an evaluator.
//
// An expression is pure and total: it always has a value, and an error beside
// it when something went wrong on the way. Evaluation stops at the first error
// (the specification's fail fast mode); each enclosing operator then gives the
// zero value of its own type.
//
// Where the specification leaves a choice or is silent, this package decides:
//
//   - AND, OR and XOR have one precedence and group from the left.
//   - Keywords, functions and attribute names may be written in any case.
//   - Characters, in LENGTH, LEFT, RIGHT, SUBSTRING and LIKE, are Unicode code
//     points.
//   - A sum, difference, product, quotient or negation outside the 32 bits of
//     an Integer is a MathError with the value 0.
//   - In a string literal a backslash takes the next character with it; only a
//     backslash before the literal's own quote is removed.
//
// Parsed expressions are immutable and safe for concurrent use.
package cesql
