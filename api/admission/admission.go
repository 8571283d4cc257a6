package admission

import (
	"maps"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/leat-dev/leat/api/annotations"
	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	"github.com/leat-dev/leat/api/event"
	eventingv1 "github.com/leat-dev/leat/api/eventing/v1"
	messagingv1 "github.com/leat-dev/leat/api/messaging/v1"
	sourcesv1 "github.com/leat-dev/leat/api/sources/v1"
	sourcesv1alpha1 "github.com/leat-dev/leat/api/sources/v1alpha1"
)

// FilterFault says what is wrong with a filter.
type FilterFault struct {
	// Path is relative to the Trigger's spec: "filters[0].cesql".
	Path string
	// Value is the expression or value at fault.
	Value any
	// Detail says what is wrong, at which position, and what would be right.
	Detail string
}

// FilterChecker compiles the filter of a Trigger: either attributes or filters
// is set. The shape of the filters has been checked before.
type FilterChecker func(attributes map[string]string, filters []eventingv1.SubscriptionsAPIFilter) []FilterFault

// ScheduleFault says what is wrong with a schedule.
type ScheduleFault struct {
	Timezone bool // it is the time zone that is wrong
	Detail   string
}

// ScheduleChecker reads the schedule of a source; nil where nothing is wrong.
type ScheduleChecker func(schedule, timezone string) *ScheduleFault

// Options are the settings of an Admission; zero values take the defaults.
type Options struct {
	// CheckFilter compiles filters; nil checks their shape only.
	CheckFilter FilterChecker
	// CheckSchedule reads schedules; nil takes any.
	CheckSchedule ScheduleChecker
	// Events bound the events that sources make.
	Events event.Limits
	// Limits bound what annotations may ask for.
	Limits annotations.Limits
	// FilterDepth bounds how deep filters are nested (32).
	FilterDepth int
}

// Admission defaults and validates objects. It may be used from many
// goroutines at once.
type Admission struct {
	o     Options
	kinds map[schema.GroupKind]kind
}

// kind is how objects of one kind are treated.
type kind struct {
	defaults func(obj, old *unstructured.Unstructured)
	validate func(obj, old *unstructured.Unstructured) field.ErrorList
	warnings func(obj *unstructured.Unstructured) []string
}

// New makes an Admission.
func New(o Options) *Admission {
	if o.FilterDepth <= 0 {
		o.FilterDepth = 32
	}
	o.Events = o.Events.WithDefaults()
	a := &Admission{o: o}
	eventing := func(kind string) schema.GroupKind { return eventingv1.GroupVersion().WithKind(kind).GroupKind() }
	messaging := func(kind string) schema.GroupKind { return messagingv1.GroupVersion().WithKind(kind).GroupKind() }
	a.kinds = map[schema.GroupKind]kind{
		eventing("Broker"):           {defaultBroker, a.validateBroker, warnBroker},
		eventing("Trigger"):          {defaultTrigger, a.validateTrigger, warnTrigger},
		messaging("Channel"):         {defaultChannel, a.validateChannel, warnDelivery},
		messaging("InMemoryChannel"): {defaultInMemoryChannel, a.validateInMemoryChannel, warnDelivery},
		messaging("Subscription"):    {defaultSubscription, a.validateSubscription, warnSubscription},
		{Kind: "Service"}:            {validate: validateService},
		eventing("EventType"):        {defaults: defaultEventType, validate: validateEventType},

		{Group: sourcesv1.GroupName, Kind: "PingSource"}:          {defaultPingSource, a.validatePingSource, warnPingSource},
		{Group: sourcesv1alpha1.GroupName, Kind: "CronJobSource"}: {defaultCronJobSource, a.validateCronJobSource, warnCronJobSource},
	}
	return a
}

// Handles says whether objects of a kind are to be given to this Admission.
func (a *Admission) Handles(gk schema.GroupKind) bool {
	_, ok := a.kinds[gk]
	return ok
}

// Default sets the defaults of an object, before it is validated: it may be
// malformed, and then stays so. old is nil on creation. It must not be called
// for subresources.
func (a *Admission) Default(obj, old *unstructured.Unstructured) {
	if k := a.kinds[obj.GroupVersionKind().GroupKind()]; k.defaults != nil && obj.GetDeletionTimestamp() == nil {
		k.defaults(obj, old)
	}
}

// Validate says what is wrong with an object. old is nil on creation. It must
// not be called for subresources. What is being deleted is not validated, so
// that its finalizers can be taken away.
func (a *Admission) Validate(obj, old *unstructured.Unstructured) field.ErrorList {
	k := a.kinds[obj.GroupVersionKind().GroupKind()]
	if k.validate == nil || obj.GetDeletionTimestamp() != nil {
		return nil
	}
	return k.validate(obj, old)
}

// Warnings are what the user should know about an object that is accepted.
func (a *Admission) Warnings(obj *unstructured.Unstructured) []string {
	k := a.kinds[obj.GroupVersionKind().GroupKind()]
	if k.warnings == nil || obj.GetDeletionTimestamp() != nil {
		return nil
	}
	return k.warnings(obj)
}

// decode reads an object as its Go type, but for who manages its fields, which
// nothing here looks at. The schema has been checked before, so that an error is
// rare.
func decode[T any](u *unstructured.Unstructured) (*T, field.ErrorList) {
	out := new(T)
	if u == nil {
		return nil, nil
	}
	object := u.Object
	if metadata, ok := object["metadata"].(map[string]any); ok && metadata["managedFields"] != nil {
		object, metadata = maps.Clone(object), maps.Clone(metadata)
		delete(metadata, "managedFields")
		object["metadata"] = metadata
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object, out); err != nil {
		return nil, field.ErrorList{field.Invalid(field.NewPath("spec"), "", err.Error())}
	}
	return out, nil
}

// DefaultDelivery is the delivery of a Broker or channel that has none: 10
// retries, exponential, from 200 ms.
func DefaultDelivery() *duckv1.DeliverySpec {
	retry, policy, delay := int32(10), duckv1.BackoffExponential, "PT0.2S"
	return &duckv1.DeliverySpec{Retry: &retry, BackoffPolicy: &policy, BackoffDelay: &delay}
}
