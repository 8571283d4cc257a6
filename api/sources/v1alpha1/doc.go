// Package v1alpha1 holds the kinds of sources.eventing.knative.dev/v1alpha1,
// the older API of sources: CronJobSource.
//
// +k8s:deepcopy-gen=package
// +groupName=sources.eventing.knative.dev
package v1alpha1
