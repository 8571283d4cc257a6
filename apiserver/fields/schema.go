// Package fields knows what a definition's schema says of the fields of objects,
// compiled once: whether a value is beyond doubt as the schema has it, and who
// manages which field of it.
package fields

import (
	"math"
	"reflect"
	"sync"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Schema is a compiled schema. A nil Schema knows nothing.
type Schema struct {
	kind       string
	properties map[string]*Schema
	values     *Schema // of properties that have no name
	open       bool    // any other property may be there
	items      *Schema
	required   []string
	small      bool // a number of 32 bits
	// doubtful: there are rules that are not known here; alters: one of them may
	// change a value that is read.
	doubtful, alters bool

	atomicMap bool
	list      string // the type of a list: atomic, set, map
	keys      []string
}

// Compile never fails: what it does not know makes a part of the schema doubtful.
func Compile(p *apiextensionsv1.JSONSchemaProps) *Schema {
	if p == nil {
		return nil
	}
	s := &Schema{
		alters: p.Default != nil || p.XEmbeddedResource || p.XIntOrString, kind: p.Type, required: p.Required, keys: p.XListMapKeys, list: "atomic",
		open: is(p.XPreserveUnknownFields), atomicMap: p.XMapType != nil && *p.XMapType == "atomic",
	}
	if p.XListType != nil {
		s.list = *p.XListType
	}
	for name, child := range p.Properties {
		if s.properties == nil {
			s.properties = map[string]*Schema{}
		}
		s.properties[name] = Compile(&child)
	}
	if a := p.AdditionalProperties; a != nil {
		if s.values = Compile(a.Schema); s.values == nil {
			s.open = s.open || a.Allows
		}
	}
	if p.Items != nil {
		s.items = Compile(p.Items.Schema)
	}
	switch p.Format {
	case "", "int64":
	case "int32":
		s.small = true
	default:
		s.doubtful = true
	}
	rest := *p
	rest.Type, rest.Format, rest.Description, rest.Title = "", "", "", ""
	rest.Properties, rest.AdditionalProperties, rest.Required, rest.XPreserveUnknownFields = nil, nil, nil, nil
	if p.Items != nil && p.Items.Schema != nil {
		rest.Items = nil
	}
	if s.list == "atomic" {
		rest.XListType = nil
	}
	rest.XMapType = nil
	s.doubtful = s.doubtful || !reflect.DeepEqual(rest, apiextensionsv1.JSONSchemaProps{})
	return s
}

func is(b *bool) bool { return b != nil && *b }

// Property is the schema of a property that has a name; nil where there is none.
func (s *Schema) Property(name string) *Schema {
	if s == nil {
		return nil
	}
	return s.properties[name]
}

// AllowsNew says whether a new object, which has no status yet, is beyond doubt one
// that the schema of a definition allows. Its metadata, which are checked beside
// the schema, must be nothing to that.
func (s *Schema) AllowsNew(object map[string]any) bool {
	if s == nil || s.doubtful || s.alters || s.lacks(object) || s.Property("metadata") != nil {
		return false
	}
	for _, name := range s.required {
		if object[name] == nil {
			return false
		}
	}
	for name, v := range object {
		p := s.Property(name)
		switch name {
		case "metadata":
		case "apiVersion", "kind":
			if p != nil && !p.Allows(v) {
				return false
			}
		case "spec":
			if !p.Allows(v) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// Allows says whether a value is beyond doubt one that the schema allows, and that
// is kept as it is: nothing in it is unknown, null, or to be defaulted.
func (s *Schema) Allows(v any) bool {
	if s == nil || s.doubtful {
		return false
	}
	switch v := v.(type) {
	case map[string]any:
		return s.kind == "object" && s.allowsObject(v)
	case []any:
		if s.kind != "array" {
			return false
		}
		for _, item := range v {
			if !s.items.Allows(item) {
				return false
			}
		}
		return true
	case string:
		return s.kind == "string"
	case bool:
		return s.kind == "boolean"
	case int64:
		return s.kind == "integer" && (!s.small || math.MinInt32 <= v && v <= math.MaxInt32)
	}
	return false // also numbers that are no integers
}

func (s *Schema) allowsObject(m map[string]any) bool {
	for _, name := range s.required {
		if _, ok := m[name]; !ok {
			return false
		}
	}
	for name, v := range m {
		p, known := s.properties[name]
		switch {
		case known:
		case s.values != nil:
			p = s.values
		case s.open && complete(v):
			continue
		}
		if !p.Allows(v) {
			return false
		}
	}
	return !s.lacks(m)
}

// complete says whether a value of any form has no null in it, nor a number that
// is no integer.
func complete(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for _, item := range v {
			if !complete(item) {
				return false
			}
		}
		return true
	case []any:
		for _, item := range v {
			if !complete(item) {
				return false
			}
		}
		return true
	case string, bool, int64:
		return true
	}
	return false
}

// Cache keeps what was compiled, for as long as the definition is the same.
type Cache struct {
	mu sync.Mutex
	of map[schema.GroupVersionResource]compiled
}

type compiled struct {
	from *apiextensionsv1.CustomResourceDefinition
	s    *Schema
}

// Of is the schema of a version of a definition, which must not be changed any
// more; nil where it has none.
func (c *Cache) Of(crd *apiextensionsv1.CustomResourceDefinition, version string) *Schema {
	r := schema.GroupVersionResource{Group: crd.Spec.Group, Version: version, Resource: crd.Spec.Names.Plural}
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.of[r]; ok && known.from == crd {
		return known.s
	}
	var s *Schema
	for i := range crd.Spec.Versions {
		if v := &crd.Spec.Versions[i]; v.Name == version && v.Schema != nil {
			s = Compile(v.Schema.OpenAPIV3Schema)
		}
	}
	if c.of == nil {
		c.of = map[schema.GroupVersionResource]compiled{}
	}
	c.of[r] = compiled{crd, s}
	return s
}
