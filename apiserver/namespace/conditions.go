package namespace

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// tell writes what is left in a namespace into its conditions, where that has
// changed. A namespace that can go at once is not written for it.
func (c *Controller) tell(ctx context.Context, ns *corev1.Namespace, r remains) (*corev1.Namespace, error) {
	if !r.left() && len(ns.Status.Conditions) == 0 {
		return ns, nil
	}
	told := ns.DeepCopy()
	told.Status.Phase = corev1.NamespaceTerminating
	failure := ""
	if r.failed != nil {
		failure = "Failed to delete all resource types: " + strings.ReplaceAll(r.failed.Error(), "\n", "; ")
	}
	set(told, corev1.NamespaceDeletionContentFailure, failure, "ContentDeletionFailed", "ContentDeleted", "All content successfully deleted, may be waiting on finalization")
	content := ""
	if len(r.resources) > 0 {
		content = "Some resources are remaining: " + strings.Join(r.resources, ", ")
	}
	set(told, corev1.NamespaceContentRemaining, content, "SomeResourcesRemain", "ContentRemoved", "All content successfully removed")
	finalizers := ""
	if len(r.finalizers) > 0 {
		finalizers = "Some content in the namespace has finalizers remaining: " + strings.Join(r.finalizers, ", ")
	}
	set(told, corev1.NamespaceFinalizersRemaining, finalizers, "SomeFinalizersRemain", "ContentHasNoFinalizers", "All content-preserving finalizers finished")
	if equality.Semantic.DeepEqual(told.Status, ns.Status) {
		return ns, nil
	}
	return c.o.Namespaces.UpdateStatus(ctx, told, metav1.UpdateOptions{})
}

// set makes a condition True with a message, or False where there is none.
func set(ns *corev1.Namespace, kind corev1.NamespaceConditionType, message, reason, none, nothing string) {
	want := corev1.NamespaceCondition{Type: kind, Status: corev1.ConditionTrue, Reason: reason, Message: message, LastTransitionTime: metav1.Now()}
	if message == "" {
		want.Status, want.Reason, want.Message = corev1.ConditionFalse, none, nothing
	}
	for i, have := range ns.Status.Conditions {
		if have.Type != kind {
			continue
		}
		if have.Status == want.Status {
			want.LastTransitionTime = have.LastTransitionTime
		}
		ns.Status.Conditions[i] = want
		return
	}
	ns.Status.Conditions = append(ns.Status.Conditions, want)
}
