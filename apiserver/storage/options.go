package storage

import (
	"context"
	"errors"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/registry/generic"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/feature"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/apiserver/pkg/storage/value"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/tools/cache"

	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/kv"
)

// RESTOptions puts the resources of a generic API server into a kv.Store. It is
// a generic.RESTOptionsGetter.
type RESTOptions struct {
	KV *kv.Store
	// Codec encodes what is stored; a CRD's resources bring their own.
	Codec runtime.Codec
	// Cache puts the watch cache in front: watches and most reads are then
	// served from memory, decoded once for all.
	Cache bool
	// NoCache are resources that never have a cache, as they are many and seldom
	// read.
	NoCache map[schema.GroupResource]bool
	// Prefix stands before all keys; "/registry".
	Prefix string
	// Transformer encrypts values at rest; nil does not.
	Transformer value.Transformer
	Clock       raftlog.Clock
	// Made is told of each storage without a cache, and the version it serves;
	// may be nil.
	Made func(r schema.GroupVersionResource, s *Store)

	// AsStored makes a Config's for a resource in a version; may be nil.
	AsStored func(r schema.GroupVersionResource) func(object map[string]any) bool

	// See Config.
	Gather      kv.Gather
	SharedBytes int64
	times       times
	// DeleteWorkers delete a collection's objects together; 16: they share the
	// log's entries.
	DeleteWorkers int
}

var _ generic.RESTOptionsGetter = RESTOptions{}

// GetRESTOptions implements generic.RESTOptionsGetter.
func (o RESTOptions) GetRESTOptions(gr schema.GroupResource, _ runtime.Object) (generic.RESTOptions, error) {
	if o.KV == nil || o.Codec == nil {
		return generic.RESTOptions{}, errors.New("storage: KV and Codec must be set")
	}
	setDefault(&o.Prefix, "/registry")
	setDefault(&o.DeleteWorkers, 16)
	c := storagebackend.NewDefaultConfig(o.Prefix, o.Codec)
	c.Type = "leat" // nothing looks at it: the decorator makes the storage
	c.EventsHistoryWindow = historyWindow
	c.Transformer = o.Transformer
	group := gr.Group
	if group == "" {
		group = "core"
	}
	return generic.RESTOptions{
		StorageConfig:           c.ForResource(gr),
		Decorator:               o.decorate,
		EnableGarbageCollection: true,
		DeleteCollectionWorkers: o.DeleteWorkers,
		ResourcePrefix:          "/" + group + "/" + gr.Resource,
		CountMetricPollPeriod:   countEvery,
	}, nil
}

// decorate makes a resource's storage: a generic.StorageDecorator.
func (o RESTOptions) decorate(c *storagebackend.ConfigForResource, resourcePrefix string,
	keyFunc func(runtime.Object) (string, error), newFunc, newListFunc func() runtime.Object,
	attrs apistorage.AttrFunc, triggers apistorage.IndexerFuncs, indexers *cache.Indexers,
) (apistorage.Interface, factory.DestroyFunc, error) {
	var asStored func(map[string]any) bool
	if o.AsStored != nil {
		asStored = o.AsStored(c.GroupResource.WithVersion(newFunc().GetObjectKind().GroupVersionKind().Version))
	}
	s, err := New(Config{
		KV: o.KV, Codec: c.Codec, NewFunc: newFunc, Prefix: c.Prefix, ResourcePrefix: resourcePrefix,
		GroupResource: c.GroupResource, Transformer: c.Transformer, Clock: o.Clock, Gather: o.Gather, SharedBytes: o.SharedBytes, AsStored: asStored,
		times:      o.times,
		TellDamage: utilfeature.DefaultFeatureGate.Enabled(features.AllowUnsafeMalformedObjectDeletion),
	})
	if err != nil {
		return nil, nil, err
	}
	if !o.Cache || o.NoCache[c.GroupResource] {
		if o.Made != nil {
			version := newFunc().GetObjectKind().GroupVersionKind().Version
			o.Made(c.GroupResource.WithVersion(version), s)
		}
		return s, s.Close, nil
	}
	announceProgress()
	cached, err := cacher.NewCacherFromConfig(cacher.Config{
		Storage: s, Versioner: apistorage.APIObjectVersioner{}, GroupResource: c.GroupResource,
		EventsHistoryWindow: c.EventsHistoryWindow, ResourcePrefix: resourcePrefix,
		KeyFunc: keyFunc, NewFunc: newFunc, NewListFunc: newListFunc, GetAttrsFunc: attrs,
		IndexerFuncs: triggers, Indexers: indexers, Codec: c.Codec,
	})
	if err != nil {
		return nil, nil, err
	}
	d := cacher.NewCacheDelegator(cached, s)
	var once sync.Once
	return d, func() {
		once.Do(func() {
			d.Stop()
			cached.Stop()
			s.Close()
		})
	}, nil
}

// announceProgress tells the watch cache that this storage answers requests for
// progress, so that it may serve consistent reads. It asks that of an etcd
// client, by version; this one stands for ours.
func announceProgress() {
	feature.DefaultFeatureSupportChecker.CheckClient(context.Background(), progressClient{}, apistorage.RequestWatchProgress)
}

type progressClient struct{}

func (progressClient) Endpoints() []string { return []string{"leat"} }

func (progressClient) Status(context.Context, string) (*clientv3.StatusResponse, error) {
	return &clientv3.StatusResponse{Version: "3.6.0"}, nil // the oldest that needs no exceptions
}
