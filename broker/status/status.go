// Package status is what controllers say of an object: conditions in the order
// in which they matter, and the problems behind them.
package status

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
)

// Conditions are collected in the order in which they matter: the first that
// is not true is the reason why the object is not ready.
type Conditions []duckv1.Condition

// Add appends a condition.
func (c *Conditions) Add(kind string, status metav1.ConditionStatus, reason, message string) {
	*c = append(*c, duckv1.Condition{Type: kind, Status: status, Reason: reason, Message: message})
}

// Yes says that a condition is true.
func (c *Conditions) Yes(kind string) { c.Add(kind, metav1.ConditionTrue, "", "") }

// No says that a condition is false.
func (c *Conditions) No(kind string, p *Problem) {
	c.Add(kind, metav1.ConditionFalse, p.Reason, p.Message)
}

// Unknown says that it is not known yet.
func (c *Conditions) Unknown(kind string, p *Problem) {
	c.Add(kind, metav1.ConditionUnknown, p.Reason, p.Message)
}

// Check is Yes without a problem.
func (c *Conditions) Check(kind string, p *Problem) {
	if p == nil {
		c.Yes(kind)
		return
	}
	c.No(kind, p)
}

// Failing are the types of the conditions that are false.
func (c Conditions) Failing() (all []string) {
	for _, is := range c {
		if is.Status == metav1.ConditionFalse {
			all = append(all, is.Type)
		}
	}
	return all
}

// Problem says why something cannot be, and what to do.
type Problem struct {
	Reason  string // one CamelCase word
	Message string
}

// Problemf makes a Problem.
func Problemf(reason, format string, args ...any) *Problem {
	return &Problem{reason, fmt.Sprintf(format, args...)}
}

// Of puts in front what the problem is with; of nil it is nil.
func (p *Problem) Of(what string) *Problem {
	if p == nil {
		return nil
	}
	return &Problem{p.Reason, what + ": " + p.Message}
}

// Write writes the status of now, a changed copy of an object of this kind,
// where it differs from what was. It gives the version that the object has from
// then on; none where nothing was written.
func Write[S any](ctx context.Context, client dynamic.Interface, kind schema.GroupVersionKind, resource string, now metav1.Object, was, is *S) (version string, err error) {
	if equality.Semantic.DeepEqual(was, is) {
		return "", nil
	}
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(now)
	if err != nil {
		return "", fmt.Errorf("write the status of %s %s/%s: %w", kind.Kind, now.GetNamespace(), now.GetName(), err)
	}
	u := &unstructured.Unstructured{Object: object}
	u.SetGroupVersionKind(kind)
	written, err := client.Resource(kind.GroupVersion().WithResource(resource)).Namespace(now.GetNamespace()).UpdateStatus(ctx, u, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil // it is gone, and its handler will say so
	}
	if err != nil {
		return "", fmt.Errorf("write the status of %s %s/%s: %w", kind.Kind, now.GetNamespace(), now.GetName(), err)
	}
	return written.GetResourceVersion(), nil
}
