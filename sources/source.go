package sources

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/broker/status"
)

// Kind is a kind of source.
type Kind struct {
	schema.GroupVersionKind
	Resource string
	// Read reads an object. It is called for each change of it, must not change
	// it, and has to give the same for the same object. An error says that the
	// object is not of the kind's form.
	Read func(u *unstructured.Unstructured) (*Source, error)
}

// Source is what an object asks for.
type Source struct {
	Sink       duckv1.Destination
	Overrides  *duckv1.CloudEventOverrides
	Attributes []duckv1.CloudEventAttributes
	// Conditions are the kind's own; SinkProvided and Deployed are added.
	Conditions status.Conditions
	// Notes are annotations that the status is to have. They are there when the
	// object is read the next time.
	Notes map[string]string
	// Adapter makes the events. It is nil where it cannot; Problem says why.
	Adapter Adapter
	Problem *status.Problem
}

// Adapter makes the events of one object.
type Adapter interface {
	// Run hands events over until ctx ends. An error is shown in the object's
	// status, and Run is called again later.
	Run(ctx context.Context, out Output) error
}

// Output takes the events of one object, one at a time.
type Output interface {
	// Position is the sequence of the last event that was handed over, also in
	// an earlier run; 0 where there was none.
	Position() uint64
	// Hand makes an event durable, unless its sequence is not above the
	// position: then it was before. It changes the event. While that cannot be
	// done it waits. The error is ctx's, or a *RefusedError, with which the
	// event is not handed over, ever.
	Hand(ctx context.Context, sequence uint64, e *event.Event) error
}

// RefusedError says that an event can never be taken.
type RefusedError struct{ Err error }

func (e *RefusedError) Error() string { return "the event is refused: " + e.Err.Error() }

// Unwrap returns the reason.
func (e *RefusedError) Unwrap() error { return e.Err }

// Conditions that every source has beside Ready.
const (
	conditionSinkProvided = "SinkProvided"
	conditionDeployed     = "Deployed"
)
