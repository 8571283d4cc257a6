// Package documents publishes the OpenAPI v3 documents of the kinds that
// CustomResourceDefinitions define, as the extensions server's own controller
// does, but lean, and made when somebody asks for them.
package documents

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/cached"
	"k8s.io/kube-openapi/pkg/spec3"
)

// Definitions lists CustomResourceDefinitions; the lister of an informer does.
type Definitions interface {
	List(selector labels.Selector) ([]*apiextensionsv1.CustomResourceDefinition, error)
}

// Service serves documents; *handler3.OpenAPIService does.
type Service interface {
	UpdateGroupVersionLazy(group string, doc cached.Value[*spec3.OpenAPI])
	DeleteGroupVersion(group string)
}

// Documents keeps a Service's documents up to date.
type Documents struct {
	definitions Definitions
	service     Service

	mu sync.Mutex
	// published are the states of the definitions that the documents are made of.
	published map[schema.GroupVersion]string
}

// New makes Documents. Nothing is published before Sync.
func New(d Definitions, s Service) *Documents {
	return &Documents{definitions: d, service: s, published: map[schema.GroupVersion]string{}}
}

// Sync publishes what has changed. It is cheap where nothing has.
func (d *Documents) Sync() error {
	all, err := d.definitions.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("OpenAPI: list the definitions: %w", err)
	}
	slices.SortFunc(all, func(a, b *apiextensionsv1.CustomResourceDefinition) int { return strings.Compare(a.Name, b.Name) })
	served := map[schema.GroupVersion][]*apiextensionsv1.CustomResourceDefinition{}
	for _, crd := range all {
		if !apihelpers.IsCRDConditionTrue(crd, apiextensionsv1.Established) {
			continue
		}
		for _, v := range crd.Spec.Versions {
			if v.Served {
				gv := schema.GroupVersion{Group: crd.Spec.Group, Version: v.Name}
				served[gv] = append(served[gv], crd)
			}
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for gv, crds := range served {
		if state := stateOf(crds); d.published[gv] != state {
			d.published[gv] = state
			d.service.UpdateGroupVersionLazy(path(gv), document(gv.Version, crds, state))
		}
	}
	for gv := range maps.Clone(d.published) {
		if served[gv] == nil {
			delete(d.published, gv)
			d.service.DeleteGroupVersion(path(gv))
		}
	}
	return nil
}

// path is where the document of a group version is served, below /openapi/v3.
func path(gv schema.GroupVersion) string { return "apis/" + gv.String() }

// stateOf changes whenever a document of these definitions does.
func stateOf(crds []*apiextensionsv1.CustomResourceDefinition) string {
	var b strings.Builder
	for _, crd := range crds {
		b.WriteString(string(crd.UID) + "/" + strconv.FormatInt(crd.Generation, 10) + " ")
	}
	return b.String()
}

// document is made when it is first asked for.
func document(version string, crds []*apiextensionsv1.CustomResourceDefinition, state string) cached.Value[*spec3.OpenAPI] {
	return cached.Once(cached.Func(func() (*spec3.OpenAPI, string, error) {
		var docs []*spec3.OpenAPI
		for _, crd := range crds {
			doc, err := builder.BuildOpenAPIV3(crd, version, builder.Options{IncludeSelectableFields: true})
			if err != nil {
				return nil, "", fmt.Errorf("OpenAPI of %s %s: %w", crd.Name, version, err)
			}
			docs = append(docs, doc)
		}
		merged, err := builder.MergeSpecsV3(docs...)
		if err != nil {
			return nil, "", fmt.Errorf("OpenAPI of %s: %w", crds[0].Spec.Group, err)
		}
		lean(merged)
		return merged, state, nil
	}))
}
