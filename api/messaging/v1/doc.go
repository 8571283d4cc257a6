// Package v1 holds the kinds of messaging.knative.dev/v1: Channel,
// InMemoryChannel and Subscription.
//
// +k8s:deepcopy-gen=package
// +groupName=messaging.knative.dev
package v1
