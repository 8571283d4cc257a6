package core

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// eventKind is core/v1's Event, which events.k8s.io/v1 shows in another form.
func eventKind(ttl uint64) *kind {
	return &kind{
		gv: corev1.SchemeGroupVersion, name: "Event", plural: "events", singular: "event", short: []string{"ev"}, namespaced: true,
		new: maker[corev1.Event](), newList: maker[corev1.EventList](),
		noGeneration: true, createOnUpdate: true, ttl: ttl,
		checkName: validation.NameIsDNSSubdomain,
		validate:  check(validateEvent),
		fields:    with(eventFields),
		columns: []metav1.TableColumnDefinition{
			column("Last Seen", "Time since it last happened."), column("Type", "Normal or Warning."), column("Reason", "Why, in one word."),
			column("Object", "What it happened to."), wide(column("Subobject", "Which part of it.")), wide(column("Source", "Who tells it.")),
			column("Message", "What happened."), wide(column("First Seen", "Time since it first happened.")),
			wide(number(column("Count", "How often."))), wide(nameColumn()),
		},
		row: with(eventRow),
	}
}

func eventFields(e *corev1.Event) fields.Set {
	o := &e.InvolvedObject
	return fields.Set{
		"involvedObject.kind": o.Kind, "involvedObject.namespace": o.Namespace, "involvedObject.name": o.Name,
		"involvedObject.uid": string(o.UID), "involvedObject.apiVersion": o.APIVersion,
		"involvedObject.resourceVersion": o.ResourceVersion, "involvedObject.fieldPath": o.FieldPath,
		"reason": e.Reason, "reportingComponent": e.ReportingController, "type": e.Type,
		"source": cmp.Or(e.Source.Component, e.ReportingController),
	}
}

// regardingSelectable translates the field names of events.k8s.io.
func regardingSelectable(core runtime.FieldLabelConversionFunc) runtime.FieldLabelConversionFunc {
	return func(label, value string) (string, string, error) {
		if rest, ok := strings.CutPrefix(label, "regarding."); ok {
			label = "involvedObject." + rest
		} else if label == "reportingController" {
			label = "reportingComponent"
		}
		return core(label, value)
	}
}

func validateEvent(e, _ *corev1.Event) field.ErrorList {
	var errs field.ErrorList
	switch o := &e.InvolvedObject; {
	case o.Namespace == "" && e.Namespace != metav1.NamespaceDefault && e.Namespace != metav1.NamespaceSystem:
		errs = append(errs, field.Invalid(field.NewPath("involvedObject", "namespace"), o.Namespace, "events about objects without a namespace belong into namespace default"))
	case o.Namespace != "" && o.Namespace != e.Namespace:
		errs = append(errs, field.Invalid(field.NewPath("involvedObject", "namespace"), o.Namespace, "does not match event.namespace"))
	}
	if types := []string{corev1.EventTypeNormal, corev1.EventTypeWarning}; e.Type != "" && !slices.Contains(types, e.Type) {
		errs = append(errs, field.NotSupported(field.NewPath("type"), e.Type, types))
	}
	return errs
}

func eventRow(e *corev1.Event) []any {
	// Series and times are given by some clients, count and timestamps by others.
	first, last, count := e.FirstTimestamp, e.LastTimestamp, e.Count
	if first.IsZero() {
		first = metav1.Time{Time: e.EventTime.Time}
	}
	if e.Series != nil {
		last, count = metav1.Time{Time: e.Series.LastObservedTime.Time}, e.Series.Count
	}
	if last.IsZero() {
		last = first
	}
	object := e.InvolvedObject.Name
	if e.InvolvedObject.Kind != "" {
		object = strings.ToLower(e.InvolvedObject.Kind) + "/" + object
	}
	source := cmp.Or(e.Source.Component, e.ReportingController)
	if host := cmp.Or(e.Source.Host, e.ReportingInstance); host != "" {
		source = fmt.Sprintf("%s, %s", source, host)
	}
	return []any{
		age(last), e.Type, e.Reason, object, e.InvolvedObject.FieldPath, source,
		strings.TrimSpace(e.Message), age(first), int64(max(count, 1)), e.Name,
	}
}

func addEventConversions(s *runtime.Scheme) error {
	return firstError(
		s.AddConversionFunc((*eventsv1.Event)(nil), (*corev1.Event)(nil), func(a, b any, _ conversion.Scope) error {
			toCore(a.(*eventsv1.Event), b.(*corev1.Event))
			return nil
		}),
		s.AddConversionFunc((*corev1.Event)(nil), (*eventsv1.Event)(nil), func(a, b any, _ conversion.Scope) error {
			fromCore(a.(*corev1.Event), b.(*eventsv1.Event))
			return nil
		}),
		s.AddConversionFunc((*eventsv1.EventList)(nil), (*corev1.EventList)(nil), func(a, b any, _ conversion.Scope) error {
			in, out := a.(*eventsv1.EventList), b.(*corev1.EventList)
			out.ListMeta, out.Items = in.ListMeta, make([]corev1.Event, len(in.Items))
			for i := range in.Items {
				toCore(&in.Items[i], &out.Items[i])
			}
			return nil
		}),
		s.AddConversionFunc((*corev1.EventList)(nil), (*eventsv1.EventList)(nil), func(a, b any, _ conversion.Scope) error {
			in, out := a.(*corev1.EventList), b.(*eventsv1.EventList)
			out.ListMeta, out.Items = in.ListMeta, make([]eventsv1.Event, len(in.Items))
			for i := range in.Items {
				fromCore(&in.Items[i], &out.Items[i])
			}
			return nil
		}),
	)
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// toCore shares what the two forms point to: the codecs own both.
func toCore(in *eventsv1.Event, out *corev1.Event) {
	out.ObjectMeta = in.ObjectMeta
	out.InvolvedObject, out.Related = in.Regarding, in.Related
	out.Reason, out.Message, out.Type, out.Action = in.Reason, in.Note, in.Type, in.Action
	out.Source, out.Count = in.DeprecatedSource, in.DeprecatedCount
	out.FirstTimestamp, out.LastTimestamp, out.EventTime = in.DeprecatedFirstTimestamp, in.DeprecatedLastTimestamp, in.EventTime
	out.ReportingController, out.ReportingInstance = in.ReportingController, in.ReportingInstance
	out.Series = (*corev1.EventSeries)(in.Series)
}

func fromCore(in *corev1.Event, out *eventsv1.Event) {
	out.ObjectMeta = in.ObjectMeta
	out.Regarding, out.Related = in.InvolvedObject, in.Related
	out.Reason, out.Note, out.Type, out.Action = in.Reason, in.Message, in.Type, in.Action
	out.DeprecatedSource, out.DeprecatedCount = in.Source, in.Count
	out.DeprecatedFirstTimestamp, out.DeprecatedLastTimestamp, out.EventTime = in.FirstTimestamp, in.LastTimestamp, in.EventTime
	out.ReportingController, out.ReportingInstance = in.ReportingController, in.ReportingInstance
	out.Series = (*eventsv1.EventSeries)(in.Series)
}
