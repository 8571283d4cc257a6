// Package api holds the resource types that Leat serves, and their manifests.
// The packages below it hold the types of each group, their defaults and their
// validation.
package api

import (
	_ "embed" // for the manifests
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	eventingv1 "github.com/leat-dev/leat/api/eventing/v1"
	"github.com/leat-dev/leat/api/eventing/v1beta2"
	"github.com/leat-dev/leat/api/eventing/v1beta3"
	messagingv1 "github.com/leat-dev/leat/api/messaging/v1"
	sourcesv1 "github.com/leat-dev/leat/api/sources/v1"
	sourcesv1alpha1 "github.com/leat-dev/leat/api/sources/v1alpha1"
)

//go:generate go tool deepcopy-gen --go-header-file /dev/null --output-file zz_generated.deepcopy.go ./duck/v1 ./eventing/v1 ./eventing/v1beta2 ./eventing/v1beta3 ./messaging/v1 ./sources/v1 ./sources/v1alpha1

//go:embed crds.yaml
var manifests []byte

// CRDs are the CustomResourceDefinitions of every kind, the caller's own.
func CRDs() ([]*unstructured.Unstructured, error) {
	var list unstructured.UnstructuredList
	if err := yaml.Unmarshal(manifests, &list.Object); err != nil {
		return nil, fmt.Errorf("read the built-in manifests: %w", err)
	}
	var crds []*unstructured.Unstructured
	items, _, err := unstructured.NestedSlice(list.Object, "items")
	if err != nil {
		return nil, fmt.Errorf("read the built-in manifests: %w", err)
	}
	for i, item := range items {
		object, ok := item.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("read the built-in manifests: item %d is a %T", i, item)
		}
		crds = append(crds, &unstructured.Unstructured{Object: object})
	}
	return crds, nil
}

// AddToScheme makes every kind known to a scheme.
func AddToScheme(s *runtime.Scheme) error {
	for _, add := range []func(*runtime.Scheme) error{
		eventingv1.AddToScheme, v1beta2.AddToScheme, v1beta3.AddToScheme, messagingv1.AddToScheme, sourcesv1.AddToScheme, sourcesv1alpha1.AddToScheme,
	} {
		if err := add(s); err != nil {
			return err
		}
	}
	return nil
}
