// Package v1 holds the kinds of eventing.knative.dev/v1: Broker and Trigger.
//
// +k8s:deepcopy-gen=package
// +groupName=eventing.knative.dev
package v1
