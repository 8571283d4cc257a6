package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
)

// CronJobSourceType is the type of a CronJobSource's events.
const CronJobSourceType = "dev.knative.cronjob.event"

// Conditions of a CronJobSource beside Ready.
const (
	CronJobSourceSinkProvided  = "SinkProvided"  // the sink resolves
	CronJobSourceValidSchedule = "ValidSchedule" // the schedule can be read
	CronJobSourceDeployed      = "Deployed"      // its ticks are being waited for
)

// CronJobSource makes an event with a fixed payload at the times of a schedule.
// PingSource took its place.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type CronJobSource struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   CronJobSourceSpec   `json:"spec,omitempty"`
	Status CronJobSourceStatus `json:"status,omitempty"`
}

// CronJobSourceSpec is what is asked of a CronJobSource.
type CronJobSourceSpec struct {
	// Schedule is in cron's format, with seconds first where it has six fields.
	Schedule string `json:"schedule,omitempty"`
	// Data is the payload where it is a JSON object; other text goes into one,
	// as its body.
	Data string `json:"data,omitempty"`
	// Sink is where the events go.
	Sink *CronJobSink `json:"sink,omitempty"`
	// ServiceAccountName and Resources were of the pod that sent the events.
	ServiceAccountName string            `json:"serviceAccountName,omitempty"`
	Resources          *CronJobResources `json:"resources,omitempty"`
}

// CronJobSink is a reference in place, as in the first versions of the API, or
// a destination, as in the later ones.
type CronJobSink struct {
	APIVersion string `json:"apiVersion,omitempty"`
	Kind       string `json:"kind,omitempty"`
	Name       string `json:"name,omitempty"`
	Namespace  string `json:"namespace,omitempty"`

	Ref *duckv1.KReference `json:"ref,omitempty"`
	URI string             `json:"uri,omitempty"`
}

// InPlace says whether the reference is given in place.
func (s *CronJobSink) InPlace() bool {
	return s.APIVersion != "" || s.Kind != "" || s.Name != "" || s.Namespace != ""
}

// Destination is the sink as a destination.
func (s *CronJobSink) Destination() duckv1.Destination {
	if s == nil {
		return duckv1.Destination{}
	}
	if s.Ref == nil && s.InPlace() {
		return duckv1.Destination{
			Ref: &duckv1.KReference{APIVersion: s.APIVersion, Kind: s.Kind, Name: s.Name, Namespace: s.Namespace}, URI: s.URI,
		}
	}
	return duckv1.Destination{Ref: s.Ref, URI: s.URI}
}

// CronJobResources are what the pod that sent the events was given.
type CronJobResources struct {
	Requests *CronJobQuantities `json:"requests,omitempty"`
	Limits   *CronJobQuantities `json:"limits,omitempty"`
}

// CronJobQuantities are quantities of what a pod needs.
type CronJobQuantities struct {
	CPU    string `json:"cpu,omitempty"`
	Memory string `json:"memory,omitempty"`
}

// CronJobSourceStatus is how a CronJobSource is.
type CronJobSourceStatus struct {
	duckv1.SourceStatus `json:",inline"`
}

// CronJobSourceList is a list of CronJobSources.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
type CronJobSourceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []CronJobSource `json:"items"`
}
