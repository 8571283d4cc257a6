package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/workqueue"

	"github.com/leat-dev/leat/api/annotations"
	"github.com/leat-dev/leat/api/event"
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

// Dispatcher delivers; *dispatcher.Dispatcher is one.
type Dispatcher interface {
	Attach(ch channel.Channel)
	Detach(ctx context.Context, uid string) error
	SetTarget(t dispatcher.Target)
	RemoveTarget(uid string)
	Paused() map[string]dispatcher.Status
}

// Options are the settings of a Controller; zero values take the defaults.
type Options struct {
	// Client talks to the API that holds the resources. Mapper finds the
	// resource of a kind that a reference names; nil knows only the built-in ones.
	Client dynamic.Interface
	Mapper meta.ResettableRESTMapper

	Log        Log
	Dispatcher Dispatcher
	Registry   *Registry
	// AcceptReply takes a Trigger's reply into its Broker.
	AcceptReply func(ctx context.Context, ch channel.Channel, original *dispatcher.Original, reply *event.Event) error
	// Denies says why deliveries to a URL are refused, "" where they are not, or
	// that is not known yet; nil refuses none.
	Denies func(url string) string
	// BaseURL is where the ingress is reached: addresses begin with it.
	BaseURL string

	// DeliveryTimeout bounds an attempt where the delivery says nothing; 0
	// leaves it to the dispatcher.
	DeliveryTimeout time.Duration
	// Workers reconcile at once (32): a status waits for the disk, and those that
	// wait together share a write of it.
	Workers int
	// Debounce is how long a change of a set of subscriptions waits for others
	// (5 ms); when sets are large, for as long as a few comparisons take, but
	// at most MaxDebounce (250 ms).
	Debounce, MaxDebounce time.Duration
	// Settle is how long a status that is about to become better is not
	// written (500 ms).
	Settle time.Duration
	// ForeignInterval is how often references to kinds that are not watched
	// are looked up again (10 s).
	ForeignInterval time.Duration
	// ForeignTimeout bounds each such look (10 s).
	ForeignTimeout time.Duration
	// PauseInterval is how often the dispatcher is asked for subscriptions
	// that have paused (5 s).
	PauseInterval time.Duration
	// DetachTimeout bounds how long a deleted log waits for the requests that
	// are out (30 s).
	DetachTimeout time.Duration
	// MinBackoff and MaxBackoff bound the wait after a failure (50 ms, 1 min).
	MinBackoff, MaxBackoff time.Duration
	// MaxListed is how many Subscriptions a channel's status lists at most
	// (500); with more, it lists none.
	MaxListed int
	// Limits bound what annotations may ask for; as at admission.
	Limits annotations.Limits

	// Now is the clock of conditions; nil is time.Now.
	Now func() time.Time
	// Logger gets what no status can tell; nil discards it.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	def(&o.Workers, 32)
	def(&o.Debounce, 5*time.Millisecond)
	def(&o.MaxDebounce, 250*time.Millisecond)
	def(&o.Settle, 500*time.Millisecond)
	def(&o.ForeignInterval, 10*time.Second)
	def(&o.ForeignTimeout, 10*time.Second)
	def(&o.PauseInterval, 5*time.Second)
	def(&o.DetachTimeout, 30*time.Second)
	def(&o.MinBackoff, 50*time.Millisecond)
	def(&o.MaxBackoff, time.Minute)
	def(&o.MaxListed, 500)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Denies == nil {
		o.Denies = func(string) string { return "" }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registry == nil {
		o.Registry = NewRegistry(nil)
	}
	return o
}

func def[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Controller reconciles the resources. Run starts it.
type Controller struct {
	o       Options
	base    *url.URL
	caches  *caches
	sets    *sets
	refs    *tracker
	foreign *foreign
	targets *targets
	pauses  status.Pauses[key]
	given   deliveries
	others  others
	echoes  echoes
	// settling are to be reconciled again after a time.
	settling *settling

	queue   queue // of objects
	flushes queue // of Brokers and channels whose set of subscriptions has changed
	drops   queue // of UIDs of logs to be dropped: key.name

	synced chan struct{} // closed when every object has been reconciled once, or is queued
}

type queue = workqueue.TypedRateLimitingInterface[key]

// New makes a Controller. An error says what is wrong with the options.
func New(o Options) (*Controller, error) {
	o = o.withDefaults()
	base, err := url.Parse(strings.TrimSuffix(o.BaseURL, "/"))
	if err != nil || base.Scheme == "" || base.Host == "" {
		return nil, fmt.Errorf("controller: base URL %q: must be absolute, such as http://127.0.0.1:8080", o.BaseURL)
	}
	if o.Client == nil || o.Log == nil || o.Dispatcher == nil || o.AcceptReply == nil {
		return nil, errors.New("controller: Client, Log, Dispatcher and AcceptReply must be set")
	}
	c := &Controller{o: o, base: base, refs: newTracker(), synced: make(chan struct{})}
	c.settling = newSettling(c.o.Settle)
	c.queue, c.flushes, c.drops = c.newQueue(), c.newQueue(), c.newQueue()
	c.caches = newCaches(o.Client)
	c.sets = newSets()
	c.foreign = newForeign(c)
	c.targets = newTargets(o.Dispatcher)
	return c, nil
}

func (c *Controller) newQueue() queue {
	return workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[key](c.o.MinBackoff, c.o.MaxBackoff))
}

// WaitSynced returns when all resources are known and the logs of those that
// are gone are no longer offered by the Registry; or with ctx's error.
func (c *Controller) WaitSynced(ctx context.Context) error {
	select {
	case <-c.synced:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Run reconciles until ctx ends, and returns when all it started has stopped.
func (c *Controller) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() {
		<-ctx.Done()
		c.queue.ShutDown()
		c.flushes.ShutDown()
		c.drops.ShutDown()
	})
	if err := c.caches.start(ctx, &all, c); err != nil {
		return err
	}
	if !c.caches.wait(ctx) {
		return context.Cause(ctx)
	}
	versions := map[string]uint64{}
	for _, kind := range []string{kindTrigger, kindSubscription} {
		version, err := c.caches.version(kind)
		if err != nil {
			return fmt.Errorf("controller: %w", err)
		}
		versions[kind] = version
	}
	c.dropOrphans()
	c.sets.open(versions)
	// The logs come first, so that no status tells of their absence.
	for _, k := range c.caches.logs() {
		if _, err := c.ensure(ctx, k); err != nil {
			c.o.Logger.Warn("a log cannot be opened and is tried again", "object", k.String(), "error", err)
		}
	}
	for range c.o.Workers {
		all.Go(func() { c.work(ctx, c.queue, c.reconcile) })
	}
	for range 2 {
		all.Go(func() { c.work(ctx, c.flushes, c.flush) })
		all.Go(func() { c.work(ctx, c.drops, c.drop) })
	}
	all.Go(func() { c.foreign.run(ctx) })
	all.Go(func() { c.watchPauses(ctx) })
	all.Go(func() { c.settling.run(ctx, c.queue.Add) })
	close(c.synced)
	<-ctx.Done()
	return context.Cause(ctx)
}

// work does what is in a queue until it is shut down. What fails is tried
// again, later and later.
func (c *Controller) work(ctx context.Context, q queue, do func(context.Context, key) error) {
	for {
		k, down := q.Get()
		if down {
			return
		}
		err := do(ctx, k)
		switch {
		case err == nil:
			q.Forget(k)
		case ctx.Err() != nil:
		default:
			if !apierrors.IsConflict(err) {
				c.o.Logger.Warn("reconcile failed and is tried again", "object", k.String(), "tries", q.NumRequeues(k)+1, "error", err)
			}
			q.AddRateLimited(k)
		}
		q.Done(k)
	}
}

func (c *Controller) reconcile(ctx context.Context, k key) error {
	c.echoes.forget(k) // before it is looked at
	switch k.kind {
	case kindBroker, kindChannel, kindInMemoryChannel:
		return c.reconcileLog(ctx, k)
	case kindTrigger:
		return c.reconcileTrigger(ctx, k)
	case kindSubscription:
		return c.reconcileSubscription(ctx, k)
	case kindEventType:
		return c.reconcileEventType(ctx, k)
	case kindService:
		c.enqueueDependents(k.object())
	}
	return nil
}

func (c *Controller) enqueueDependents(o object) {
	for _, k := range c.refs.dependents(o) {
		if !c.others.tell(k) {
			c.queue.Add(k)
		}
	}
}

// dropOrphans drops the logs whose objects were deleted while nobody looked.
// Logs of other kinds are other controllers'.
func (c *Controller) dropOrphans() {
	live := map[string]bool{}
	for _, k := range c.caches.logs() {
		if o, ok := c.owner(k); ok {
			live[o.uid] = true
		}
	}
	for _, ch := range c.o.Log.List() {
		id := ch.ID()
		if ours := id.Kind == logKind(kindBroker) || id.Kind == logKind(kindChannel); ours && !live[id.UID] {
			c.forsake(id.UID)
		}
	}
}

// forsake takes a log out of service and has it dropped.
func (c *Controller) forsake(uid string) {
	c.o.Registry.doom(uid)
	c.drops.Add(key{kind: "log", name: uid})
}

// shelve takes a log out of service whose owner is there, but not in charge of
// its path.
func (c *Controller) shelve(uid string) {
	c.o.Registry.doom(uid)
	c.drops.Add(key{kind: "shelved", name: uid})
}

// drop ends the deliveries of a log and, unless it is only shelved, drops it.
func (c *Controller) drop(ctx context.Context, k key) error {
	detach, cancel := context.WithTimeout(ctx, c.o.DetachTimeout)
	defer cancel()
	// Cursors that could not be committed are of no use any more.
	if err := c.o.Dispatcher.Detach(detach, k.name); err != nil {
		c.o.Logger.Info("the last cursors of a deleted log are lost with it", "uid", k.name, "error", err)
	}
	if k.kind == "shelved" {
		// Its owner may have come into its path meanwhile, and attached it in vain.
		if ch, ok := c.o.Log.Get(k.name); ok && !c.o.Registry.isDoomed(k.name) {
			c.o.Dispatcher.Attach(ch)
		}
		return nil
	}
	if err := c.o.Log.Drop(ctx, k.name); err != nil {
		return fmt.Errorf("drop log %s: %w", k.name, err)
	}
	c.o.Registry.undoom(k.name)
	return nil
}

func (c *Controller) now() metav1.Time {
	return metav1.NewTime(c.o.Now().UTC().Truncate(time.Second)) // as it is stored
}

// address is the URL of a Broker or channel.
func (c *Controller) address(k key) string {
	if k.kind == kindBroker {
		return c.base.JoinPath(k.namespace, k.name).String()
	}
	return c.base.JoinPath("channels", k.namespace, k.name).String()
}

// watchPauses has the status of a subscription written when its deliveries
// have paused or gone on.
func (c *Controller) watchPauses(ctx context.Context) {
	t := time.NewTicker(c.o.PauseInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		all := sync.OnceValue(c.targets.all) // none of which has paused, mostly
		owner := func(uid string) (key, bool) { k, ok := all()[uid]; return k, ok }
		for _, k := range c.pauses.Look(c.o.Dispatcher.Paused(), owner) {
			c.queue.Add(k)
		}
	}
}
