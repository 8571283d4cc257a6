// Package core serves Kubernetes' own kinds that Leat needs, beside the kinds
// of its CustomResourceDefinitions: namespaces, secrets, config maps, service
// accounts, services, events, leases and nodes. Their Go types in k8s.io/api
// are also the form in which the server works on them, so nothing is converted
// but the events of events.k8s.io, which are stored as those of core/v1.
package core

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// kind says all that sets a kind apart from the others.
type kind struct {
	gv               schema.GroupVersion
	name             string
	plural, singular string
	short            []string
	categories       []string
	namespaced       bool
	new, newList     func() runtime.Object

	// hasStatus: status is a subresource, and writes of the object leave it alone.
	hasStatus bool
	// noGeneration: the object is written often, by programs; nobody waits for
	// a generation of it.
	noGeneration bool
	// createOnUpdate: PUT creates what is not there.
	createOnUpdate bool
	// ttl deletes objects some time after their last write, in seconds; 0: never.
	ttl uint64

	checkName validation.ValidateNameFunc
	// defaults completes an object that a client or the storage gave.
	defaults func(obj runtime.Object)
	// onCreate sets what the server decides, when status is cleared already.
	onCreate func(obj runtime.Object)
	// keep takes over from the old object what a write of it leaves alone, beside
	// the status.
	keep func(obj, old runtime.Object)
	// validate says what is wrong with all but the metadata; old is nil on creation.
	validate func(obj, old runtime.Object) field.ErrorList
	// fields are those that selectors may name beside metadata's.
	fields func(obj runtime.Object) fields.Set

	columns []metav1.TableColumnDefinition
	row     func(obj runtime.Object) []any
}

func (k *kind) resource() schema.GroupResource { return k.gv.WithResource(k.plural).GroupResource() }

// kinds are all that is served; eventTTL is in seconds.
func kinds(eventTTL uint64) []*kind {
	events := eventKind(eventTTL)
	return []*kind{
		namespaceKind(), secretKind(), configMapKind(), serviceAccountKind(), serviceKind(), nodeKind(), leaseKind(), events,
	}
}

// groups are the served group versions.
func groups() []schema.GroupVersion {
	return []schema.GroupVersion{
		corev1.SchemeGroupVersion, coordinationv1.SchemeGroupVersion, eventsv1.SchemeGroupVersion,
		authenticationv1.SchemeGroupVersion, authorizationv1.SchemeGroupVersion,
	}
}

// object is what all types served here are, as pointers to T.
type object[T any] interface {
	*T
	runtime.Object
	metav1.Object
}

// maker makes empty objects of a type.
func maker[T any, P interface {
	*T
	runtime.Object
}]() func() runtime.Object {
	return func() runtime.Object { return P(new(T)) }
}

// with makes a function of objects from one of a type. Nothing but that type
// reaches it, as the codec and the storage of a kind hold no other.
func with[T any, P object[T], R any](f func(P) R) func(runtime.Object) R {
	return func(obj runtime.Object) R { return f(obj.(P)) }
}

// do is with, for functions without a result.
func do[T any, P object[T]](f func(P)) func(runtime.Object) {
	return func(obj runtime.Object) { f(obj.(P)) }
}

// check is with, for an object and what it was before, or nil.
func check[T any, P object[T]](f func(obj, old P) field.ErrorList) func(obj, old runtime.Object) field.ErrorList {
	return func(obj, old runtime.Object) field.ErrorList {
		var before P
		if old != nil {
			before = old.(P)
		}
		return f(obj.(P), before)
	}
}
