package v1beta2

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	eventingv1 "github.com/leat-dev/leat/api/eventing/v1"
)

// GroupVersion is the group and version of these kinds.
func GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: eventingv1.GroupName, Version: "v1beta2"}
}

// AddToScheme makes the kinds known to a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion(), &EventType{}, &EventTypeList{})
	metav1.AddToGroupVersion(s, GroupVersion())
	return nil
}
