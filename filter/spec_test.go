package filter

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestCanonicalIsStable(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{}`, `{}`},
		{`{"filter":null,"filters":null}`, `{}`},
		{`{"filter":{}}`, `{}`},
		{`{"filter":{"attributes":{"type":"a","source":""}}}`, `{"filter":{"attributes":{"source":"","type":"a"}}}`},
		{`{"filters":[],"filter":{"attributes":{"type":"a"}}}`, `{"filter":{"attributes":{"type":"a"}}}`},
		{`{"filters":[{"exact":{"type":"a"}}],"filter":{"attributes":{"type":"b"}}}`, `{"filters":[{"exact":{"type":"a"}}]}`},
		{` { "filters" : [ { "any" : [ {"prefix":{"b":"1","a":"2"}}, {"not":{"suffix":{"type":"<x>"}}} ] }, {"all":[{"cesql":"a = 'b'"}]}, {"expr":"data.x == \"y\""} ] } `,
			`{"filters":[{"any":[{"prefix":{"a":"2","b":"1"}},{"not":{"suffix":{"type":"<x>"}}}]},{"all":[{"cesql":"a = 'b'"}]},{"expr":"data.x == \"y\""}]}`},
	} {
		s, err := ParseSpec([]byte(c.text))
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		got := string(s.Canonical())
		if got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.text, got, c.want)
		}
		again, err := ParseSpec([]byte(got))
		if err != nil || string(again.Canonical()) != got {
			t.Errorf("%s again: %s, %v", got, again.Canonical(), err)
		}
		var byJSON Spec
		if err := json.Unmarshal([]byte(c.text), &byJSON); err != nil || cmp.Diff(s, byJSON) != "" {
			t.Errorf("%s as JSON: %v %s", c.text, err, cmp.Diff(s, byJSON))
		}
		if m, err := json.Marshal(s); err != nil || len(m) == 0 {
			t.Errorf("%s: %s, %v", c.text, m, err)
		}
	}
}

func compileText(text string) (*Filter, error) {
	s, err := ParseSpec([]byte(text))
	if err != nil {
		return nil, err
	}
	return Compile(s)
}

// TestRefused: what does not compile, with the field and what is wrong.
func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		``:                                       "JSON, byte 0",
		`[]`:                                     "an object with the fields filter and filters",
		`{"filters":{}}`:                         "filters: an array",
		`{"filterz":[]}`:                         "filterz: unknown field",
		`{"filter":[]}`:                          "filter: an object",
		`{"filter":{"attribute":{}}}`:            "filter.attribute: unknown field",
		`{"filter":{"attributes":[]}}`:           "filter.attributes: an object",
		`{"filter":{"attributes":{"x":1}}}`:      `filter.attributes["x"]: a string`,
		`{"filter":{"attributes":{"my-x":"1"}}}`: `filter.attributes["my-x"]: "my-x" is no attribute: their names are lower-case`,
		`{"filter":{"attributes":{"":"1"}}}`:     `filter.attributes[""]: "" is no attribute`,
		`{"filters":[1]}`:                        "filters[0]: an object with one dialect",
		`{"filters":[{"exact":{"a":"b"}},{}]}`:   "filters[1]: empty filter",
		`{"filters":[{"regex":{"a":"b"}}]}`:      "filters[0].regex: unknown dialect",
		`{"filters":[{"exact":{"a":"b"},"prefix":{"a":"b"}}]}`:                     "filters[0]: exact and prefix in one filter",
		`{"filters":[{"exact":{}}]}`:                                               "filters[0].exact: at least one attribute",
		`{"filters":[{"exact":{"type":""}}]}`:                                      `filters[0].exact["type"]: empty value`,
		`{"filters":[{"prefix":{"type":""}}]}`:                                     `filters[0].prefix["type"]: empty value`,
		`{"filters":[{"suffix":{"Type":"x"}}]}`:                                    `filters[0].suffix["Type"]: "Type" is no attribute`,
		`{"filters":[{"exact":{"type":null}}]}`:                                    `filters[0].exact["type"]: a string`,
		`{"filters":[{"all":[]}]}`:                                                 "filters[0].all: at least one filter",
		`{"filters":[{"any":[]}]}`:                                                 "filters[0].any: at least one filter",
		`{"filters":[{"any":[{"exact":{"a":"b"}},{"all":[{"not":{}}]}]}]}`:         "filters[0].any[1].all[0].not: empty filter",
		`{"filters":[{"not":null}]}`:                                               "filters[0].not: an object",
		`{"filters":[{"cesql":""}]}`:                                               "filters[0].cesql: an expression is expected",
		`{"filters":[{"expr":1}]}`:                                                 "filters[0].expr: an expression is expected",
		`{"filters":[{"cesql":"type == 'a'"}]}`:                                    "filters[0].cesql: 1:7: parse error: unexpected '='",
		`{"filters":[{"cesql":"type"}]}`:                                           "filters[0].cesql: 1:1: the expression is of type String",
		`{"filters":[{"cesql":"1 + 1"}]}`:                                          "of type Integer",
		`{"filters":[{"cesql":"NOSUCH(1)"}]}`:                                      "1:1: missing function: there is no function NOSUCH",
		`{"filters":[{"expr":"type == "}]}`:                                        "filters[0].expr: 1:8: unexpected token EOF",
		`{"filters":[{"expr":"type == 5"}]}`:                                       "filters[0].expr: 1:6: invalid operation: ==",
		`{"filters":[{"expr":"type"}]}`:                                            "filters[0].expr: 1:1: expected bool, but got string",
		`{"filters":[{"expr":"a_b == 1"}]}`:                                        "filters[0].expr: 1:1: unknown name a_b",
		`{"filters":[{"expr":"$env.type == 'x'"}]}`:                                "unknown name $env",
		`{"filters":[{"expr":"$steps == nil"}]}`:                                   "unknown name $steps",
		`{"filters":[{"expr":"subject matches '^a'"}]}`:                            "1:9: matches is not available",
		`{"filters":[{"expr":"sequence in 1..100000000"}]}`:                        "ranges are not available",
		`{"filters":[{"expr":"now() > time"}]}`:                                    "there is no function now",
		`{"filters":[{"expr":"len(filter(data.a, # > 1)) > 0"}]}`:                  "there is no function filter",
		`{"filters":[{"expr":"subject.foo() == 1"}]}`:                              "there is no function subject.foo",
		`{"filters":[{"expr":"count(data.x) > 0"}]}`:                               "count needs a list and a condition",
		`{"filters":[{"expr":"trim(subject, 'x') == ''"}]}`:                        "trim takes one argument",
		`{"filters":[{"expr":"subject == b'x'"}]}`:                                 "bytes are not available",
		`{"filters":[{"expr":"` + strings.Repeat("(", 100) + `"}]}`:                "1:65: the expression nests deeper than 64",
		`{"filters":[{"expr":"` + strings.Repeat("!", 100) + `a"}]}`:               "nests deeper than 64",
		`{"filters":[{"expr":"a == 1` + strings.Repeat(" or a == 1", 200) + `"}]}`: "maximum allowed nodes",
		`{"filters":[{"expr":"'` + strings.Repeat("x", 20000) + `' == a"}]}`:       "more than the limit of 16384",
		`{"filters":[` + strings.Repeat(`{"not":`, 17) + `{"exact":{"a":"b"}}` + strings.Repeat("}", 17) + `]}`:     "filters nest deeper than 16",
		`{"filters":[` + strings.Repeat(`{"not":`, 2000) + `{"exact":{"a":"b"}}` + strings.Repeat("}", 2000) + `]}`: "nested deeper than the limit",
		`{"filters":[` + strings.Repeat(`{"exact":{"a":"b"}},`, 1000) + `{"exact":{"a":"b"}}]}`:                     "filters[1000].exact[\"a\"]: the filter has more than 1000 conditions",
		`{"filters":[{"exact":{"a":"` + strings.Repeat("x", 300000) + `"}}]}`:                                       "more than the limit of 262144",
	} {
		_, err := compileText(text)
		e, ok := errors.AsType[*Error](err)
		if !ok || !strings.Contains(e.Error(), want) {
			t.Errorf("%.80s\n got %v\nwant %s", text, err, want)
		}
	}
}

func TestCheckGivesEveryFault(t *testing.T) {
	s := Spec{Filters: []Node{{Exact: map[string]string{"A": "", "b": "c"}}, {}, {CESQL: "x =", Expr: "y"}, {Any: []Node{{Prefix: map[string]string{"a": "\xff"}}, {CESQL: "a AND\n  b ="}}}}}
	var got []string
	for _, e := range Check(s) {
		got = append(got, e.Error())
	}
	want := []string{
		`filters[0].exact["A"]: "A" is no attribute: their names are lower-case letters and digits`,
		`filters[0].exact["A"]: empty value: give what the attribute is compared with`,
		`filters[1]: empty filter: give one of exact, prefix, suffix, all, any, not, cesql and expr`,
		`filters[2]: cesql and expr in one filter: write each as a filter of its own`,
		`filters[3].any[0].prefix["a"]: the value is not valid UTF-8`,
		`filters[3].any[1].cesql: 2:6: parse error: unexpected the end: a value, an attribute or a function is expected here`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestSnippetMarksThePlace(t *testing.T) {
	for _, dialect := range []string{`{"cesql":"EXISTS a AND\n type == 'ü'"}`, `{"expr":"data.a == nil and\n type = 'ü'"}`} {
		_, err := compileText(`{"filters":[` + dialect + `]}`)
		e, ok := errors.AsType[*Error](err)
		if !ok {
			t.Fatal(err)
		}
		lines := strings.Split(e.Snippet, "\n")
		if e.Line != 2 || len(lines) != 2 || !strings.HasPrefix(lines[0], " type =") || strings.IndexByte(lines[1], '^') != e.Column-1 {
			t.Errorf("%v\n%s", e, e.Snippet)
		}
	}
}

func TestParseFlag(t *testing.T) {
	for flag, want := range map[string]string{
		"":                                 `{}`,
		"type=a":                           `{"filters":[{"exact":{"type":"a"}}]}`,
		"type=a, subject=b=c":              `{"filters":[{"exact":{"subject":"b=c","type":"a"}}]}`,
		"source=http://x/y":                `{"filters":[{"exact":{"source":"http://x/y"}}]}`,
		`subject=a\,b\\,type=c\d`:          `{"filters":[{"exact":{"subject":"a,b\\","type":"c\\d"}}]}`,
		"exact:type=a":                     `{"filters":[{"exact":{"type":"a"}}]}`,
		"prefix:type=a,source=/b":          `{"filters":[{"prefix":{"source":"/b","type":"a"}}]}`,
		"suffix:type=.error":               `{"filters":[{"suffix":{"type":".error"}}]}`,
		"cesql:type = 'a:b' OR x IN (1,2)": `{"filters":[{"cesql":"type = 'a:b' OR x IN (1,2)"}]}`,
		`expr:data.x == "y"`:               `{"filters":[{"expr":"data.x == \"y\""}]}`,
		`any:[{"exact":{"type":"a"}},{"cesql":"EXISTS x"}]`: `{"filters":[{"any":[{"exact":{"type":"a"}},{"cesql":"EXISTS x"}]}]}`,
		`not:{"exact":{"type":"a"}}`:                        `{"filters":[{"not":{"exact":{"type":"a"}}}]}`,
	} {
		s, err := ParseFlag(flag)
		if err != nil || string(s.Canonical()) != want {
			t.Errorf("%s = %s, %v", flag, s.Canonical(), err)
			continue
		}
		if _, err := Compile(s); err != nil {
			t.Errorf("%s: %v", flag, err)
		}
	}
	for flag, want := range map[string]string{
		"type": "not of the form", "=a": `"" is no attribute`, "type=": "empty value", "type=a,,": "not of the form", "sql:x": "sql: unknown dialect", "cesql:": "an expression is expected", "prefix:": "at least one",
		"type=a,type=b": "given twice", "any:x": "JSON", "any:[]": "at least one", "not:{}": "empty filter", "type=a,x": "not of the form", "cesql:type =": "unexpected the end",
	} {
		s, err := ParseFlag(flag)
		if err == nil {
			_, err = Compile(s)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", flag, err, want)
		}
	}
}

// FuzzParseSpec: no text crashes the parser or the compiler; what parses has a
// stable canonical form that compiles as well or as badly.
func FuzzParseSpec(f *testing.F) {
	for _, s := range []string{
		`{"filters":[{"any":[{"prefix":{"a":"2"}},{"not":{"suffix":{"type":"x"}}}]},{"cesql":"a = 'b'"},{"expr":"data.x == 1"}]}`,
		`{"filter":{"attributes":{"type":"","x":"y"}}}`, `{"filters":[{"exact":{"\ud800":"\u0000"}}]}`, `{}`, `null`, `{"filters":null}`,
		`{"filters":[{"expr":"any(data.items, .a > 1) && not (subject in ['x']) || data?.b[0] ?? 1 == 2"}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseSpec(text)
		if err != nil {
			if e, ok := errors.AsType[*Error](err); !ok || e.Reason == "" {
				t.Fatalf("%q: %#v", text, e)
			}
			return
		}
		canonical := s.Canonical()
		again, err := ParseSpec(canonical)
		if err != nil || string(again.Canonical()) != string(canonical) || !utf8.Valid(canonical) || !json.Valid(canonical) {
			t.Fatalf("%q: canonical %q, %v, again %q", text, canonical, err, again.Canonical())
		}
		a, b := Check(s), Check(again)
		if len(s.Filters) > 0 && fmt.Sprint(a) != fmt.Sprint(b) {
			t.Errorf("%q: %v, canonical %v", text, a, b)
		}
	})
}

// FuzzParseFlag: no text crashes it.
func FuzzParseFlag(f *testing.F) {
	for _, s := range []string{"type=a,b=c", "cesql:x = 1", "expr:data.x", "any:[]", "prefix:a=b\\,c", ":", "=", "not:{\"exact\":{\"a\":\"b\"}}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		spec, err := ParseFlag(s)
		if err == nil {
			Check(spec)
		}
	})
}
