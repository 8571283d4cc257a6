package core

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
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
		onCreate: do(func(n *corev1.Namespace) { n.Status.Phase = corev1.NamespaceActive }),
		fields: with(func(n *corev1.Namespace) fields.Set {
			return fields.Set{"status.phase": string(n.Status.Phase)}
		}),
		columns: []metav1.TableColumnDefinition{nameColumn(), column("Status", "Active, or Terminating while it is being deleted."), ageColumn()},
		row: with(func(n *corev1.Namespace) []any {
			return []any{n.Name, string(n.Status.Phase), age(n.CreationTimestamp)}
		}),
	}
}

// namespaces is the store of namespaces. One that holds objects is not
// deleted; the Events in it go with it.
type namespaces struct {
	*store
	events  *store
	content func(ctx context.Context, namespace string) ([]string, error)
}

var _ rest.GracefulDeleter = &namespaces{}

// Delete implements rest.GracefulDeleter.
func (n *namespaces) Delete(ctx context.Context, name string, admit rest.ValidateObjectFunc, o *metav1.DeleteOptions) (runtime.Object, bool, error) {
	obj, deleted, err := n.store.Delete(ctx, name, func(ctx context.Context, obj runtime.Object) error {
		if err := admit(ctx, obj); err != nil {
			return err
		}
		held, err := n.content(ctx, name)
		if err != nil {
			return apierrors.NewInternalError(fmt.Errorf("look into namespace %s: %w", name, err))
		}
		if len(held) > 0 {
			return apierrors.NewConflict(n.resource(), name, fmt.Errorf("the namespace is not empty: delete what it holds first: %s", strings.Join(held, ", ")))
		}
		return nil
	}, o)
	if err != nil || !deleted || len(o.DryRun) > 0 {
		return obj, deleted, err
	}
	inside := request.WithNamespace(ctx, name)
	if _, err := n.events.DeleteCollection(inside, rest.ValidateAllObjectFunc, &metav1.DeleteOptions{}, &metainternal.ListOptions{}); err != nil {
		return nil, false, apierrors.NewInternalError(fmt.Errorf("the namespace is deleted, but not the events in it: %w", err))
	}
	return obj, deleted, nil
}

// DeleteCollection implements rest.CollectionDeleter: namespaces are deleted
// one at a time.
func (n *namespaces) DeleteCollection(context.Context, rest.ValidateObjectFunc, *metav1.DeleteOptions, *metainternal.ListOptions) (runtime.Object, error) {
	return nil, apierrors.NewMethodNotSupported(n.resource(), "deletecollection")
}
