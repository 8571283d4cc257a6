package apiserver

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	listers "k8s.io/apiextensions-apiserver/pkg/client/listers/apiextensions/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/leat-dev/leat/raftlog/kv"
)

// namespaceContent looks into namespaces.
type namespaceContent struct {
	kv   *kv.Store
	crds listers.CustomResourceDefinitionLister
	core []schema.GroupResource
}

// list says what a namespace holds, Events aside: "2 secrets".
func (c *namespaceContent) list(_ context.Context, namespace string) ([]string, error) {
	resources := c.core
	crds, err := c.crds.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	for _, crd := range crds {
		if crd.Spec.Scope == apiextensionsv1.NamespaceScoped {
			resources = append(resources[:len(resources):len(resources)], schema.GroupResource{Group: crd.Spec.Group, Resource: crd.Spec.Names.Plural})
		}
	}
	var held []string
	for _, r := range resources {
		n, _, err := c.kv.Count(keyPrefix(r, namespace))
		if err != nil {
			return nil, err
		}
		if n > 0 {
			held = append(held, fmt.Sprintf("%d %s", n, r))
		}
	}
	return held, nil
}

// keyPrefix begins the keys of a resource's objects in a namespace.
func keyPrefix(r schema.GroupResource, namespace string) string {
	group := r.Group
	if group == "" {
		group = "core"
	}
	return strings.Join([]string{storagePrefix, group, r.Resource, namespace, ""}, "/")
}

// noServices answers CustomResourceDefinitions whose conversion webhook is a
// Service: nothing routes to it here.
type noServices struct{}

func (noServices) ResolveEndpoint(namespace, name string, _ int32) (*url.URL, error) {
	return nil, fmt.Errorf("service %s/%s cannot be called as a webhook: give its url", namespace, name)
}
