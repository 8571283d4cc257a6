package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
)

// PingSourceType is the type of a PingSource's events.
const PingSourceType = "dev.knative.sources.ping"

// DefaultSchedule is that of a source which gives none: every minute.
const DefaultSchedule = "* * * * *"

// Conditions of a PingSource beside Ready.
const (
	PingSourceSinkProvided = "SinkProvided" // the sink resolves
	PingSourceDeployed     = "Deployed"     // its ticks are being waited for
)

// PingSource makes an event with a fixed payload at the times of a schedule.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type PingSource struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   PingSourceSpec   `json:"spec,omitempty"`
	Status PingSourceStatus `json:"status,omitempty"`
}

// PingSourceSpec is what is asked of a PingSource.
type PingSourceSpec struct {
	duckv1.SourceSpec `json:",inline"`

	// Schedule is in cron's format, with seconds first where it has six fields.
	Schedule string `json:"schedule,omitempty"`
	// Timezone is the name of the time zone that Schedule is in; UTC without.
	Timezone string `json:"timezone,omitempty"`
	// ContentType is the media type of the payload.
	ContentType string `json:"contentType,omitempty"`
	// Data is the payload as text, DataBase64 as base64; at most one is given.
	Data       string `json:"data,omitempty"`
	DataBase64 string `json:"dataBase64,omitempty"`
}

// PingSourceStatus is how a PingSource is.
type PingSourceStatus struct {
	duckv1.SourceStatus `json:",inline"`
}

// PingSourceList is a list of PingSources.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type PingSourceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []PingSource `json:"items"`
}
