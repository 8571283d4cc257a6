// Package v1 holds the kinds of sources.knative.dev/v1: PingSource.
//
// +k8s:deepcopy-gen=package
// +groupName=sources.knative.dev
package v1
