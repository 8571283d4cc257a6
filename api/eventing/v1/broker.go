package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
)

// ClassAnnotation of a Broker says who serves it.
const ClassAnnotation = "eventing.knative.dev/broker.class"

// The classes of brokers. All are served alike.
const (
	ClassLeat      = "Leat"
	ClassMTChannel = "MTChannelBasedBroker"
	ClassKafka     = "Kafka"
)

// Conditions of a Broker beside Ready.
const (
	BrokerAddressable            = "Addressable"
	BrokerDeadLetterSinkResolved = "DeadLetterSinkResolved"
	BrokerFilterReady            = "FilterReady"         // the dispatcher follows the broker's log
	BrokerIngressReady           = "IngressReady"        // the ingress takes events for it
	BrokerTriggerChannelReady    = "TriggerChannelReady" // its log is open
)

// Broker takes events and hands them to the Triggers that match.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type Broker struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   BrokerSpec   `json:"spec,omitempty"`
	Status BrokerStatus `json:"status,omitempty"`
}

// BrokerSpec is what is asked of a Broker.
type BrokerSpec struct {
	// Config names an object with settings of the class. It cannot be changed.
	Config *duckv1.KReference `json:"config,omitempty"`
	// Delivery is for the Triggers that have none of their own.
	Delivery *duckv1.DeliverySpec `json:"delivery,omitempty"`
}

// BrokerStatus is how a Broker is.
type BrokerStatus struct {
	duckv1.Status         `json:",inline"`
	duckv1.AddressStatus  `json:",inline"`
	duckv1.DeliveryStatus `json:",inline"`
}

// BrokerList is a list of Brokers.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type BrokerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Broker `json:"items"`
}
