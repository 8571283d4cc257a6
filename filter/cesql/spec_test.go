package cesql

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
)

// specCase is an expression, its value (a string, an int or a bool) and the
// kind of its error, none when it is nil.
type specCase struct {
	expression string
	want       any
	err        any
}

func (c specCase) wantValue() Value {
	switch v := c.want.(type) {
	case string:
		return stringValue(v)
	case int:
		return intValue(int32(v))
	default:
		return boolValue(v.(bool))
	}
}

func runCases(t *testing.T, a attributes, cases []specCase) {
	t.Helper()
	for _, c := range cases {
		e, err := Parse(c.expression, Limits{})
		if err != nil {
			t.Errorf("Parse(%s): %v", c.expression, err)
			continue
		}
		got, err := e.Evaluate(a)
		if got != c.wantValue() {
			t.Errorf("%s = %+v, want %v", c.expression, got, c.want)
		}
		if c.err == nil && err != nil || c.err != nil && (err == nil || kindOf(err) != c.err) {
			t.Errorf("%s: error %v, want %v", c.expression, err, c.err)
		}
	}
}

func event() attributes {
	return attributes{
		"specversion": stringValue("1.0"), "id": stringValue("1"), "source": stringValue("/s"), "type": stringValue("order.created"),
		"subject": stringValue("Francesco Guardiani"), "firstname": stringValue("Francesco"), "lastname": stringValue("Guardiani"),
		"sequence": stringValue("10"), "hop": stringValue("5"), "ttl": stringValue("10"),
		"count": intValue(7), "done": boolValue(true), "text": stringValue("true"), "umlaut": stringValue("grün€"), "10x": stringValue("x"),
	}
}

func TestSpecificationExamples(t *testing.T) {
	runCases(t, event(), []specCase{
		{"EXISTS subject", true, nil},
		{"firstname = 'Francesco'", true, nil},
		{"firstname = 'Francesco' OR subject = 'Francesco'", true, nil},
		{"(firstname = 'Francesco' AND lastname = 'Guardiani') OR subject = 'Francesco Guardiani'", true, nil},
		{"sequence = 10", true, nil},
		{"hop < ttl", true, nil},
		{"int(hop) < int(ttl) and int(hop) < 1000", true, nil},
		{"INT(hop) < INT(ttl) AND INT(hop) < 1000", true, nil},
		{"true AND (missingattribute = \"\")", false, MissingAttributeError},
		{"missingattribute * 5", 0, MissingAttributeError},
		{"1 / missingattribute", 0, MissingAttributeError},
		{"missingattribute", false, MissingAttributeError},
		{"'ab' LIKE '_b%'", true, nil},
		{"'abcd1' LIKE '_b%'", true, nil},
		{"'b' LIKE '_b%'", false, nil},
		{"'aBc' LIKE '_b%'", false, nil},
		{`'abc%' LIKE 'abc\%'`, true, nil},
		{`'abcd' LIKE 'abc\%'`, false, nil},
		{`TRUE = "true" AND FALSE = "false"`, true, nil},
		{`TRUE = "TRUE" OR FALSE = "FALSE"`, false, nil},
		{"STRING(sequence + 10)", "20", nil},
	})
}

// TestTrueIsNotUpperCase: the specification says that TRUE = "TRUE" is false,
// because TRUE is cast to the String "true".
func TestTrueIsNotUpperCase(t *testing.T) {
	runCases(t, event(), []specCase{
		{`TRUE = "TRUE"`, false, nil},
		{`FALSE = "FALSE"`, false, nil},
		{`"TRUE" = TRUE`, true, nil},
	})
}

func TestOperators(t *testing.T) { runCases(t, event(), operatorCases()) }

func operatorCases() []specCase {
	return []specCase{
		{"NOT TRUE", false, nil}, {"NOT 'false'", true, nil}, {"NOT 0", true, nil}, {"NOT 'x'", false, CastError},
		{"-5", -5, nil}, {"- 5", -5, nil}, {"-'5'", -5, nil}, {"--5", 5, nil}, {"-TRUE", -1, nil}, {"-'x'", 0, CastError},
		{"+5", 5, nil}, {"1+2", 3, nil}, {"1 -2", -1, nil}, {"4--1", 5, nil}, {"4 - -1", 5, nil},
		{"TRUE = 'true'", true, nil}, {"1 = '1'", true, nil}, {"'01' = 1", true, nil}, {"1 = '01'", false, nil}, {"'x' = 1", false, CastError},
		{"1 != 2", true, nil}, {"1 <> 1", false, nil}, {"'a' != 'A'", true, nil}, {"'x' != 1", false, CastError},
		{"count = 7", true, nil}, {"count = '7'", true, nil}, {"count = '07'", false, nil}, {"'07' = count", true, nil}, {"'x' = count", false, CastError},
		{"done = TRUE", true, nil}, {"done = 'true'", true, nil}, {"done = 1", true, nil}, {"'TRUE' = done", true, nil}, {"5 = done", true, nil},
		{"1 < 2", true, nil}, {"2 <= '2'", true, nil}, {"3 > 'x'", false, CastError}, {"TRUE >= 1", true, nil},
		{"7 / 2", 3, nil}, {"-7 / 2", -3, nil}, {"-7 % 3", -1, nil}, {"7 % -3", 1, nil}, {"1 / 0", 0, MathError}, {"1 % 0", 0, MathError},
		{"FALSE AND (1 / 0 = 1)", false, nil}, {"TRUE OR (1 / 0 = 1)", true, nil}, {"TRUE AND (1 / 0 = 1)", false, MathError}, {"FALSE OR missing", false, MissingAttributeError},
		{"TRUE XOR TRUE", false, nil}, {"TRUE XOR missing", false, MissingAttributeError}, {"FALSE XOR 'true'", true, nil}, {"'x' AND TRUE", false, CastError}, {"TRUE AND 'x'", false, CastError},
		{"'a' IN ('b', 'a')", true, nil}, {"1 IN ('x', 1)", false, CastError}, {"1 IN (1, 'x')", true, nil}, {"'1' NOT IN (2)", true, nil}, {"count IN ('7')", true, nil}, {"missing IN (1)", false, MissingAttributeError}, {"1 IN (missing)", false, MissingAttributeError},
		{"EXISTS missing", false, nil}, {"NOT EXISTS missing", true, nil}, {"EXISTS id", true, nil}, {"EXISTS 10x", true, nil}, {"10x = 'x'", true, nil}, {"EXISTS 10", false, nil},
		{"count LIKE '7'", true, nil}, {"done LIKE 'tr__'", true, nil}, {"missing LIKE '%'", false, MissingAttributeError}, {"umlaut LIKE 'gr_n_'", true, nil}, {"umlaut NOT LIKE '____'", true, nil},
		{`'a\b' LIKE 'a\b'`, true, nil}, {`'it\'s' = "it's"`, true, nil}, {`"say \"x\"" = 'say "x"'`, true, nil}, {`'\"' = "\\\""`, false, nil},
	}
}

func TestPrecedence(t *testing.T) {
	runCases(t, event(), []specCase{
		{"2 * 3 + 4", 10, nil}, {"2 + 3 * 4", 14, nil}, {"10 - 2 - 3", 5, nil}, {"100 / 10 / 2", 5, nil},
		{"NOT TRUE = FALSE", true, nil},          // (NOT TRUE) = FALSE
		{"NOT FALSE AND FALSE", false, nil},      // (NOT FALSE) AND FALSE
		{"NOT type LIKE 'x'", false, CastError},  // (NOT type) LIKE 'x'
		{"-1 + 2", 1, nil},                       // (-1) + 2
		{"-sequence LIKE '-1_'", true, nil},      // (-sequence) LIKE
		{"1 + 1 IN (2, TRUE)", 2, nil},           // 1 + (1 IN (2, TRUE))
		{"1 + 1 = 2", true, nil},                 // (1 + 1) = 2
		{"1 < 2 = TRUE", true, nil},              // (1 < 2) = TRUE
		{"TRUE OR TRUE AND FALSE", false, nil},   // (TRUE OR TRUE) AND FALSE
		{"FALSE AND TRUE OR TRUE", true, nil},    // (FALSE AND TRUE) OR TRUE
		{"TRUE OR (TRUE AND FALSE)", true, nil},  //
		{"TRUE XOR TRUE OR TRUE", true, nil},     // (TRUE XOR TRUE) OR TRUE
		{"'a' LIKE 'a' IN (TRUE)", true, nil},    // ('a' LIKE 'a') IN (TRUE)
		{"'a' IN ('b') LIKE 'false'", true, nil}, // ('a' IN ('b')) LIKE 'false'
		{"EXISTS id AND EXISTS type", true, nil}, //
		{"NOT EXISTS id = FALSE", true, nil},     // (NOT EXISTS id) = FALSE
		{"abs(-3) + length('ab') * 2", 7, nil},   //
		{"1 = 1 = 1", true, nil},                 // (1 = 1) = 1
		{"5 = TRUE", true, nil},                  //
		{"- 2147483647 - 1", math.MinInt32, nil}, //
		{"-2147483648", math.MinInt32, nil},      // a literal
		{"count - 1", 6, nil}, {"count -1", 6, nil}, {"count-1", 6, nil},
	})
}

func TestIntegerRange(t *testing.T) {
	runCases(t, event(), []specCase{
		{"2147483647 + 1", 0, MathError}, {"-2147483648 - 1", 0, MathError}, {"65536 * 65536", 0, MathError},
		{"-2147483648 / -1", 0, MathError}, {"-2147483648 % -1", 0, nil}, {"-(-2147483648)", 0, MathError},
		{"INT('2147483647')", math.MaxInt32, nil}, {"INT('2147483648')", 0, CastError}, {"INT('-2147483648')", math.MinInt32, nil},
		{"ABS(-2147483648)", math.MaxInt32, MathError}, {"INT('0000000000000000000000000000000000000000000000000000000000000000000005')", 5, nil},
	})
}

func TestFunctions(t *testing.T) {
	runCases(t, event(), []specCase{
		{"ABS(-5)", 5, nil}, {"ABS('5')", 5, nil}, {"ABS('x')", 0, CastError}, {"ABS(missing)", 0, MissingAttributeError}, {"ABS(TRUE)", 1, nil},
		{"LENGTH('')", 0, nil}, {"LENGTH(umlaut)", 5, nil}, {"LENGTH(123)", 3, nil}, {"LENGTH(missing)", 0, MissingAttributeError},
		{"CONCAT()", "", nil}, {"CONCAT('a', 1, TRUE)", "a1true", nil}, {"CONCAT(missing)", "", MissingAttributeError},
		{"CONCAT_WS('-')", "", nil}, {"CONCAT_WS('-', 'a')", "a", nil}, {"CONCAT_WS('-', 'a', 2, 'c', 'd')", "a-2-c-d", nil}, {"CONCAT_WS()", false, MissingFunctionError},
		{"LOWER('ÄB')", "äb", nil}, {"UPPER('äb')", "ÄB", nil}, {"lower(TRUE)", "true", nil}, {"Upper(TRUE)", "TRUE", nil},
		{"TRIM('\u00a0\u2003 a b\t\n')", "a b", nil}, {"TRIM('\u0001 a')", "\u0001 a", nil},
		{"LEFT(umlaut, 3)", "grü", nil}, {"LEFT('abc', 0)", "", nil}, {"LEFT('abc', 3)", "abc", nil}, {"LEFT('abc', 9)", "abc", nil}, {"LEFT('abc', -1)", "abc", FunctionEvaluationError},
		{"RIGHT(umlaut, 3)", "ün€", nil}, {"RIGHT('abc', 0)", "", nil}, {"RIGHT('abc', 3)", "abc", nil}, {"RIGHT('abc', 9)", "abc", nil}, {"RIGHT('abc', -1)", "abc", FunctionEvaluationError}, {"RIGHT(umlaut, 6)", "grün€", nil},
		{"SUBSTRING(umlaut, 3)", "ün€", nil}, {"SUBSTRING(umlaut, -1)", "€", nil}, {"SUBSTRING(umlaut, 0)", "", nil}, {"SUBSTRING(umlaut, 6)", "", FunctionEvaluationError}, {"SUBSTRING(umlaut, -6)", "", FunctionEvaluationError}, {"SUBSTRING('', 1)", "", FunctionEvaluationError},
		{"SUBSTRING(umlaut, 2, 2)", "rü", nil}, {"SUBSTRING(umlaut, -3, 2)", "ün", nil}, {"SUBSTRING(umlaut, 0, 2)", "", nil}, {"SUBSTRING(umlaut, 5, 9)", "€", nil}, {"SUBSTRING(umlaut, 1, 0)", "", nil},
		{"SUBSTRING(umlaut, 1, -1)", "", FunctionEvaluationError}, {"SUBSTRING(umlaut, 0, -1)", "", FunctionEvaluationError}, {"SUBSTRING(umlaut, 6, 1)", "", FunctionEvaluationError}, {"SUBSTRING('abc')", false, MissingFunctionError},
		{"INT('-5')", -5, nil}, {"INT('+5')", 5, nil}, {"INT('5.0')", 0, CastError}, {"INT('')", 0, CastError}, {"INT('+')", 0, CastError}, {"INT(' 5')", 0, CastError},
		{"BOOL('tRuE')", true, nil}, {"BOOL(2)", true, nil}, {"BOOL('')", false, CastError}, {"BOOL('falſe')", false, CastError},
		{"STRING(-0)", "0", nil}, {"STRING(count)", "7", nil}, {"STRING(done)", "true", nil},
		{"IS_INT('5')", true, nil}, {"IS_INT('x')", false, nil}, {"IS_INT(TRUE)", true, nil}, {"IS_INT(missing)", false, MissingAttributeError},
		{"IS_BOOL('TRUE')", true, nil}, {"IS_BOOL('1')", false, nil}, {"IS_BOOL(1)", true, nil},
		{"NOSUCH(1)", false, MissingFunctionError}, {"ABS()", false, MissingFunctionError}, {"LENGTH(LEFT('abc', -1))", 0, FunctionEvaluationError}, {"TRUE OR NOSUCH(1)", true, nil},
	})
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct {
		expression string
		line, col  int
		reason     string
	}{
		{"", 1, 1, "unexpected the end"},
		{"type =", 1, 7, "unexpected the end"},
		{"type = 'a' OR", 1, 14, "unexpected the end"},
		{"type = 'a' 'b'", 1, 12, "operator or the end is expected"},
		{"type = 'a''b'", 1, 11, "operator or the end"},
		{"type = 'abc", 1, 8, "no closing '"},
		{"type == 'a'", 1, 7, "unexpected '='"},
		{"type = 'a'\nAND #", 2, 5, "unexpected character '#'"},
		{"'ü' = #", 1, 7, "unexpected character"},
		{"(type = 'a'", 1, 12, "\")\" is expected"},
		{"type = 'a')", 1, 11, "unexpected ')'"},
		{"x LIKE 123", 1, 8, "pattern of LIKE is a string literal"},
		{"x LIKE y", 1, 8, "pattern of LIKE"},
		{"x NOT 'a'", 1, 3, "unexpected 'NOT'"},
		{"x IN ()", 1, 7, "set of IN is empty"},
		{"x IN 'a'", 1, 6, "\"(\" is expected"},
		{"x IN ('a'", 1, 10, "\")\" is expected"},
		{"EXISTS", 1, 7, "name of an attribute"},
		{"EXISTS 'x'", 1, 8, "name of an attribute"},
		{"EXISTS and", 1, 8, "name of an attribute"},
		{"my_attr = 'x'", 1, 3, "lower-case letters and digits"},
		{"my-attr = ", 1, 11, "unexpected the end"},
		{"_f(1)", 1, 1, "no function"},
		{"f1(1)", 1, 2, "no function"},
		{"ABS(1", 1, 6, "\")\" is expected"},
		{"ABS(1,)", 1, 7, "unexpected ')'"},
		{"2147483648", 1, 1, "not a 32 bit integer"},
		{"- 2147483648", 1, 3, "not a 32 bit integer"},
		{"+x", 1, 1, "no unary +"},
		{"a ! b", 1, 3, "unexpected character '!'"},
		{"'\xff' = x", 1, 1, "not valid UTF-8"},
		{"\xff", 1, 1, "not valid UTF-8"},
		{strings.Repeat("(", 100) + "1" + strings.Repeat(")", 100), 1, 65, "nests deeper than 64"},
		{strings.Repeat("NOT ", 100) + "x", 1, 257, "nests deeper than 64"},
		{strings.Repeat("-", 100) + "x", 1, 65, "nests deeper than 64"},
		{strings.Repeat("ABS(", 100), 1, 261, "nests deeper than 64"},
		{"1" + strings.Repeat(" + 1", 600), 1, 2000, "more than 1000 operators"},
		{"'" + strings.Repeat("x", 20000) + "'", 1, 1, "more than the limit of 16384"},
	} {
		_, err := Parse(c.expression, Limits{})
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Kind != ParseError {
			t.Errorf("Parse(%.40q) = %v, want a parse error", c.expression, err)
			continue
		}
		if e.Line != c.line || e.Column != c.col && len(c.expression) < 1000 || !strings.Contains(e.Reason, c.reason) {
			t.Errorf("Parse(%.40q) = %v, want %d:%d %s", c.expression, err, c.line, c.col, c.reason)
		}
	}
}

func TestStaticTypes(t *testing.T) {
	for expression, want := range map[string]Type{
		"type": String, "ext": Any, "1": Integer, "TRUE": Boolean, "'a'": String, "ext = 1": Boolean, "ext + 1": Integer, "-ext": Integer,
		"NOT ext": Boolean, "ext LIKE 'a'": Boolean, "ext IN (1)": Boolean, "EXISTS ext": Boolean, "LENGTH(ext)": Integer, "LOWER(ext)": String,
		"IS_INT(ext)": Boolean, "NOSUCH(ext)": Any, "a AND b": Boolean, "(ext)": Any,
	} {
		e, err := Parse(expression, Limits{})
		if err != nil || e.Type() != want {
			t.Errorf("%s is %v, %v; want %v", expression, e.Type(), err, want)
		}
	}
	e, err := Parse("EXISTS id AND\n  nosuch(1, 2)", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(e.Check()); got != "2:3: missing function: there is no function NOSUCH with 2 arguments" {
		t.Errorf("Check = %s", got)
	}
}

func TestGrownStringsAreBounded(t *testing.T) {
	a := attributes{"x": stringValue(strings.Repeat("x", 1<<19))}
	runCases(t, a, []specCase{
		{"LENGTH(CONCAT(x, x))", 1 << 20, nil},
		{"CONCAT(x, x, x)", "", FunctionEvaluationError},
		{"CONCAT_WS('', CONCAT(x, x), 'y')", "", FunctionEvaluationError},
	})
}

func TestEvaluateDoesNotAllocate(t *testing.T) {
	e, err := Parse("type LIKE 'order.%' AND (sequence = 10 OR subject IN ('a', 'b')) AND NOT (missing = 'x')", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var a Attributes = event()
	if n := testing.AllocsPerRun(100, func() { e.Evaluate(a) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
