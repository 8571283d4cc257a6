package garbage

import (
	"sync"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// dependent is an object that names an owner.
type dependent struct {
	key    string
	owners []metav1.OwnerReference
	// waits: it is itself waiting for its dependents to go.
	waits bool
	// unresolved: the kind of one of its owners is not served.
	unresolved bool
}

// graph are all dependents. It takes memory for these alone.
type graph struct {
	mu      sync.Mutex
	byKey   map[string]*dependent
	byOwner map[types.UID]map[*dependent]struct{}
	// seen is the revision up to which the graph is complete.
	seen uint64
}

func newGraph() *graph {
	g := &graph{}
	g.reset()
	return g
}

// reset forgets all.
func (g *graph) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.byKey, g.byOwner, g.seen = map[string]*dependent{}, map[types.UID]map[*dependent]struct{}{}, 0
}

// set makes what is known of an object what its metadata says. It returns the
// owners named before, and whether anything is different now.
func (g *graph) set(key string, m *objectMeta) (before []metav1.OwnerReference, changed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	waits := m.waits()
	if d := g.byKey[key]; d != nil {
		before = d.owners
		changed = d.waits != waits
		d.waits = waits
	}
	if equality.Semantic.DeepEqual(before, m.Owners) {
		return before, changed
	}
	g.remove(key)
	if len(m.Owners) == 0 {
		return before, true
	}
	d := &dependent{key: key, owners: m.Owners, waits: waits}
	g.byKey[key] = d
	for _, o := range m.Owners {
		if g.byOwner[o.UID] == nil {
			g.byOwner[o.UID] = map[*dependent]struct{}{}
		}
		g.byOwner[o.UID][d] = struct{}{}
	}
	return before, true
}

func (g *graph) remove(key string) {
	d := g.byKey[key]
	if d == nil {
		return
	}
	delete(g.byKey, key)
	for _, o := range d.owners {
		delete(g.byOwner[o.UID], d)
		if len(g.byOwner[o.UID]) == 0 {
			delete(g.byOwner, o.UID)
		}
	}
}

// empty says whether no object names an owner.
func (g *graph) empty() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.byKey) == 0
}

// each calls f with the dependents that name a UID, until it returns false; f
// must not call the graph, nor keep what it is given.
func (g *graph) each(uid types.UID, f func(*dependent) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for d := range g.byOwner[uid] {
		if !f(d) {
			return
		}
	}
}

// unresolve notes that a dependent has to be looked at when kinds change.
func (g *graph) unresolve(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if d := g.byKey[key]; d != nil {
		d.unresolved = true
	}
}

// unresolved are the dependents noted, once each.
func (g *graph) unresolved() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var keys []string
	for key, d := range g.byKey {
		if d.unresolved {
			d.unresolved = false
			keys = append(keys, key)
		}
	}
	return keys
}

func (g *graph) advance(rev uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seen = max(g.seen, rev)
}

// behind says whether writes up to a revision are not all known yet.
func (g *graph) behind(rev uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seen < rev
}
