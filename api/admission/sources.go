package admission

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/leat-dev/leat/api/annotations"
	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	"github.com/leat-dev/leat/api/event"
	sourcesv1 "github.com/leat-dev/leat/api/sources/v1"
	sourcesv1alpha1 "github.com/leat-dev/leat/api/sources/v1alpha1"
)

func defaultPingSource(obj, _ *unstructured.Unstructured) {
	spec := ensure(obj.Object, "spec")
	if spec == nil {
		return
	}
	defaultSchedule(spec)
	defaultDestination(spec, "sink", obj.GetNamespace())
}

func defaultCronJobSource(obj, _ *unstructured.Unstructured) {
	spec := ensure(obj.Object, "spec")
	if spec == nil {
		return
	}
	defaultSchedule(spec)
	defaultDestination(spec, "sink", obj.GetNamespace())
	if sink, ok := spec["sink"].(map[string]any); ok && sink["kind"] != nil {
		defaultNamespace(sink, obj.GetNamespace())
	}
}

func defaultSchedule(spec map[string]any) {
	if s, ok := spec["schedule"]; !ok || s == nil || s == "" {
		spec["schedule"] = sourcesv1.DefaultSchedule
	}
}

func (a *Admission) validatePingSource(obj, _ *unstructured.Unstructured) field.ErrorList {
	s, errs := decode[sourcesv1.PingSource](obj)
	if len(errs) > 0 {
		return errs
	}
	spec := field.NewPath("spec")
	errs = append(validateMeta(s), annotations.ParseSource(s.Annotations)...)
	errs = append(errs, a.validateSchedule(s.Spec.Schedule, s.Spec.Timezone, spec)...)
	errs = append(errs, a.validatePayload(&s.Spec, spec)...)
	errs = append(errs, validateDestination(&s.Spec.Sink, spec.Child("sink"))...)
	return append(errs, a.validateOverrides(s.Spec.CEOverrides, spec.Child("ceOverrides", "extensions"))...)
}

func (a *Admission) validateCronJobSource(obj, _ *unstructured.Unstructured) field.ErrorList {
	s, errs := decode[sourcesv1alpha1.CronJobSource](obj)
	if len(errs) > 0 {
		return errs
	}
	spec := field.NewPath("spec")
	errs = append(validateMeta(s), annotations.ParseSource(s.Annotations)...)
	errs = append(errs, a.validateSchedule(s.Spec.Schedule, "", spec)...)
	errs = append(errs, a.validateSize(len(s.Spec.Data), spec.Child("data"))...)
	at := spec.Child("sink")
	to := s.Spec.Sink.Destination()
	switch sink := s.Spec.Sink; {
	case sink == nil || !sink.InPlace():
		errs = append(errs, validateDestination(&to, at)...)
	case sink.Ref != nil:
		errs = append(errs, field.Forbidden(at.Child("ref"), "the object is named in place as well: remove one of the two"))
	default:
		errs = append(errs, validateReference(to.Ref, at)...)
		errs = append(errs, validateURI(&to, at.Child("uri"))...)
	}
	return errs
}

func (a *Admission) validateSchedule(schedule, timezone string, spec *field.Path) field.ErrorList {
	if a.o.CheckSchedule == nil {
		return nil
	}
	switch fault := a.o.CheckSchedule(schedule, timezone); {
	case fault == nil:
		return nil
	case fault.Timezone && timezone != "":
		return field.ErrorList{field.Invalid(spec.Child("timezone"), timezone, fault.Detail)}
	default:
		return field.ErrorList{field.Invalid(spec.Child("schedule"), schedule, fault.Detail)}
	}
}

// validatePayload checks a payload and its media type.
func (a *Admission) validatePayload(s *sourcesv1.PingSourceSpec, spec *field.Path) field.ErrorList {
	errs := validateContentType(s.ContentType, spec.Child("contentType"))
	at, data := spec.Child("data"), []byte(s.Data)
	if s.DataBase64 != "" {
		if s.Data != "" {
			return append(errs, field.Forbidden(spec.Child("dataBase64"), "data is given as well: remove one of the two"))
		}
		at = spec.Child("dataBase64")
		var err error
		if data, err = base64.StdEncoding.Strict().DecodeString(s.DataBase64); err != nil {
			return append(errs, field.Invalid(at, abbreviate(s.DataBase64), fmt.Sprintf("is not base64 (%v): use the standard alphabet of RFC 4648, padded", err)))
		}
	}
	errs = append(errs, a.validateSize(len(data), at)...)
	if len(data) > 0 && isJSON(s.ContentType) && !json.Valid(data) {
		errs = append(errs, field.Invalid(at, abbreviate(string(data)), fmt.Sprintf("is not JSON, as contentType %s says it is", s.ContentType)))
	}
	return errs
}

func (a *Admission) validateSize(n int, at *field.Path) field.ErrorList {
	if n <= a.o.Events.MaxDataBytes {
		return nil
	}
	return field.ErrorList{field.Invalid(at, fmt.Sprintf("(%d bytes)", n), fmt.Sprintf("is over the limit of %d bytes for the data of one event", a.o.Events.MaxDataBytes))}
}

func validateContentType(v string, at *field.Path) field.ErrorList {
	if v == "" {
		return nil
	}
	kind, _, err := mime.ParseMediaType(v)
	switch {
	case err != nil || !strings.Contains(kind, "/"):
		return field.ErrorList{field.Invalid(at, v, "must be a media type, such as application/json")}
	case strings.HasPrefix(kind, "application/cloudevents"):
		return field.ErrorList{field.Invalid(at, v, "is that of a whole event, and would be taken for one: give the type of the payload, such as application/json")}
	}
	return nil
}

// isJSON says whether a media type is one of JSON.
func isJSON(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (kind == "application/json" || kind == "text/json" || strings.HasSuffix(kind, "+json"))
}

func abbreviate(s string) string {
	const most = 80
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// validateOverrides checks extension attributes, each as part of an event.
func (a *Admission) validateOverrides(o *duckv1.CloudEventOverrides, at *field.Path) field.ErrorList {
	if o == nil {
		return nil
	}
	var errs field.ErrorList
	all := &event.Event{ID: "x", Source: "x", Type: "x"}
	for _, name := range slices.Sorted(maps.Keys(o.Extensions)) {
		value := event.Value{Str: o.Extensions[name]}
		if strings.HasPrefix(name, "leat") {
			errs = append(errs, field.Invalid(at.Key(name), value.Str, "names that begin with leat are set by the server: choose another name"))
			continue
		}
		one := &event.Event{ID: "x", Source: "x", Type: "x"}
		one.SetExtension(name, value)
		if err := one.ValidateWithin(a.o.Events); err != nil {
			errs = append(errs, field.Invalid(at.Key(name), value.Str, reason(err)))
			continue
		}
		all.SetExtension(name, value)
	}
	if err := all.ValidateWithin(a.o.Events); err != nil {
		errs = append(errs, field.Invalid(at, fmt.Sprintf("(%d extensions)", len(o.Extensions)), reason(err)))
	}
	return errs
}

// reason is what is wrong with an event, without the attribute, which the path
// names.
func reason(err error) string {
	var f *event.FormatError
	if errors.As(err, &f) {
		return f.Reason
	}
	return err.Error()
}

func warnPingSource(obj *unstructured.Unstructured) []string {
	s, errs := decode[sourcesv1.PingSource](obj)
	if len(errs) > 0 {
		return nil
	}
	return warnDestination("spec.sink", &s.Spec.Sink)
}

func warnCronJobSource(obj *unstructured.Unstructured) []string {
	s, errs := decode[sourcesv1alpha1.CronJobSource](obj)
	if len(errs) > 0 {
		return nil
	}
	var w []string
	if s.Spec.ServiceAccountName != "" || s.Spec.Resources != nil {
		w = append(w, "spec.serviceAccountName and spec.resources are kept, but not used: no pod sends the events")
	}
	to := s.Spec.Sink.Destination()
	return append(w, warnDestination("spec.sink", &to)...)
}
