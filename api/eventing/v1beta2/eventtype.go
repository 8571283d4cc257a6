package v1beta2

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
)

// EventType describes events that are to be had from a broker or another
// addressable object.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type EventType struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   EventTypeSpec   `json:"spec,omitempty"`
	Status EventTypeStatus `json:"status,omitempty"`
}

// EventTypeSpec describes events by their type and source.
type EventTypeSpec struct {
	Type   string `json:"type,omitempty"`
	Source string `json:"source,omitempty"`
	// Schema is the URI of the data's schema, SchemaData the schema itself.
	Schema     string `json:"schema,omitempty"`
	SchemaData string `json:"schemaData,omitempty"`
	// Broker is the older form of a Reference to a Broker.
	Broker      string             `json:"broker,omitempty"`
	Reference   *duckv1.KReference `json:"reference,omitempty"`
	Description string             `json:"description,omitempty"`
}

// EventTypeStatus is how an EventType is.
type EventTypeStatus struct {
	duckv1.Status `json:",inline"`
}

// EventTypeList is a list of EventTypes.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type EventTypeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []EventType `json:"items"`
}
