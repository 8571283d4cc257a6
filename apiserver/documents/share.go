package documents

import (
	"encoding/json"
	"maps"
	"slices"

	"k8s.io/kube-openapi/pkg/validation/spec"
)

// worthSharing is from how many bytes on an object stands once, and is referred
// to: less than that is parsed as fast as a reference.
const worthSharing = 300

// share has the objects that are described alike in several places, but for
// what each is there for, stand once. The types given are replaced, not changed.
func share(types map[string]*spec.Schema) {
	s := &sharing{types: types, times: map[string]int{}, names: map[string]string{}}
	all := slices.Sorted(maps.Keys(types))
	for _, name := range all {
		s.eachObject(types[name], s.count)
	}
	for _, name := range all {
		shared := s.within(*types[name], name)
		types[name] = &shared
	}
}

// sharing is one share.
type sharing struct {
	types map[string]*spec.Schema
	times map[string]int    // how often there is an object, by its form
	names map[string]string // of the types that were made, by the form
}

// eachObject calls f for the objects that a type is made of, but not again for
// what is inside one that f was called for before.
func (s *sharing) eachObject(t *spec.Schema, f func(*spec.Schema) (again bool)) {
	visit := func(p *spec.Schema) {
		if !f(p) {
			s.eachObject(p, f)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Properties)) {
		p := t.Properties[name]
		visit(&p)
	}
	if t.Items != nil && t.Items.Schema != nil {
		visit(t.Items.Schema)
	}
}

func (s *sharing) count(t *spec.Schema) (again bool) {
	form := form(t)
	if form == "" {
		return false
	}
	s.times[form]++
	return s.times[form] > 1
}

// form is what an object is, without what it is there for; empty where it is not
// worth sharing.
func form(t *spec.Schema) string {
	if len(t.Properties) == 0 {
		return ""
	}
	bare := *t
	bare.Description = ""
	b, err := json.Marshal(bare)
	if err != nil || len(b) < worthSharing {
		return ""
	}
	return string(b)
}

// within is a type with references in place of what is shared in it. The path
// tells where it is.
func (s *sharing) within(t spec.Schema, path string) spec.Schema {
	t.Properties = maps.Clone(t.Properties)
	for _, name := range slices.Sorted(maps.Keys(t.Properties)) {
		t.Properties[name] = s.replaced(t.Properties[name], path+"."+name)
	}
	if t.Items != nil && t.Items.Schema != nil {
		item := s.replaced(*t.Items.Schema, path)
		t.Items = &spec.SchemaOrArray{Schema: &item}
	}
	return t
}

func (s *sharing) replaced(t spec.Schema, path string) spec.Schema {
	form := form(&t)
	if form == "" || s.times[form] < 2 {
		return s.within(t, path)
	}
	name := s.names[form]
	if name == "" {
		name = path + ".Object" // kubectl explain shows the last part
		s.names[form] = name
		bare := t
		bare.Description = ""
		bare = s.within(bare, path)
		s.types[name] = &bare
	}
	ref := spec.Schema{SchemaProps: spec.SchemaProps{Ref: spec.MustCreateRef(schemas + name)}}
	if t.Description == "" {
		return ref
	}
	// Beside a reference nothing else may stand.
	return spec.Schema{SchemaProps: spec.SchemaProps{Description: t.Description, AllOf: []spec.Schema{ref}}}
}
