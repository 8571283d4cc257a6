package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// KReference names another object.
type KReference struct {
	Kind string `json:"kind,omitempty"`
	// Namespace is that of the object which holds the reference, unless given.
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name,omitempty"`
	APIVersion string `json:"apiVersion,omitempty"`
	// Group stands in for APIVersion: the version is then the served one.
	Group string `json:"group,omitempty"`
	// Address is the name of one of the object's addresses, where it has several.
	Address *string `json:"address,omitempty"`
}

// Destination is where events go: an object with an address, a URI, or a URI
// relative to the address of an object.
type Destination struct {
	Ref *KReference `json:"ref,omitempty"`
	// URI is absolute without Ref, and relative to the address of Ref with it.
	URI string `json:"uri,omitempty"`
	// CACerts are PEM certificates that are trusted beside the system's.
	CACerts *string `json:"CACerts,omitempty"`
	// Audience is the OIDC audience of the destination.
	Audience *string `json:"audience,omitempty"`
}

// BackoffPolicy is how the wait between attempts grows.
type BackoffPolicy string

// The backoff policies.
const (
	BackoffLinear      BackoffPolicy = "linear"
	BackoffExponential BackoffPolicy = "exponential"
)

// FormatBinary is the one event format that is delivered.
const FormatBinary = "binary"

// DeliverySpec is how events are delivered. Durations are ISO 8601.
type DeliverySpec struct {
	DeadLetterSink *Destination `json:"deadLetterSink,omitempty"`
	// Retry is the number of attempts after the first; absent it is 0.
	Retry *int32 `json:"retry,omitempty"`
	// Timeout bounds each request.
	Timeout       *string        `json:"timeout,omitempty"`
	BackoffPolicy *BackoffPolicy `json:"backoffPolicy,omitempty"`
	BackoffDelay  *string        `json:"backoffDelay,omitempty"`
	// BackoffMax caps each wait.
	BackoffMax *string `json:"backoffMax,omitempty"`
	// Jitter draws each wait evenly from 0 to what the backoff says.
	Jitter *bool `json:"jitter,omitempty"`
	// RetryAfterMax caps what a Retry-After header asks for; 0 ignores it.
	RetryAfterMax *string `json:"retryAfterMax,omitempty"`
	Format        *string `json:"format,omitempty"`
}

// DeliveryStatus is where dead letters go.
type DeliveryStatus struct {
	DeadLetterSinkURI      string  `json:"deadLetterSinkUri,omitempty"`
	DeadLetterSinkCACerts  *string `json:"deadLetterSinkCACerts,omitempty"`
	DeadLetterSinkAudience *string `json:"deadLetterSinkAudience,omitempty"`
}

// Addressable is an address that takes events.
type Addressable struct {
	Name     *string `json:"name,omitempty"`
	URL      string  `json:"url,omitempty"`
	CACerts  *string `json:"CACerts,omitempty"`
	Audience *string `json:"audience,omitempty"`
}

// AddressStatus is where an object takes events.
type AddressStatus struct {
	Address   *Addressable  `json:"address,omitempty"`
	Addresses []Addressable `json:"addresses,omitempty"`
}

// Condition is one aspect of an object's state.
type Condition struct {
	Type     string                 `json:"type"`
	Status   metav1.ConditionStatus `json:"status"`
	Severity string                 `json:"severity,omitempty"`
	// LastTransitionTime is when Status last changed.
	LastTransitionTime metav1.Time `json:"lastTransitionTime,omitempty"`
	// Reason is one CamelCase word.
	Reason string `json:"reason,omitempty"`
	// Message says what to do where something has to be done.
	Message string `json:"message,omitempty"`
}

// Status is what every kind's status has.
type Status struct {
	// ObservedGeneration is the generation that the rest was computed from.
	ObservedGeneration int64             `json:"observedGeneration,omitempty"`
	Conditions         []Condition       `json:"conditions,omitempty"`
	Annotations        map[string]string `json:"annotations,omitempty"`
}

// SubscriberSpec is a subscriber of a channel, filled in by the server.
type SubscriberSpec struct {
	UID                types.UID     `json:"uid,omitempty"`
	Name               *string       `json:"name,omitempty"`
	Generation         int64         `json:"generation,omitempty"`
	SubscriberURI      string        `json:"subscriberUri,omitempty"`
	SubscriberCACerts  *string       `json:"subscriberCACerts,omitempty"`
	SubscriberAudience *string       `json:"subscriberAudience,omitempty"`
	ReplyURI           string        `json:"replyUri,omitempty"`
	ReplyCACerts       *string       `json:"replyCACerts,omitempty"`
	ReplyAudience      *string       `json:"replyAudience,omitempty"`
	Delivery           *DeliverySpec `json:"delivery,omitempty"`
}

// SubscriberStatus is how far a channel has taken up a subscriber.
type SubscriberStatus struct {
	UID                types.UID              `json:"uid,omitempty"`
	ObservedGeneration int64                  `json:"observedGeneration,omitempty"`
	Ready              metav1.ConditionStatus `json:"ready,omitempty"`
	Message            string                 `json:"message,omitempty"`
}

// SubscribableSpec is the part of a channel's spec that holds its subscribers.
type SubscribableSpec struct {
	Subscribers []SubscriberSpec `json:"subscribers,omitempty"`
}

// SubscribableStatus is the part of a channel's status about its subscribers.
type SubscribableStatus struct {
	Subscribers []SubscriberStatus `json:"subscribers,omitempty"`
}

// CloudEventOverrides change the events that a source makes.
type CloudEventOverrides struct {
	// Extensions are set on each event, as strings.
	Extensions map[string]string `json:"extensions,omitempty"`
}

// SourceSpec is what every source's spec has.
type SourceSpec struct {
	Sink        Destination          `json:"sink,omitempty"`
	CEOverrides *CloudEventOverrides `json:"ceOverrides,omitempty"`
}

// CloudEventAttributes are those of the events that a source makes.
type CloudEventAttributes struct {
	Type   string `json:"type,omitempty"`
	Source string `json:"source,omitempty"`
}

// SourceStatus is what every source's status has.
type SourceStatus struct {
	Status       `json:",inline"`
	CEAttributes []CloudEventAttributes `json:"ceAttributes,omitempty"`
	// SinkURI is what the sink resolves to.
	SinkURI      string  `json:"sinkUri,omitempty"`
	SinkCACerts  *string `json:"sinkCACerts,omitempty"`
	SinkAudience *string `json:"sinkAudience,omitempty"`
}
