package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
)

// Conditions of a Subscription beside Ready.
const (
	SubscriptionAddedToChannel     = "AddedToChannel" // the log and the dispatcher know it
	SubscriptionChannelReady       = "ChannelReady"
	SubscriptionReferencesResolved = "ReferencesResolved"
)

// Subscription has the events of a channel delivered to a subscriber, and the
// subscriber's replies to another.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type Subscription struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   SubscriptionSpec   `json:"spec,omitempty"`
	Status SubscriptionStatus `json:"status,omitempty"`
}

// SubscriptionSpec is what is asked of a Subscription.
type SubscriptionSpec struct {
	// Channel is in the same namespace. It cannot be changed.
	Channel    duckv1.KReference   `json:"channel,omitempty"`
	Subscriber *duckv1.Destination `json:"subscriber,omitempty"`
	// Reply takes the events that the subscriber answers with.
	Reply *duckv1.Destination `json:"reply,omitempty"`
	// Delivery replaces that of the channel, except that a Subscription without
	// a dead letter sink keeps the channel's.
	Delivery *duckv1.DeliverySpec `json:"delivery,omitempty"`
}

// SubscriptionStatus is how a Subscription is.
type SubscriptionStatus struct {
	duckv1.Status        `json:",inline"`
	PhysicalSubscription PhysicalSubscription `json:"physicalSubscription,omitempty"`
}

// PhysicalSubscription is what the references of a Subscription resolve to.
type PhysicalSubscription struct {
	SubscriberURI         string  `json:"subscriberUri,omitempty"`
	SubscriberCACerts     *string `json:"subscriberCACerts,omitempty"`
	SubscriberAudience    *string `json:"subscriberAudience,omitempty"`
	ReplyURI              string  `json:"replyUri,omitempty"`
	ReplyCACerts          *string `json:"replyCACerts,omitempty"`
	ReplyAudience         *string `json:"replyAudience,omitempty"`
	duckv1.DeliveryStatus `json:",inline"`
}

// SubscriptionList is a list of Subscriptions.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type SubscriptionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Subscription `json:"items"`
}
