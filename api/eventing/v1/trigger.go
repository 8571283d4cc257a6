package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
)

// BrokerLabel of a Trigger is the name of its Broker.
const BrokerLabel = "eventing.knative.dev/broker"

// DependencyAnnotation of a Trigger names an object that must be Ready before
// the Trigger is.
const DependencyAnnotation = "knative.dev/dependency"

// Conditions of a Trigger beside Ready.
const (
	TriggerBrokerReady            = "BrokerReady"
	TriggerDependencyReady        = "DependencyReady"
	TriggerSubscriptionReady      = "SubscriptionReady" // the log and the dispatcher know it
	TriggerSubscriberResolved     = "SubscriberResolved"
	TriggerDeadLetterSinkResolved = "DeadLetterSinkResolved"
)

// Trigger has the events of a Broker that match its filter delivered to a
// subscriber.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type Trigger struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   TriggerSpec   `json:"spec,omitempty"`
	Status TriggerStatus `json:"status,omitempty"`
}

// TriggerSpec is what is asked of a Trigger.
type TriggerSpec struct {
	// Broker is the Broker's name. It cannot be changed.
	Broker string `json:"broker,omitempty"`
	// BrokerRef names the Broker in place of Broker, also in another namespace.
	BrokerRef *duckv1.KReference `json:"brokerRef,omitempty"`
	// Filter is overridden by Filters.
	Filter *TriggerFilter `json:"filter,omitempty"`
	// Filters must all match.
	Filters    []SubscriptionsAPIFilter `json:"filters,omitempty"`
	Subscriber duckv1.Destination       `json:"subscriber,omitempty"`
	// Delivery replaces that of the Broker, except that a Trigger without a
	// dead letter sink keeps the Broker's.
	Delivery *duckv1.DeliverySpec `json:"delivery,omitempty"`
}

// TriggerFilter is the older form of a filter.
type TriggerFilter struct {
	// Attributes must each have this value; "" means present and not empty.
	Attributes map[string]string `json:"attributes,omitempty"`
}

// SubscriptionsAPIFilter is a filter of one dialect: exactly one field is set.
type SubscriptionsAPIFilter struct {
	All    []SubscriptionsAPIFilter `json:"all,omitempty"`
	Any    []SubscriptionsAPIFilter `json:"any,omitempty"`
	Not    *SubscriptionsAPIFilter  `json:"not,omitempty"`
	Exact  map[string]string        `json:"exact,omitempty"`
	Prefix map[string]string        `json:"prefix,omitempty"`
	Suffix map[string]string        `json:"suffix,omitempty"`
	CESQL  string                   `json:"cesql,omitempty"`
	Expr   string                   `json:"expr,omitempty"`
}

// TriggerStatus is how a Trigger is.
type TriggerStatus struct {
	duckv1.Status         `json:",inline"`
	SubscriberURI         string  `json:"subscriberUri,omitempty"`
	SubscriberCACerts     *string `json:"subscriberCACerts,omitempty"`
	SubscriberAudience    *string `json:"subscriberAudience,omitempty"`
	duckv1.DeliveryStatus `json:",inline"`
}

// TriggerList is a list of Triggers.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type TriggerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Trigger `json:"items"`
}

// BrokerKey is the namespace and name of the Trigger's Broker.
func (t *Trigger) BrokerKey() (namespace, name string) {
	if r := t.Spec.BrokerRef; r != nil {
		if r.Namespace != "" {
			return r.Namespace, r.Name
		}
		return t.Namespace, r.Name
	}
	return t.Namespace, t.Spec.Broker
}
