package admission

import (
	"encoding/json"
	"fmt"
	"net/url"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/leat-dev/leat/api/annotations"
	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	eventingv1 "github.com/leat-dev/leat/api/eventing/v1"
	messagingv1 "github.com/leat-dev/leat/api/messaging/v1"
)

func validateMeta(obj metav1.Object) field.ErrorList {
	if obj.GetName() == "" {
		return nil // it is generated
	}
	return validateName(obj.GetName(), field.NewPath("metadata", "name"))
}

const immutable = "cannot be changed: delete the object and create it anew"

// unchanged refuses a change of a field.
func unchanged(p *field.Path, now, was any) field.ErrorList {
	if equality.Semantic.DeepEqual(now, was) {
		return nil
	}
	before, err := json.Marshal(was)
	if err != nil {
		before = []byte("?")
	}
	return field.ErrorList{field.Forbidden(p, fmt.Sprintf("%s (it was %s)", immutable, before))}
}

func (a *Admission) validateBroker(obj, oldObj *unstructured.Unstructured) field.ErrorList {
	b, errs := decode[eventingv1.Broker](obj)
	if len(errs) > 0 {
		return errs
	}
	class := b.Annotations[eventingv1.ClassAnnotation]
	at := field.NewPath("metadata", "annotations").Key(eventingv1.ClassAnnotation)
	switch class {
	case eventingv1.ClassLeat, eventingv1.ClassMTChannel, eventingv1.ClassKafka:
	default:
		errs = append(errs, field.NotSupported(at, class, []string{eventingv1.ClassLeat, eventingv1.ClassMTChannel, eventingv1.ClassKafka}))
	}
	errs = append(errs, validateMeta(b)...)
	errs = append(errs, a.validateLog(obj, oldObj)...)
	spec := field.NewPath("spec")
	if b.Spec.Config != nil {
		errs = append(errs, validateReference(b.Spec.Config, spec.Child("config"))...)
	}
	errs = append(errs, validateDelivery(b.Spec.Delivery, spec.Child("delivery"))...)
	old, _ := decode[eventingv1.Broker](oldObj)
	if old != nil {
		errs = append(errs, unchanged(at, class, old.Annotations[eventingv1.ClassAnnotation])...)
		errs = append(errs, unchanged(spec.Child("config"), b.Spec.Config, old.Spec.Config)...)
	}
	return errs
}

// validateLog checks the annotations of a Broker or channel.
func (a *Admission) validateLog(obj, old *unstructured.Unstructured) field.ErrorList {
	now, errs := annotations.ParseLog(obj.GetAnnotations(), a.o.Limits)
	if old == nil || len(errs) > 0 {
		return errs
	}
	was, _ := annotations.ParseLog(old.GetAnnotations(), a.o.Limits)
	if max(now.Partitions, 1) < max(was.Partitions, 1) {
		at := field.NewPath("metadata", "annotations").Key(annotations.Partitions)
		errs = append(errs, field.Invalid(at, max(now.Partitions, 1), fmt.Sprintf("partitions cannot be taken away: must be %d or more", was.Partitions)))
	}
	return errs
}

func (a *Admission) validateTrigger(obj, oldObj *unstructured.Unstructured) field.ErrorList {
	errs := a.validateTriggerFilters(obj)
	if len(errs) > 0 {
		return errs
	}
	t, errs := decode[eventingv1.Trigger](obj)
	if len(errs) > 0 {
		return errs
	}
	errs = validateMeta(t)
	_, wrong := annotations.ParseDelivery(t.Annotations, a.o.Limits)
	errs = append(errs, wrong...)
	errs = append(errs, validateDependency(t)...)
	spec := field.NewPath("spec")
	errs = append(errs, validateBrokerOf(t, spec)...)
	errs = append(errs, validateDestination(&t.Spec.Subscriber, spec.Child("subscriber"))...)
	errs = append(errs, validateDelivery(t.Spec.Delivery, spec.Child("delivery"))...)
	errs = append(errs, a.compile(t, spec)...)
	old, _ := decode[eventingv1.Trigger](oldObj)
	if old != nil {
		errs = append(errs, unchanged(spec.Child("broker"), t.Spec.Broker, old.Spec.Broker)...)
		errs = append(errs, unchanged(spec.Child("brokerRef"), t.Spec.BrokerRef, old.Spec.BrokerRef)...)
	}
	return errs
}

func validateBrokerOf(t *eventingv1.Trigger, spec *field.Path) field.ErrorList {
	ref := t.Spec.BrokerRef
	switch {
	case ref == nil:
		return validateName(t.Spec.Broker, spec.Child("broker"))
	case t.Spec.Broker != "":
		return field.ErrorList{field.Forbidden(spec.Child("brokerRef"), "broker is given as well: remove one of the two")}
	}
	at := spec.Child("brokerRef")
	errs := validateReference(ref, at)
	if len(errs) == 0 && (ref.Kind != "Broker" || ref.APIVersion != "" && ref.APIVersion != eventingv1.GroupVersion().String() ||
		ref.Group != "" && ref.Group != eventingv1.GroupName) {
		errs = append(errs, field.Invalid(at, ref.Kind, "must be a Broker of "+eventingv1.GroupVersion().String()))
	}
	return errs
}

// validateTriggerFilters checks the shape of both forms of a filter.
func (a *Admission) validateTriggerFilters(obj *unstructured.Unstructured) field.ErrorList {
	spec := field.NewPath("spec")
	var errs field.ErrorList
	if raw, ok, _ := unstructured.NestedFieldNoCopy(obj.Object, "spec", "filter", "attributes"); ok && raw != nil {
		errs = append(errs, validateAttributes(raw, spec.Child("filter", "attributes"), true)...)
	}
	if raw, ok, _ := unstructured.NestedFieldNoCopy(obj.Object, "spec", "filters"); ok && raw != nil {
		errs = append(errs, validateFilters(raw, spec.Child("filters"), a.o.FilterDepth)...)
	}
	return errs
}

// compile has the filter compiled: what cannot be compiled is refused.
func (a *Admission) compile(t *eventingv1.Trigger, spec *field.Path) field.ErrorList {
	if a.o.CheckFilter == nil {
		return nil
	}
	var attributes map[string]string
	if t.Spec.Filter != nil && len(t.Spec.Filters) == 0 {
		attributes = t.Spec.Filter.Attributes
	}
	var errs field.ErrorList
	for _, f := range a.o.CheckFilter(attributes, t.Spec.Filters) {
		errs = append(errs, field.Invalid(spec.Child(f.Path), f.Value, f.Detail))
	}
	return errs
}

// Dependency is the object that a Trigger's dependency annotation names.
func Dependency(t *eventingv1.Trigger) (*duckv1.KReference, error) {
	v, ok := t.Annotations[eventingv1.DependencyAnnotation]
	if !ok {
		return nil, nil //nolint:nilnil // there is none
	}
	var ref duckv1.KReference
	if err := json.Unmarshal([]byte(v), &ref); err != nil {
		return nil, fmt.Errorf(`must be a reference in JSON, such as {"kind":"PingSource","name":"ping","apiVersion":"sources.knative.dev/v1"}: %w`, err)
	}
	return &ref, nil
}

func validateDependency(t *eventingv1.Trigger) field.ErrorList {
	at := field.NewPath("metadata", "annotations").Key(eventingv1.DependencyAnnotation)
	ref, err := Dependency(t)
	if err != nil {
		return field.ErrorList{field.Invalid(at, t.Annotations[eventingv1.DependencyAnnotation], err.Error())}
	}
	if ref == nil {
		return nil
	}
	errs := validateReference(ref, at)
	if ref.Namespace != "" && ref.Namespace != t.Namespace {
		errs = append(errs, field.Invalid(at.Child("namespace"), ref.Namespace, fmt.Sprintf("must be empty or the Trigger's own, %q", t.Namespace)))
	}
	return errs
}

func (a *Admission) validateChannel(obj, oldObj *unstructured.Unstructured) field.ErrorList {
	c, errs := decode[messagingv1.Channel](obj)
	if len(errs) > 0 {
		return errs
	}
	errs = validateMeta(c)
	errs = append(errs, a.validateLog(obj, oldObj)...)
	spec := field.NewPath("spec")
	template := spec.Child("channelTemplate")
	if t := c.Spec.ChannelTemplate; t != nil {
		if v := messagingv1.GroupVersion().String(); t.APIVersion != v {
			errs = append(errs, field.NotSupported(template.Child("apiVersion"), t.APIVersion, []string{v}))
		}
		if t.Kind != "InMemoryChannel" {
			errs = append(errs, field.NotSupported(template.Child("kind"), t.Kind, []string{"InMemoryChannel"}))
		}
		if t.Spec != nil {
			errs = append(errs, validateDelivery(t.Spec.Delivery, template.Child("spec", "delivery"))...)
		}
	}
	errs = append(errs, validateDelivery(c.Spec.Delivery, spec.Child("delivery"))...)
	if old, _ := decode[messagingv1.Channel](oldObj); old != nil {
		errs = append(errs, unchanged(template, c.Spec.ChannelTemplate, old.Spec.ChannelTemplate)...)
	}
	return errs
}

func (a *Admission) validateInMemoryChannel(obj, oldObj *unstructured.Unstructured) field.ErrorList {
	c, errs := decode[messagingv1.InMemoryChannel](obj)
	if len(errs) > 0 {
		return errs
	}
	errs = validateMeta(c)
	errs = append(errs, a.validateLog(obj, oldObj)...)
	return append(errs, validateDelivery(c.Spec.Delivery, field.NewPath("spec", "delivery"))...)
}

func (a *Admission) validateSubscription(obj, oldObj *unstructured.Unstructured) field.ErrorList {
	s, errs := decode[messagingv1.Subscription](obj)
	if len(errs) > 0 {
		return errs
	}
	errs = validateMeta(s)
	_, wrong := annotations.ParseDelivery(s.Annotations, a.o.Limits)
	errs = append(errs, wrong...)
	spec := field.NewPath("spec")
	errs = append(errs, validateSubscribed(s, spec.Child("channel"))...)
	errs = append(errs, validateDestination(s.Spec.Subscriber, spec.Child("subscriber"))...)
	if s.Spec.Reply != nil {
		errs = append(errs, validateDestination(s.Spec.Reply, spec.Child("reply"))...)
	}
	errs = append(errs, validateDelivery(s.Spec.Delivery, spec.Child("delivery"))...)
	if old, _ := decode[messagingv1.Subscription](oldObj); old != nil {
		errs = append(errs, unchanged(spec.Child("channel"), s.Spec.Channel, old.Spec.Channel)...)
	}
	return errs
}

// validateSubscribed checks what a Subscription subscribes to.
func validateSubscribed(s *messagingv1.Subscription, at *field.Path) field.ErrorList {
	ref := s.Spec.Channel
	if ref == (duckv1.KReference{}) {
		return field.ErrorList{field.Required(at, "the Channel or InMemoryChannel that is subscribed to")}
	}
	errs := validateReference(&ref, at)
	if ref.Namespace != "" && ref.Namespace != s.Namespace {
		errs = append(errs, field.Invalid(at.Child("namespace"), ref.Namespace, fmt.Sprintf("must be empty or the Subscription's own, %q", s.Namespace)))
	}
	if len(errs) > 0 {
		return errs
	}
	if v := messagingv1.GroupVersion().String(); ref.APIVersion != "" && ref.APIVersion != v {
		errs = append(errs, field.NotSupported(at.Child("apiVersion"), ref.APIVersion, []string{v}))
	}
	if ref.Group != "" && ref.Group != messagingv1.GroupName {
		errs = append(errs, field.NotSupported(at.Child("group"), ref.Group, []string{messagingv1.GroupName}))
	}
	if ref.Kind != "Channel" && ref.Kind != "InMemoryChannel" {
		errs = append(errs, field.NotSupported(at.Child("kind"), ref.Kind, []string{"Channel", "InMemoryChannel"}))
	}
	return errs
}

// validateService checks what Services carry for us.
func validateService(obj, _ *unstructured.Unstructured) field.ErrorList {
	_, errs := annotations.ParseService(obj.GetAnnotations())
	return errs
}

// hasCredentials says whether a URI has a user or a password in it.
func hasCredentials(uri string) bool {
	u, err := url.Parse(uri)
	return err == nil && u.User != nil
}
