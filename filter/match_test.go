package filter

import (
	"errors"
	"strings"
	"testing"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/filter/cesql"
)

func text(s string) event.Value { return event.Value{Kind: event.String, Str: s} }

func orderEvent() *event.Event {
	return &event.Event{
		ID: "7", Source: "/shop/de", Type: "order.created", Subject: "o-17",
		Extensions: []event.Extension{
			{Name: "count", Value: event.Value{Kind: event.Integer, Str: "5", Int: 5}},
			{Name: "empty", Value: text("")},
			{Name: "five", Value: text("5")},
			{Name: "rush", Value: event.Value{Kind: event.Boolean, Str: "true", Int: 1}},
			{Name: "tenant", Value: text("acme")},
		},
		DataContentType: "application/json",
		Data: []byte(`{"kind":"big","n":12,"half":0.5,"huge":9007199254740993,"ok":true,"none":null,"name":"Grün","tags":["a","b"],
			"items":[{"sku":"x","qty":2},{"sku":"y","qty":7}],"nested":{"deep":{"er":1}},"words":["alpha",3]}`),
	}
}

// result is what a filter does with an event: matches, does not, errs.
func result(t *testing.T, f *Filter, e *event.Event) string {
	t.Helper()
	ok, err := f.Match(NewView(e))
	switch {
	case err != nil && ok:
		t.Errorf("a match beside the error %v", err)
		fallthrough
	case err != nil:
		return "error"
	case ok:
		return "yes"
	default:
		return "no"
	}
}

func TestDialects(t *testing.T) {
	for filter, want := range map[string]string{
		`{}`: "yes",
		`{"filter":{"attributes":{"type":"order.created"}}}`:                                   "yes",
		`{"filter":{"attributes":{"type":"order.created","subject":"x"}}}`:                     "no",
		`{"filter":{"attributes":{"type":""}}}`:                                                "yes",
		`{"filter":{"attributes":{"missing":""}}}`:                                             "no",
		`{"filter":{"attributes":{"empty":""}}}`:                                               "no",
		`{"filter":{"attributes":{"time":""}}}`:                                                "no",
		`{"filter":{"attributes":{"count":"5","rush":"true","specversion":"1.0"}}}`:            "yes",
		`{"filter":{"attributes":{"type":"x"}},"filters":[{"exact":{"subject":"o-17"}}]}`:      "yes",
		`{"filters":[{"exact":{"type":"order.created","tenant":"acme"}}]}`:                     "yes",
		`{"filters":[{"exact":{"type":"order.created","tenant":"other"}}]}`:                    "no",
		`{"filters":[{"exact":{"count":"5"}}]}`:                                                "yes",
		`{"filters":[{"prefix":{"type":"order.","source":"/shop"}}]}`:                          "yes",
		`{"filters":[{"prefix":{"type":"orders."}}]}`:                                          "no",
		`{"filters":[{"suffix":{"type":".created"}}]}`:                                         "yes",
		`{"filters":[{"suffix":{"time":"Z"}}]}`:                                                "no",
		`{"filters":[{"exact":{"time":"2020"}}]}`:                                              "no",
		`{"filters":[{"prefix":{"missing":"x"}}]}`:                                             "no",
		`{"filters":[{"not":{"exact":{"missing":"x"}}}]}`:                                      "yes",
		`{"filters":[{"not":{"exact":{"type":"order.created"}}}]}`:                             "no",
		`{"filters":[{"all":[{"exact":{"type":"order.created"}},{"prefix":{"source":"/"}}]}]}`: "yes",
		`{"filters":[{"any":[{"exact":{"type":"x"}},{"prefix":{"source":"/"}}]}]}`:             "yes",
		`{"filters":[{"any":[{"exact":{"type":"x"}},{"exact":{"source":"x"}}]}]}`:              "no",
		`{"filters":[{"exact":{"type":"order.created"}},{"exact":{"subject":"x"}}]}`:           "no",
		`{"filters":[{"cesql":"type = 'order.created' AND count = 5"}]}`:                       "yes",
		`{"filters":[{"cesql":"rush"}]}`:                                                       "yes",
		`{"filters":[{"cesql":"count"}]}`:                                                      "error",
		`{"filters":[{"cesql":"tenant"}]}`:                                                     "error",
		`{"filters":[{"cesql":"missing = 'x'"}]}`:                                              "error",
		`{"filters":[{"not":{"cesql":"missing = 'x'"}}]}`:                                      "error",
		`{"filters":[{"any":[{"cesql":"missing = 'x'"},{"exact":{"id":"7"}}]}]}`:               "yes",
		`{"filters":[{"any":[{"cesql":"missing = 'x'"},{"exact":{"id":"8"}}]}]}`:               "error",
		`{"filters":[{"all":[{"cesql":"missing = 'x'"},{"exact":{"id":"8"}}]}]}`:               "no",
		`{"filters":[{"all":[{"cesql":"missing = 'x'"},{"exact":{"id":"7"}}]}]}`:               "error",
		`{"filters":[{"cesql":"EXISTS missing OR EXISTS tenant"}]}`:                            "yes",
	} {
		f, err := compileText(filter)
		if err != nil {
			t.Errorf("%s: %v", filter, err)
			continue
		}
		if got := result(t, f, orderEvent()); got != want {
			t.Errorf("%s: %s, want %s", filter, got, want)
		}
	}
}

// exprCases: what expr expressions do with orderEvent().
var exprCases = map[string]string{
	// Attributes, with their types.
	`type == "order.created"`: "yes", `"order.created" == type`: "yes", `id == "7" and source startsWith "/shop"`: "yes", `specversion == "1.0"`: "yes",
	`count == 5`: "yes", `count == 5.0`: "yes", `count == "5"`: "no", `five == 5`: "no", `five == "5"`: "yes", `int(five) == 5`: "yes", `string(count) == five`: "yes",
	`rush`: "yes", `rush == true`: "yes", `not rush`: "no", `tenant`: "error", `count`: "error", `!count`: "error", `rush ? true : false`: "yes",
	`type != "x"`: "yes", `count != 5`: "no", `count > 4 && count <= 5`: "yes", `1 < count < 9`: "yes", `count > "4"`: "error", `five > 4`: "error", `five > "4"`: "yes",
	`tenant in ["acme", "other"]`: "yes", `tenant not in ["acme"]`: "no", `count in [1, 5]`: "yes", `count in ["5"]`: "no", `tenant in []`: "no",
	`tenant startsWith "ac" and tenant endsWith "me" and tenant contains "cm"`: "yes", `tenant not startsWith "x"`: "yes", `count startsWith "5"`: "error",
	`-count == -5`: "yes", `count == -(-5)`: "yes", `count + 1 == 6`: "yes", `count / 2 == 2.5`: "yes", `count % 2 == 1`: "yes", `count % 0 == 1`: "error", `2 ** 3 == 8`: "yes",
	`tenant + "!" == "acme!"`: "yes", `tenant + 1 == "acme1"`: "error", `lower("ABC") == "abc"`: "yes", `len(data.name) == 4`: "yes",
	// What is absent: nil, and false in every comparison but with nil.
	`missing == nil`: "yes", `missing != nil`: "no", `time == nil`: "yes", `nil == time`: "yes", `nil != type`: "yes", `nil == nil`: "yes",
	`missing == "x"`: "no", `missing != "x"`: "no", `missing > 1`: "no", `missing <= 1`: "no", `"x" != missing`: "no", `missing == subject`: "no", `missing != subject`: "no", `missing == time`: "no",
	`missing in ["x", ""]`: "no", `missing not in ["x"]`: "no", `not (missing in ["x"])`: "yes", `missing startsWith "x"`: "no", `missing not startsWith "x"`: "no", `not (missing startsWith "x")`: "yes",
	`missing`: "no", `not missing`: "yes", `missing or rush`: "yes", `missing && rush`: "no", `missing ? false : true`: "yes", `(missing ?? "d") == "d"`: "yes",
	`int(missing) > 3`: "no", `lower(missing) == "x"`: "no", `len(missing) > 0`: "no", `missing + 1 == 1`: "no", `missing.x.y == 1`: "no", `any(missing, # == 1)`: "no", `all(missing, # == 1)`: "yes",
	`tenant in missing`: "no", `tenant not in missing`: "no", `missing in data.tags`: "no",
	// The payload.
	`data.kind == "big"`: "yes", `data["kind"] == "big"`: "yes", `data?.kind == "big"`: "yes", `data.n == 12 and data.n > 11.5 and data.half == 0.5`: "yes", `data.huge == 9007199254740993`: "yes", `data.huge == 9007199254740992`: "no",
	`data.ok`: "yes", `data.none == nil`: "yes", `data.nope == nil`: "yes", `data.nope.deeper.still == nil`: "yes", `data.kind.x == nil`: "yes", `data.kind[0] == nil`: "yes", `data != nil`: "yes",
	`data.items[0].sku == "x"`: "yes", `data.items[-1].sku == "y"`: "yes", `data.items[9].sku == "x"`: "no", `data.items["0"] == nil`: "yes", `data.nested.deep.er == 1`: "yes",
	`data.tags == ["a", "b"]`: "yes", `data.tags == ["b", "a"]`: "no", `data.tags != ["b"]`: "yes", `data.nested.deep == {"er": 1}`: "yes", `"a" in data.tags`: "yes", `"c" not in data.tags`: "yes", `"er" in data.nested.deep`: "yes", `"x" in data.kind`: "error",
	`any(data.items, .sku == "y" && .qty > 5)`: "yes", `any(data.items, {.qty > 7})`: "no", `all(data.items, .qty >= 2)`: "yes", `none(data.items, .sku == "z")`: "yes", `one(data.items, .sku == "x")`: "yes", `count(data.items, .qty > 1) == 2`: "yes",
	`any(data.words, # == "alpha")`: "yes", `any(data.words, # startsWith "b")`: "error", `any(data.kind, # == 1)`: "error", `any(data.items, any(data.tags, # == "b"))`: "yes", `any(data.items, .gone)`: "no", `data.items | any(.qty == 7)`: "yes",
	`data.kind > 3`: "error", `data.items > 3`: "error", `data.name endsWith "ün"`: "yes", `upper(data.kind) == "BIG" and trim(" x ") == "x" and trimPrefix(tenant, "ac") == "me"`: "yes", `indexOf(tenant, "m") == 2`: "yes", `hasPrefix(type, "order") && hasSuffix(type, "created")`: "yes",
	`float("1.5") == 1.5 && round(1.6) == 2 && floor(1.6) == 1 && ceil(1.2) == 2 && abs(-3) == 3 && abs(-1.5) == 1.5`: "yes", `int("x") == 1`: "error", `int(2.9) == 2`: "yes", `string(1.5) == "1.5"`: "yes", `string(data.tags) == ""`: "error",
	`let k = data.kind; k == "big" && k != missing`: "no", `let type2 = type; type2 == "order.created"`: "yes", `tenant[0:2] == "ac"`: "yes", `data.tags[0:1] == ["a"]`: "yes", `missing[0:1] == "x"`: "error",
	`true`: "yes", `false`: "no", `type == "x" or count == 5`: "yes", `tenant or type == "order.created"`: "error", `type == "order.created" or tenant`: "yes", `if rush { count == 5 } else { false }`: "yes", `{"a": tenant}.a == "acme"`: "yes", `[tenant, 1][0] == "acme"`: "yes",
}

func TestExpr(t *testing.T) {
	for expression, want := range exprCases {
		f, err := Compile(Spec{Filters: []Node{{Expr: expression}}})
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		if got := result(t, f, orderEvent()); got != want {
			t.Errorf("%s: %s, want %s", expression, got, want)
		}
	}
}

func TestDataOfOtherKinds(t *testing.T) {
	for _, c := range []struct{ contentType, data, filter, want string }{
		{"application/json", `{"a":1}`, `data.a == 1`, "yes"},
		{"", `{"a":1}`, `data.a == 1`, "yes"},
		{"application/vnd.x+json; charset=utf-8", `{"a":1}`, `data.a == 1`, "yes"},
		{"TEXT/JSON", `{"a":1}`, `data.a == 1`, "yes"},
		{"text/plain", `{"a":1}`, `data.a == 1`, "no"},
		{"text/plain", `{"a":1}`, `data == nil`, "yes"},
		{"application/jsonseq", `{"a":1}`, `data == nil`, "yes"},
		{"json", `{"a":1}`, `data == nil`, "yes"},
		{"", ``, `data == nil`, "yes"},
		{"application/json", ``, `data == nil`, "yes"},
		{"application/json", `null`, `data == nil`, "yes"},
		{"application/json", `"text"`, `data == "text" && data startsWith "te"`, "yes"},
		{"application/json", `[1,2]`, `data[1] == 2`, "yes"},
		{"", "\x00\x01", `data == nil`, "yes"},
		{"application/json", `{"a":`, `data == nil`, "error"},
		{"application/json", `{"a":`, `data.a == 1 or true`, "error"},
		{"application/json", `{"a":`, `type == "t"`, "yes"},
		{"application/json", strings.Repeat("[", 100) + strings.Repeat("]", 100), `data != nil`, "error"},
		{"application/json", `"` + strings.Repeat("x", 2<<20) + `"`, `data != nil`, "error"},
		{"", strings.Repeat("[", 100) + strings.Repeat("]", 100), `data == nil`, "yes"},
	} {
		f, err := Compile(Spec{Filters: []Node{{Expr: c.filter}}})
		if err != nil {
			t.Fatal(err)
		}
		e := &event.Event{ID: "1", Source: "s", Type: "t", DataContentType: c.contentType, Data: []byte(c.data)}
		if got := result(t, f, e); got != c.want {
			t.Errorf("%s %.30q %s: %s, want %s", c.contentType, c.data, c.filter, got, c.want)
		}
	}
}

func TestErrorsSayWhy(t *testing.T) {
	f, err := Compile(Spec{Filters: []Node{{CESQL: "type = 'order.created' AND missing = 1"}}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Match(NewView(orderEvent()))
	if e, ok := errors.AsType[*cesql.Error](err); !ok || e.Kind != cesql.MissingAttributeError || e.Column != 28 {
		t.Errorf("%v", err)
	}
	f, err = Compile(Spec{Filters: []Node{{Expr: `data.ok and int(tenant) == 3`}}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Match(NewView(orderEvent()))
	if err == nil || err.Error() != "filters[0].expr: 1:13: int: the string is no whole number" {
		t.Errorf("%v", err)
	}
}

// TestCostIsBounded: expressions that could run for hours end by the limit.
func TestCostIsBounded(t *testing.T) {
	e := orderEvent()
	e.Data = []byte(`{"l":[` + strings.Repeat("1,", 3000) + `2],"s":"` + strings.Repeat("x", 100_000) + `"}`)
	for _, expression := range []string{
		`any(data.l, any(data.l, any(data.l, # > 5)))`,
		`all(data.l, # in data.l and all(data.l, # in data.l))`,
		`any(data.l, data.s contains "y" && false)`,
		`any(data.l, lower(data.s) == "y")`,
		`any(data.l, data.s == data.s and data.l != data.l)`,
		`data.s + data.s == "x"`,
		`any(data.l, data[data.s] == 1)`,
	} {
		f, err := Compile(Spec{Filters: []Node{{Expr: expression}}})
		if err != nil {
			t.Fatal(expression, err)
		}
		if got := result(t, f, e); got != "error" {
			t.Errorf("%s: %s", expression, got)
		}
	}
}

// TestViewHoldsNothingOfTheLastEvent: a reused View answers as a new one.
func TestViewHoldsNothingOfTheLastEvent(t *testing.T) {
	f, err := Compile(Spec{Filters: []Node{{Expr: `data.kind == subject or len(tenant) == 4`}}})
	if err != nil {
		t.Fatal(err)
	}
	v := NewView(nil)
	other := &event.Event{ID: "1", Source: "s", Type: "t"}
	for range 3 {
		v.Reset(orderEvent())
		if ok, err := f.Match(v); !ok || err != nil {
			t.Fatal(ok, err)
		}
		v.Reset(other)
		if ok, err := f.Match(v); ok || err != nil {
			t.Fatal(ok, err)
		}
	}
}
