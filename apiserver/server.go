package apiserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	listers "k8s.io/apiextensions-apiserver/pkg/client/listers/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/leat-dev/leat/apiserver/core"
	"github.com/leat-dev/leat/apiserver/direct"
	"github.com/leat-dev/leat/apiserver/fields"
	"github.com/leat-dev/leat/apiserver/plain"
	"github.com/leat-dev/leat/apiserver/tokens"
)

// Server is the API. It is made by New, and runs once.
type Server struct {
	o           Options
	authority   *authority
	credentials *credentials
	atRest      value.Transformer
	pipe        *pipe
	tokens      *tokens.Tokens
	accounts    atomic.Pointer[core.Kinds] // set before the first request
	stores      *direct.Stores
	schemas     fields.Cache
	plain       *plain.Handler                                         // nil without; set before the first request
	definitions atomic.Pointer[listers.CustomResourceDefinitionLister] // set before the server is ready
	token       string
	ready       chan struct{}
	started     atomic.Bool
}

// New reads or makes the keys. Nothing runs, and no request is answered, before
// Run.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := openKeys(o.KeysDir); err != nil {
		return nil, fmt.Errorf("apiserver: %w", err)
	}
	atRest, err := openTransformer(o.KeysDir, o.KV)
	if err != nil {
		return nil, fmt.Errorf("apiserver: %w", err)
	}
	a, err := openAuthority(o.KeysDir, o.Clock.Now())
	if err != nil {
		return nil, fmt.Errorf("apiserver: %w", err)
	}
	key, err := openTokenKey(o.KeysDir)
	if err != nil {
		return nil, fmt.Errorf("apiserver: %w", err)
	}
	hosts, err := certificateHosts(o.Listener.Addr(), o.Hosts)
	if err != nil {
		return nil, fmt.Errorf("apiserver: %w", err)
	}
	c, err := newCredentials(a, hosts, o.Clock.Now)
	if err != nil {
		return nil, fmt.Errorf("apiserver: %w", err)
	}
	s := &Server{
		o: o, authority: a, credentials: c, atRest: atRest,
		pipe: newPipe(), stores: direct.NewStores(), token: rand.Text(), ready: make(chan struct{}),
	}
	s.tokens, err = tokens.New(tokens.Options{
		Key: key, Accounts: s.serviceAccount, Now: o.Clock.Now, CacheSize: o.TokenCache,
		MaxLife: o.MaxTokenLife, DefaultLife: o.DefaultTokenLife, MinLife: o.MinTokenLife, Skew: o.TokenSkew,
	})
	if err != nil {
		return nil, fmt.Errorf("apiserver: %w", err)
	}
	return s, nil
}

// Ready is closed when the core kinds and the CRDs given are served, the
// namespaces exist and the kubeconfig is written. It stays open if Run fails
// before.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.o.Listener.Addr() }

// LoopbackConfig is for clients within the process: all rights, no port, no
// limit of rate. Requests wait until Run serves them. Clients must be stopped
// before Run's context ends, or see their connections break.
func (s *Server) LoopbackConfig() *rest.Config {
	return &rest.Config{Host: "http://loopback", BearerToken: s.token, Dial: s.pipe.dial, QPS: -1, UserAgent: loopbackAgent}
}

// loopbackAgent is who the clients within the process say that they are, and by
// which name the API notes what they write.
const loopbackAgent = "leat"

// Direct is a client like one by LoopbackConfig, for the server's own
// controllers: it sends no requests where it can do without, see package
// direct. What its watches deliver must not be changed.
func (s *Server) Direct() (dynamic.Interface, error) {
	base, err := dynamic.NewForConfig(s.LoopbackConfig())
	if err != nil || len(s.o.Admission) > 0 {
		return base, err // plugins are asked in requests only
	}
	return direct.New(direct.Options{Base: base, Manager: loopbackAgent, Stores: s.stores, Definition: s.definition, Now: s.o.Clock.Now}), nil
}

// definition is that of a resource; nil where there is none.
func (s *Server) definition(r schema.GroupResource) *apiextensionsv1.CustomResourceDefinition {
	lister := s.definitions.Load()
	if lister == nil {
		return nil
	}
	crd, err := (*lister).Get(r.String())
	if err != nil {
		return nil // it is served by nobody's definition
	}
	return crd
}

// WriteKubeconfig writes the admin's configuration, in one step and readable by
// its owner only. It may be called at any time; Options.Kubeconfig is kept up
// to date, a file written by this is not.
func (s *Server) WriteKubeconfig(path string) error {
	b, err := s.credentials.kubeconfig(reachable(s.Addr()))
	if err != nil {
		return err
	}
	if err := writeFile(path, b); err != nil {
		return fmt.Errorf("kubeconfig: %w", err)
	}
	return nil
}

// Run serves until ctx ends; requests in progress are then finished, within
// ShutdownTimeout, and watches ended. It returns when nothing runs any more. An
// error says why the server could not start or go on.
func (s *Server) Run(ctx context.Context) error {
	if !s.started.CompareAndSwap(false, true) {
		return errors.New("apiserver: a Server runs once")
	}
	if err := s.run(ctx); err != nil {
		return fmt.Errorf("apiserver: %w", err)
	}
	return nil
}

func (s *Server) run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	l := newListener(s.o.Listener, stop)
	g, err := s.build(ctx, l)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	gs := g.server.GenericAPIServer
	prepared := gs.PrepareRun()
	err = s.describe(gs)
	if err == nil {
		err = s.publishDocuments(g)
	}
	if err != nil {
		gs.Destroy()
		return errors.Join(err, l.Close())
	}
	gs.ShutdownTimeout = s.o.ShutdownTimeout

	loopback := &http.Server{Handler: gs.Handler, ReadHeaderTimeout: s.o.RequestTimeout}
	served := make(chan error, 1)
	go func() { served <- loopback.Serve(s.pipe) }()
	ran := make(chan error, 1)
	go func() {
		err := g.run(ctx, prepared.RunWithContext)
		stop(err)
		ran <- err
	}()

	var controllers func()
	if err = s.start(ctx, g); err == nil {
		controllers, err = s.control(ctx, g)
	}
	if err == nil {
		s.credentials.run(ctx, s.o.Clock.After, s.renewed, func(err error) {
			s.o.Logger.Warn("the certificates could not be renewed; it is tried again", "error", err)
		})
	}
	stop(nil) // if nothing else has
	if controllers != nil {
		controllers()
	}
	draining, done := context.WithTimeout(context.WithoutCancel(ctx), s.o.ShutdownTimeout)
	defer done()
	err = errors.Join(err, l.failure(), s.drain(draining, g, l, ran), loopback.Close())
	<-served
	return err
}

// drain waits for the requests in progress, and closes the connections.
func (s *Server) drain(ctx context.Context, g *generic, l *listener, ran <-chan error) error {
	g.requests.wait(ctx)
	select {
	case err := <-ran:
		return err
	case <-time.After(flushTime):
	}
	l.open.closeAll()
	return <-ran
}

// start does what must be there before the server is ready. That the server
// was told to stop in the meantime is no error.
func (s *Server) start(ctx context.Context, g *generic) error {
	limited, cancel := context.WithTimeout(ctx, s.o.StartTimeout)
	defer cancel()
	begun := time.Now()
	err := s.bootstrap(limited, g)
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return fmt.Errorf("start: %w", err)
	}
	if err := s.renewed(); err != nil {
		return err
	}
	close(s.ready)
	s.o.Logger.Debug("API is ready", "address", s.Addr().String(), "took", time.Since(begun))
	return nil
}

// renewed keeps the kubeconfig up to date.
func (s *Server) renewed() error {
	if s.o.Kubeconfig == "" {
		return nil
	}
	return s.WriteKubeconfig(s.o.Kubeconfig)
}

// Forget gives up what is kept in memory of the latest writes, and gives its bytes.
// It is for when nothing is written.
func (s *Server) Forget() int64 { return s.stores.Forget() }
