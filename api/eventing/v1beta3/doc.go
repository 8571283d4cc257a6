// Package v1beta3 has the kinds of eventing.knative.dev/v1beta3: EventType, in
// the version that it is stored in.
//
// +k8s:deepcopy-gen=package
// +groupName=eventing.knative.dev
package v1beta3
