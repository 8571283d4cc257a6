// Package v1beta2 has the older form of EventType, which clients still ask for.
//
// +k8s:deepcopy-gen=package
// +groupName=eventing.knative.dev
package v1beta2
