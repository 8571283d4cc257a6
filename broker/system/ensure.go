package system

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	eventingv1 "github.com/leat-dev/leat/api/eventing/v1"
)

// EnsureBroker makes the system broker where it is not there. What its owner
// has set on it stays.
func EnsureBroker(ctx context.Context, client dynamic.Interface) error {
	brokers := client.Resource(eventingv1.GroupVersion().WithResource("brokers")).Namespace(Namespace)
	_, err := brokers.Get(ctx, Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(eventingv1.GroupVersion().WithKind("Broker"))
		u.SetNamespace(Namespace)
		u.SetName(Name)
		// Applied, not created: for two seconds after a definition was made, as by
		// the first start, the API holds back the creation of its objects.
		_, err = brokers.Apply(ctx, Name, u, metav1.ApplyOptions{FieldManager: "leat"})
	}
	if err != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("make the system broker %s/%s: %w", Namespace, Name, err)
	}
	return nil
}
