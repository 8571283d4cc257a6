package controller

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/leat-dev/leat/api/annotations"
	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	messagingv1 "github.com/leat-dev/leat/api/messaging/v1"
	"github.com/leat-dev/leat/broker/status"
)

// resolver resolves the destinations of one object, and notes what it refers to.
type resolver struct {
	c    *Controller
	of   key
	refs map[object]bool
}

func (c *Controller) resolver(of key) *resolver {
	return &resolver{c: c, of: of, refs: map[object]bool{}}
}

// refer notes a reference. That has to be done before what it names is looked
// at: what changes after the look has the object reconciled again.
func (r *resolver) refer(o object) {
	r.refs[o] = true
	r.c.refs.add(r.of, o)
}

// done ends the watch for what the object refers to no more.
func (r *resolver) done() { r.c.refs.set(r.of, r.refs) }

// destination is the URL of a destination. One that deliveries are refused to
// is given together with the problem: the events that come for it are denied
// one by one, and kept.
func (r *resolver) destination(ctx context.Context, d *duckv1.Destination) (string, *status.Problem) {
	address, p := r.resolve(ctx, d)
	if p == nil {
		if why := r.c.o.Denies(address); why != "" {
			p = status.Problemf("DestinationDenied", "%s; name another destination", why)
		}
	}
	return address, p
}

func (r *resolver) resolve(ctx context.Context, d *duckv1.Destination) (string, *status.Problem) {
	if d.Ref == nil {
		u, err := url.Parse(d.URI)
		if err != nil || !u.IsAbs() || u.Host == "" {
			return "", status.Problemf("InvalidURI", "%q is no absolute URL: set uri to one, or set ref", d.URI)
		}
		return d.URI, nil
	}
	base, p := r.address(ctx, d.Ref)
	if p != nil || d.URI == "" {
		return base, p
	}
	b, err := url.Parse(base)
	if err != nil {
		return "", status.Problemf("InvalidAddress", "%s has the address %q, which is no URL", r.name(d.Ref), base)
	}
	relative, err := url.Parse(d.URI)
	if err != nil {
		return "", status.Problemf("InvalidURI", "%q is no relative URI: correct uri", d.URI)
	}
	return b.ResolveReference(relative).String(), nil
}

// name is what a reference names.
func (r *resolver) name(ref *duckv1.KReference) object {
	o := object{group: ref.Group, kind: ref.Kind, namespace: ref.Namespace, name: ref.Name}
	if ref.APIVersion != "" {
		if gv, err := schema.ParseGroupVersion(ref.APIVersion); err == nil {
			o.group = gv.Group
		}
	}
	if o.namespace == "" {
		o.namespace = r.of.namespace
	}
	return o
}

// address is the URL of an object.
func (r *resolver) address(ctx context.Context, ref *duckv1.KReference) (string, *status.Problem) {
	o := r.name(ref)
	r.refer(o)
	if !o.watched() {
		return r.c.foreign.address(ctx, o, ref)
	}
	k := key{o.kind, o.namespace, o.name}
	switch o.kind {
	case kindService:
		s := get[*corev1.Service](r.c.caches, k)
		if s == nil {
			return "", notFound(o)
		}
		return serviceAddress(s)
	case kindBroker, kindChannel, kindInMemoryChannel:
		if _, ok := r.c.owner(k); !ok {
			return "", notFound(o)
		}
		if r.c.sets.log(k) == nil {
			return "", status.Problemf("NotReady", "%s is not ready yet", o)
		}
		return r.c.address(k), nil
	case kindSubscription:
		s := get[*messagingv1.Subscription](r.c.caches, k)
		if s == nil {
			return "", notFound(o)
		}
		return r.address(ctx, &duckv1.KReference{
			APIVersion: messagingv1.GroupVersion().String(), Kind: s.Spec.Channel.Kind, Namespace: s.Namespace, Name: s.Spec.Channel.Name,
		})
	}
	return "", status.Problemf("NoAddress", "a %s has no address that takes events: refer to another object, or use uri", o.kind)
}

// reasonNotFound is the reason of a reference to what is not there.
const reasonNotFound = "NotFound"

func notFound(o object) *status.Problem { return status.Problemf(reasonNotFound, "%s not found", o) }

// serviceAddress is the URL of a core Service: that of its annotation, else
// that of the external name and the first port.
func serviceAddress(s *corev1.Service) (string, *status.Problem) {
	name := "Service " + s.Namespace + "/" + s.Name
	if _, ok := s.Annotations[annotations.URL]; ok {
		address, errs := annotations.ParseService(map[string]string{annotations.URL: s.Annotations[annotations.URL]})
		if len(errs) > 0 {
			return "", status.Problemf("InvalidAddress", "%s: %v", name, errs.ToAggregate())
		}
		return address, nil
	}
	if s.Spec.Type != corev1.ServiceTypeExternalName || s.Spec.ExternalName == "" {
		return "", status.Problemf("NoAddress", "%s has no address: set its annotation %s, or make it of type ExternalName", name, annotations.URL)
	}
	host, scheme := s.Spec.ExternalName, "http"
	if len(s.Spec.Ports) > 0 {
		port := s.Spec.Ports[0]
		secure := port.Name == "https" || port.Port == 443 || port.AppProtocol != nil && *port.AppProtocol == "https"
		switch {
		case secure && port.Port == 443:
			scheme = "https"
		case secure:
			scheme = "https"
			host = net.JoinHostPort(host, strconv.Itoa(int(port.Port)))
		case port.Port != 80:
			host = net.JoinHostPort(host, strconv.Itoa(int(port.Port)))
		}
	}
	return (&url.URL{Scheme: scheme, Host: host, Path: "/"}).String(), nil
}

// deadLetterSink resolves the sink of a delivery, where it has one.
func (r *resolver) deadLetterSink(ctx context.Context, d *duckv1.DeliverySpec) (address string, p *status.Problem) {
	if d == nil || d.DeadLetterSink == nil {
		return "", nil
	}
	address, p = r.destination(ctx, d.DeadLetterSink)
	return address, p.Of("dead letter sink")
}

// deadLetterSink says how the dead letter sink resolved.
func deadLetterSink(conds *status.Conditions, kind string, d *duckv1.DeliverySpec, p *status.Problem) {
	if d == nil || d.DeadLetterSink == nil {
		conds.Add(kind, "True", "DeadLetterSinkNotConfigured", "No dead letter sink is configured: dead letters are kept in the log.")
		return
	}
	conds.Check(kind, p)
}

// addresses picks one of several addresses of an object by name.
func pickAddress(s *duckv1.AddressStatus, name *string) (string, error) {
	if name == nil || *name == "" {
		if s.Address != nil && s.Address.URL != "" {
			return s.Address.URL, nil
		}
		if len(s.Addresses) > 0 && s.Addresses[0].URL != "" {
			return s.Addresses[0].URL, nil
		}
		return "", fmt.Errorf("it has no status.address.url yet")
	}
	i := slices.IndexFunc(s.Addresses, func(a duckv1.Addressable) bool { return a.Name != nil && *a.Name == *name })
	if i < 0 {
		return "", fmt.Errorf("it has no address named %q in status.addresses", *name)
	}
	return s.Addresses[i].URL, nil
}
