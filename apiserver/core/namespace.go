package core

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	storeerr "k8s.io/apiserver/pkg/storage/errors"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

func namespaceKind() *kind {
	return &kind{
		gv: corev1.SchemeGroupVersion, name: "Namespace", plural: "namespaces", singular: "namespace", short: []string{"ns"},
		new: maker[corev1.Namespace](), newList: maker[corev1.NamespaceList](),
		hasStatus: true,
		checkName: validation.ValidateNamespaceName,
		defaults: do(func(n *corev1.Namespace) {
			if n.Name == "" {
				return // not named yet
			}
			if n.Labels == nil {
				n.Labels = map[string]string{}
			}
			n.Labels[corev1.LabelMetadataName] = n.Name
		}),
		onCreate: do(func(n *corev1.Namespace) {
			n.Status.Phase = corev1.NamespaceActive
			if !slices.Contains(n.Spec.Finalizers, corev1.FinalizerKubernetes) {
				n.Spec.Finalizers = append(n.Spec.Finalizers, corev1.FinalizerKubernetes)
			}
		}),
		keep: func(obj, old runtime.Object) {
			obj.(*corev1.Namespace).Spec.Finalizers = slices.Clone(old.(*corev1.Namespace).Spec.Finalizers)
		},
		fields: with(func(n *corev1.Namespace) fields.Set {
			return fields.Set{"status.phase": string(n.Status.Phase)}
		}),
		columns: []metav1.TableColumnDefinition{nameColumn(), column("Status", "Active, or Terminating while it is being deleted."), ageColumn()},
		row: with(func(n *corev1.Namespace) []any {
			return []any{n.Name, string(n.Status.Phase), age(n.CreationTimestamp)}
		}),
	}
}

// namespaces is the store of namespaces. A namespace that is deleted stays, as
// Terminating, until its finalizers are gone: the spec's, which stand for its
// content, and the object's own.
type namespaces struct{ *store }

var _ rest.GracefulDeleter = &namespaces{}

func newNamespaces(s *store) *namespaces {
	s.ShouldDeleteDuringUpdate = func(ctx context.Context, key string, obj, existing runtime.Object) bool {
		ns, ok := obj.(*corev1.Namespace)
		return ok && len(ns.Spec.Finalizers) == 0 && registry.ShouldDeleteDuringUpdate(ctx, key, obj, existing)
	}
	return &namespaces{s}
}

// Delete implements rest.GracefulDeleter: the first time, it begins the
// deletion; the controller of namespaces ends it.
func (n *namespaces) Delete(ctx context.Context, name string, admit rest.ValidateObjectFunc, o *metav1.DeleteOptions) (runtime.Object, bool, error) {
	obj, err := n.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, false, err
	}
	ns := obj.(*corev1.Namespace)
	switch {
	case ns.DeletionTimestamp.IsZero():
		terminating, err := n.terminate(ctx, ns, admit, o)
		return terminating, false, err
	case len(ns.Spec.Finalizers) > 0:
		return ns, false, nil // nothing makes it faster
	}
	return n.store.Delete(ctx, name, admit, o)
}

// terminate marks a namespace as being deleted.
func (n *namespaces) terminate(ctx context.Context, ns *corev1.Namespace, admit rest.ValidateObjectFunc, o *metav1.DeleteOptions) (runtime.Object, error) {
	key, err := n.KeyFunc(ctx, ns.Name)
	if err != nil {
		return nil, err
	}
	pre := &storage.Preconditions{UID: &ns.UID}
	if o != nil && o.Preconditions != nil {
		pre.ResourceVersion = o.Preconditions.ResourceVersion
		if o.Preconditions.UID != nil {
			pre.UID = o.Preconditions.UID
		}
	}
	out := n.New()
	begin := func(obj runtime.Object) (runtime.Object, error) {
		ns, ok := obj.(*corev1.Namespace)
		if !ok {
			return nil, fmt.Errorf("namespace %s is stored as a %T", key, obj)
		}
		if err := admit(ctx, ns); err != nil {
			return nil, err
		}
		if ns.DeletionTimestamp.IsZero() {
			now, grace := metav1.Now(), int64(0)
			ns.DeletionTimestamp, ns.DeletionGracePeriodSeconds = &now, &grace
		}
		ns.Status.Phase = corev1.NamespaceTerminating
		return ns, nil
	}
	err = n.Storage.GuaranteedUpdate(ctx, key, out, false, pre, storage.SimpleUpdate(begin), o != nil && len(o.DryRun) > 0, nil)
	if err == nil {
		return out, nil
	}
	return nil, storeerr.InterpretUpdateError(err, n.resource(), ns.Name)
}

// DeleteCollection implements rest.CollectionDeleter: namespaces are deleted
// one at a time.
func (n *namespaces) DeleteCollection(context.Context, rest.ValidateObjectFunc, *metav1.DeleteOptions, *metainternal.ListOptions) (runtime.Object, error) {
	return nil, apierrors.NewMethodNotSupported(n.resource(), "deletecollection")
}

// finalizeStrategy is how the finalize subresource changes a namespace: the
// spec's finalizers, and nothing else.
type finalizeStrategy struct{ strategy }

var _ rest.RESTUpdateStrategy = finalizeStrategy{}

func (s finalizeStrategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	changed, before := obj.(*corev1.Namespace), old.(*corev1.Namespace).DeepCopy()
	before.Spec.Finalizers, before.ResourceVersion = changed.Spec.Finalizers, changed.ResourceVersion
	*changed = *before
}

func (s finalizeStrategy) ValidateUpdate(_ context.Context, obj, _ runtime.Object) field.ErrorList {
	var errs field.ErrorList
	for i, f := range obj.(*corev1.Namespace).Spec.Finalizers {
		if f != corev1.FinalizerKubernetes && !strings.Contains(string(f), "/") {
			errs = append(errs, field.Invalid(field.NewPath("spec", "finalizers").Index(i), f, "must be kubernetes, or have the form of domain/name"))
		}
	}
	return errs
}

// finalize is the finalize subresource of namespaces.
type finalize struct{ *status }

func newFinalize(n *namespaces) *finalize {
	of := *n.Store
	of.UpdateStrategy = finalizeStrategy{of.UpdateStrategy.(strategy)}
	of.ResetFieldsStrategy = nil
	return &finalize{&status{&of}}
}

// GetResetFields implements rest.ResetFieldsStrategy.
func (f *finalize) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set { return nil }
