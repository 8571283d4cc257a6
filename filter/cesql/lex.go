package cesql

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokEnd tokenKind = iota
	tokWord
	tokInteger // digits alone; the parser takes the sign
	tokString
	tokSymbol
)

type token struct {
	kind tokenKind
	// text is the source of the token, of a string its content without the
	// escapes of its quotes.
	text string
	// word is a keyword or symbol in upper case, empty for other tokens.
	word     string
	pos, end int
}

func (t token) String() string {
	switch t.kind {
	case tokEnd:
		return "the end"
	case tokString:
		return "a string"
	default:
		return "'" + t.text + "'"
	}
}

type lexer struct {
	src string
	pos int
}

func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// next reads a token. Its errors are ParseErrors without line and column.
func (l *lexer) next() (token, *Error) {
	for l.pos < len(l.src) && strings.IndexByte(" \t\r\n", l.src[l.pos]) >= 0 {
		l.pos++
	}
	start := l.pos
	if start == len(l.src) {
		return token{pos: start, end: start}, nil
	}
	c := l.src[start]
	switch {
	case isLetter(c) || isDigit(c) || c == '_':
		return l.wordToken(), nil
	case c == '\'' || c == '"':
		return l.stringToken(c)
	}
	symbol := l.src[start : start+1]
	if start+1 < len(l.src) {
		switch two := l.src[start : start+2]; two {
		case "!=", "<>", "<=", ">=":
			symbol = two
		}
	}
	if len(symbol) == 1 && strings.IndexByte("()=<>+-*/%,", c) < 0 {
		r, size := utf8.DecodeRuneInString(l.src[start:])
		if r == utf8.RuneError && size == 1 {
			return token{}, &Error{Kind: ParseError, Offset: start, Reason: "the text is not valid UTF-8"}
		}
		return token{}, &Error{Kind: ParseError, Offset: start, Reason: fmt.Sprintf("unexpected character %q", r)}
	}
	l.pos += len(symbol)
	return token{kind: tokSymbol, text: symbol, word: symbol, pos: start, end: l.pos}, nil
}

func (l *lexer) wordToken() token {
	start := l.pos
	digits := true
	for l.pos < len(l.src) {
		c := l.src[l.pos]
		if !isLetter(c) && !isDigit(c) && c != '_' {
			break
		}
		digits = digits && isDigit(c)
		l.pos++
	}
	t := token{kind: tokWord, text: l.src[start:l.pos], pos: start, end: l.pos}
	if digits {
		t.kind = tokInteger
		return t
	}
	if len(t.text) <= len("EXISTS") {
		switch upper := strings.ToUpper(t.text); upper {
		case "AND", "OR", "XOR", "NOT", "LIKE", "IN", "EXISTS", "TRUE", "FALSE":
			t.word = upper
		}
	}
	return t
}

func (l *lexer) stringToken(quote byte) (token, *Error) {
	start := l.pos
	var content strings.Builder
	from := start + 1
	for i := from; i < len(l.src); i++ {
		switch l.src[i] {
		case '\\':
			if i+1 < len(l.src) && l.src[i+1] == quote {
				content.WriteString(l.src[from:i])
				from = i + 1
			}
			i++
		case quote:
			content.WriteString(l.src[from:i])
			l.pos = i + 1
			text := content.String()
			if !utf8.ValidString(text) {
				return token{}, &Error{Kind: ParseError, Offset: start, Reason: "the string is not valid UTF-8"}
			}
			return token{kind: tokString, text: text, pos: start, end: l.pos}, nil
		}
	}
	return token{}, &Error{Kind: ParseError, Offset: start, Reason: fmt.Sprintf("the string that begins here has no closing %c", quote)}
}
