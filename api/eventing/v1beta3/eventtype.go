package v1beta3

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
)

// RecordedLabel is on an EventType that was recorded from events that flowed
// through a broker.
const RecordedLabel = "eventing.leat.dev/recorded"

// ReferenceExists is the condition of an EventType beside Ready.
const ReferenceExists = "ReferenceExists"

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

// EventTypeSpec describes events by their attributes.
type EventTypeSpec struct {
	// Reference names where the events are to be had.
	Reference   *duckv1.KReference `json:"reference,omitempty"`
	Description string             `json:"description,omitempty"`
	// Attributes are those that the events have: type, source, specversion and
	// id among them.
	Attributes []EventAttributeDefinition `json:"attributes,omitempty"`
}

// EventAttributeDefinition is an attribute of the events.
type EventAttributeDefinition struct {
	Name string `json:"name"`
	// Required says whether each event has the attribute.
	Required bool `json:"required"`
	// Value is the attribute's value, with {NAME} for a part that varies; empty
	// where nothing is known of it.
	Value string `json:"value,omitempty"`
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

// Attribute is the definition of this name; nil where there is none.
func (s *EventTypeSpec) Attribute(name string) *EventAttributeDefinition {
	for i := range s.Attributes {
		if s.Attributes[i].Name == name {
			return &s.Attributes[i]
		}
	}
	return nil
}
