package apiserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	extensions "k8s.io/apiextensions-apiserver/pkg/apiserver"
	extensionsopenapi "k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	endpointsfilters "k8s.io/apiserver/pkg/endpoints/filters"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericregistry "k8s.io/apiserver/pkg/registry/generic"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/filters"
	"k8s.io/apiserver/pkg/server/healthz"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/apiserver/pkg/util/notfoundhandler"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kube-openapi/pkg/common"

	"github.com/leat-dev/leat/apiserver/catalog"
	"github.com/leat-dev/leat/apiserver/core"
	coreopenapi "github.com/leat-dev/leat/apiserver/core/openapi"
	"github.com/leat-dev/leat/apiserver/documents"
	"github.com/leat-dev/leat/apiserver/plain"
	"github.com/leat-dev/leat/apiserver/storage"
	"github.com/leat-dev/leat/apiserver/tokens"
)

// storagePrefix stands before all keys of resources in the store.
const storagePrefix = "/registry"

// generic is the libraries' server with what is served on it.
type generic struct {
	server     *extensions.CustomResourceDefinitions
	kinds      *core.Kinds
	catalog    *catalog.Catalog
	namespaces *namespacePlugin
	// started is closed when the definitions are known, and whatever is served
	// by them.
	started  chan struct{}
	complete chan struct{} // closed when all that is served is known
	requests *requests
}

// What the extensions server calls its wait for the definitions: the hook, and
// the signal that tells the other parts of it.
const (
	syncedHook   = "crd-informer-synced"
	syncedSignal = "CRDInformerHasNotSynced"
)

// build makes the server, to serve on l; its storage may run from here on, until Destroy.
func (s *Server) build(ctx context.Context, l net.Listener) (*generic, error) {
	namespaces := newNamespacePlugin(s.o.Namespaces)
	config := s.config(l, namespaces)
	g := &generic{started: make(chan struct{}), complete: make(chan struct{}), requests: &requests{}, namespaces: namespaces}
	s.boundRequests(ctx, config, g)
	c := &extensions.Config{GenericConfig: config, ExtraConfig: extensions.ExtraConfig{
		CRDRESTOptionsGetter: s.definedStorage(),
		MasterCount:          1, // or a new definition would wait 5 s for servers that do not exist
		ServiceResolver:      noServices{},
		AuthResolverWrapper:  converting(s.o.Convert, webhook.NewDefaultAuthenticationInfoResolverWrapper(nil, nil, config.LoopbackClientConfig, nil)),
	}}
	completed := c.Complete()
	notFound := notfoundhandler.New(config.Serializer, endpointsfilters.NoMuxAndDiscoveryIncompleteKey)
	server, err := completed.New(genericapiserver.NewEmptyDelegateWithCustomHandler(notFound))
	if err != nil {
		return nil, err
	}
	g.server = server
	lister := server.Informers.Apiextensions().V1().CustomResourceDefinitions().Lister()
	s.definitions.Store(&lister)
	if err := s.serve(g); err != nil {
		server.GenericAPIServer.Destroy()
		return nil, err
	}
	return g, nil
}

// serve adds what the extensions server does not serve.
func (s *Server) serve(g *generic) error {
	gs := g.server.GenericAPIServer
	crds := g.server.Informers.Apiextensions().V1().CustomResourceDefinitions()
	var err error
	g.kinds, err = core.New(core.Options{
		Storage: func(c runtime.Codec) genericregistry.RESTOptionsGetter { return s.storage(c) }, EventTTL: s.o.EventTTL, Issue: s.tokens.Issue,
		Access: core.Access{Tokens: s.tokens, Audiences: authenticator.Audiences{tokens.Audience}, Authorizer: rulebook{}, Rules: rulebook{}},
	})
	if err != nil {
		return err
	}
	g.catalog = catalog.New(storagePrefix, g.kinds.Resources(), crds.Lister())
	s.accounts.Store(g.kinds)
	g.namespaces.get = g.kinds.Namespace
	g.namespaces.revision = func(name string) uint64 {
		stored, _, err := s.o.KV.Get(storagePrefix + "/core/namespaces/" + name)
		if err != nil || stored == nil {
			return 0 // it is looked at in the ordinary way
		}
		return stored.ModRev
	}
	if err := g.kinds.Install(gs); err != nil {
		return err
	}

	// The extensions server leaves /apis to a server in front of it.
	groups := aggregated.WrapAggregatedDiscoveryToHandler(gs.DiscoveryGroupManager, gs.AggregatedDiscoveryGroupManager, gs.AggregatedDiscoveryGroupManager)
	gs.Handler.GoRestfulContainer.Add(groups.GenerateWebService("/apis", metav1.APIGroupList{}))
	mirror := &groupMirror{crds: crds.Lister(), groups: gs.DiscoveryGroupManager}
	if err := onChange(crds.Informer(), mirror.sync); err != nil {
		return err
	}
	if err := g.awaitDefinitions(); err != nil {
		return err
	}
	if s.o.NotReady != nil {
		if err := gs.AddReadyzChecks(healthz.NamedCheck("disk", func(*http.Request) error { return s.o.NotReady() })); err != nil {
			return err
		}
	}
	for prefix, h := range s.o.Handlers {
		if !strings.HasPrefix(prefix, "/") || !strings.HasSuffix(prefix, "/") {
			return fmt.Errorf("handler at %q: a prefix begins and ends with a slash", prefix)
		}
		gs.Handler.NonGoRestfulMux.HandlePrefix(prefix, h)
	}
	return nil
}

// onChange calls a function after each change of what an informer sees.
func onChange(i cache.SharedInformer, changed func()) error {
	_, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { changed() },
		UpdateFunc: func(any, any) { changed() },
		DeleteFunc: func(any) { changed() },
	})
	return err
}

// publishDocuments takes the OpenAPI v3 documents of the definitions out of the
// extensions server's hands: its own are so large that kubectl is slow with
// them. It is called after the server was prepared, and before it runs.
func (s *Server) publishDocuments(g *generic) error {
	gs := g.server.GenericAPIServer
	if gs.OpenAPIV3VersionedService == nil {
		return errors.New("the server was prepared without a service of OpenAPI v3 documents: has the library changed?")
	}
	crds := g.server.Informers.Apiextensions().V1().CustomResourceDefinitions()
	d := documents.New(crds.Lister(), gs.OpenAPIV3VersionedService)
	gs.OpenAPIV3VersionedService = nil // the handlers have it
	return onChange(crds.Informer(), func() {
		if err := d.Sync(); err != nil {
			s.o.Logger.Error("the documents of kinds could not be published", "error", err)
		}
	})
}

func (s *Server) config(l net.Listener, namespaces *namespacePlugin) *genericapiserver.RecommendedConfig {
	c := genericapiserver.NewRecommendedConfig(extensions.Codecs)
	c.EffectiveVersion = newEffectiveVersion(s.o.Version)
	c.FeatureGate = utilfeature.DefaultFeatureGate
	c.LoopbackClientConfig = s.LoopbackConfig()
	c.Authentication.Authenticator = newAuthenticator(s.authority, s.tokens, s.o.Clock.Now)
	c.Authentication.APIAudiences = authenticator.Audiences{tokens.Audience}
	c.Authorization.Authorizer = rulebook{}
	c.SecureServing = &genericapiserver.SecureServingInfo{Listener: l, Cert: s.credentials, ClientCA: s.authority}
	c.ExternalAddress = reachable(s.Addr())
	c.MergedResourceConfig = extensions.DefaultAPIResourceConfigSource()
	c.DisabledPostStartHooks.Insert(syncedHook) // see awaitDefinitions
	c.RESTOptionsGetter = s.storage(extensions.Codecs.LegacyCodec(apiextensionsv1.SchemeGroupVersion))

	plugins := []admission.Interface{namespaces}
	if len(s.o.Permanent) > 0 {
		plugins = append(plugins, newPermanentPlugin(s.o.Permanent))
	}
	if s.o.Kinds != nil {
		plugins = append(plugins, newKindPlugin(s.o.Kinds))
	}
	c.AdmissionControl = admission.NewChainHandler(append(plugins, s.o.Admission...)...)

	// Bounds: without priority and fairness, a number of requests.
	c.FlowControl = nil
	c.MaxRequestsInFlight, c.MaxMutatingRequestsInFlight = s.o.MaxRequests, s.o.MaxMutatingRequests
	c.MaxRequestBodyBytes = s.o.MaxRequestBytes
	c.RequestTimeout = s.o.RequestTimeout
	c.MinRequestTimeout = int(s.o.WatchTimeout / time.Second)
	c.StorageInitializationTimeout = s.o.StartTimeout

	definitions := func(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
		all := extensionsopenapi.GetOpenAPIDefinitions(ref)
		maps.Copy(all, coreopenapi.GetOpenAPIDefinitions(ref))
		return all
	}
	namer := openapinamer.NewDefinitionNamer(extensions.Scheme, core.PublicScheme())
	c.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(definitions, namer)
	c.OpenAPIConfig.Info.Title = "Leat"
	c.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(definitions, namer)
	c.OpenAPIV3Config.Info.Title = "Leat"
	return c
}

// awaitDefinitions does what the extensions server's own hook does, but looks
// every few milliseconds, not ten times a second, and does not end the process
// when the server stops meanwhile.
func (g *generic) awaitDefinitions() error {
	gs := g.server.GenericAPIServer
	signals := gs.MuxAndDiscoveryCompleteSignals()
	if signals[syncedSignal] == nil {
		return fmt.Errorf("the extensions server has no signal %s: has the library changed?", syncedSignal)
	}
	signals[syncedSignal] = g.started
	synced := g.server.Informers.Apiextensions().V1().CustomResourceDefinitions().Informer().HasSynced
	return gs.AddPostStartHook("leat-definitions", func(hook genericapiserver.PostStartHookContext) error {
		err := wait.PollUntilContextCancel(hook, pollEvery, true, func(context.Context) (bool, error) { return synced(), nil })
		if err == nil {
			close(g.started)
		}
		return nil
	})
}

// run runs the server once the definitions are known: its controllers look
// whether they are when they start, and from then on only ten times a second.
// What follows the definitions goes on until the server's last request is
// answered.
func (g *generic) run(ctx context.Context, server func(context.Context) error) error {
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer stop()
	waiting.Go(func() { g.awaitComplete(following) })
	g.server.Informers.StartWithContext(following)
	cache.WaitFor(ctx, "", g.server.Informers.Apiextensions().V1().CustomResourceDefinitions().Informer().HasSyncedChecker())
	return server(ctx) // which ends at once where ctx has ended
}

// awaitComplete waits for all signals that say that what is served is known.
func (g *generic) awaitComplete(ctx context.Context) {
	for _, signal := range g.server.GenericAPIServer.MuxAndDiscoveryCompleteSignals() {
		select {
		case <-signal:
		case <-ctx.Done():
			return
		}
	}
	close(g.complete)
}

// maxCreation is what the libraries' handlers allow a creation.
const maxCreation = 34 * time.Second

// shortcuts says whether plain requests may be answered without the libraries'
// handlers: plugins that are not ours expect these.
func (s *Server) shortcuts() bool {
	return s.o.Kinds != nil && len(s.o.Admission) == 0 && !s.o.NoShortcuts
}

// boundRequests says which requests may last long, and ends those when the
// server stops: the libraries wait for them otherwise. It counts all.
func (s *Server) boundRequests(stopping context.Context, c *genericapiserver.RecommendedConfig, g *generic) {
	prefixes := slices.Collect(maps.Keys(s.o.Handlers))
	watches := filters.BasicLongRunningRequestCheck(sets.NewString("watch"), sets.NewString())
	c.LongRunningFunc = func(r *http.Request, info *request.RequestInfo) bool {
		return watches(r, info) || slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(r.URL.Path, p) })
	}
	c.BuildHandlerChainFunc = func(h http.Handler, c *genericapiserver.Config) http.Handler {
		if s.shortcuts() {
			s.plain = plain.New(plain.Options{
				Definition: s.definition, Stores: s.stores, Own: s.o.Kinds.Handles, Admission: c.AdmissionControl, Now: s.o.Clock.Now,
				Timeout: min(s.o.RequestTimeout, maxCreation), MaxRequestBytes: s.o.MaxRequestBytes,
			})
		}
		ending := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			info, ok := request.RequestInfoFrom(r.Context())
			if !ok || !c.LongRunningFunc(r, info) {
				h.ServeHTTP(w, r)
				return
			}
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			defer context.AfterFunc(stopping, cancel)()
			h.ServeHTTP(w, r.WithContext(ctx))
		})
		return g.requests.count(chain(ending, s.plain, c, g.complete))
	}
}

// definedStorage is that of the kinds of definitions.
func (s *Server) definedStorage() genericregistry.RESTOptionsGetter {
	o := s.storage(unstructured.UnstructuredJSONScheme)
	o.Made, o.Gather = s.stores.Add, s.o.Gather
	if s.shortcuts() {
		o.AsStored = s.asStored
	}
	return o
}

// asStored tells objects of the server's own kinds that are read as they are
// stored: their definitions describe all that is in them.
func (s *Server) asStored(r schema.GroupVersionResource) func(map[string]any) bool {
	return func(object map[string]any) bool {
		crd := s.definition(r.GroupResource())
		return crd != nil && object["apiVersion"] == r.GroupVersion().String() && object["kind"] == crd.Spec.Names.Kind &&
			!crd.Spec.PreserveUnknownFields && s.o.Kinds.Handles(schema.GroupKind{Group: r.Group, Kind: crd.Spec.Names.Kind}) &&
			s.schemas.Of(crd, r.Version).IsAsStored(object)
	}
}

// storage puts resources into the store, encoded by a codec.
func (s *Server) storage(codec runtime.Codec) storage.RESTOptions {
	return storage.RESTOptions{
		KV: s.o.KV, Codec: codec, Prefix: storagePrefix, Clock: s.o.Clock,
		Transformer: s.atRest, DeleteWorkers: s.o.DeleteWorkers, SharedBytes: s.o.SharedBytes,
	}
}
