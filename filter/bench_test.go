package filter

import (
	"fmt"
	"testing"

	"github.com/leat-dev/leat/api/event"
)

var benchSpecs = []struct {
	name string
	spec Spec
}{
	{"exact", Spec{Filters: []Node{{Exact: map[string]string{"type": "order.created", "tenant": "acme"}}}}},
	{"prefix", Spec{Filters: []Node{{Prefix: map[string]string{"type": "order."}}}}},
	{"cesql", Spec{Filters: []Node{{CESQL: "type = 'order.created' AND source LIKE '/shop/%' AND count > 3"}}}},
	{"expr", Spec{Filters: []Node{{Expr: `type == "order.created" and source startsWith "/shop/" and count > 3`}}}},
	{"exprData", Spec{Filters: []Node{{Expr: `data.kind == "big" and data.n > 3`}}}},
	{"exprMachine", Spec{Filters: []Node{{Expr: `type == "order.created" and int(five) > 3 and len(tenant) == 4`}}}},
	{"exprMachineData", Spec{Filters: []Node{{Expr: `any(data.items, .sku == "y" and .qty > 5)`}}}},
}

func BenchmarkCompile(b *testing.B) {
	for _, c := range benchSpecs {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Compile(c.spec); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkMatch matches one filter with one event, whose data is parsed once
// for all rounds.
func BenchmarkMatch(b *testing.B) {
	for _, c := range benchSpecs {
		b.Run(c.name, func(b *testing.B) {
			f, err := Compile(c.spec)
			if err != nil {
				b.Fatal(err)
			}
			v := NewView(orderEvent())
			b.ReportAllocs()
			for b.Loop() {
				if ok, err := f.Match(v); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

// populations are sets of filters of which one matches the event of number 7.
var populations = []struct {
	name string
	spec func(i int) Spec
}{
	{"exact", func(i int) Spec {
		return Spec{Filters: []Node{{Exact: map[string]string{"type": "order.created", "tenant": fmt.Sprint("t", i)}}}}
	}},
	{"prefix", func(i int) Spec {
		return Spec{Filters: []Node{{Prefix: map[string]string{"tenant": fmt.Sprintf("t%d", i)}}}}
	}},
	{"cesql", func(i int) Spec {
		return Spec{Filters: []Node{{CESQL: fmt.Sprintf("type = 'order.created' AND tenant = 't%d'", i)}}}
	}},
	{"expr", func(i int) Spec {
		return Spec{Filters: []Node{{Expr: fmt.Sprintf(`type == "order.created" and tenant == "t%d" and len(subject) > 1`, i)}}}
	}},
	{"exprData", func(i int) Spec { return Spec{Filters: []Node{{Expr: fmt.Sprintf(`data.kind == "t%d"`, i)}}} }},
}

func populated(tb testing.TB, n int, spec func(int) Spec) *Matcher {
	m := NewMatcher()
	for i := range n {
		f, err := Compile(spec(i))
		if err != nil {
			tb.Fatal(err)
		}
		m.Add(uint32(i), f)
	}
	return m
}

func tenantEvent() *event.Event {
	e := orderEvent()
	e.Extensions = []event.Extension{{Name: "tenant", Value: text("t0")}}
	e.Data = []byte(`{"kind":"t0","id":"0b7e","customer":{"name":"Ada","country":"GB"},"items":[{"sku":"a-1","qty":2,"price":12.5}]}`)
	return e
}

// BenchmarkMatcher matches events, parsing data where a filter asks for it,
// with sets of filters of which one matches.
func BenchmarkMatcher(b *testing.B) {
	for _, p := range populations {
		for _, n := range []int{1, 100, 10_000, 100_000} {
			b.Run(fmt.Sprintf("%s/%d", p.name, n), func(b *testing.B) {
				m, e, v := populated(b, n, p.spec), tenantEvent(), NewView(nil)
				var dst []uint32
				b.ReportAllocs()
				for b.Loop() {
					v.Reset(e)
					if dst = m.Match(v, dst[:0], nil); len(dst) != 1 {
						b.Fatal(dst)
					}
				}
			})
		}
	}
}

// BenchmarkChange replaces one filter of 10,000.
func BenchmarkChange(b *testing.B) {
	for _, p := range populations {
		b.Run(p.name, func(b *testing.B) {
			m := populated(b, 10_000, p.spec)
			f, err := Compile(p.spec(5000))
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				m.Remove(5000)
				m.Add(5000, f)
			}
		})
	}
}

// TestMatchDoesNotAllocate, for filters that do not look into the data.
func TestMatchDoesNotAllocate(t *testing.T) {
	for _, p := range populations[:3] {
		m, e, v := populated(t, 1000, p.spec), tenantEvent(), NewView(nil)
		dst := make([]uint32, 0, 10)
		v.Reset(e)
		m.Match(v, dst, nil)
		if n := testing.AllocsPerRun(100, func() {
			v.Reset(e)
			if got := m.Match(v, dst, nil); len(got) != 1 || got[0] != 0 {
				t.Error(got)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", p.name, n)
		}
	}
}

// TestIndexKeepsCandidatesFew: of many filters that share one condition and
// differ in another, an event runs a handful, whatever their dialect.
func TestIndexKeepsCandidatesFew(t *testing.T) {
	for _, p := range populations {
		m, v := populated(t, 2000, p.spec), NewView(tenantEvent())
		candidates := len(m.residual.places)
		for _, b := range m.index.collect(v, nil) {
			candidates += len(b.places)
		}
		if candidates > 10 {
			t.Errorf("%s: %d of 2000 filters run", p.name, candidates)
		}
	}
}

// TestResidual counts the filters that no index helps.
func TestResidual(t *testing.T) {
	m := NewMatcher()
	for i, s := range []Spec{
		{}, // matches everything
		{Filters: []Node{{Exact: map[string]string{"type": "a"}}}},
		{Filters: []Node{{Not: &Node{Exact: map[string]string{"type": "a"}}}}},
		{Filters: []Node{{CESQL: "ext = 5"}}},
		{Filters: []Node{{Any: []Node{{Exact: map[string]string{"type": "a"}}, {Expr: "any(data, # == 1)"}}}}},
		{Filters: []Node{{Expr: "false"}}},
	} {
		f, err := Compile(s)
		if err != nil {
			t.Fatal(err)
		}
		m.Add(uint32(i), f)
	}
	if m.Residual() != 3 || m.Len() != 6 {
		t.Errorf("%d of %d", m.Residual(), m.Len())
	}
	if got := m.Match(NewView(&event.Event{ID: "1", Source: "s", Type: "b"}), nil, nil); len(got) != 2 {
		t.Errorf("%v", got)
	}
}
