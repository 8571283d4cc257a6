// Package v1 holds the shapes that the eventing kinds share: references,
// destinations, delivery policies, addresses, conditions and subscribers.
//
// +k8s:deepcopy-gen=package
package v1
