package admission

import (
	"fmt"
	"net/url"

	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
)

// validateDestination checks a destination that has to be there; nil and empty
// are refused alike.
func validateDestination(d *duckv1.Destination, p *field.Path) field.ErrorList {
	if d == nil || d.Ref == nil && d.URI == "" {
		return field.ErrorList{field.Required(p, "needs a ref to an object with an address, or an absolute uri")}
	}
	var errs field.ErrorList
	if d.Ref != nil {
		errs = append(errs, validateReference(d.Ref, p.Child("ref"))...)
	}
	return append(errs, validateURI(d, p.Child("uri"))...)
}

// validateURI checks the URI of a destination, if it has one.
func validateURI(d *duckv1.Destination, at *field.Path) field.ErrorList {
	if d.URI == "" {
		return nil
	}
	u, err := url.Parse(d.URI)
	if err != nil {
		return field.ErrorList{field.Invalid(at, d.URI, fmt.Sprintf("is not a URI: %v", unwrapURL(err)))}
	}
	switch {
	case d.Ref != nil && (u.IsAbs() || u.Host != ""):
		return field.ErrorList{field.Invalid(at, d.URI, `must be relative beside a ref, such as "/path"; or remove the ref`)}
	case d.Ref != nil:
	case !u.IsAbs() || u.Hostname() == "":
		return field.ErrorList{field.Invalid(at, d.URI, "must be absolute without a ref, such as http://127.0.0.1:8081/")}
	case u.Scheme != "http" && u.Scheme != "https":
		return field.ErrorList{field.Invalid(at, d.URI, fmt.Sprintf("the scheme must be http or https, not %q", u.Scheme))}
	}
	return nil
}

// unwrapURL leaves out the URL, which the error of a field shows anyway.
func unwrapURL(err error) error {
	if e, ok := err.(*url.Error); ok { //nolint:errorlint // url.Parse returns no other
		return e.Err
	}
	return err
}

func validateReference(r *duckv1.KReference, p *field.Path) field.ErrorList {
	var errs field.ErrorList
	if r.Kind == "" {
		errs = append(errs, field.Required(p.Child("kind"), `such as "Service"`))
	}
	errs = append(errs, validateName(r.Name, p.Child("name"))...)
	if r.Namespace != "" {
		for _, why := range validation.ValidateNamespaceName(r.Namespace, false) {
			errs = append(errs, field.Invalid(p.Child("namespace"), r.Namespace, why))
		}
	}
	switch {
	case r.APIVersion == "" && r.Group == "":
		errs = append(errs, field.Required(p.Child("apiVersion"), `such as "v1" for a core Service`))
	case r.APIVersion != "" && r.Group != "":
		errs = append(errs, field.Forbidden(p.Child("group"), "apiVersion is given as well: remove one of the two"))
	case r.APIVersion != "":
		if gv, err := schema.ParseGroupVersion(r.APIVersion); err != nil || gv.Version == "" {
			errs = append(errs, field.Invalid(p.Child("apiVersion"), r.APIVersion, `must be VERSION or GROUP/VERSION, such as "v1" or "eventing.knative.dev/v1"`))
		}
	default:
		for _, why := range utilvalidation.IsDNS1123Subdomain(r.Group) {
			errs = append(errs, field.Invalid(p.Child("group"), r.Group, why))
		}
	}
	return errs
}

// validateName checks the name of an object that is referred to: it becomes a
// segment of a path.
func validateName(name string, p *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(p, "the object's name")}
	}
	for _, why := range path.IsValidPathSegmentName(name) {
		return field.ErrorList{field.Invalid(p, name, why)}
	}
	for _, why := range validation.NameIsDNSSubdomain(name, false) {
		return field.ErrorList{field.Invalid(p, name, why)}
	}
	return nil
}

func validateDelivery(d *duckv1.DeliverySpec, p *field.Path) field.ErrorList {
	if d == nil {
		return nil
	}
	var errs field.ErrorList
	if d.DeadLetterSink != nil {
		errs = append(errs, validateDestination(d.DeadLetterSink, p.Child("deadLetterSink"))...)
	}
	if d.Retry != nil && *d.Retry < 0 {
		errs = append(errs, field.Invalid(p.Child("retry"), *d.Retry, "must be 0 or more"))
	}
	if d.BackoffPolicy != nil && *d.BackoffPolicy != duckv1.BackoffLinear && *d.BackoffPolicy != duckv1.BackoffExponential {
		errs = append(errs, field.NotSupported(p.Child("backoffPolicy"), *d.BackoffPolicy,
			[]duckv1.BackoffPolicy{duckv1.BackoffExponential, duckv1.BackoffLinear}))
	}
	if d.Format != nil && *d.Format != duckv1.FormatBinary {
		errs = append(errs, field.NotSupported(p.Child("format"), *d.Format, []string{duckv1.FormatBinary}))
	}
	for _, duration := range []struct {
		name   string
		value  *string
		orZero bool
	}{
		{"timeout", d.Timeout, false},
		{"backoffDelay", d.BackoffDelay, true},
		{"backoffMax", d.BackoffMax, false},
		{"retryAfterMax", d.RetryAfterMax, true},
	} {
		if duration.value == nil {
			continue
		}
		at := p.Child(duration.name)
		switch length, err := duckv1.ParseDuration(*duration.value); {
		case err != nil:
			errs = append(errs, field.Invalid(at, *duration.value, err.Error()))
		case length < 0:
			errs = append(errs, field.Invalid(at, *duration.value, "must not be negative"))
		case length == 0 && !duration.orZero:
			errs = append(errs, field.Invalid(at, *duration.value, "must be longer than zero, such as PT30S"))
		}
	}
	return errs
}
