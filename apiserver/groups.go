package apiserver

import (
	"maps"
	"slices"
	"sync"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	listers "k8s.io/apiextensions-apiserver/pkg/client/listers/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/apiserver/pkg/endpoints/discovery"
)

// groupMirror puts the groups of the CustomResourceDefinitions on the plain
// list of groups at /apis. The extensions server leaves that to an aggregating
// server in front, which does not exist here.
type groupMirror struct {
	crds   listers.CustomResourceDefinitionLister
	groups discovery.GroupManager

	mu    sync.Mutex
	known map[string]bool
}

// sync brings the list up to date; it is called on each change of a definition.
func (m *groupMirror) sync() {
	all, err := m.crds.List(labels.Everything())
	if err != nil {
		return // a cache in memory: it cannot fail
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	served := servedVersions(all)
	for group, versions := range served {
		m.groups.AddGroup(apiGroup(group, versions))
	}
	for group := range m.known {
		if served[group] == nil {
			m.groups.RemoveGroup(group)
		}
	}
	m.known = map[string]bool{}
	for group := range served {
		m.known[group] = true
	}
}

// servedVersions are the versions of each group.
func servedVersions(all []*apiextensionsv1.CustomResourceDefinition) map[string]map[string]bool {
	served := map[string]map[string]bool{}
	for _, crd := range all {
		for _, v := range crd.Spec.Versions {
			if !v.Served {
				continue
			}
			if served[crd.Spec.Group] == nil {
				served[crd.Spec.Group] = map[string]bool{}
			}
			served[crd.Spec.Group][v.Name] = true
		}
	}
	return served
}

// apiGroup lists a group's versions, the stablest and newest first.
func apiGroup(name string, versions map[string]bool) metav1.APIGroup {
	g := metav1.APIGroup{Name: name}
	sorted := slices.SortedFunc(maps.Keys(versions), func(a, b string) int {
		return version.CompareKubeAwareVersionStrings(b, a)
	})
	for _, v := range sorted {
		g.Versions = append(g.Versions, metav1.GroupVersionForDiscovery{GroupVersion: schema.GroupVersion{Group: name, Version: v}.String(), Version: v})
	}
	g.PreferredVersion = g.Versions[0]
	return g
}
