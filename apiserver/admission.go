package apiserver

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/warning"
)

// KindAdmission defaults and validates objects by their kind. Its methods are
// pure, called by many goroutines, and not called for subresources; old is nil
// on creation. *admission.Admission of package api/admission is one.
type KindAdmission interface {
	// Handles says whether the others are to be called for objects of a kind.
	Handles(schema.GroupKind) bool
	// Default completes an object in place. It may be malformed.
	Default(obj, old *unstructured.Unstructured)
	Validate(obj, old *unstructured.Unstructured) field.ErrorList
	// Warnings are for the client of an object that is accepted.
	Warnings(obj *unstructured.Unstructured) []string
}

// kindPlugin asks a KindAdmission.
type kindPlugin struct {
	*admission.Handler
	kinds KindAdmission
}

var (
	_ admission.MutationInterface   = &kindPlugin{}
	_ admission.ValidationInterface = &kindPlugin{}
)

func newKindPlugin(k KindAdmission) *kindPlugin {
	return &kindPlugin{admission.NewHandler(admission.Create, admission.Update), k}
}

func (p *kindPlugin) concerns(a admission.Attributes) bool {
	return a.GetSubresource() == "" && p.kinds.Handles(a.GetKind().GroupKind())
}

// Admit implements admission.MutationInterface.
func (p *kindPlugin) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if !p.concerns(a) {
		return nil
	}
	obj, old, err := both(a)
	if err != nil {
		return err
	}
	if same, ok := a.GetObject().(*unstructured.Unstructured); ok {
		p.kinds.Default(same, old)
		return nil
	}
	before := obj.DeepCopy()
	p.kinds.Default(obj, old)
	if equality.Semantic.DeepEqual(before, obj) {
		return nil
	}
	return runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, a.GetObject())
}

// Validate implements admission.ValidationInterface.
func (p *kindPlugin) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if !p.concerns(a) {
		return nil
	}
	obj, old, err := both(a)
	if err != nil {
		return err
	}
	if errs := p.kinds.Validate(obj, old); len(errs) > 0 {
		return apierrors.NewInvalid(a.GetKind().GroupKind(), a.GetName(), errs)
	}
	for _, text := range p.kinds.Warnings(obj) {
		warning.AddWarning(ctx, "", text)
	}
	return nil
}

// both are the object and what it was, or nil.
func both(a admission.Attributes) (obj, old *unstructured.Unstructured, err error) {
	if obj, err = asUnstructured(a.GetObject(), a.GetKind()); err != nil {
		return nil, nil, err
	}
	if a.GetOldObject() != nil {
		old, err = asUnstructured(a.GetOldObject(), a.GetKind())
	}
	return obj, old, err
}

func asUnstructured(obj runtime.Object, gvk schema.GroupVersionKind) (*unstructured.Unstructured, error) {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		return u, nil
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("admission of a %s: %w", gvk.Kind, err))
	}
	u := &unstructured.Unstructured{Object: content}
	u.SetGroupVersionKind(gvk)
	return u, nil
}
