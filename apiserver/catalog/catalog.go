// Package catalog knows the resources of the API, and where the store keeps
// their objects.
package catalog

import (
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	listers "k8s.io/apiextensions-apiserver/pkg/client/listers/apiextensions/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Resource is a resource, in a version that is served.
type Resource struct {
	schema.GroupVersionResource
	Kind       string
	Namespaced bool
}

// definitions are themselves a resource.
var definitions = Resource{
	GroupVersionResource: apiextensionsv1.SchemeGroupVersion.WithResource("customresourcedefinitions"), Kind: "CustomResourceDefinition",
}

// Catalog is all that is served: the core kinds, and those of the definitions
// as they are now.
type Catalog struct {
	core   []Resource
	crds   listers.CustomResourceDefinitionLister
	prefix string
}

// New makes a catalog of resources whose keys begin with prefix, such as
// "/registry".
func New(prefix string, core []Resource, crds listers.CustomResourceDefinitionLister) *Catalog {
	return &Catalog{core: append([]Resource{definitions}, core...), crds: crds, prefix: prefix + "/"}
}

// All are the resources served now.
func (c *Catalog) All() ([]Resource, error) {
	crds, err := c.crds.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	all := c.core[:len(c.core):len(c.core)]
	for _, crd := range crds {
		if r, ok := ofDefinition(crd); ok {
			all = append(all, r)
		}
	}
	return all, nil
}

// Namespaced are those whose objects live in namespaces.
func (c *Catalog) Namespaced() ([]Resource, error) {
	all, err := c.All()
	var some []Resource
	for _, r := range all {
		if r.Namespaced {
			some = append(some, r)
		}
	}
	return some, err
}

// ByKind finds a kind's resource.
func (c *Catalog) ByKind(k schema.GroupKind) (Resource, bool) {
	return c.find(func(r Resource) bool { return r.Group == k.Group && r.Kind == k.Kind })
}

// ByResource finds a resource by its name.
func (c *Catalog) ByResource(gr schema.GroupResource) (Resource, bool) {
	return c.find(func(r Resource) bool { return r.GroupResource() == gr })
}

func (c *Catalog) find(match func(Resource) bool) (Resource, bool) {
	all, err := c.All()
	if err != nil {
		return Resource{}, false // a cache in memory: it cannot fail
	}
	for _, r := range all {
		if match(r) {
			return r, true
		}
	}
	return Resource{}, false
}

// ofDefinition is a definition's resource, in the version that is stored if it
// is served.
func ofDefinition(crd *apiextensionsv1.CustomResourceDefinition) (Resource, bool) {
	r := Resource{Kind: crd.Spec.Names.Kind, Namespaced: crd.Spec.Scope == apiextensionsv1.NamespaceScoped}
	r.Group, r.Resource = crd.Spec.Group, crd.Spec.Names.Plural
	for _, v := range crd.Spec.Versions {
		if v.Served && (r.Version == "" || v.Storage) {
			r.Version = v.Name
		}
	}
	return r, r.Version != ""
}

// Object is a stored object's place.
type Object struct {
	Resource  schema.GroupResource
	Namespace string // empty outside of namespaces
	Name      string
}

// Prefix begins all keys.
func (c *Catalog) Prefix() string { return c.prefix }

// Key is where the store keeps an object; without a name, what the keys of a
// namespace's objects begin with.
func (c *Catalog) Key(o Object) string {
	group := o.Resource.Group
	if group == "" {
		group = "core"
	}
	if o.Namespace == "" {
		return c.prefix + group + "/" + o.Resource.Resource + "/" + o.Name
	}
	return c.prefix + group + "/" + o.Resource.Resource + "/" + o.Namespace + "/" + o.Name
}

// Parse is the inverse of Key; false for what is no object's key.
func (c *Catalog) Parse(key string) (Object, bool) {
	rest, ok := strings.CutPrefix(key, c.prefix)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) < 3 || len(parts) > 4 {
		return Object{}, false
	}
	o := Object{Resource: schema.GroupResource{Group: parts[0], Resource: parts[1]}, Name: parts[len(parts)-1]}
	if o.Resource.Group == "core" {
		o.Resource.Group = ""
	}
	if len(parts) == 4 {
		o.Namespace = parts[2]
	}
	return o, o.Name != ""
}
