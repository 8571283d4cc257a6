package controller

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"

	eventingv1 "github.com/leat-dev/leat/api/eventing/v1"
	"github.com/leat-dev/leat/api/eventing/v1beta3"
	messagingv1 "github.com/leat-dev/leat/api/messaging/v1"
)

// caches hold the objects of each kind that is watched, as their Go types.
// Objects in them are shared and must not be modified.
type caches struct {
	informers map[string]cache.SharedIndexInformer
	lists     map[string]*list
	handlers  []cache.ResourceEventHandlerRegistration
}

// list lists and watches the objects of a kind, and notes the version of the
// first list: it covers what was deleted before, of which nothing else tells.
type list struct {
	cache.ListWatch
	first atomic.Pointer[string]
}

// IsWatchListSemanticsUnSupported has the objects listed, and not streamed.
func (*list) IsWatchListSemanticsUnSupported() bool { return true }

func newList(client dynamic.ResourceInterface) *list {
	l := &list{}
	l.ListWithContextFunc = func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		page, err := client.List(ctx, o)
		if err != nil {
			return nil, err
		}
		if version := page.GetResourceVersion(); page.GetContinue() == "" {
			l.first.CompareAndSwap(nil, &version)
		}
		return page, nil
	}
	l.WatchFuncWithContext = func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
		return client.Watch(ctx, o)
	}
	return l
}

func newCaches(client dynamic.Interface) *caches {
	c := &caches{informers: map[string]cache.SharedIndexInformer{}, lists: map[string]*list{}}
	for _, kind := range []string{kindBroker, kindTrigger, kindChannel, kindInMemoryChannel, kindSubscription, kindService, kindEventType} {
		resource := resourceOf(kind)
		c.lists[kind] = newList(client.Resource(resource))
		c.informers[kind] = cache.NewSharedIndexInformerWithOptions(c.lists[kind], &unstructured.Unstructured{},
			cache.SharedIndexInformerOptions{ObjectDescription: resource.String()})
	}
	return c
}

// typed makes what came from the API an object of its Go type, without the
// fields that nobody here reads, and with what is the same in many only once.
func typed(kind string, same *alike) cache.TransformFunc {
	return func(in any) (any, error) {
		u, ok := in.(*unstructured.Unstructured)
		if !ok {
			return in, nil // it was made so before
		}
		var out metav1.Object
		switch kind {
		case kindBroker:
			out = &eventingv1.Broker{}
		case kindTrigger:
			out = &eventingv1.Trigger{}
		case kindChannel:
			out = &messagingv1.Channel{}
		case kindInMemoryChannel:
			out = &messagingv1.InMemoryChannel{}
		case kindSubscription:
			out = &messagingv1.Subscription{}
		case kindService:
			out = &corev1.Service{}
		case kindEventType:
			out = &v1beta3.EventType{}
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(read(u.Object), out); err != nil {
			return nil, fmt.Errorf("read %s %s/%s: %w", kind, u.GetNamespace(), u.GetName(), err)
		}
		same.share(out)
		if t, ok := out.(*eventingv1.Trigger); ok {
			return withoutFilters(t), nil
		}
		return out, nil
	}
}

// heldTrigger is a Trigger as it is held: of its filters it has the canonical form
// only, which takes a tenth, and is all that a log is told. A status that is
// written leaves the stored spec as it is.
type heldTrigger struct {
	*eventingv1.Trigger
	filter []byte
}

func withoutFilters(t *eventingv1.Trigger) *heldTrigger {
	held := &heldTrigger{Trigger: t}
	if spec := filterSpec(t.Spec.Filter, t.Spec.Filters); len(spec.Attributes)+len(spec.Filters) > 0 {
		held.filter = spec.Canonical()
	}
	t.Spec.Filter, t.Spec.Filters = nil, nil
	return held
}

// read is an object without what nobody here reads: who manages its fields, and
// kubectl's copy of all of it. What is given is shared, and stays as it is. A
// status that is written leaves the stored metadata as they are.
func read(object map[string]any) map[string]any {
	metadata, ok := object["metadata"].(map[string]any)
	if !ok {
		return object
	}
	object, metadata = maps.Clone(object), maps.Clone(metadata)
	object["metadata"] = metadata
	delete(metadata, "managedFields")
	if all, ok := metadata["annotations"].(map[string]any); ok {
		all = maps.Clone(all)
		delete(all, corev1.LastAppliedConfigAnnotation)
		if metadata["annotations"] = all; len(all) == 0 {
			delete(metadata, "annotations")
		}
	}
	return object
}

// start runs the informers until ctx ends.
func (c *caches) start(ctx context.Context, all *sync.WaitGroup, controller *Controller) error {
	same := newAlike()
	for kind, informer := range c.informers {
		if err := informer.SetTransform(typed(kind, same)); err != nil {
			return err
		}
		registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(obj any) { controller.seen(kind, obj, false) },
			UpdateFunc: func(_, obj any) { controller.seen(kind, obj, false) },
			DeleteFunc: func(obj any) {
				if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
					obj = gone.Obj
				}
				controller.seen(kind, obj, true)
			},
		})
		if err != nil {
			return err
		}
		c.handlers = append(c.handlers, registration)
		all.Go(func() { informer.RunWithContext(ctx) })
	}
	return nil
}

// wait returns when the handlers have been given all objects; false when ctx
// ended before.
func (c *caches) wait(ctx context.Context) bool {
	var synced []cache.DoneChecker
	for _, h := range c.handlers {
		synced = append(synced, h.HasSyncedChecker())
	}
	return cache.WaitFor(ctx, "", synced...)
}

// get is the object of this name, nil where there is none.
func get[T metav1.Object](c *caches, k key) (none T) {
	v, ok, err := c.informers[k.kind].GetStore().GetByKey(k.namespace + "/" + k.name)
	if err != nil || !ok {
		return none
	}
	o, _ := v.(T)
	return o
}

// has says whether an object is known at a version.
func (c *caches) has(k key, version string) bool {
	o := get[metav1.Object](c, k)
	return o != nil && o.GetResourceVersion() == version
}

// version is that of the first list of a kind.
func (c *caches) version(kind string) (uint64, error) {
	first := c.lists[kind].first.Load()
	if first == nil {
		return 0, fmt.Errorf("the %ss have not been listed", kind)
	}
	v, err := strconv.ParseUint(*first, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("list the %ss: resourceVersion %q is no number, as Leat's API has it", kind, *first)
	}
	return v, nil
}

// logs are the keys of all Brokers and channels.
func (c *caches) logs() []key {
	var all []key
	for _, kind := range []string{kindBroker, kindChannel, kindInMemoryChannel} {
		for _, v := range c.informers[kind].GetStore().List() {
			if o, ok := v.(metav1.Object); ok {
				all = append(all, key{kind, o.GetNamespace(), o.GetName()})
			}
		}
	}
	return all
}

// seen is called for each object that is new, has changed or is gone, in the
// order of the API, by one goroutine a kind.
func (c *Controller) seen(kind string, obj any, gone bool) {
	o, ok := obj.(metav1.Object)
	if !ok {
		return
	}
	k := key{kind, o.GetNamespace(), o.GetName()}
	version, err := strconv.ParseUint(o.GetResourceVersion(), 10, 64)
	if err != nil {
		c.o.Logger.Error("an object's resourceVersion is no number", "object", k.String(), "resourceVersion", o.GetResourceVersion())
	}
	switch kind {
	case kindTrigger, kindSubscription:
		for _, of := range c.sets.see(k, version, desired(obj, gone, c.o.Limits)) {
			c.scheduleFlush(of)
		}
		if s, ok := obj.(*messagingv1.Subscription); ok {
			c.queue.AddAfter(channelKey(s), c.o.MaxDebounce) // its status lists this one
		}
	case kindBroker, kindChannel, kindInMemoryChannel:
		if gone {
			c.forsake(string(o.GetUID()))
		}
		if k, ok := twin(k); ok {
			c.queue.Add(k)
		}
	}
	if echo := c.echoes.heard(k, o.GetResourceVersion()); !echo || gone {
		c.queue.Add(k)
	}
}
