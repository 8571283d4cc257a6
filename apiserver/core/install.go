package core

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/names"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/leat-dev/leat/apiserver/catalog"
)

// Options say how the kinds are served.
type Options struct {
	// Storage makes the storage options from the codec to store with.
	Storage func(runtime.Codec) generic.RESTOptionsGetter
	// EventTTL is how long an Event is kept after its last write; 0: for ever.
	EventTTL time.Duration
	// Access answers reviews; Issue answers the requests for tokens.
	Access Access
	Issue  func(*corev1.ServiceAccount, *authenticationv1.TokenRequest) error
}

// Kinds are the served kinds.
type Kinds struct {
	all        []*kind
	scheme     *runtime.Scheme
	codecs     serializer.CodecFactory
	stores     map[string]*store // by kind
	namespaces *namespaces
	reviews    []*review
	tokens     *tokenRequests
}

// New makes the stores of all kinds.
func New(o Options) (*Kinds, error) {
	if err := o.Access.check(); err != nil {
		return nil, err
	}
	all := kinds(uint64(o.EventTTL / time.Second))
	scheme, err := newScheme(all)
	if err != nil {
		return nil, fmt.Errorf("scheme of the core kinds: %w", err)
	}
	c := &Kinds{all: all, scheme: scheme, codecs: serializer.NewCodecFactory(scheme), stores: map[string]*store{}}
	getter := o.Storage(storageCodec(scheme))
	for _, k := range all {
		s, err := newStore(k, scheme, getter)
		if err != nil {
			return nil, fmt.Errorf("store of %s: %w", k.plural, err)
		}
		c.stores[k.name] = s
	}
	c.namespaces = newNamespaces(c.stores["Namespace"])
	c.reviews = reviews(o.Access)
	c.tokens = &tokenRequests{accounts: c.stores["ServiceAccount"], issue: o.Issue}
	return c, nil
}

// Install serves the kinds.
func (c *Kinds) Install(s *genericapiserver.GenericAPIServer) error {
	served := map[schema.GroupVersion]map[string]rest.Storage{}
	for _, gv := range groups() {
		served[gv] = map[string]rest.Storage{}
	}
	for _, k := range c.all {
		store := c.stores[k.name]
		served[k.gv][k.plural] = store
		if k.hasStatus {
			served[k.gv][k.plural+"/status"] = newStatus(store)
		}
	}
	served[corev1.SchemeGroupVersion]["namespaces"] = c.namespaces
	served[corev1.SchemeGroupVersion]["namespaces/finalize"] = newFinalize(c.namespaces)
	served[eventsv1.SchemeGroupVersion]["events"] = c.stores["Event"].unabbreviated()
	served[corev1.SchemeGroupVersion]["serviceaccounts/token"] = c.tokens
	for _, r := range c.reviews {
		served[r.gv][r.plural] = r
	}
	for _, gv := range groups() {
		info := genericapiserver.NewDefaultAPIGroupInfo(gv.Group, c.scheme, metav1.ParameterCodec, c.codecs)
		info.VersionedResourcesStorageMap[gv.Version] = served[gv]
		install := s.InstallAPIGroup
		if gv.Group == "" {
			install = func(info *genericapiserver.APIGroupInfo) error {
				return s.InstallLegacyAPIGroup(genericapiserver.DefaultLegacyAPIPrefix, info)
			}
		}
		if err := install(&info); err != nil {
			return fmt.Errorf("install %s: %w", gv, err)
		}
	}
	return nil
}

// Resources are what the kinds are served as.
func (c *Kinds) Resources() []catalog.Resource {
	var all []catalog.Resource
	for _, k := range c.all {
		all = append(all, catalog.Resource{GroupVersionResource: k.gv.WithResource(k.plural), Kind: k.name, Namespaced: k.namespaced})
	}
	return all
}

// Namespace reads a namespace as it is now; an error of NotFound names it.
func (c *Kinds) Namespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	obj, err := c.namespaces.Get(ctx, name, &metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		// The store would name the resource of the request that asks.
		return nil, apierrors.NewNotFound(c.namespaces.resource(), name)
	}
	if err != nil {
		return nil, err
	}
	return obj.(*corev1.Namespace), nil
}

// ServiceAccount reads one, as it is now, or else as of a moment ago, which is
// faster.
func (c *Kinds) ServiceAccount(ctx context.Context, namespace, name string, fresh bool) (*corev1.ServiceAccount, error) {
	o := &metav1.GetOptions{ResourceVersion: "0"}
	if fresh {
		o.ResourceVersion = ""
	}
	obj, err := c.stores["ServiceAccount"].Get(request.WithNamespace(ctx, namespace), name, o)
	if err != nil {
		return nil, err
	}
	return obj.(*corev1.ServiceAccount), nil
}

// store is a kind's registry.
type store struct {
	*registry.Store
	*kind
}

var (
	_ rest.ShortNamesProvider = &store{}
	_ rest.CategoriesProvider = &store{}
)

// ShortNames implements rest.ShortNamesProvider.
func (s *store) ShortNames() []string { return s.short }

// Categories implements rest.CategoriesProvider.
func (s *store) Categories() []string { return s.categories }

// unabbreviated is the same store under no short names, for a second group:
// kubectl would warn of each use of one.
func (s *store) unabbreviated() *store {
	k := *s.kind
	k.short = nil
	return &store{s.Store, &k}
}

func newStore(k *kind, scheme *runtime.Scheme, getter generic.RESTOptionsGetter) (*store, error) {
	st := strategy{scheme, names.SimpleNameGenerator, k}
	s := &registry.Store{
		NewFunc: k.new, NewListFunc: k.newList,
		DefaultQualifiedResource:  k.resource(),
		SingularQualifiedResource: k.gv.WithResource(k.singular).GroupResource(),
		CreateStrategy:            st, UpdateStrategy: st, DeleteStrategy: st, ResetFieldsStrategy: st,
		TableConvertor: table{k},
	}
	if k.ttl > 0 {
		s.TTLFunc = func(runtime.Object, uint64, bool) (uint64, error) { return k.ttl, nil }
	}
	if err := s.CompleteWithOptions(&generic.StoreOptions{RESTOptions: getter, AttrFunc: attributes(k)}); err != nil {
		return nil, err
	}
	return &store{s, k}, nil
}

// attributes are what selectors select by.
func attributes(k *kind) storage.AttrFunc {
	return func(obj runtime.Object) (labels.Set, fields.Set, error) {
		m := metadata(obj)
		set := fields.Set{"metadata.name": m.GetName()}
		if k.namespaced {
			set["metadata.namespace"] = m.GetNamespace()
		}
		if k.fields != nil {
			for name, value := range k.fields(obj) {
				set[name] = value
			}
		}
		return m.GetLabels(), set, nil
	}
}

// status is the status subresource of a kind.
type status struct{ store *registry.Store }

var (
	_ rest.Patcher             = &status{}
	_ rest.ResetFieldsStrategy = &status{}
)

func newStatus(s *store) *status {
	of := *s.Store
	st := statusStrategy{of.UpdateStrategy.(strategy)}
	of.UpdateStrategy, of.ResetFieldsStrategy = st, st
	return &status{&of}
}

// New implements rest.Storage.
func (s *status) New() runtime.Object { return s.store.New() }

// Destroy implements rest.Storage; the kind's own store is destroyed for both.
func (s *status) Destroy() {}

// Get implements rest.Getter.
func (s *status) Get(ctx context.Context, name string, o *metav1.GetOptions) (runtime.Object, error) {
	return s.store.Get(ctx, name, o)
}

// Update implements rest.Updater. It never creates.
func (s *status) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, onCreate rest.ValidateObjectFunc,
	onUpdate rest.ValidateObjectUpdateFunc, _ bool, o *metav1.UpdateOptions) (runtime.Object, bool, error) {
	return s.store.Update(ctx, name, info, onCreate, onUpdate, false, o)
}

// GetResetFields implements rest.ResetFieldsStrategy.
func (s *status) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return s.store.GetResetFields()
}

// ConvertToTable implements rest.TableConvertor.
func (s *status) ConvertToTable(ctx context.Context, obj, o runtime.Object) (*metav1.Table, error) {
	return s.store.ConvertToTable(ctx, obj, o)
}
