package sources

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/broker/controller"
	"github.com/leat-dev/leat/broker/status"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/dispatcher"
)

// Log is all channels; *channel.Log is one.
type Log interface {
	Ensure(ctx context.Context, id channel.ID, c channel.Config) (channel.Channel, error)
	Drop(ctx context.Context, uid string) error
	Get(uid string) (channel.Channel, bool)
	List() []channel.Channel
}

// Dispatcher delivers from the logs of sources; *dispatcher.Dispatcher is one.
type Dispatcher interface {
	Attach(ch channel.Channel)
	Detach(ctx context.Context, uid string) error
	SetTarget(t dispatcher.Target)
	RemoveTarget(uid string)
	Paused() map[string]dispatcher.Status
}

// Resolver resolves sinks; *controller.Sinks is one.
type Resolver interface {
	Resolve(ctx context.Context, namespace, name string, d *duckv1.Destination) (controller.Sink, *status.Problem)
	Forget(namespace, name string)
}

// Options are the settings of a Controller; zero values take the defaults.
type Options struct {
	Client dynamic.Interface
	// Kinds are the kinds of sources; their names differ.
	Kinds []Kind
	// Sinks makes the resolver for objects of a kind. It calls changed when a
	// sink has to be resolved again.
	Sinks func(kind string, changed func(namespace, name string)) Resolver

	Log        Log
	Dispatcher Dispatcher
	// Admit checks and stamps an event that is appended to a channel next.
	Admit func(to channel.ID, e *event.Event) error

	// Delivery is how events are delivered to sinks that are not logs here.
	Delivery dispatcher.Policy
	// AppendTimeout bounds one attempt to append, which the end of an adapter
	// waits for (30 s).
	AppendTimeout time.Duration
	// Workers reconcile at once (4).
	Workers int
	// DetachTimeout bounds how long the log of a deleted source waits for the
	// requests that are out (30 s).
	DetachTimeout time.Duration
	// PauseInterval is how often the dispatcher is asked for sources whose
	// deliveries have paused (5 s).
	PauseInterval time.Duration
	// MinBackoff and MaxBackoff bound the wait after a failure (50 ms, 10 s).
	MinBackoff, MaxBackoff time.Duration

	// Now is the clock of conditions; nil is time.Now.
	Now func() time.Time
	// Logger gets what no status can tell; nil discards it.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	def(&o.AppendTimeout, 30*time.Second)
	def(&o.Workers, 4)
	def(&o.DetachTimeout, 30*time.Second)
	def(&o.PauseInterval, 5*time.Second)
	def(&o.MinBackoff, 50*time.Millisecond)
	def(&o.MaxBackoff, 10*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func def[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// key names an object of a kind.
type key struct{ kind, namespace, name string }

func (k key) String() string { return k.kind + " " + k.namespace + "/" + k.name }

// Controller reconciles the objects of all kinds. Run starts it.
type Controller struct {
	o         Options
	kinds     map[string]Kind
	sinks     map[string]Resolver
	informers map[string]cache.SharedIndexInformer
	queue     workqueue.TypedRateLimitingInterface[key]
	pauses    status.Pauses[key]
	synced    chan struct{} // closed when all objects are queued

	mu        sync.Mutex
	instances map[key]*instance
}

// New makes a Controller. An error says what is wrong with the options.
func New(o Options) (*Controller, error) {
	o = o.withDefaults()
	if o.Client == nil || o.Sinks == nil || o.Log == nil || o.Dispatcher == nil || o.Admit == nil {
		return nil, errors.New("sources: Client, Sinks, Log, Dispatcher and Admit must be set")
	}
	c := &Controller{
		o: o, kinds: map[string]Kind{}, sinks: map[string]Resolver{}, informers: map[string]cache.SharedIndexInformer{},
		synced: make(chan struct{}), instances: map[key]*instance{},
	}
	c.queue = workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[key](o.MinBackoff, o.MaxBackoff))
	for _, kind := range o.Kinds {
		c.kinds[kind.Kind] = kind
		c.sinks[kind.Kind] = o.Sinks(kind.Kind, func(namespace, name string) { c.queue.Add(key{kind.Kind, namespace, name}) })
		c.informers[kind.Kind] = dynamicinformer.NewFilteredDynamicInformer(o.Client, kind.GroupVersion().WithResource(kind.Resource),
			metav1.NamespaceAll, 0, cache.Indexers{}, nil).Informer()
	}
	return c, nil
}

// Run reconciles until ctx ends, and returns when all it started has stopped.
func (c *Controller) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer c.stopAll()
	defer all.Wait()
	defer cancel()
	all.Go(func() {
		<-ctx.Done()
		c.queue.ShutDown()
	})
	var synced []cache.DoneChecker
	for kind, informer := range c.informers {
		registration, err := informer.AddEventHandler(c.handler(kind))
		if err != nil {
			return err
		}
		synced = append(synced, registration.HasSyncedChecker())
		all.Go(func() { informer.RunWithContext(ctx) })
	}
	if !cache.WaitFor(ctx, "", synced...) {
		return context.Cause(ctx)
	}
	for _, k := range c.owners() {
		c.queue.Add(k)
	}
	for range c.o.Workers {
		all.Go(func() { c.work(ctx) })
	}
	all.Go(func() { c.watchPauses(ctx) })
	close(c.synced)
	<-ctx.Done()
	return context.Cause(ctx)
}

func (c *Controller) handler(kind string) cache.ResourceEventHandlerFuncs {
	seen := func(obj any) {
		if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = gone.Obj
		}
		if u, ok := obj.(*unstructured.Unstructured); ok {
			c.queue.Add(key{kind, u.GetNamespace(), u.GetName()})
		}
	}
	return cache.ResourceEventHandlerFuncs{AddFunc: seen, UpdateFunc: func(_, obj any) { seen(obj) }, DeleteFunc: seen}
}

// work reconciles what is in the queue until it is shut down. What fails is
// tried again, later and later.
func (c *Controller) work(ctx context.Context) {
	for {
		k, down := c.queue.Get()
		if down {
			return
		}
		err := c.reconcile(ctx, k)
		switch {
		case err == nil:
			c.queue.Forget(k)
		case ctx.Err() != nil:
		default:
			if !apierrors.IsConflict(err) {
				c.o.Logger.Warn("reconcile failed and is tried again", "object", k.String(), "tries", c.queue.NumRequeues(k)+1, "error", err)
			}
			c.queue.AddRateLimited(k)
		}
		c.queue.Done(k)
	}
}

// watchPauses has the status of a source written when the deliveries from its
// log have paused or gone on.
func (c *Controller) watchPauses(ctx context.Context) {
	t := time.NewTicker(c.o.PauseInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		owners := c.owners()
		owner := func(uid string) (key, bool) { k, ok := owners[uid]; return k, ok }
		var paused map[string]dispatcher.Status
		if len(owners) > 0 {
			paused = c.o.Dispatcher.Paused()
		}
		for _, k := range c.pauses.Look(paused, owner) {
			c.queue.Add(k)
		}
	}
}

func (c *Controller) stopAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range c.instances {
		i.cancel() // all at once, so that nobody waits for the others
	}
	for _, i := range c.instances {
		i.stop()
	}
	clear(c.instances)
}

// instance is the instance of an object, nil where there is none. Only the
// worker that reconciles the object changes it.
func (c *Controller) instance(k key) *instance {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.instances[k]
}

func (c *Controller) setInstance(k key, i *instance) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i == nil {
		delete(c.instances, k)
		return
	}
	c.instances[k] = i
}
