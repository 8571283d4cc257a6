package namespace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/util/workqueue"

	"github.com/leat-dev/leat/apiserver/catalog"
	"github.com/leat-dev/leat/raftlog/kv"
)

// DefaultAccount is the ServiceAccount that each namespace has.
const DefaultAccount = "default"

// AccountsOptions configure Accounts. All but the delays must be set.
type AccountsOptions struct {
	KV       *kv.Store
	Catalog  *catalog.Catalog
	Accounts clientcorev1.ServiceAccountsGetter
	Logger   *slog.Logger
	// RetryFrom and RetryTo bound the wait after a failure; 20 ms to 30 s.
	RetryFrom, RetryTo time.Duration
}

// Accounts sees to it that each namespace has the ServiceAccount "default", as
// whoever comes from Kubernetes expects: it is made with the namespace, and
// again where it was deleted. It is made by NewAccounts, and runs once.
type Accounts struct {
	o AccountsOptions
	// queue holds names of namespaces that may lack it, each once.
	queue workqueue.TypedRateLimitingInterface[string]
}

// NewAccounts makes one.
func NewAccounts(o AccountsOptions) *Accounts {
	setDefault(&o.RetryFrom, 20*time.Millisecond)
	setDefault(&o.RetryTo, 30*time.Second)
	return &Accounts{o: o}
}

// Run makes what is missing until ctx ends, or the store is closed.
func (a *Accounts) Run(ctx context.Context) {
	a.queue = workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](a.o.RetryFrom, a.o.RetryTo))
	var running sync.WaitGroup
	running.Go(func() { a.work(ctx) })
	for _, resource := range []schema.GroupResource{namespaces, {Resource: "serviceaccounts"}} {
		running.Go(func() { a.watch(ctx, resource) })
	}
	<-ctx.Done()
	a.queue.ShutDown()
	running.Wait()
}

// watch follows a resource, over watches that are lost.
func (a *Accounts) watch(ctx context.Context, resource schema.GroupResource) {
	for {
		err := a.follow(ctx, resource)
		if ctx.Err() != nil || errors.Is(err, kv.ErrClosed) {
			return
		}
		a.o.Logger.Warn("the watch for what default ServiceAccounts depend on was lost, and begins anew", "resource", resource.Resource, "error", err)
		select {
		case <-time.After(a.o.RetryFrom):
		case <-ctx.Done():
			return
		}
	}
}

// follow looks at all namespaces, and then at those that are made, or whose
// account is deleted. It returns the error that ends the watch.
func (a *Accounts) follow(ctx context.Context, resource schema.GroupResource) error {
	prefix := a.o.Catalog.Key(catalog.Object{Resource: resource})
	watch, err := a.o.KV.Watch(prefix, false, 0)
	if err != nil {
		return err
	}
	defer watch.Close()
	// Every namespace, whichever watch it is: what happened before is not told.
	all, err := a.o.KV.List(a.o.Catalog.Key(catalog.Object{Resource: namespaces}), "", 0, watch.Rev())
	if err != nil {
		return fmt.Errorf("read the namespaces: %w", err)
	}
	for _, ns := range all.KVs {
		if o, ok := a.o.Catalog.Parse(ns.Key); ok {
			a.queue.Add(o.Name)
		}
	}
	for {
		batch, err := watch.Next(ctx)
		if err != nil {
			return err
		}
		for _, e := range batch.Events {
			o, ok := a.o.Catalog.Parse(e.Key)
			switch {
			case !ok:
			case resource == namespaces && len(e.Prev) == 0 && !e.Deleted:
				a.queue.Add(o.Name)
			case resource != namespaces && e.Deleted && o.Name == DefaultAccount:
				a.queue.Add(o.Namespace)
			}
		}
	}
}

func (a *Accounts) work(ctx context.Context) {
	for {
		name, end := a.queue.Get()
		if end {
			return
		}
		switch err := EnsureAccount(ctx, a.o.Accounts.ServiceAccounts(name)); {
		case err == nil:
			a.queue.Forget(name)
		case ctx.Err() != nil:
		default:
			a.o.Logger.Debug("the default ServiceAccount of a namespace is tried again", "namespace", name, "error", err)
			a.queue.AddRateLimited(name)
		}
		a.queue.Done(name)
	}
}

// EnsureAccount makes the default ServiceAccount of a namespace, unless the
// namespace is gone, or on its way out.
func EnsureAccount(ctx context.Context, c clientcorev1.ServiceAccountInterface) error {
	if _, err := c.Get(ctx, DefaultAccount, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return err
	}
	_, err := c.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: DefaultAccount}}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make ServiceAccount %s: %w", DefaultAccount, err)
	}
	return nil
}
