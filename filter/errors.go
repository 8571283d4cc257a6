package filter

import (
	"fmt"
	"strings"
)

// Error says what is wrong with a filter, where, and what would be right.
type Error struct {
	// Path is the field, relative to the object that holds filter and
	// filters: `filters[1].cesql`, `filter.attributes["x"]`.
	Path string
	// Line and Column are the place in an expression, from 1, the column in
	// characters; 0 where there is none.
	Line, Column int
	// Snippet is the line of the expression with a mark under the place; empty
	// where there is none.
	Snippet string
	Reason  string
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	if e.Line > 0 {
		fmt.Fprintf(&b, "%d:%d: ", e.Line, e.Column)
	}
	b.WriteString(e.Reason)
	return b.String()
}

// expressionError makes an Error with a snippet from a place in src.
func expressionError(path, src string, line, column int, reason string) *Error {
	lines := strings.Split(src, "\n")
	if line < 1 || line > len(lines) {
		return &Error{Path: path, Line: line, Column: column, Reason: reason}
	}
	const width = 60 // characters shown on each side
	text := []rune(strings.ToValidUTF8(lines[line-1], "\ufffd"))
	at := min(max(column-1, 0), len(text))
	from, to := max(at-width, 0), min(at+width, len(text))
	shown := strings.ReplaceAll(string(text[from:to]), "\t", " ")
	return &Error{Path: path, Line: line, Column: column, Reason: reason, Snippet: shown + "\n" + strings.Repeat(" ", at-from) + "^"}
}

// EvalError says why a filter could not be decided on an event. It names no
// values of the event beyond a few words.
type EvalError struct {
	// Path is the field of the expression, as in Error.
	Path   string
	Reason string
	// Err is the error of the dialect, for example a *cesql.Error.
	Err error
}

func (e *EvalError) Error() string { return e.Path + ": " + e.Reason }

// Unwrap gives the dialect's own error.
func (e *EvalError) Unwrap() error { return e.Err }
