package storage

import (
	"errors"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/registry/generic"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/apiserver/pkg/storage/value"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/tools/cache"

	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/kv"
)

// RESTOptions puts the resources of a generic API server into a kv.Store. It is
// a generic.RESTOptionsGetter. There is no watch cache in front: what watches see
// is decoded once for all as it is, reads are from memory mapped, and a cache holds
// each object and each version of the last minutes as a tree, with timers that run
// each second where nothing happens.
type RESTOptions struct {
	KV *kv.Store
	// Codec encodes what is stored; a CRD's resources bring their own.
	Codec runtime.Codec
	// Prefix stands before all keys; "/registry".
	Prefix string
	// Transformer encrypts values at rest; nil does not.
	Transformer value.Transformer
	Clock       raftlog.Clock
	// Made is told of each storage, and the version it serves; may be nil.
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
	_ func(runtime.Object) (string, error), newFunc, _ func() runtime.Object,
	_ apistorage.AttrFunc, _ apistorage.IndexerFuncs, _ *cache.Indexers,
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
	if o.Made != nil {
		o.Made(c.GroupResource.WithVersion(newFunc().GetObjectKind().GroupVersionKind().Version), s)
	}
	return s, s.Close, nil
}
