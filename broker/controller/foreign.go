package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	"github.com/leat-dev/leat/broker/status"
)

// Connect makes what Options need to talk to an API. The client is not slowed
// down: the API bounds what it takes.
func Connect(config *rest.Config) (dynamic.Interface, meta.ResettableRESTMapper, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, nil, err
	}
	found, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, nil, err
	}
	return client, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(found)), nil
}

// foreign looks up objects of kinds that are not watched. Each is looked up
// when it is first asked for, and then from time to time for as long as
// something refers to it.
type foreign struct {
	c     *Controller
	mu    sync.Mutex
	known map[object]*lookup
	// reset is when the mapper last forgot which kinds there are.
	reset time.Time
}

// lookup is what is known of an object.
type lookup struct {
	version string // of its API; "" for the preferred one
	status  foreignStatus
	problem *status.Problem
}

// foreignStatus is the part of any object's status that is of use here.
type foreignStatus struct {
	duckv1.Status        `json:",inline"`
	duckv1.AddressStatus `json:",inline"`
}

func newForeign(c *Controller) *foreign { return &foreign{c: c, known: map[object]*lookup{}} }

// address is the URL of an object.
func (f *foreign) address(ctx context.Context, o object, ref *duckv1.KReference) (string, *status.Problem) {
	l := f.look(ctx, o, ref.APIVersion)
	if l.problem != nil {
		return "", l.problem
	}
	address, err := pickAddress(&l.status.AddressStatus, ref.Address)
	if err != nil {
		return "", status.Problemf("NoAddress", "%s: %v", o, err)
	}
	return address, nil
}

// ready says what an object lacks to be ready.
func (f *foreign) ready(ctx context.Context, o object, apiVersion string) *status.Problem {
	l := f.look(ctx, o, apiVersion)
	if l.problem != nil {
		return l.problem
	}
	switch c := l.status.GetCondition(duckv1.Ready); {
	case c == nil:
		return status.Problemf("NotReady", "%s has no condition Ready yet", o)
	case c.Status != metav1.ConditionTrue:
		return status.Problemf("NotReady", "%s is not ready: %s %s", o, c.Reason, c.Message)
	}
	return nil
}

func (f *foreign) look(ctx context.Context, o object, apiVersion string) *lookup {
	f.mu.Lock()
	l, ok := f.known[o]
	f.mu.Unlock()
	if ok {
		return l
	}
	l = &lookup{}
	if gv, err := schema.ParseGroupVersion(apiVersion); err == nil {
		l.version = gv.Version
	}
	l.status, l.problem = f.get(ctx, o, l.version)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known[o] = l
	return l
}

// get asks the API for an object.
func (f *foreign) get(ctx context.Context, o object, version string) (found foreignStatus, p *status.Problem) {
	mapping, err := f.mapping(schema.GroupKind{Group: o.group, Kind: o.kind}, version)
	if err != nil {
		return found, status.Problemf("KindNotServed", "%s: the kind is not served (%v): correct the reference, or install the kind", o, err)
	}
	resource := f.c.o.Client.Resource(mapping.Resource)
	scoped := dynamic.ResourceInterface(resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		scoped = resource.Namespace(o.namespace)
	}
	ctx, cancel := context.WithTimeout(ctx, f.c.o.ForeignTimeout)
	defer cancel()
	u, err := scoped.Get(ctx, o.name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return found, notFound(o)
	case err != nil:
		return found, status.Problemf("LookupFailed", "%s cannot be looked up: %v", o, err)
	}
	raw, _ := u.Object["status"].(map[string]any)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &found); err != nil {
		return found, status.Problemf("NoAddress", "%s: its status is of another form: %v", o, err)
	}
	return found, nil
}

// mapping finds the resource of a kind; kinds may have come since the last time.
func (f *foreign) mapping(gk schema.GroupKind, version string) (*meta.RESTMapping, error) {
	if f.c.o.Mapper == nil {
		return nil, errors.New("only built-in kinds are known")
	}
	var versions []string
	if version != "" {
		versions = []string{version}
	}
	m, err := f.c.o.Mapper.RESTMapping(gk, versions...)
	if err == nil || !meta.IsNoMatchError(err) {
		return m, err
	}
	f.mu.Lock()
	again := time.Since(f.reset) > f.c.o.ForeignInterval/2
	if again {
		f.reset = time.Now()
	}
	f.mu.Unlock()
	if !again {
		return nil, err
	}
	f.c.o.Mapper.Reset()
	return f.c.o.Mapper.RESTMapping(gk, versions...)
}

// run looks again, and has those that refer to what has changed reconciled.
func (f *foreign) run(ctx context.Context) {
	t := time.NewTicker(f.c.o.ForeignInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			f.refresh(ctx)
		}
	}
}

func (f *foreign) refresh(ctx context.Context) {
	f.mu.Lock()
	all := make(map[object]*lookup, len(f.known))
	for o, l := range f.known {
		if f.c.refs.has(o) {
			all[o] = l
		} else {
			delete(f.known, o)
		}
	}
	f.mu.Unlock()
	for o, was := range all {
		if ctx.Err() != nil {
			return
		}
		is := &lookup{version: was.version}
		is.status, is.problem = f.get(ctx, o, is.version)
		if is.summary() == was.summary() {
			continue
		}
		f.mu.Lock()
		f.known[o] = is
		f.mu.Unlock()
		f.c.enqueueDependents(o)
	}
}

// summary is all that anyone here sees of a lookup.
func (l *lookup) summary() string {
	if l.problem != nil {
		return l.problem.Reason + " " + l.problem.Message
	}
	s := fmt.Sprint(l.status.GetCondition(duckv1.Ready))
	if l.status.Address != nil {
		s += " " + l.status.Address.URL
	}
	for _, a := range l.status.Addresses {
		if a.Name != nil {
			s += " " + *a.Name
		}
		s += " " + a.URL
	}
	return s
}
