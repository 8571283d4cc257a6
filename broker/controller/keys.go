package controller

import (
	"context"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	eventingv1 "github.com/leat-dev/leat/api/eventing/v1"
	"github.com/leat-dev/leat/api/eventing/v1beta3"
	messagingv1 "github.com/leat-dev/leat/api/messaging/v1"
	"github.com/leat-dev/leat/broker/status"
)

// The kinds that are watched.
const (
	kindBroker          = "Broker"
	kindTrigger         = "Trigger"
	kindChannel         = "Channel"
	kindInMemoryChannel = "InMemoryChannel"
	kindSubscription    = "Subscription"
	kindService         = "Service"
	kindEventType       = "EventType"
)

// key names an object of a kind that is watched.
type key struct{ kind, namespace, name string }

func (k key) String() string { return k.kind + " " + k.namespace + "/" + k.name }

func (k key) object() object {
	return object{groupOf(k.kind), k.kind, k.namespace, k.name}
}

func groupOf(kind string) string {
	switch kind {
	case kindBroker, kindTrigger, kindEventType:
		return eventingv1.GroupName
	case kindService:
		return ""
	default:
		return messagingv1.GroupName
	}
}

// resourceOf is the resource of a kind that is watched.
func resourceOf(kind string) schema.GroupVersionResource {
	plural := map[string]string{
		kindBroker: "brokers", kindTrigger: "triggers", kindChannel: "channels",
		kindInMemoryChannel: "inmemorychannels", kindSubscription: "subscriptions", kindService: "services", kindEventType: "eventtypes",
	}[kind]
	version := "v1"
	if kind == kindEventType {
		version = v1beta3.GroupVersion().Version
	}
	return schema.GroupVersionResource{Group: groupOf(kind), Version: version, Resource: plural}
}

// object names an object of any kind.
type object struct{ group, kind, namespace, name string }

// watched says whether the object is of a kind that is watched.
func (o object) watched() bool {
	switch o.kind {
	case kindBroker, kindTrigger, kindChannel, kindInMemoryChannel, kindSubscription, kindService, kindEventType:
		return o.group == groupOf(o.kind)
	}
	return false
}

func (o object) String() string { return o.kind + " " + o.namespace + "/" + o.name }

// tracker knows which objects refer to which. It may be used from many
// goroutines at once.
type tracker struct {
	mu sync.Mutex
	of map[key][]object
	by map[object]map[key]bool
}

func newTracker() *tracker {
	return &tracker{of: map[key][]object{}, by: map[object]map[key]bool{}}
}

// set makes refs the whole set of what k refers to.
func (t *tracker) set(k key, refs map[object]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := slices.DeleteFunc(t.of[k], func(o object) bool {
		if refs[o] {
			return false
		}
		delete(t.by[o], k)
		if len(t.by[o]) == 0 {
			delete(t.by, o)
		}
		return true
	})
	if t.of[k] = kept; len(kept) == 0 {
		delete(t.of, k)
	}
	for o := range refs {
		t.note(k, o)
	}
}

// add notes that k refers to o, beside what it is known to refer to.
func (t *tracker) add(k key, o object) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.note(k, o)
}

func (t *tracker) note(k key, o object) {
	if t.by[o] == nil {
		t.by[o] = map[key]bool{}
	}
	t.by[o][k] = true
	if !slices.Contains(t.of[k], o) { // few each: a map would take ten times the memory
		t.of[k] = append(t.of[k], o)
	}
}

// dependents are those that refer to an object.
func (t *tracker) dependents(o object) []key {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]key, 0, len(t.by[o]))
	for k := range t.by[o] {
		all = append(all, k)
	}
	return all
}

// has says whether anything refers to an object.
func (t *tracker) has(o object) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.by[o]) > 0
}

// writeStatus writes the status of an object of a kind that is watched.
func writeStatus[S any](ctx context.Context, c *Controller, kind string, now metav1.Object, was, is *S) error {
	resource := resourceOf(kind)
	version, err := status.Write(ctx, c.o.Client, resource.GroupVersion().WithKind(kind), resource.Resource, now, was, is)
	if err == nil && version != "" {
		k := key{kind, now.GetNamespace(), now.GetName()}
		c.echoes.expect(k, version, func() bool { return c.caches.has(k, version) })
	}
	return err
}
