package garbage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/util/workqueue"

	"github.com/leat-dev/leat/apiserver/catalog"
	"github.com/leat-dev/leat/raftlog/kv"
)

// Options configure a Collector. All but Workers and the delays must be set.
type Options struct {
	KV      *kv.Store
	Catalog *catalog.Catalog
	Client  metadata.Interface
	// Plain decrypts a value that is stored under a key.
	Plain  func(ctx context.Context, key string, stored []byte) ([]byte, error)
	Logger *slog.Logger
	// Gather has many writes taken together.
	Gather kv.Gather
	// Workers look at objects at the same time; 16: their writes share the log's
	// entries.
	Workers int
	// RetryFrom and RetryTo bound the wait after a failure; 10 ms to 1 min.
	RetryFrom, RetryTo time.Duration
}

// Collector is a garbage collector. It is made by New, and runs once.
type Collector struct {
	o     Options
	graph *graph
	// queue holds keys, each once: those of dependents and of objects that wait
	// for a finalizer of ours. So it is bounded by what the store holds of these.
	queue workqueue.TypedRateLimitingInterface[string]
}

// New makes a collector.
func New(o Options) *Collector {
	setDefault(&o.Workers, 16)
	setDefault(&o.RetryFrom, 10*time.Millisecond)
	setDefault(&o.RetryTo, time.Minute)
	return &Collector{o: o, graph: newGraph()}
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Run collects until ctx ends, or the store is closed.
func (c *Collector) Run(ctx context.Context) {
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
		c.o.Logger.Warn("the garbage collector lost its watch, and reads everything anew", "error", err)
		select {
		case <-time.After(c.o.RetryFrom):
		case <-ctx.Done():
		}
	}
	c.queue.ShutDown()
	workers.Wait()
}

// page is how many objects are read at once.
const page = 500

// follow reads all there is, and then what is written. It returns the error
// that ends the watch.
func (c *Collector) follow(ctx context.Context) error {
	c.graph.reset()
	watch, err := c.o.KV.Watch(c.o.Catalog.Prefix(), false, 0)
	if err != nil {
		return err
	}
	defer watch.Close()
	watch.Gather(c.o.Gather)
	if err := c.readAll(ctx, watch.Rev()); err != nil {
		return err
	}
	for {
		batch, err := watch.Next(ctx)
		if err != nil {
			return err
		}
		for _, e := range batch.Events {
			c.event(ctx, e)
			c.graph.advance(e.Rev)
		}
		c.graph.advance(batch.Progress)
	}
}

// readAll takes in the whole store at a revision. Objects are looked at
// afterwards, when all dependents are known.
func (c *Collector) readAll(ctx context.Context, rev uint64) error {
	var keys []string
	prefix := c.o.Catalog.Prefix()
	for start := prefix; ; {
		p, err := c.o.KV.Scan(prefix, start, page, rev)
		if err != nil {
			return fmt.Errorf("read %s: %w", prefix, err)
		}
		for _, o := range p.KVs {
			m, ok := c.read(ctx, o.Key, o.Value)
			if !ok {
				continue
			}
			c.graph.set(o.Key, m)
			if len(m.Owners) > 0 || m.waits() || m.orphans() {
				keys = append(keys, o.Key)
			}
		}
		if p.Remaining == 0 {
			break
		}
		start = p.KVs[len(p.KVs)-1].Key + "\x00"
	}
	c.graph.advance(rev)
	for _, key := range keys {
		c.queue.Add(key)
	}
	return nil
}

// read is an object's metadata, where it may concern the collector.
func (c *Collector) read(ctx context.Context, key string, stored []byte) (*objectMeta, bool) {
	b, err := c.o.Plain(ctx, key, stored)
	if err != nil || !concerns(b) {
		return nil, false // what cannot be read has no owner that is known
	}
	m, err := decode(b)
	return &m, err == nil
}

// event takes in one write.
func (c *Collector) event(ctx context.Context, e *kv.Event) {
	if e.Deleted {
		c.deleted(ctx, e)
		return
	}
	m, ok := c.read(ctx, e.Key, e.Value)
	if !ok {
		m = &objectMeta{}
	}
	before, changed := c.graph.set(e.Key, m)
	if changed {
		c.released(e.Key, before)
	}
	if changed && len(m.Owners) > 0 || m.waits() || m.orphans() {
		c.queue.Add(e.Key)
	}
	if m.waits() {
		c.lookAtDependents(m.UID)
	}
	if o, ok := c.o.Catalog.Parse(e.Key); ok && o.Resource == definitions {
		for _, key := range c.graph.unresolved() {
			c.queue.Add(key)
		}
	}
}

var definitions = schema.GroupResource{Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions"}

// deleted looks at what an object leaves behind, and who waited for it to go.
func (c *Collector) deleted(ctx context.Context, e *kv.Event) {
	before, _ := c.graph.set(e.Key, &objectMeta{})
	c.released(e.Key, before)
	if c.graph.empty() {
		return
	}
	b, err := c.o.Plain(ctx, e.Key, e.Prev)
	if err != nil {
		return
	}
	m, err := decode(b)
	if err != nil {
		return
	}
	c.lookAtDependents(m.UID)
}

// lookAtDependents of an object that is gone, or begins to wait for them.
func (c *Collector) lookAtDependents(uid types.UID) {
	c.graph.each(uid, func(d *dependent) bool {
		c.queue.Add(d.key)
		return true
	})
}

// released looks at the owners that an object named until now: one of them may
// have waited for it.
func (c *Collector) released(key string, owners []metav1.OwnerReference) {
	for _, ref := range owners {
		if owner, ok := c.place(key, ref); ok {
			c.queue.Add(c.o.Catalog.Key(owner))
		}
	}
}
