package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/leat-dev/leat/api/admission"
)

// fakeAPI is an API server in memory: it counts revisions, keeps spec and
// status apart, admits, and refuses stale writes.
type fakeAPI struct {
	admission *admission.Admission

	mu       sync.Mutex
	revision uint64
	created  int64
	objects  map[object]*unstructured.Unstructured
	history  []watch.Event
	changed  chan struct{} // closed at the next change
	statuses []string      // of which objects the status was written
	fail     func(status *unstructured.Unstructured) error
	got      func(name string) // called after an object was looked up
	held     string            // the resource of which watches tell nothing for now
}

func newFakeAPI() *fakeAPI {
	return &fakeAPI{admission: admission.New(admission.Options{}), objects: map[object]*unstructured.Unstructured{}, changed: make(chan struct{})}
}

func (a *fakeAPI) record(kind watch.EventType, u *unstructured.Unstructured) {
	a.revision++
	u.SetResourceVersion(strconv.FormatUint(a.revision, 10))
	a.history = append(a.history, watch.Event{Type: kind, Object: u.DeepCopy()})
	close(a.changed)
	a.changed = make(chan struct{})
}

func nameOf(u *unstructured.Unstructured) object {
	gvk := u.GroupVersionKind()
	return object{gvk.Group, gvk.Kind, u.GetNamespace(), u.GetName()}
}

// apply creates or updates objects from YAML documents.
func (a *fakeAPI) apply(t testing.TB, text string) {
	t.Helper()
	for doc := range strings.SplitSeq(text, "\n---\n") {
		data, err := yaml.YAMLToJSON([]byte(doc))
		if err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		u := &unstructured.Unstructured{}
		if err := json.Unmarshal(data, &u.Object); err != nil {
			t.Fatal(err)
		}
		if u.GetNamespace() == "" {
			u.SetNamespace("default")
		}
		if err := a.put(u); err != nil {
			t.Fatal(err)
		}
	}
}

func (a *fakeAPI) put(u *unstructured.Unstructured) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.objects[nameOf(u)]
	a.admission.Default(u, old)
	if errs := a.admission.Validate(u, old); len(errs) > 0 {
		return errs.ToAggregate()
	}
	kind := watch.Added
	if old == nil {
		a.created++
		u.SetUID(types.UID(fmt.Sprintf("%s-%d", strings.ToLower(u.GetName()), a.created)))
		u.SetCreationTimestamp(metav1.Unix(1_700_000_000+a.created, 0))
		u.SetGeneration(1)
	} else {
		kind = watch.Modified
		u.SetUID(old.GetUID())
		u.SetCreationTimestamp(old.GetCreationTimestamp())
		u.SetGeneration(old.GetGeneration() + 1)
		if status, ok := old.Object["status"]; ok && u.Object["status"] == nil {
			u.Object["status"] = status
		}
	}
	a.record(kind, u)
	a.objects[nameOf(u)] = u
	return nil
}

func (a *fakeAPI) remove(o object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if u := a.objects[o]; u != nil {
		delete(a.objects, o)
		a.record(watch.Deleted, u)
	}
}

// hold has watches of a resource tell nothing until another is held; "" is none.
func (a *fakeAPI) hold(resource string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held = resource
	close(a.changed)
	a.changed = make(chan struct{})
}

// written gives and forgets of which objects the status was written.
func (a *fakeAPI) written() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.statuses
	a.statuses = nil
	return w
}

// Resource implements dynamic.Interface.
func (a *fakeAPI) Resource(r schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	return &fakeResource{api: a, resource: r}
}

// IsWatchListSemanticsUnSupported has informers list and then watch.
func (a *fakeAPI) IsWatchListSemanticsUnSupported() bool { return true }

type fakeResource struct {
	dynamic.ResourceInterface // what is not needed here

	api       *fakeAPI
	resource  schema.GroupVersionResource
	namespace string
}

func (r *fakeResource) Namespace(n string) dynamic.ResourceInterface {
	return &fakeResource{api: r.api, resource: r.resource, namespace: n}
}

func (r *fakeResource) mine(o object) bool {
	return o.group == r.resource.Group && strings.ToLower(o.kind)+"s" == r.resource.Resource
}

func (r *fakeResource) List(context.Context, metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	r.api.mu.Lock()
	defer r.api.mu.Unlock()
	list := &unstructured.UnstructuredList{}
	list.SetResourceVersion(strconv.FormatUint(r.api.revision, 10))
	for _, o := range slices.SortedFunc(maps.Keys(r.api.objects), func(a, b object) int { return strings.Compare(a.String(), b.String()) }) {
		if r.mine(o) {
			list.Items = append(list.Items, *r.api.objects[o].DeepCopy())
		}
	}
	return list, nil
}

func (r *fakeResource) Get(_ context.Context, name string, _ metav1.GetOptions, _ ...string) (*unstructured.Unstructured, error) {
	if r.api.got != nil {
		defer r.api.got(name)
	}
	r.api.mu.Lock()
	defer r.api.mu.Unlock()
	for o, u := range r.api.objects {
		if r.mine(o) && o.namespace == r.namespace && o.name == name {
			return u.DeepCopy(), nil
		}
	}
	return nil, apierrors.NewNotFound(r.resource.GroupResource(), name)
}

func (r *fakeResource) Delete(_ context.Context, name string, o metav1.DeleteOptions, _ ...string) error {
	u, err := r.Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if p := o.Preconditions; p != nil && p.UID != nil && *p.UID != u.GetUID() {
		return apierrors.NewConflict(r.resource.GroupResource(), name, errors.New("it is another"))
	}
	r.api.remove(nameOf(u))
	return nil
}

func (r *fakeResource) UpdateStatus(_ context.Context, u *unstructured.Unstructured, _ metav1.UpdateOptions) (*unstructured.Unstructured, error) {
	a := r.api
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.objects[nameOf(u)]
	if old == nil {
		return nil, apierrors.NewNotFound(r.resource.GroupResource(), u.GetName())
	}
	if u.GetResourceVersion() != old.GetResourceVersion() {
		return nil, apierrors.NewConflict(r.resource.GroupResource(), u.GetName(), errors.New("it has changed"))
	}
	if a.fail != nil {
		if err := a.fail(u); err != nil {
			return nil, err
		}
	}
	now := old.DeepCopy()
	now.Object["status"] = u.Object["status"]
	a.statuses = append(a.statuses, nameOf(u).String())
	a.record(watch.Modified, now)
	a.objects[nameOf(u)] = now
	return now.DeepCopy(), nil
}

func (r *fakeResource) Watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	from, err := strconv.ParseUint(o.ResourceVersion, 10, 64)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &fakeWatch{events: make(chan watch.Event), cancel: cancel}
	go func() {
		defer close(w.events)
		for {
			r.api.mu.Lock()
			pending, changed := r.api.history[from:], r.api.changed
			if r.api.held == r.resource.Resource {
				pending = nil
			}
			r.api.mu.Unlock()
			for _, e := range pending {
				from++
				u := e.Object.(*unstructured.Unstructured)
				if !r.mine(nameOf(u)) {
					continue
				}
				select {
				case w.events <- watch.Event{Type: e.Type, Object: u.DeepCopy()}:
				case <-ctx.Done():
					return
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return w, nil
}

type fakeWatch struct {
	events chan watch.Event
	cancel context.CancelFunc
}

func (w *fakeWatch) ResultChan() <-chan watch.Event { return w.events }
func (w *fakeWatch) Stop()                          { w.cancel() }
