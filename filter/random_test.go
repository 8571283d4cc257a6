package filter

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/leat-dev/leat/api/event"
)

// random makes filters and events from few names and values, so that they
// often meet.
type random struct{ *rand.Rand }

func pick[T any](r random, of ...T) T { return of[r.IntN(len(of))] }

func (r random) name() string {
	return pick(r, "type", "source", "subject", "time", "ext", "num", "flag", "id")
}

func (r random) value() string {
	return pick(r, "a", "ab", "abc", "b", "5", "05", "+5", "7", "true", "TRUE", "false", "1", "0", "order.created", "order.deleted", "x", "grün")
}

func (r random) event() *event.Event {
	maybe := func() string { return pick(r, "", r.value()) }
	e := &event.Event{ID: r.value(), Source: r.value(), Type: r.value(), Subject: maybe(), Time: maybe()}
	for _, name := range []string{"ext", "flag", "num"} {
		n := int32(pick(r, 0, 1, 5, 7, -3))
		switch r.IntN(4) {
		case 0:
			e.Extensions = append(e.Extensions, event.Extension{Name: name, Value: text(pick(r, r.value(), ""))})
		case 1:
			e.Extensions = append(e.Extensions, event.Extension{Name: name, Value: event.Value{Kind: event.Integer, Str: strconv.Itoa(int(n)), Int: n}})
		case 2:
			n &= 1
			e.Extensions = append(e.Extensions, event.Extension{Name: name, Value: event.Value{Kind: event.Boolean, Str: strconv.FormatBool(n == 1), Int: n}})
		}
	}
	switch r.IntN(6) {
	case 0:
		e.Data = []byte(pick(r, `not json`, `"a"`, `5`, `[1,"a",{"k":"a"}]`, `null`))
	case 1:
		e.DataContentType = "application/json"
		e.Data = []byte(pick(r, `{`, `{"k":"a"}`))
	case 2:
	default:
		e.Data = fmt.Appendf(nil, `{"k":%s,"o":{"k":%s},"l":[%s,%s]}`, r.json(), r.json(), r.json(), r.json())
	}
	return e
}

func (r random) json() string {
	return pick(r, strconv.Quote(r.value()), `5`, `5.0`, `5.5`, `7`, `-3`, `true`, `false`, `null`, `{"k":"a"}`, `[]`)
}

func (r random) spec() Spec {
	if r.IntN(8) == 0 {
		s := Spec{Attributes: map[string]string{}}
		for range r.IntN(3) {
			s.Attributes[r.name()] = pick(r, r.value(), "")
		}
		return s
	}
	var s Spec
	for range 1 + r.IntN(2) {
		s.Filters = append(s.Filters, r.node(2))
	}
	return s
}

func (r random) node(depth int) Node {
	pairs := func() map[string]string {
		m := map[string]string{r.name(): r.value()}
		if r.IntN(2) == 0 {
			m[r.name()] = r.value()
		}
		return m
	}
	nodes := func() []Node { return []Node{r.node(depth - 1), r.node(depth - 1)} }
	if depth > 0 {
		switch r.IntN(6) {
		case 0:
			return Node{All: nodes()}
		case 1:
			return Node{Any: nodes()}
		case 2:
			n := r.node(depth - 1)
			return Node{Not: &n}
		}
	}
	switch r.IntN(8) {
	case 0:
		return Node{Exact: pairs()}
	case 1:
		return Node{Prefix: pairs()}
	case 2:
		return Node{Suffix: pairs()}
	case 3, 4:
		return Node{CESQL: r.cesql(2)}
	default:
		return Node{Expr: r.expr(2)}
	}
}

func (r random) cesql(depth int) string {
	if depth > 0 && r.IntN(3) > 0 {
		if r.IntN(5) == 0 {
			return "NOT (" + r.cesql(depth-1) + ")"
		}
		return fmt.Sprintf("(%s) %s (%s)", r.cesql(depth-1), pick(r, "AND", "OR", "XOR", "AND", "OR"), r.cesql(depth-1))
	}
	literal := func() string { return pick(r, "'"+r.value()+"'", "'"+r.value()+"'", "5", "0", "1", "TRUE", "FALSE") }
	switch r.IntN(7) {
	case 0, 1:
		return r.name() + pick(r, " = ", " = ", " != ") + literal()
	case 2:
		return literal() + " = " + r.name()
	case 3:
		return fmt.Sprintf("%s %sIN (%s, %s)", r.name(), pick(r, "", "", "NOT "), literal(), literal())
	case 4:
		return fmt.Sprintf("%s %sLIKE '%s'", r.name(), pick(r, "", "", "NOT "), pick(r, "a%", "%c", "order.%", "_", "a_c", "%b%", "abc", "5", "", "%", "o%d"))
	case 5:
		return "EXISTS " + r.name()
	default:
		return r.name() + pick(r, " < ", " >= ", " = ") + pick(r, r.name(), "5")
	}
}

func (r random) exprOperand() string {
	return pick(r, r.name(), r.name(), "data.k", "data.o.k", "data.l[0]", "data.l[1].k", "data", `data["k"]`, "data.nope")
}

func (r random) exprLiteral() string {
	return pick(r, strconv.Quote(r.value()), strconv.Quote(r.value()), "5", "5.0", "-3", "7", "true", "false", `""`)
}

// expr makes an expression that nativeExpr takes; what it makes is spoilt for
// it by other.
func (r random) expr(depth int) string {
	if depth > 0 && r.IntN(3) > 0 {
		if r.IntN(5) == 0 {
			return "not (" + r.expr(depth-1) + ")"
		}
		return fmt.Sprintf("(%s) %s (%s)", r.expr(depth-1), pick(r, "and", "or", "&&", "||"), r.expr(depth-1))
	}
	x := r.exprOperand()
	switch r.IntN(9) {
	case 0, 1, 2:
		return x + pick(r, " == ", " == ", " != ") + r.exprLiteral()
	case 3:
		return r.exprLiteral() + pick(r, " == ", " != ", " < ", " >= ") + x
	case 4:
		return fmt.Sprintf("%s %sin [%s, %s]", x, pick(r, "", "", "not "), r.exprLiteral(), r.exprLiteral())
	case 5:
		return fmt.Sprintf("%s %s%s %q", x, pick(r, "", "", "not "), pick(r, "startsWith", "endsWith", "contains"), pick(r, "a", "order", "c", ""))
	case 6:
		return pick(r, x+pick(r, " == nil", " != nil"), "nil != "+x)
	case 7:
		return x + pick(r, " < ", " <= ", " > ", " >= ") + r.exprLiteral()
	default:
		return pick(r, x, "true", "false")
	}
}

// other is an expression that the machine must run.
func (r random) other() string {
	return pick(r, "any(data.l, # == 5)", "len(ext) > 1", "int(num) + 1 == 6", "data.k == ext", "(type ?? 'x') == 'a'", "all(data.l, # != data.k)", "ext in data.l", "data.k < num")
}

// TestMatcherFindsWhatMatches: through adds, replacements and removals, a
// Matcher gives exactly the filters that match on their own.
func TestMatcherFindsWhatMatches(t *testing.T) {
	for seed := range uint64(20) {
		r := random{rand.New(rand.NewPCG(seed, 1))}
		m := NewMatcher()
		filters := map[uint32]*Filter{}
		specs := map[uint32]Spec{}
		v := NewView(nil)
		matches := 0
		for step := range 400 {
			id := uint32(r.IntN(150))
			if r.IntN(4) == 0 {
				m.Remove(id)
				delete(filters, id)
			} else {
				s := r.spec()
				if r.IntN(10) == 0 {
					s = Spec{Filters: []Node{{Expr: pick(r, "%s and %s", "%s or %s")}}}
					s.Filters[0].Expr = fmt.Sprintf(s.Filters[0].Expr, "("+r.expr(1)+")", r.other())
				}
				f, err := Compile(s)
				if err != nil {
					continue // of a constant type, say
				}
				m.Add(id, f)
				filters[id], specs[id] = f, s
			}
			if m.Len() != len(filters) {
				t.Fatalf("Len = %d, want %d", m.Len(), len(filters))
			}
			if step%4 == 0 {
				matches += checkMatcher(t, m, filters, specs, v, r.event())
			}
		}
		if matches == 0 {
			t.Error("nothing ever matched")
		}
		for id := range filters {
			m.Remove(id)
		}
		if d := &m.index; m.Len() != 0 || m.Residual() != 0 || d.dataKeys != 0 || len(d.extensions) != 0 || d.core != [len(d.core)]*attributeIndex{} || len(d.data.fields)+len(d.data.elements)+len(d.data.values) != 0 {
			t.Errorf("an empty Matcher holds %+v", m)
		}
	}
}

func checkMatcher(t *testing.T, m *Matcher, filters map[uint32]*Filter, specs map[uint32]Spec, v *View, e *event.Event) int {
	t.Helper()
	v.Reset(e)
	failed := map[uint32]bool{}
	got := m.Match(v, nil, func(id uint32, err error) { failed[id] = true })
	slices.Sort(got)
	var want []uint32
	for id, f := range filters {
		ok, err := f.Match(NewView(e))
		if ok {
			want = append(want, id)
		}
		if failed[id] && err == nil {
			t.Errorf("filter %s failed under the matcher alone", specs[id].Canonical())
		}
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("event %+v, data %s: matched %v, want %v", e, e.Data, got, want)
		for _, id := range slices.Concat(got, want) {
			if slices.Contains(got, id) != slices.Contains(want, id) {
				t.Logf("filter %d: %s", id, specs[id].Canonical())
			}
		}
	}
	return len(got)
}

// TestNativeMeansTheSame: an expression gives the same whether it runs as
// conditions of our own or on the library's machine.
func TestNativeMeansTheSame(t *testing.T) {
	r := random{rand.New(rand.NewPCG(7, 7))}
	l := Limits{}.withDefaults()
	native, outcomes := 0, map[string]int{}
	expressions := slices.Sorted(func(yield func(string) bool) {
		for e := range exprCases {
			if !yield(e) {
				return
			}
		}
	})
	for range 3000 {
		expressions = append(expressions, r.expr(2))
	}
	for _, src := range expressions {
		c := compiler{limits: l}
		p, _ := c.expr(src, "expr")
		if len(c.errors) > 0 {
			continue
		}
		if _, machine := p.(*exprPredicate); machine {
			continue
		}
		native++
		tree, err := c.parseExpr(src)
		if err != nil {
			t.Fatal(src, err)
		}
		names, err := inspect(tree.Node)
		if err != nil {
			t.Fatal(src, err)
		}
		program, err := compileExpr(tree)
		if err != nil {
			t.Fatal(src, err)
		}
		machine := &exprPredicate{program: program, attributes: names.attributes, maxSteps: l.MaxSteps}
		for _, e := range []*event.Event{orderEvent(), r.event(), r.event(), r.event(), r.event()} {
			got, want := outcome(p, e), outcome(machine, e)
			outcomes[got]++
			if got != want {
				t.Errorf("%s on %+v %s: %s, on the machine %s", src, e, e.Data, got, want)
			}
		}
	}
	if native < 2000 || outcomes["true"] < 500 || outcomes["false"] < 500 || outcomes["error"] < 500 {
		t.Errorf("%d expressions, outcomes %v", native, outcomes)
	}
}

func outcome(p predicate, e *event.Event) string {
	ok, err := p.match(NewView(e))
	if err != nil {
		return "error"
	}
	return strconv.FormatBool(ok)
}

// FuzzExpr: no text crashes the compiler or the machine, and what matches is
// found through the index.
func FuzzExpr(f *testing.F) {
	for e := range exprCases {
		f.Add(e)
	}
	for _, s := range []string{"((((", "!!!!!!a", "a ? b : c ? d : e", "if a {b} else if c {d} else {e}", "let a = 1; let a = 2; a", "'\\", "#", "any([1], any([2], # == #))", "sum([1]) == 1", "data.a.b.c[1:2][:3] == []", "[[[[[[]]]]]]", "{a: {b: 1}}.a.b == 1", "a;b;c", "a | len() | int()", "1_000 == 0x3e8", "`x` == 'x'", "a?.b?.[c]?.d", "::len(a) == 1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > 2000 {
			return
		}
		filter, err := Compile(Spec{Filters: []Node{{Expr: src}}})
		if src == "" {
			return
		}
		if err != nil {
			if e, ok := errors.AsType[*Error](err); !ok || e.Reason == "" || e.Line < 1 || e.Column < 1 {
				t.Fatalf("%q: %#v", src, err)
			}
			return
		}
		m := NewMatcher()
		m.Add(1, filter)
		r := random{rand.New(rand.NewPCG(1, uint64(len(src))))}
		for _, e := range []*event.Event{orderEvent(), r.event(), r.event()} {
			ok, _ := filter.Match(NewView(e))
			if got := m.Match(NewView(e), nil, nil); (len(got) == 1) != ok {
				t.Errorf("%q: %v, through the index %v", src, ok, got)
			}
		}
	})
}

// FuzzMatch: no filter and no event crash a match, and the index misses none.
func FuzzMatch(f *testing.F) {
	f.Add([]byte(`{"filters":[{"any":[{"prefix":{"type":"a"}},{"cesql":"x IN ('1', 2)"}]}]}`), "abc", "1", []byte(`{"a":1}`))
	f.Add([]byte(`{"filters":[{"expr":"data.a == x or data[0] == 1"}]}`), "", "\xff", []byte(`[1]`))
	f.Add([]byte(`{"filters":[{"cesql":"x LIKE '%\\_%' AND LEFT(x, 2) = 'a' OR type LIKE 'ü%'"}]}`), "ü", "a_", []byte(`{`))
	f.Fuzz(func(t *testing.T, spec []byte, kind, x string, data []byte) {
		filter, err := compileText(string(spec))
		if err != nil {
			return
		}
		m := NewMatcher()
		m.Add(1, filter)
		for _, value := range []event.Value{text(x), {Kind: event.Integer, Str: "5", Int: 5}, {Kind: event.Boolean, Str: "true", Int: 1}} {
			e := &event.Event{ID: "1", Source: "s", Type: kind, Data: data, Extensions: []event.Extension{{Name: "x", Value: value}}}
			ok, _ := filter.Match(NewView(e))
			if got := m.Match(NewView(e), nil, nil); (len(got) == 1) != ok {
				t.Errorf("%s: %v, through the index %v", spec, ok, got)
			}
		}
	})
}

// TestAffixTree compares the tree with a plain map, through adds and removals.
func TestAffixTree(t *testing.T) {
	for _, reversed := range []bool{false, true} {
		r := random{rand.New(rand.NewPCG(3, 3))}
		tree := affixTree{reversed: reversed}
		plain := map[string]*bucket{}
		word := func() string {
			var b strings.Builder
			for range r.IntN(6) {
				b.WriteByte("ab\xc3"[r.IntN(3)])
			}
			return b.String()
		}
		for range 5000 {
			w := word()
			if w == "" {
				continue
			}
			if r.IntN(2) == 0 {
				plain[w] = tree.bucket(w)
			} else {
				tree.remove(w)
				delete(plain, w)
			}
			if tree.size != len(plain) {
				t.Fatalf("size %d, want %d", tree.size, len(plain))
			}
			s := word()
			if tree.find(s) != plain[s] {
				t.Fatalf("find(%q)", s)
			}
			var want []*bucket
			for affix, b := range plain {
				if !reversed && strings.HasPrefix(s, affix) || reversed && strings.HasSuffix(s, affix) {
					want = append(want, b)
				}
			}
			got := tree.collect(s, nil)
			for _, b := range want {
				if !slices.Contains(got, b) || len(got) != len(want) {
					t.Fatalf("collect(%q): %d buckets, want %d", s, len(got), len(want))
				}
			}
		}
		for w := range plain {
			tree.remove(w)
		}
		if tree.root.children != nil && len(tree.root.children) > 0 {
			t.Error("an empty tree has nodes")
		}
	}
}

// TestCastsThroughTheIndex: CESQL's casts make values equal whose string forms
// differ; the index must find them too.
func TestCastsThroughTheIndex(t *testing.T) {
	integer := func(n int32) event.Value { return event.Value{Kind: event.Integer, Str: strconv.Itoa(int(n)), Int: n} }
	boolean := event.Value{Kind: event.Boolean, Str: "true", Int: 1}
	for _, c := range []struct {
		filter string
		x      event.Value
	}{
		{"'05' = x", integer(5)}, {"x IN ('05', 'a')", integer(5)}, {"x IN ('+5')", integer(5)}, {"'TRUE' = x", boolean}, {"x IN ('tRuE')", boolean}, {"x IN (7)", boolean},
		{"x IN (TRUE)", integer(1)}, {"x IN (TRUE)", text("true")}, {"x IN (5)", text("5")}, {"5 = x", text("5")}, {"TRUE = x", integer(1)}, {"TRUE = x", text("true")}, {"FALSE = x", integer(0)},
		{"x = '5'", integer(5)}, {"x = 'true'", boolean}, {"x = 5", text("+5")}, {"x = 5", text("05")}, {"x = TRUE", text("TRUE")}, {"x = TRUE", integer(9)}, {"x LIKE '5%'", integer(57)}, {"x LIKE '%ue'", boolean}, {"x LIKE 'true'", boolean},
	} {
		f, err := Compile(Spec{Filters: []Node{{CESQL: c.filter}}})
		if err != nil {
			t.Fatal(c.filter, err)
		}
		m := NewMatcher()
		m.Add(1, f)
		e := &event.Event{ID: "1", Source: "s", Type: "t", Extensions: []event.Extension{{Name: "x", Value: c.x}}}
		if got := m.Match(NewView(e), nil, nil); len(got) != 1 {
			t.Errorf("%s with %+v does not match", c.filter, c.x)
		}
	}
}
