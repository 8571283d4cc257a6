package controller

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
)

// conditions are collected in the order in which they matter: the first that
// is not true is the reason why the object is not ready.
type conditions []duckv1.Condition

func (c *conditions) add(kind string, status metav1.ConditionStatus, reason, message string) {
	*c = append(*c, duckv1.Condition{Type: kind, Status: status, Reason: reason, Message: message})
}

func (c *conditions) yes(kind string) { c.add(kind, metav1.ConditionTrue, "", "") }

func (c *conditions) no(kind string, p *problem) {
	c.add(kind, metav1.ConditionFalse, p.reason, p.message)
}

func (c *conditions) unknown(kind string, p *problem) {
	c.add(kind, metav1.ConditionUnknown, p.reason, p.message)
}

// check is yes without a problem.
func (c *conditions) check(kind string, p *problem) {
	if p == nil {
		c.yes(kind)
		return
	}
	c.no(kind, p)
}

// problem says why something cannot be, and what to do.
type problem struct{ reason, message string }

func problemf(reason, format string, args ...any) *problem {
	return &problem{reason, fmt.Sprintf(format, args...)}
}

// of puts in front what the problem is with.
func (p *problem) of(what string) *problem {
	if p == nil {
		return nil
	}
	return &problem{p.reason, what + ": " + p.message}
}

// writeStatus writes the status of now, a changed copy of an object, where it
// differs from what was.
func writeStatus[S any](ctx context.Context, c *Controller, kind string, now metav1.Object, was, is *S) error {
	if equality.Semantic.DeepEqual(was, is) {
		return nil
	}
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(now)
	if err != nil {
		return fmt.Errorf("write the status of %s %s/%s: %w", kind, now.GetNamespace(), now.GetName(), err)
	}
	u := &unstructured.Unstructured{Object: object}
	resource := resourceOf(kind)
	u.SetGroupVersionKind(resource.GroupVersion().WithKind(kind))
	_, err = c.o.Client.Resource(resource).Namespace(now.GetNamespace()).UpdateStatus(ctx, u, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil // it is gone, and its handler will say so
	}
	if err != nil {
		return fmt.Errorf("write the status of %s %s/%s: %w", kind, now.GetNamespace(), now.GetName(), err)
	}
	return nil
}

// isConflict says that the object has changed since: it is tried again with
// the new one.
func isConflict(err error) bool { return apierrors.IsConflict(err) }
