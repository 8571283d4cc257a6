package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
)

// SubscribableAnnotation of a channel is the version of the contract between
// channels and subscriptions that it follows, SubscribableVersion.
const (
	SubscribableAnnotation = "messaging.knative.dev/subscribable"
	SubscribableVersion    = "v1"
)

// Conditions of a Channel and an InMemoryChannel beside Ready.
const (
	ChannelAddressable            = "Addressable"
	ChannelBackingChannelReady    = "BackingChannelReady" // of a Channel: its log is open
	ChannelChannelServiceReady    = "ChannelServiceReady" // of an InMemoryChannel: its log is open
	ChannelDeadLetterSinkResolved = "DeadLetterSinkResolved"
)

// Channel takes events and hands each of them to all its Subscriptions. It is
// backed by a log of its own, whatever its template.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type Channel struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ChannelSpec   `json:"spec,omitempty"`
	Status ChannelStatus `json:"status,omitempty"`
}

// ChannelSpec is what is asked of a Channel.
type ChannelSpec struct {
	// ChannelTemplate cannot be changed.
	ChannelTemplate         *ChannelTemplateSpec `json:"channelTemplate,omitempty"`
	duckv1.SubscribableSpec `json:",inline"`
	// Delivery is for the Subscriptions that have none of their own.
	Delivery *duckv1.DeliverySpec `json:"delivery,omitempty"`
}

// ChannelTemplateSpec is the kind of channel that is asked for.
type ChannelTemplateSpec struct {
	APIVersion string `json:"apiVersion,omitempty"`
	Kind       string `json:"kind,omitempty"`
	// Spec is an InMemoryChannel's.
	Spec *ChannelTemplateInner `json:"spec,omitempty"`
}

// ChannelTemplateInner is the spec of the kind of channel that is asked for.
type ChannelTemplateInner struct {
	// Delivery holds where the Channel has none of its own.
	Delivery *duckv1.DeliverySpec `json:"delivery,omitempty"`
}

// ChannelStatus is how a Channel is.
type ChannelStatus struct {
	duckv1.Status             `json:",inline"`
	duckv1.AddressStatus      `json:",inline"`
	duckv1.SubscribableStatus `json:",inline"`
	duckv1.DeliveryStatus     `json:",inline"`
	// Channel names the object behind this one; there is none.
	Channel *duckv1.KReference `json:"channel,omitempty"`
}

// ChannelList is a list of Channels.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type ChannelList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Channel `json:"items"`
}

// InMemoryChannel is a Channel by another name: it is as durable.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type InMemoryChannel struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   InMemoryChannelSpec   `json:"spec,omitempty"`
	Status InMemoryChannelStatus `json:"status,omitempty"`
}

// InMemoryChannelSpec is what is asked of an InMemoryChannel.
type InMemoryChannelSpec struct {
	duckv1.SubscribableSpec `json:",inline"`
	// Delivery is for the Subscriptions that have none of their own.
	Delivery *duckv1.DeliverySpec `json:"delivery,omitempty"`
}

// InMemoryChannelStatus is how an InMemoryChannel is.
type InMemoryChannelStatus struct {
	duckv1.Status             `json:",inline"`
	duckv1.AddressStatus      `json:",inline"`
	duckv1.SubscribableStatus `json:",inline"`
	duckv1.DeliveryStatus     `json:",inline"`
}

// InMemoryChannelList is a list of InMemoryChannels.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type InMemoryChannelList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []InMemoryChannel `json:"items"`
}
