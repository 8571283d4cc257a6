package controller

import (
	"context"
	"sync"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	messagingv1 "github.com/leat-dev/leat/api/messaging/v1"
	"github.com/leat-dev/leat/broker/status"
	"github.com/leat-dev/leat/channel"
)

// Sink is where the events of a source go.
type Sink struct {
	URL string
	// Channel is the log behind URL, where it is that of a Broker or channel
	// here: what is appended to it needs no request. Nil for all else.
	Channel channel.Channel
}

// Sinks resolves the destinations of objects of a kind that another controller
// reconciles.
type Sinks struct {
	c    *Controller
	kind string
}

// Sinks gives another controller what it needs to resolve destinations of
// objects of a kind. From then on changed is called, from any goroutine, for an
// object when something that its destination refers to has changed. It must
// not block.
func (c *Controller) Sinks(kind string, changed func(namespace, name string)) *Sinks {
	c.others.set(kind, changed)
	return &Sinks{c: c, kind: kind}
}

// Resolve says where a destination of an object is. What it refers to is
// watched until the object is forgotten, or resolved with another destination.
func (s *Sinks) Resolve(ctx context.Context, namespace, name string, d *duckv1.Destination) (Sink, *status.Problem) {
	r := s.c.resolver(key{s.kind, namespace, name})
	address, problem := r.destination(ctx, d)
	r.done()
	if problem != nil {
		return Sink{}, problem
	}
	sink := Sink{URL: address}
	if d.Ref != nil && d.URI == "" {
		sink.Channel = r.log(d.Ref)
	}
	return sink, nil
}

// Forget ends the watch for an object that is gone.
func (s *Sinks) Forget(namespace, name string) {
	s.c.refs.set(key{s.kind, namespace, name}, nil)
}

// log is the log of what a reference names, nil where it names none of ours.
func (r *resolver) log(ref *duckv1.KReference) channel.Channel {
	o := r.name(ref)
	if !o.watched() {
		return nil
	}
	k := key{o.kind, o.namespace, o.name}
	if o.kind == kindSubscription {
		s := get[*messagingv1.Subscription](r.c.caches, k)
		if s == nil {
			return nil
		}
		k = channelKey(s)
	}
	return r.c.sets.log(k)
}

// others are the controllers that reconcile other kinds.
type others struct {
	mu     sync.RWMutex
	byKind map[string]func(namespace, name string)
}

func (o *others) set(kind string, changed func(namespace, name string)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.byKind == nil {
		o.byKind = map[string]func(namespace, name string){}
	}
	o.byKind[kind] = changed
}

// tell says whether a key is another controller's, which is then told.
func (o *others) tell(k key) bool {
	o.mu.RLock()
	changed := o.byKind[k.kind]
	o.mu.RUnlock()
	if changed != nil {
		changed(k.namespace, k.name)
	}
	return changed != nil
}
