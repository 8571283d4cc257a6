package cesql

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	sdkerrors "github.com/cloudevents/sdk-go/sql/v2/errors"
	sdkparser "github.com/cloudevents/sdk-go/sql/v2/parser"
	sdk "github.com/cloudevents/sdk-go/v2"
)

// The CloudEvents SDK is a second opinion on random expressions. Where it
// leaves the specification's text, the generator stays away or disagree
// excuses it:
//
//   - AND, OR and XOR group from the right there; the text says left to right.
//     The generator writes parentheses.
//   - Its lexer takes "1+2" for two numbers; the grammar has an operator there.
//     The generator writes spaces.
//   - It counts bytes where the text says characters. The generator is ASCII.
//   - It wraps integers around. See disagree.
//   - It panics on a negative length in SUBSTRING, or ignores it where the
//     position is 0. The generator writes none.
//   - A % in the text stops its LIKE from taking a % in the pattern for a
//     wildcard. The generator's texts have none.
//   - INT of a number outside 32 bits has the nearest number beside the error;
//     the text says 0. See disagree.
//   - It doubles quotes ('it''s') and skips characters that it does not know;
//     the grammar has neither.

type generator struct{ *rand.Rand }

func pick[T any](g generator, of ...T) T { return of[g.IntN(len(of))] }

func (g generator) atom() string {
	return pick(g, "TRUE", "false", "0", "1", "-3", "7", "42", "'a'", "'abc'", "'5'", "'-1'", "'true'", "'FALSE'", "''", `"a_b"`, `'it\'s'`,
		"type", "source", "id", "subject", "time", "specversion", "strext", "intext", "boolext", "numext", "missing")
}

func (g generator) expression(depth int) string {
	if depth == 0 {
		return g.atom()
	}
	x := func() string { return g.expression(depth - 1) }
	switch g.IntN(12) {
	case 0, 1:
		return fmt.Sprintf("(%s %s %s)", x(), pick(g, "AND", "OR", "XOR", "and", "or"), x())
	case 2, 3:
		return fmt.Sprintf("%s %s %s", x(), pick(g, "=", "!=", "<>", "<", "<=", ">", ">="), g.expression(0))
	case 4:
		return fmt.Sprintf("%s %s %s", x(), pick(g, "+", "-", "*", "/", "%"), g.expression(0))
	case 5:
		return pick(g, "NOT ", "- ", "NOT NOT ") + x()
	case 6:
		return fmt.Sprintf("%s%s %s", x(), pick(g, " LIKE", " NOT LIKE"), pick(g, "'a%'", "'%'", "'_'", "'%e'", "'a_c'", `'a\%b'`, "'tr%'", "''", "'%r%e%'", "'4_'"))
	case 7:
		return fmt.Sprintf("%s%s (%s, %s)", x(), pick(g, " IN", " NOT IN"), x(), g.atom())
	case 8:
		return "EXISTS " + pick(g, "type", "subject", "strext", "missing", "time")
	case 9:
		return fmt.Sprintf("%s(%s)", pick(g, "ABS", "LENGTH", "LOWER", "UPPER", "TRIM", "INT", "BOOL", "STRING", "IS_INT", "is_bool", "CONCAT", "NOSUCH"), x())
	case 10:
		return fmt.Sprintf("%s(%s, %s)", pick(g, "LEFT", "RIGHT", "SUBSTRING", "CONCAT", "CONCAT_WS", "ABS"), x(), g.atom())
	default:
		return fmt.Sprintf("%s(%s, %s, %s)", pick(g, "SUBSTRING", "CONCAT_WS"), x(), g.atom(), pick(g, "0", "1", "2", "7", "'x'", "missing"))
	}
}

func sdkEvent(t testing.TB) sdk.Event {
	e := sdk.NewEvent()
	e.SetID("id-1")
	e.SetSource("/some/source")
	e.SetType("abc")
	e.SetSubject("true")
	for name, v := range map[string]any{"strext": "a_b", "intext": int32(42), "boolext": true, "numext": "7"} {
		e.SetExtension(name, v)
	}
	if err := e.Validate(); err != nil {
		t.Fatal(err)
	}
	return e
}

func sdkAttributes() attributes {
	return attributes{
		"specversion": stringValue("1.0"), "id": stringValue("id-1"), "source": stringValue("/some/source"), "type": stringValue("abc"), "subject": stringValue("true"),
		"strext": stringValue("a_b"), "intext": intValue(42), "boolext": boolValue(true), "numext": stringValue("7"),
	}
}

// sdkEvaluate gives the SDK's value, and the kind of its error. ok is false
// when it panicked.
func sdkEvaluate(src string, event sdk.Event) (v any, kind ErrorKind, failed, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	e, err := sdkparser.Parse(src)
	if err != nil {
		return nil, ParseError, true, true
	}
	v, err = e.Evaluate(event)
	switch {
	case err == nil:
		return v, 0, false, true
	case sdkerrors.IsMathError(err):
		kind = MathError
	case sdkerrors.IsCastError(err):
		kind = CastError
	case sdkerrors.IsMissingAttributeError(err):
		kind = MissingAttributeError
	case sdkerrors.IsMissingFunctionError(err):
		kind = MissingFunctionError
	case sdkerrors.IsFunctionEvaluationError(err):
		kind = FunctionEvaluationError
	}
	return v, kind, true, true
}

func sdkValue(v any) Value {
	switch v := v.(type) {
	case string:
		return stringValue(v)
	case int32:
		return intValue(v)
	case int: // the zero of its functions
		return intValue(int32(v))
	case bool:
		return boolValue(v)
	default:
		return Value{}
	}
}

// disagree compares the two on one expression; compared is false when the
// SDK has no opinion.
func disagree(src string, event sdk.Event, a attributes) (difference string, compared bool) {
	e, parseErr := Parse(src, Limits{})
	want, wantKind, failed, ok := sdkEvaluate(src, event)
	if !ok {
		return "", false
	}
	if parseErr != nil || failed && wantKind == ParseError {
		if (parseErr != nil) != (failed && wantKind == ParseError) {
			return fmt.Sprintf("parse: %v, the SDK: failed %v", parseErr, failed), true
		}
		return "", true
	}
	got, err := e.Evaluate(a)
	if kindOf(err) == MathError && err != nil && !failed {
		return "", false // the SDK wrapped an integer
	}
	if (err != nil) != failed || failed && kindOf(err) != wantKind {
		return fmt.Sprintf("error %v, the SDK: %v %v", err, failed, wantKind), true
	}
	if wantKind == CastError && failed && got == intValue(0) {
		return "", true
	}
	if got != sdkValue(want) {
		return fmt.Sprintf("%+v, the SDK: %#v", got, want), true
	}
	return "", true
}

func TestAgainstSDK(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(1, 2))}
	event, a := sdkEvent(t), sdkAttributes()
	compared, succeeded := 0, 0
	for range 3000 {
		src := g.expression(1 + g.IntN(4))
		d, ok := disagree(src, event, a)
		if d != "" {
			t.Errorf("%s: %s", src, d)
		}
		if ok {
			compared++
			if e, err := Parse(src, Limits{}); err == nil {
				if _, err := e.Evaluate(a); err == nil {
					succeeded++
				}
			}
		}
	}
	if compared < 2500 || succeeded < 500 {
		t.Errorf("only %d expressions were compared, of which %d had no error", compared, succeeded)
	}
}

// FuzzParse: no text crashes the parser or the evaluator, and what parses
// keeps its static type.
func FuzzParse(f *testing.F) {
	for _, c := range operatorCases() {
		f.Add(c.expression)
	}
	for _, s := range []string{"", "((((", "NOT NOT -", "a LIKE '%_\\%'", "x IN (", "'\\", "\"", "a NOT", "+1", "- -1", "f(g(h()))", strings.Repeat("a AND ", 50) + "b"} {
		f.Add(s)
	}
	a := sdkAttributes()
	f.Fuzz(func(t *testing.T, src string) {
		e, err := Parse(src, Limits{})
		if err != nil {
			if x, ok := errors.AsType[*Error](err); !ok || x.Offset > len(src) || x.Line < 1 || x.Column < 1 || x.Reason == "" {
				t.Fatalf("error %#v", err)
			}
			return
		}
		v, err := e.Evaluate(a)
		if static := e.Type(); err == nil && static != Any && static != v.Type {
			t.Errorf("%q: statically %s, value %+v", src, static, v)
		}
		if again, _ := e.Evaluate(a); again != v {
			t.Errorf("%q: %+v, then %+v", src, v, again)
		}
	})
}

// FuzzLike compares the pattern matcher with a plain recursive one.
func FuzzLike(f *testing.F) {
	for _, s := range []string{"a%b", "%", "_", "", "a_c%d_", "%%", "\\%\\_", "ü_%", "_%_"} {
		for _, text := range []string{"", "ab", "a%b", "axb", "üxy", "abcd\xff"} {
			f.Add(text, s)
		}
	}
	f.Fuzz(func(t *testing.T, text, p string) {
		if len(text) > 30 || len(p) > 15 || strings.ToValidUTF8(p, "") != p || strings.ToValidUTF8(text, "") != text {
			return
		}
		c := compilePattern(p)
		got := c.match(text)
		if want := slowLike([]rune(text), []rune(p)); got != want {
			t.Errorf("%q LIKE %q = %v", text, p, got)
		}
		prefix, suffix, exact := c.edges()
		if got && (!strings.HasPrefix(text, prefix) || !strings.HasSuffix(text, suffix) || exact && text != prefix) {
			t.Errorf("%q LIKE %q: edges %q %q %v", text, p, prefix, suffix, exact)
		}
	})
}

func slowLike(text, p []rune) bool {
	if len(p) == 0 {
		return len(text) == 0
	}
	if p[0] == '\\' && len(p) > 1 && (p[1] == '%' || p[1] == '_') {
		return len(text) > 0 && text[0] == p[1] && slowLike(text[1:], p[2:])
	}
	switch p[0] {
	case '%':
		for i := 0; i <= len(text); i++ {
			if slowLike(text[i:], p[1:]) {
				return true
			}
		}
		return false
	case '_':
		return len(text) > 0 && slowLike(text[1:], p[1:])
	default:
		return len(text) > 0 && text[0] == p[0] && slowLike(text[1:], p[1:])
	}
}

func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		if _, err := Parse("type = 'order.created' AND source LIKE '/shop/%' AND priority > 3", Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEvaluate(b *testing.B) {
	e, err := Parse("type = 'abc' AND source LIKE '/some/%' AND intext > 3", Limits{})
	if err != nil {
		b.Fatal(err)
	}
	var a Attributes = sdkAttributes()
	b.ReportAllocs()
	for b.Loop() {
		if v, err := e.Evaluate(a); err != nil || !v.Bool {
			b.Fatal(v, err)
		}
	}
}
