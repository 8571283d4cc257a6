package apiserver

import (
	"context"
	"sync"

	clientcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"

	"github.com/leat-dev/leat/apiserver/garbage"
	"github.com/leat-dev/leat/apiserver/namespace"
)

// control runs what Kubernetes has controllers for, until ctx ends: the end of
// namespaces and their default ServiceAccounts, and the end of objects whose
// owners are gone. The function returned
// waits for their end.
func (s *Server) control(ctx context.Context, g *generic) (wait func(), err error) {
	config := s.LoopbackConfig()
	content, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	core, err := clientcorev1.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	collector := garbage.New(garbage.Options{
		KV: s.o.KV, Catalog: g.catalog, Client: content, Plain: s.Plain, Logger: s.o.Logger, Gather: s.o.Gather,
		Workers: s.o.DeleteWorkers, RetryFrom: s.o.DeleteRetryFrom, RetryTo: s.o.DeleteRetryTo,
	})
	namespaces := namespace.New(namespace.Options{
		KV: s.o.KV, Catalog: g.catalog, Plain: s.Plain, Namespaces: core.Namespaces(), Content: content, Busy: g.namespaces.busy, Logger: s.o.Logger,
		Workers: s.o.NamespaceWorkers, RetryFrom: s.o.NamespaceRetryFrom, RetryTo: s.o.NamespaceRetryTo,
	})
	accounts := namespace.NewAccounts(namespace.AccountsOptions{
		KV: s.o.KV, Catalog: g.catalog, Accounts: core, Logger: s.o.Logger, RetryFrom: s.o.NamespaceRetryFrom, RetryTo: s.o.NamespaceRetryTo,
	})
	var running sync.WaitGroup
	running.Go(func() { accounts.Run(ctx) })
	running.Go(func() { collector.Run(ctx) })
	running.Go(func() { namespaces.Run(ctx) })
	return running.Wait, nil
}
