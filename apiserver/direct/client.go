// Package direct is a client for the server's own controllers that goes without
// requests where that is the same: it lists in the ordinary way, but follows
// changes where the storage decodes them, once for all, and writes a status to
// the storage itself.
package direct

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	storeerrors "k8s.io/apiserver/pkg/storage/errors"
	"k8s.io/client-go/dynamic"

	"github.com/leat-dev/leat/apiserver/fields"
	"github.com/leat-dev/leat/apiserver/storage"
)

// Stores are the storages of the resources that are served at present, each in
// one version.
type Stores struct {
	mu sync.Mutex
	of map[schema.GroupVersionResource]*storage.Store
}

// NewStores are none.
func NewStores() *Stores { return &Stores{of: map[schema.GroupVersionResource]*storage.Store{}} }

// Add takes up a storage, until it is closed; a later one takes its place.
func (s *Stores) Add(r schema.GroupVersionResource, st *storage.Store) {
	s.mu.Lock()
	s.of[r] = st
	s.mu.Unlock()
	context.AfterFunc(st.Life(), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.of[r] == st {
			delete(s.of, r)
		}
	})
}

// Get is the storage of a resource; nil where it is not served at present.
func (s *Stores) Get(r schema.GroupVersionResource) *storage.Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of[r]
}

// Forget has all storages give up what they keep for watches; it gives the bytes.
func (s *Stores) Forget() (bytes int64) {
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.of))
	s.mu.Unlock()
	for _, st := range all {
		bytes += st.Forget()
	}
	return bytes
}

// Options are what a Client is made of.
type Options struct {
	// Base serves all that cannot be had directly. Manager is by which name the
	// API knows it.
	Base    dynamic.Interface
	Manager string
	Stores  *Stores
	// Definition gives the definition of a resource, nil where there is none.
	Definition func(schema.GroupResource) *apiextensionsv1.CustomResourceDefinition
	Now        func() time.Time
}

// Client is a dynamic.Interface. The objects of its watches are shared, and must
// not be changed.
type Client struct {
	o       Options
	schemas fields.Cache
}

var _ dynamic.Interface = &Client{}

// New makes a Client.
func New(o Options) *Client { return &Client{o: o} }

// Resource implements dynamic.Interface.
func (c *Client) Resource(r schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	base := c.o.Base.Resource(r)
	return &namespaceable{scoped{base, c, r, ""}, base}
}

type namespaceable struct {
	scoped
	base dynamic.NamespaceableResourceInterface
}

// Namespace implements dynamic.NamespaceableResourceInterface.
func (n *namespaceable) Namespace(ns string) dynamic.ResourceInterface {
	return &scoped{n.base.Namespace(ns), n.c, n.r, ns}
}

// scoped is a resource in a namespace, or in all.
type scoped struct {
	dynamic.ResourceInterface
	c         *Client
	r         schema.GroupVersionResource
	namespace string
}

// Watch implements dynamic.ResourceInterface.
func (s *scoped) Watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	st := s.c.o.Stores.Get(s.r)
	plain := s.namespace == "" && o.LabelSelector == "" && o.FieldSelector == "" && o.SendInitialEvents == nil && o.ResourceVersion != "" && o.ResourceVersion != "0"
	if st == nil || !plain {
		return s.ResourceInterface.Watch(ctx, o)
	}
	w, err := st.Follow(ctx, o.ResourceVersion)
	if err != nil {
		return nil, storeerrors.InterpretWatchError(err, s.r.GroupResource(), "")
	}
	return stopped{watch.Filter(w, func(e watch.Event) (watch.Event, bool) {
		e.Object = storage.Shared(e.Object)
		return e, true
	})}, nil
}

// stopped is a filtered watch that ends when it is stopped: the library's waits
// for ever until its reader has taken what it holds.
type stopped struct{ watch.Interface }

// Stop implements watch.Interface.
func (s stopped) Stop() {
	s.Interface.Stop()
	go func() {
		for range s.ResultChan() { // which is closed soon
		}
	}()
}

// UpdateStatus implements dynamic.ResourceInterface. The object returned has the
// new version, and is otherwise as it was given: its status is seen by others, and
// must not be changed any more.
func (s *scoped) UpdateStatus(ctx context.Context, u *unstructured.Unstructured, o metav1.UpdateOptions) (*unstructured.Unstructured, error) {
	st, statusSchema := s.c.o.Stores.Get(s.r), s.statusSchema()
	version, err := strconv.ParseUint(u.GetResourceVersion(), 10, 64)
	if st == nil || statusSchema == nil || err != nil || version == 0 || len(o.DryRun) > 0 || o.FieldManager != "" {
		return s.ResourceInterface.UpdateStatus(ctx, u, o)
	}
	w := &statusWrite{apiVersion: s.r.GroupVersion().String(), status: u.Object["status"], schema: statusSchema, manager: s.c.o.Manager, now: s.c.o.Now()}
	if w.status == nil || u.GetAPIVersion() != w.apiVersion {
		return s.ResourceInterface.UpdateStatus(ctx, u, o)
	}
	at, err := st.Rewrite(ctx, s.namespace, u.GetName(), version, w.into, w.object)
	switch {
	case errors.Is(err, errOrdinary):
		return s.ResourceInterface.UpdateStatus(ctx, u, o)
	case errors.Is(err, storage.ErrOtherVersion):
		return nil, apierrors.NewConflict(s.r.GroupResource(), u.GetName(), errors.New(genericregistry.OptimisticLockErrorMsg))
	case err != nil:
		return nil, storeerrors.InterpretUpdateError(err, s.r.GroupResource(), u.GetName())
	}
	out := *u
	out.Object = make(map[string]any, len(u.Object))
	for k, v := range u.Object {
		out.Object[k] = v
	}
	metadata := map[string]any{}
	if m, ok := u.Object["metadata"].(map[string]any); ok {
		for k, v := range m {
			metadata[k] = v
		}
	}
	metadata["resourceVersion"] = strconv.FormatUint(at, 10)
	out.Object["metadata"] = metadata
	return &out, nil
}

// statusSchema describes the status of the resource; nil where it is no
// subresource of its own.
func (s *scoped) statusSchema() *fields.Schema {
	crd := s.c.o.Definition(s.r.GroupResource())
	if crd == nil {
		return nil
	}
	for i := range crd.Spec.Versions {
		if v := &crd.Spec.Versions[i]; v.Name == s.r.Version && v.Subresources != nil && v.Subresources.Status != nil {
			return s.c.schemas.Of(crd, s.r.Version).Property("status")
		}
	}
	return nil
}
