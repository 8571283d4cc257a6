package filter

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// TestViewReadsAttributesAsTheEventDoes: the View resolves names on its own,
// and must agree with the event.
func TestViewReadsAttributesAsTheEventDoes(t *testing.T) {
	r := random{rand.New(rand.NewPCG(5, 5))}
	names := []string{"id", "source", "type", "specversion", "subject", "time", "datacontenttype", "dataschema", "ext", "num", "flag", "tenant", "data", "aaa", "zzz", ""}
	for range 200 {
		e := r.event()
		v := NewView(e)
		for _, name := range names {
			got, ok := v.attribute(attributeOf(name))
			want, wantOK := e.Attribute(name)
			if got != want || ok != wantOK {
				t.Errorf("%s of %+v: %+v %v, want %+v %v", name, e, got, ok, want, wantOK)
			}
		}
	}
}

// TestConcurrentUse: matches run side by side while the set changes; a filter
// that stays is never missed.
func TestConcurrentUse(t *testing.T) {
	m := populated(t, 50, populations[2].spec)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			v, e := NewView(nil), tenantEvent()
			for range 500 {
				v.Reset(e)
				if got := m.Match(v, nil, nil); len(got) != 1 || got[0] != 0 {
					t.Error(got)
				}
			}
		})
	}
	wait.Go(func() {
		for i := range uint32(500) {
			f, err := Compile(Spec{Filters: []Node{{Any: []Node{{Exact: map[string]string{"tenant": fmt.Sprint("x", i)}}, {Expr: `data.kind == "never"`}}}}})
			if err != nil {
				t.Error(err)
			}
			m.Add(1000+i%20, f)
			if i%3 == 0 {
				m.Remove(1000 + i%20)
			}
		}
	})
	wait.Wait()
}
