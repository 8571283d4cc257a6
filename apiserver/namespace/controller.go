// Package namespace ends the life of namespaces: it deletes what a namespace
// that is Terminating holds, tells in its conditions what is left and why, and
// lets it go when nothing is.
//
// Which namespaces there are to end is read from the store, so nothing has to
// be remembered over a restart.
package namespace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/util/workqueue"

	"github.com/leat-dev/leat/apiserver/catalog"
	"github.com/leat-dev/leat/raftlog/kv"
)

// Options configure a Controller. All but Workers and the delays must be set.
type Options struct {
	KV      *kv.Store
	Catalog *catalog.Catalog
	// Plain decrypts a value that is stored under a key.
	Plain      func(ctx context.Context, key string, stored []byte) ([]byte, error)
	Namespaces clientcorev1.NamespaceInterface
	Content    metadata.Interface
	// Busy says whether an object may still be on its way into a namespace
	// because its creation was allowed before the namespace was Terminating.
	Busy   func(namespace string) bool
	Logger *slog.Logger
	// Workers end namespaces at the same time; 4.
	Workers int
	// RetryFrom and RetryTo bound the wait before a namespace is looked at again
	// that could not go; 20 ms to 30 s. A write in it is looked at sooner.
	RetryFrom, RetryTo time.Duration
}

// Controller ends namespaces. It is made by New, and runs once.
type Controller struct {
	o Options
	// queue holds names of namespaces that are Terminating, each once.
	queue workqueue.TypedRateLimitingInterface[string]

	mu sync.Mutex
	// ending are the namespaces that are Terminating; what happens in the others
	// is of no concern.
	ending map[string]bool
}

// New makes a controller.
func New(o Options) *Controller {
	setDefault(&o.Workers, 4)
	setDefault(&o.RetryFrom, 20*time.Millisecond)
	setDefault(&o.RetryTo, 30*time.Second)
	return &Controller{o: o, ending: map[string]bool{}}
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

var namespaces = schema.GroupResource{Resource: "namespaces"}

// Run ends namespaces until ctx ends, or the store is closed.
func (c *Controller) Run(ctx context.Context) {
	c.queue = workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](c.o.RetryFrom, c.o.RetryTo))
	var workers sync.WaitGroup
	for range c.o.Workers {
		workers.Go(func() { c.work(ctx) })
	}
	for ctx.Err() == nil {
		err := c.follow(ctx)
		if ctx.Err() != nil || errors.Is(err, kv.ErrClosed) {
			break
		}
		c.o.Logger.Warn("the controller of namespaces lost its watch, and begins anew", "error", err)
		select {
		case <-time.After(c.o.RetryFrom):
		case <-ctx.Done():
		}
	}
	c.queue.ShutDown()
	workers.Wait()
}

// follow looks at all namespaces, and then at those that are written, or
// written in. It returns the error that ends the watch.
func (c *Controller) follow(ctx context.Context) error {
	watch, err := c.o.KV.Watch(c.o.Catalog.Prefix(), false, 0)
	if err != nil {
		return err
	}
	defer watch.Close()
	prefix := c.o.Catalog.Key(catalog.Object{Resource: namespaces})
	all, err := c.o.KV.List(prefix, "", 0, watch.Rev())
	if err != nil {
		return fmt.Errorf("read %s: %w", prefix, err)
	}
	for _, ns := range all.KVs {
		if c.terminating(ctx, ns.Key, ns.Value) {
			c.seen(strings.TrimPrefix(ns.Key, prefix))
		}
	}
	for {
		batch, err := watch.Next(ctx)
		if err != nil {
			return err
		}
		for _, e := range batch.Events {
			if name, ok := strings.CutPrefix(e.Key, prefix); ok {
				c.written(ctx, name, e)
				continue
			}
			c.writtenIn(e.Key)
		}
	}
}

// seen begins the end of a namespace that is Terminating.
func (c *Controller) seen(name string) {
	c.mu.Lock()
	c.ending[name] = true
	c.mu.Unlock()
	c.queue.Add(name)
}

// written takes in a write of a namespace. Those of its conditions are our own.
func (c *Controller) written(ctx context.Context, name string, e *kv.Event) {
	switch {
	case e.Deleted:
		c.mu.Lock()
		delete(c.ending, name)
		c.mu.Unlock()
	case !c.terminating(ctx, e.Key, e.Prev) && c.terminating(ctx, e.Key, e.Value):
		c.seen(name)
	}
}

// writtenIn looks at a namespace again when its content changes.
func (c *Controller) writtenIn(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ending) == 0 {
		return
	}
	if o, ok := c.o.Catalog.Parse(key); ok && c.ending[o.Namespace] {
		// Not at once: more will follow, of a collection that is being deleted.
		c.queue.AddAfter(o.Namespace, c.o.RetryFrom)
	}
}

func (c *Controller) work(ctx context.Context) {
	for {
		name, end := c.queue.Get()
		if end {
			return
		}
		left, err := c.finish(ctx, name)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			c.o.Logger.Debug("the deletion of a namespace is tried again", "namespace", name, "error", err)
			fallthrough
		case left:
			c.queue.AddRateLimited(name)
		default:
			c.queue.Forget(name)
		}
		c.queue.Done(name)
	}
}

// finish ends a namespace, as far as that goes now, and says whether something
// is left in it.
func (c *Controller) finish(ctx context.Context, name string) (left bool, err error) {
	ns, err := c.o.Namespaces.Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, err
	case ns.DeletionTimestamp == nil || !finalizing(ns):
		return false, nil // its own finalizers, and who set them, decide
	}
	busy := c.o.Busy(name) // asked before, so that nothing comes after what is counted
	r, err := c.empty(ctx, ns)
	if err != nil {
		return false, err
	}
	if ns, err = c.tell(ctx, ns, r); err != nil {
		return false, err
	}
	if busy || r.left() {
		return true, nil
	}
	var kept []corev1.FinalizerName
	for _, f := range ns.Spec.Finalizers {
		if f != corev1.FinalizerKubernetes {
			kept = append(kept, f)
		}
	}
	ns.Spec.Finalizers = kept
	_, err = c.o.Namespaces.Finalize(ctx, ns, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		err = nil
	}
	return false, err
}
