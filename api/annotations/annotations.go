// Package annotations reads the settings that objects carry in annotations
// under leat.dev/.
package annotations

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
)

// Prefix begins the name of every annotation of ours.
const Prefix = "leat.dev/"

// The annotations.
const (
	MaxInFlight    = Prefix + "max-in-flight"
	MaxWaiting     = Prefix + "max-waiting"
	DeliveryOrder  = Prefix + "delivery-order"
	StartFrom      = Prefix + "start-from"
	Retention      = Prefix + "retention"
	RetentionBytes = Prefix + "retention-bytes"
	Partitions     = Prefix + "partitions"
	// URL of a core Service is its address.
	URL = Prefix + "url"
	// KafkaDeliveryOrder means the same as DeliveryOrder.
	KafkaDeliveryOrder = "kafka.eventing.knative.dev/delivery.order"
)

// The values of DeliveryOrder.
const (
	Ordered   = "ordered"
	Unordered = "unordered"
)

// Limits bound what annotations may ask for; zero values take the defaults.
type Limits struct {
	MaxInFlight int // 10,000
	MaxWaiting  int // 100,000
	Partitions  int // 64
}

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		v *int
		d int
	}{{&l.MaxInFlight, 10_000}, {&l.MaxWaiting, 100_000}, {&l.Partitions, 64}} {
		if *d.v <= 0 {
			*d.v = d.d
		}
	}
	return l
}

// Start is where a new subscription begins.
type Start struct {
	// At is "end", "beginning", "offset", "time" or "ago".
	At     string
	Offset uint64
	Time   time.Time
	Ago    time.Duration // before the object's creation
}

// Delivery are the settings of a Trigger or Subscription; 0 means the default.
type Delivery struct {
	MaxInFlight, MaxWaiting int
	Ordered                 bool
	Start                   Start
}

// Log are the settings of a Broker or channel; 0 means the default.
type Log struct {
	Partitions     int
	Retention      time.Duration
	RetentionBytes int64
}

func path(name string) *field.Path { return field.NewPath("metadata", "annotations").Key(name) }

// ParseDelivery reads the annotations of a Trigger or Subscription. What is
// refused has its default in the result.
func ParseDelivery(all map[string]string, limits Limits) (Delivery, field.ErrorList) {
	limits = limits.withDefaults()
	d := Delivery{Start: Start{At: "end"}}
	errs := unknown(all, "a Trigger or Subscription", MaxInFlight, MaxWaiting, DeliveryOrder, StartFrom)
	number := func(name string, limit int) int {
		n, err := parseCount(all, name, limit)
		errs = append(errs, err...)
		return n
	}
	d.MaxInFlight = number(MaxInFlight, limits.MaxInFlight)
	d.MaxWaiting = number(MaxWaiting, limits.MaxWaiting)
	for _, name := range []string{DeliveryOrder, KafkaDeliveryOrder} {
		switch v, ok := all[name]; {
		case !ok:
		case v == Ordered:
			d.Ordered = true
		case v != Unordered:
			errs = append(errs, field.NotSupported(path(name), v, []string{Ordered, Unordered}))
		}
	}
	if a, k := all[DeliveryOrder], all[KafkaDeliveryOrder]; a != "" && k != "" && a != k {
		errs = append(errs, field.Invalid(path(DeliveryOrder), a, fmt.Sprintf("%s says %q: remove one of the two", KafkaDeliveryOrder, k)))
	}
	if v, ok := all[StartFrom]; ok {
		start, err := ParseStart(v)
		if err != nil {
			errs = append(errs, field.Invalid(path(StartFrom), v, err.Error()))
		} else {
			d.Start = start
		}
	}
	return d, errs
}

// ParseLog reads the annotations of a Broker or channel. What is refused has
// its default in the result.
func ParseLog(all map[string]string, limits Limits) (Log, field.ErrorList) {
	limits = limits.withDefaults()
	var l Log
	errs := unknown(all, "a Broker or channel", Retention, RetentionBytes, Partitions)
	n, err := parseCount(all, Partitions, limits.Partitions)
	l.Partitions = n
	errs = append(errs, err...)
	if v, ok := all[Retention]; ok {
		d, err := duckv1.ParseDuration(v)
		switch {
		case err != nil:
			errs = append(errs, field.Invalid(path(Retention), v, err.Error()))
		case d <= 0:
			errs = append(errs, field.Invalid(path(Retention), v, "must be longer than zero, such as P7D"))
		default:
			l.Retention = d
		}
	}
	if v, ok := all[RetentionBytes]; ok {
		q, err := resource.ParseQuantity(v)
		bytes, exact := q.AsInt64()
		if err != nil || !exact || bytes <= 0 {
			errs = append(errs, field.Invalid(path(RetentionBytes), v, "must be a whole number of bytes above zero, such as 1073741824 or 1Gi"))
		} else {
			l.RetentionBytes = bytes
		}
	}
	return l, errs
}

// ParseService reads the annotations of a core Service: its address, "" where
// it has none.
func ParseService(all map[string]string) (string, field.ErrorList) {
	errs := unknown(all, "a Service", URL)
	v, ok := all[URL]
	if !ok {
		return "", errs
	}
	u, err := url.Parse(v)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return "", append(errs, field.Invalid(path(URL), v, "must be an absolute http or https URL, such as http://127.0.0.1:8081/"))
	}
	return v, errs
}

// ParseSource reads the annotations of a source, which has none.
func ParseSource(all map[string]string) field.ErrorList { return unknown(all, "a source") }

// ParseStart reads a value of StartFrom.
func ParseStart(v string) (Start, error) {
	if v == "end" || v == "beginning" {
		return Start{At: v}, nil
	}
	if n, err := strconv.ParseUint(v, 10, 64); err == nil {
		return Start{At: "offset", Offset: n}, nil
	}
	if strings.HasPrefix(v, "-P") {
		d, err := duckv1.ParseDuration(v)
		if err != nil {
			return Start{}, err
		}
		return Start{At: "ago", Ago: -d}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, v); err == nil {
		return Start{At: "time", Time: t}, nil
	}
	return Start{}, fmt.Errorf(`must be "end", "beginning", an offset, an RFC 3339 time such as 2026-01-31T12:00:00Z, or a duration back such as -PT1H`)
}

func parseCount(all map[string]string, name string, limit int) (int, field.ErrorList) {
	v, ok := all[name]
	if !ok {
		return 0, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > limit {
		return 0, field.ErrorList{field.Invalid(path(name), v, fmt.Sprintf("must be a whole number from 1 to %d", limit))}
	}
	return n, nil
}

// unknown refuses annotations under our prefix that mean nothing here.
func unknown(all map[string]string, kind string, known ...string) field.ErrorList {
	takes := strings.Join(known, ", ")
	if takes == "" {
		takes = "none under " + Prefix
	}
	var errs field.ErrorList
	for name := range all {
		if strings.HasPrefix(name, Prefix) && !slices.Contains(known, name) {
			errs = append(errs, field.Forbidden(path(name), fmt.Sprintf("not known on %s, which takes %s", kind, takes)))
		}
	}
	slices.SortFunc(errs, func(a, b *field.Error) int { return strings.Compare(a.Field, b.Field) })
	return errs
}
