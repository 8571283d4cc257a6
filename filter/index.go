package filter

import "github.com/leat-dev/leat/api/event"

// bucket holds the filters that stand under one key.
type bucket struct {
	places []*place
}

// place is a filter's place in a bucket.
type place struct {
	entry  *entry
	bucket *bucket
	at     int
	key    *key // nil in the list of those that always run
}

func (b *bucket) add(p *place) {
	p.bucket, p.at = b, len(b.places)
	b.places = append(b.places, p)
}

// remove takes a place out and says whether the bucket is empty now.
func (p *place) remove() bool {
	b := p.bucket
	last := len(b.places) - 1
	b.places[p.at] = b.places[last]
	b.places[p.at].at = p.at
	b.places[last] = nil
	b.places = b.places[:last]
	return last == 0
}

func (b *bucket) len() int {
	if b == nil {
		return 0
	}
	return len(b.places)
}

// attributeIndex holds the keys on one attribute.
type attributeIndex struct {
	attribute attribute
	equal     map[string]*bucket
	prefixes  affixTree
	suffixes  affixTree
	present   *bucket
}

func newAttributeIndex(a attribute) *attributeIndex {
	return &attributeIndex{attribute: a, equal: map[string]*bucket{}, suffixes: affixTree{reversed: true}}
}

func (x *attributeIndex) empty() bool {
	return len(x.equal) == 0 && x.prefixes.size == 0 && x.suffixes.size == 0 && x.present == nil
}

// find gives the bucket of a key, nil where there is none.
func (x *attributeIndex) find(k *key) *bucket {
	switch k.kind {
	case keyEqual:
		return x.equal[k.value]
	case keyPrefix:
		return x.prefixes.find(k.value)
	case keySuffix:
		return x.suffixes.find(k.value)
	default:
		return x.present
	}
}

func (x *attributeIndex) bucket(k *key) *bucket {
	switch k.kind {
	case keyEqual:
		b := x.equal[k.value]
		if b == nil {
			b = &bucket{}
			x.equal[k.value] = b
		}
		return b
	case keyPrefix:
		return x.prefixes.bucket(k.value)
	case keySuffix:
		return x.suffixes.bucket(k.value)
	default:
		if x.present == nil {
			x.present = &bucket{}
		}
		return x.present
	}
}

func (x *attributeIndex) remove(k *key) {
	switch k.kind {
	case keyEqual:
		delete(x.equal, k.value)
	case keyPrefix:
		x.prefixes.remove(k.value)
	case keySuffix:
		x.suffixes.remove(k.value)
	default:
		x.present = nil
	}
}

// collect appends the buckets whose keys hold for an attribute's value.
func (x *attributeIndex) collect(value string, to []*bucket) []*bucket {
	if b := x.equal[value]; b != nil {
		to = append(to, b)
	}
	if x.prefixes.size > 0 {
		to = x.prefixes.collect(value, to)
	}
	if x.suffixes.size > 0 {
		to = x.suffixes.collect(value, to)
	}
	if x.present != nil {
		to = append(to, x.present)
	}
	return to
}

// index finds the buckets whose keys hold for an event.
type index struct {
	core       [coreDataSchema + 1]*attributeIndex // by coreAttribute
	extensions map[string]*attributeIndex
	data       dataNode
	dataKeys   int
}

func (x *index) attribute(a attribute, create bool) *attributeIndex {
	if a.core != extension {
		if x.core[a.core] == nil && create {
			x.core[a.core] = newAttributeIndex(a)
		}
		return x.core[a.core]
	}
	i := x.extensions[a.name]
	if i == nil && create {
		i = newAttributeIndex(a)
		x.extensions[a.name] = i
	}
	return i
}

// size is how many filters stand under a key.
func (x *index) size(k *key) int {
	if k.kind == keyData {
		if n := x.data.at(k.path, false); n != nil {
			return n.values[k.scalar].len()
		}
		return 0
	}
	if i := x.attribute(k.attribute, false); i != nil {
		return i.find(k).len()
	}
	return 0
}

func (x *index) add(p *place) {
	if p.key.kind != keyData {
		x.attribute(p.key.attribute, true).bucket(p.key).add(p)
		return
	}
	n := x.data.at(p.key.path, true)
	b := n.values[p.key.scalar]
	if b == nil {
		b = &bucket{}
		if n.values == nil {
			n.values = map[scalarKey]*bucket{}
		}
		n.values[p.key.scalar] = b
		x.dataKeys++
	}
	b.add(p)
}

func (x *index) remove(p *place) {
	if !p.remove() {
		return
	}
	if p.key.kind == keyData {
		x.data.remove(p.key.path.steps, p.key.scalar)
		x.dataKeys--
		return
	}
	i := x.attribute(p.key.attribute, false)
	i.remove(p.key)
	if i.empty() {
		if p.key.attribute.core != extension {
			x.core[p.key.attribute.core] = nil
		} else {
			delete(x.extensions, p.key.attribute.name)
		}
	}
}

// collect appends the buckets whose keys hold for an event. What it costs is
// bounded by what the event has and by what the index has, whichever is less.
func (x *index) collect(v *View, to []*bucket) []*bucket {
	for core := coreID; core <= coreDataSchema; core++ {
		if i := x.core[core]; i != nil {
			if value, ok := v.attribute(i.attribute); ok {
				to = i.collect(value.Str, to)
			}
		}
	}
	if len(x.extensions) < len(v.e.Extensions) {
		for _, i := range x.extensions {
			if value, ok := v.extension(i.attribute.name); ok {
				to = i.collect(value.Str, to)
			}
		}
	} else if len(x.extensions) > 0 {
		for j := range v.e.Extensions {
			to = x.collectExtension(&v.e.Extensions[j], to)
		}
	}
	if x.dataKeys > 0 {
		if data, err := v.Data(); err == nil && data != nil {
			to = x.data.collect(data, to)
		}
	}
	return to
}

func (x *index) collectExtension(e *event.Extension, to []*bucket) []*bucket {
	if i := x.extensions[e.Name]; i != nil {
		return i.collect(e.Value.Str, to)
	}
	return to
}

// dataNode is a place in the data, in the tree of all places that have keys.
type dataNode struct {
	fields   map[string]*dataNode
	elements map[int]*dataNode
	values   map[scalarKey]*bucket
}

func (n *dataNode) at(p *dataPath, create bool) *dataNode {
	for i := range p.steps {
		next := n.step(&p.steps[i])
		if next == nil {
			if !create {
				return nil
			}
			next = &dataNode{}
			n.set(&p.steps[i], next)
		}
		n = next
	}
	return n
}

func (n *dataNode) step(s *dataStep) *dataNode {
	if s.array {
		return n.elements[s.index]
	}
	return n.fields[s.name]
}

// set puts a child in its place, or takes it out when it is nil.
func (n *dataNode) set(s *dataStep, child *dataNode) {
	switch {
	case child == nil && s.array:
		delete(n.elements, s.index)
	case child == nil:
		delete(n.fields, s.name)
	case s.array:
		if n.elements == nil {
			n.elements = map[int]*dataNode{}
		}
		n.elements[s.index] = child
	default:
		if n.fields == nil {
			n.fields = map[string]*dataNode{}
		}
		n.fields[s.name] = child
	}
}

// remove takes out a key, and the nodes that only led there.
func (n *dataNode) remove(steps []dataStep, k scalarKey) {
	if len(steps) == 0 {
		delete(n.values, k)
		return
	}
	child := n.step(&steps[0])
	child.remove(steps[1:], k)
	if len(child.values)+len(child.fields)+len(child.elements) == 0 {
		n.set(&steps[0], nil)
	}
}

func (n *dataNode) collect(data any, to []*bucket) []*bucket {
	switch data := data.(type) {
	case map[string]any:
		if len(n.fields) <= len(data) {
			for name, child := range n.fields {
				if v, ok := data[name]; ok {
					to = child.collect(v, to)
				}
			}
			return to
		}
		for name, v := range data {
			if child := n.fields[name]; child != nil {
				to = child.collect(v, to)
			}
		}
	case []any:
		for i, child := range n.elements {
			if i < len(data) {
				to = child.collect(data[i], to)
			}
		}
	case nil:
	default:
		if b := n.values[scalarKeyOf(data)]; b != nil {
			to = append(to, b)
		}
	}
	return to
}
