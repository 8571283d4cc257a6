package ping

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/leat-dev/leat/api/annotations"
	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	"github.com/leat-dev/leat/api/event"
	sourcesv1 "github.com/leat-dev/leat/api/sources/v1"
	sourcesv1alpha1 "github.com/leat-dev/leat/api/sources/v1alpha1"
	"github.com/leat-dev/leat/broker/status"
	"github.com/leat-dev/leat/sources"
)

// Notes in the status of an object.
const (
	noteSchedule = annotations.Prefix + "schedule"
	noteSince    = annotations.Prefix + "schedule-since"
)

// Options are the settings of the kinds of this package; zero values take the
// defaults.
type Options struct {
	// Now is the clock that ticks; nil is time.Now.
	Now func() time.Time
	// LateAfter is how much after its time a tick is late (1 s).
	LateAfter time.Duration
	// MaxBehind is how far a running source may be behind, and hand over each
	// tick all the same (1 min).
	MaxBehind time.Duration
	// ClockInterval is how long the clock is not looked at, which may have been
	// set (15 s).
	ClockInterval time.Duration
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{{&o.LateAfter, time.Second}, {&o.MaxBehind, time.Minute}, {&o.ClockInterval, 15 * time.Second}} {
		if *d.v <= 0 {
			*d.v = d.d
		}
	}
	return o
}

// Kinds are the kinds of this package.
func Kinds(o Options) []sources.Kind {
	o = o.withDefaults()
	return []sources.Kind{
		{
			GroupVersionKind: sourcesv1.GroupVersion().WithKind("PingSource"), Resource: "pingsources",
			Read: func(u *unstructured.Unstructured) (*sources.Source, error) { return readPing(u, &o) },
		},
		{
			GroupVersionKind: sourcesv1alpha1.GroupVersion().WithKind("CronJobSource"), Resource: "cronjobsources",
			Read: func(u *unstructured.Unstructured) (*sources.Source, error) { return readCronJob(u, &o) },
		},
	}
}

func readPing(u *unstructured.Unstructured, options *Options) (*sources.Source, error) {
	var o sourcesv1.PingSource
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &o); err != nil {
		return nil, err
	}
	s := newSource(u, sourcesv1.PingSourceType)
	s.Sink, s.Overrides = o.Spec.Sink, o.Spec.CEOverrides
	data := []byte(o.Spec.Data)
	if o.Spec.DataBase64 != "" {
		var err error
		if data, err = base64.StdEncoding.DecodeString(o.Spec.DataBase64); err != nil {
			return nil, fmt.Errorf("spec.dataBase64: %w", err)
		}
	}
	if len(data) == 0 {
		data = nil
	}
	s.tick(o.Spec.Schedule, o.Spec.Timezone, o.Spec.ContentType, data, options)
	return &s.Source, nil
}

func readCronJob(u *unstructured.Unstructured, options *Options) (*sources.Source, error) {
	var o sourcesv1alpha1.CronJobSource
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &o); err != nil {
		return nil, err
	}
	s := newSource(u, sourcesv1alpha1.CronJobSourceType)
	s.Sink = o.Spec.Sink.Destination()
	s.tick(o.Spec.Schedule, "", "application/json", message(o.Spec.Data), options)
	s.Conditions.Check(sourcesv1alpha1.CronJobSourceValidSchedule, s.Problem)
	return &s.Source, nil
}

// message is the payload of a CronJobSource: its data where that is a JSON
// object, else an object with the data as its body.
func message(data string) []byte {
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(data), &object); err == nil && object != nil {
		return []byte(data)
	}
	wrapped, err := json.Marshal(struct {
		Body string `json:"body"`
	}{data})
	if err != nil {
		return []byte(`{"body":""}`) // no string fails
	}
	return wrapped
}

// source is a Source of this package in the making.
type source struct {
	sources.Source

	u *unstructured.Unstructured
}

func newSource(u *unstructured.Unstructured, kind string) *source {
	s := &source{u: u}
	s.Attributes = []duckv1.CloudEventAttributes{{
		Type: kind, Source: fmt.Sprintf("/apis/v1/namespaces/%s/%ss/%s", u.GetNamespace(), lower(u.GetKind()), u.GetName()),
	}}
	return s
}

func lower(kind string) string {
	if kind == "CronJobSource" {
		return "cronjobsource"
	}
	return "pingsource"
}

// tick gives the source its adapter, or the problem that keeps it from one.
func (s *source) tick(schedule, timezone, contentType string, data []byte, o *Options) {
	if schedule == "" {
		schedule = sourcesv1.DefaultSchedule
	}
	parsed, err := ParseSchedule(schedule, timezone)
	if err != nil {
		// It was refused at admission; but the zones that there are may change.
		s.Problem = status.Problemf("InvalidSchedule", "spec.%v", err)
		return
	}
	written := schedule
	if timezone != "" {
		written = "CRON_TZ=" + timezone + " " + schedule
	}
	since := scheduleSince(s.u, written, o.Now())
	s.Notes = map[string]string{noteSchedule: written, noteSince: since.UTC().Format(time.RFC3339)}
	uid, attributes := string(s.u.GetUID()), s.Attributes[0]
	s.Adapter = &adapter{
		Options: o, schedule: parsed, since: since,
		event: func(tick time.Time) *event.Event {
			at := tick.UTC().Format(time.RFC3339)
			return &event.Event{
				ID: uid + "/" + at, Type: attributes.Type, Source: attributes.Source,
				Time: at, DataContentType: contentType, Data: data,
			}
		},
	}
}

// scheduleSince is since when an object has its schedule: as the status notes
// it, else since the spec was last written.
func scheduleSince(u *unstructured.Unstructured, schedule string, now time.Time) time.Time {
	notes, _, _ := unstructured.NestedStringMap(u.Object, "status", "annotations") // of another form, it says nothing
	if notes[noteSchedule] == schedule {
		if since, err := time.Parse(time.RFC3339, notes[noteSince]); err == nil {
			return since
		}
	}
	var written time.Time
	for _, f := range u.GetManagedFields() {
		if f.Subresource == "" && f.Time != nil && f.Time.After(written) {
			written = f.Time.Time
		}
	}
	switch {
	case !written.IsZero():
	case notes[noteSchedule] == "":
		written = u.GetCreationTimestamp().Time
	default:
		written = now
	}
	if written.After(now) {
		return now.Truncate(time.Second)
	}
	return written.Truncate(time.Second)
}
