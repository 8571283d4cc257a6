package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/leat-dev/leat/api"
	"github.com/leat-dev/leat/api/admission"
	"github.com/leat-dev/leat/api/annotations"
	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/api/eventing/conversion"
	"github.com/leat-dev/leat/apiserver"
	"github.com/leat-dev/leat/broker"
	"github.com/leat-dev/leat/broker/controller"
	"github.com/leat-dev/leat/broker/operations"
	"github.com/leat-dev/leat/broker/system"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/cmd/leat/server/certs"
	"github.com/leat-dev/leat/cmd/leat/server/metrics"
	"github.com/leat-dev/leat/cmd/leat/server/tracing"
	"github.com/leat-dev/leat/cmd/leat/settings"
	"github.com/leat-dev/leat/dispatcher"
	"github.com/leat-dev/leat/filter"
	"github.com/leat-dev/leat/raftlog/kv"
	"github.com/leat-dev/leat/sources/ping"
)

// run runs a part until it is stopped; the function returned stops it, waits
// for its end, and says why that was not in order. A part that ends before that
// with an error ends the server.
func run(ctx context.Context, name string, fail context.CancelCauseFunc, part func(context.Context) error) func(context.Context) error {
	// The order of the stops is what ends a part, not the signal.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() {
		err := part(ctx)
		switch {
		case ctx.Err() == nil && err != nil:
			fail(fmt.Errorf("%s: %w", name, err))
			err = nil // it is told
		case errors.Is(err, context.Canceled):
			err = nil // as it was asked to
		}
		done <- err
	}()
	return func(wait context.Context) error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-wait.Done():
			return wait.Err()
		}
	}
}

// startTracing sends traces to a collector, where there is one; otherwise what
// it returns is nil.
func startTracing(ctx context.Context, s settings.Server, m *metrics.Metrics, version string, logger *slog.Logger, stops *stack) (event.Spans, error) {
	if s.OTLPEndpoint == "" {
		return nil, nil
	}
	e, err := tracing.Start(ctx, tracing.Options{
		Endpoint: s.OTLPEndpoint, Ratio: s.TraceSampleRatio, Queue: s.TraceQueue,
		Interval: s.TraceInterval, Timeout: s.TraceTimeout, Node: s.Node, Version: version, Counted: m.Span, Logger: logger,
	})
	if err != nil {
		return nil, fmt.Errorf("--otlp-endpoint: %w", err)
	}
	stops.push("traces", e.Close)
	return e, nil
}

func startDispatcher(s settings.Server, l listeners, tokens map[string]string, m *metrics.Metrics, spans event.Spans, logger *slog.Logger, stops *stack) (*dispatcher.Dispatcher, error) {
	allowed, err := s.AllowedDestinations()
	if err != nil {
		return nil, err
	}
	denied := []netip.AddrPort{l.api.Addr().(*net.TCPAddr).AddrPort()}
	denied = slices.DeleteFunc(denied, func(a netip.AddrPort) bool {
		return slices.ContainsFunc(allowed, func(p netip.Prefix) bool { return p.Contains(a.Addr().Unmap()) })
	})
	var authorities *x509.CertPool // nil: the system's
	if s.DeliveryCA != "" {
		if authorities, err = certs.Pool(s.DeliveryCA); err != nil {
			return nil, fmt.Errorf("--delivery-ca: %w", err)
		}
	}
	d := dispatcher.New(dispatcher.Options{
		HTTP: dispatcher.HTTPOptions{
			MaxConnsPerHost: s.MaxConnsPerHost, MaxReplyBytes: int(s.MaxReplyBytes),
			MaxIdleConns: s.MaxIdleConns, MaxIdleConnsPerHost: s.MaxIdleConnsPerHost, IdleTimeout: s.DeliveryIdleTimeout, DialTimeout: s.DeliveryDialTimeout,
			MaxAnswerBytes: int(s.MaxAnswerBytes),
			DeniedAddrs:    denied, AllowedPrefixes: allowed, RootCAs: authorities, Tokens: tokens,
		},
		MaxRequests: s.MaxDeliveries, MaxRequestBytes: int64(s.MaxDeliveryBytes), MaxWaiting: s.MaxWaiting, Filter: filterLimits(s),
		HeadWait: s.HeadWait, DetachAfter: s.DetachAfter, CommitInterval: s.CommitInterval, CommitMaxBackoff: s.CommitMaxBackoff, CommitBytes: int(s.CommitBytes),
		ScanEvents: s.ScanEvents, ScanInterval: s.ScanInterval, FilterErrorInterval: s.FilterErrorInterval,
		ReadRetry: s.ReadRetry, ReadEvents: s.ReadEvents, ReadBytes: int(s.ReadBytes), CloseGrace: s.CloseGrace,
		Hooks: m.Deliveries(), Spans: spans, Logger: logger,
	})
	stops.push("deliveries", d.Close)
	m.ObserveDispatcher(d)
	return d, nil
}

func ingressOptions(s settings.Server, r broker.Resolver, p *publishers, recorder recorder, m *metrics.Metrics, spans event.Spans) broker.IngressOptions {
	o := broker.IngressOptions{
		Resolver: r, Limits: eventLimits(s),
		MaxBodyBytes: int64(s.MaxBatchBytes), MaxBodyMemory: int64(s.MaxBodyMemory), MaxChannelMemory: int64(s.MaxChannelMemory), MaxRequests: int64(s.MaxRequests), MaxHeaderLines: s.MaxHeaderLines,
		MaxCauseDepth: s.MaxCauseDepth, RetryAfter: s.RetryAfter, WebHookRate: s.WebHookRate, AppendTimeout: s.AppendTimeout,
		Counted: m.Request, Accepted: recorder.observe, Told: recorder.knows, Spans: spans,
	}
	if s.IngressAuth == settings.AuthToken {
		o.Authenticator = p
	}
	return o
}

func eventLimits(s settings.Server) event.Limits {
	return event.Limits{
		MaxDataBytes: int(s.MaxEventBytes), MaxBatchEvents: s.MaxBatchEvents,
		MaxExtensions: s.MaxExtensions, MaxAttributeBytes: int(s.MaxAttributeBytes),
		MaxNameBytes: int(s.MaxAttributeNameBytes), MaxValueBytes: int(s.MaxValueBytes),
		MaxPassThrough: int(s.MaxPassThroughBytes), MaxDepth: s.MaxEventDepth,
	}
}

func filterLimits(s settings.Server) filter.Limits {
	return filter.Limits{
		MaxBytes: int(s.MaxFilterBytes), MaxDepth: s.MaxFilterDepth, MaxNodes: s.MaxFilterNodes,
		MaxExpressionBytes: int(s.MaxExpressionBytes), MaxExpressionNodes: s.MaxExpressionNodes, MaxExpressionDepth: s.MaxExpressionDepth,
		MaxIndexKeys: s.MaxFilterIndexKeys, MaxSteps: s.MaxFilterSteps,
		MaxDataBytes: int(s.MaxFilterDataBytes), MaxDataDepth: s.MaxFilterDataDepth, MaxDataValues: s.MaxFilterDataValues,
	}
}

// gather is how those who follow the API's writes take many together.
func gather(s settings.Server) kv.Gather { return kv.Gather{For: s.GatherTime, Rate: s.GatherRate} }

// annotationLimits are what objects may ask for.
func annotationLimits(s settings.Server) annotations.Limits {
	return annotations.Limits{MaxInFlight: s.MaxInFlightLimit, MaxWaiting: s.MaxWaitingLimit, Partitions: s.MaxPartitions}
}

// startAPI serves the API and waits until it is ready.
func startAPI(ctx context.Context, s settings.Server, l listeners, meta *kv.Store, o operations.Options, notReady func() error, version string, logger *slog.Logger, fail context.CancelCauseFunc, stops *stack) (*apiserver.Server, error) {
	crds, err := api.CRDs()
	if err != nil {
		return nil, err
	}
	a, err := apiserver.New(apiserver.Options{
		KV: meta, Listener: l.api, KeysDir: filepath.Join(s.Data, "keys"), Kubeconfig: filepath.Join(s.Data, kubeconfigFile),
		Version: version, CRDs: crds, Kinds: admission.New(admission.Options{
			CheckFilter: controller.CheckFilter(filterLimits(s)), CheckSchedule: ping.CheckSchedule, Events: eventLimits(s), Limits: annotationLimits(s),
		}),
		Node:        apiserver.Node{Name: s.Node},
		Convert:     conversion.Convert,
		Permanent:   []apiserver.Permanent{systemBroker()},
		Handlers:    map[string]http.Handler{"/leat/v1/": operations.Handler(o)},
		NotReady:    notReady,
		Documents:   map[string][]byte{"/leat/v1/": operations.OpenAPI()},
		MaxRequests: s.MaxAPIRequests, MaxMutatingRequests: s.MaxAPIMutating, MaxRequestBytes: int64(s.MaxAPIRequestBytes),
		RequestTimeout: s.APIRequestTimeout, WatchTimeout: s.APIWatchTimeout, StartTimeout: s.APIStartTimeout, ShutdownTimeout: s.ShutdownTimeout,
		MaxTokenLife: s.MaxTokenAge, DefaultTokenLife: s.DefaultTokenAge, MinTokenLife: s.MinTokenAge, TokenSkew: s.TokenClockSkew, TokenCache: s.TokenCache,
		DeleteWorkers: s.DeleteWorkers, DeleteRetryFrom: s.DeleteMinBackoff, DeleteRetryTo: s.DeleteMaxBackoff,
		NamespaceWorkers: s.NamespaceWorkers, NamespaceRetryFrom: s.NamespaceMinBackoff, NamespaceRetryTo: s.NamespaceMaxBackoff,
		EventTTL: s.APIEventAge, Gather: gather(s), SharedBytes: int64(s.SharedBytes), Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	stops.push("API", run(ctx, "API", fail, a.Run))
	select {
	case <-a.Ready():
		return a, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// startController reconciles the resources, and waits until what was deleted
// while the server was away is no longer offered.
func startController(ctx context.Context, s settings.Server, l listeners, a *apiserver.Server, log *channel.Log, d *dispatcher.Dispatcher, r *controller.Registry, i *broker.Ingress, logger *slog.Logger, fail context.CancelCauseFunc, stops *stack) (*controller.Controller, error) {
	_, mapper, err := controller.Connect(a.LoopbackConfig())
	if err != nil {
		return nil, err
	}
	client, err := a.Direct()
	if err != nil {
		return nil, err
	}
	if err := system.EnsureBroker(ctx, client); err != nil {
		return nil, err
	}
	c, err := controller.New(controller.Options{
		Client: client, Mapper: mapper, Log: log, Dispatcher: d, Registry: r,
		AcceptReply: i.AcceptReply, Denies: d.Denies, BaseURL: l.publicURL(),
		DeliveryTimeout: s.DeliveryTimeout, Limits: annotationLimits(s), Workers: s.ControllerWorkers, MinBackoff: s.ControllerMinBackoff, MaxBackoff: s.ControllerMaxBackoff,
		Debounce: s.SubscriptionDebounce, MaxDebounce: s.MaxDebounce, Settle: s.StatusSettle, PauseInterval: s.PauseInterval,
		ForeignInterval: s.ReferenceInterval, ForeignTimeout: s.ReferenceTimeout, DetachTimeout: s.DetachTimeout, MaxListed: s.MaxListed,
		Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	stops.push("controllers", run(ctx, "controllers", fail, c.Run))
	return c, c.WaitSynced(ctx)
}

// startHTTP takes events, and answers for its health.
func startHTTP(ctx context.Context, s settings.Server, l listeners, i *broker.Ingress, m *metrics.Metrics, notReady func() error, logger *slog.Logger, fail context.CancelCauseFunc, stops *stack) {
	o := broker.ServerOptions{
		ReadHeaderTimeout: s.ReadHeaderTimeout, ReadTimeout: s.ReadTimeout, WriteTimeout: s.WriteTimeout, IdleTimeout: s.IdleTimeout,
		MaxHeaderBytes: int(s.MaxHeaderBytes), MaxStreams: s.MaxStreams, MaxConns: s.MaxConns, Logger: logger,
	}
	h := broker.NewServer(i, httpHandler(i, m, notReady), o)
	listener, serve := broker.LimitConns(l.http, o), h.Serve
	if pair := l.certificate; pair != nil {
		stops.push("certificate", run(ctx, "certificate", fail, pair.Run))
		config := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.Get}
		serve = func(l net.Listener) error { return h.ServeTLS(l, config) }
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
			fail(fmt.Errorf("--http: %w", err))
		}
	}()
	stops.push("ingress", func(ctx context.Context) error {
		err := h.Shutdown(ctx)
		if err != nil {
			err = errors.Join(err, h.Close()) // whoever has not ended is broken off
		}
		<-done
		return err
	})
}

// httpHandler serves the HTTP port. A broker's path has two parts, so these
// have none of them.
func httpHandler(i *broker.Ingress, m *metrics.Metrics, notReady func() error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz": // nothing is served before the server is ready
			w.Header().Set("Content-Type", "text/plain")
			fmt.Fprint(w, "ok")
		case "/readyz":
			w.Header().Set("Content-Type", "text/plain")
			if err := notReady(); err != nil {
				w.WriteHeader(http.StatusServiceUnavailable)
				fmt.Fprintln(w, err)
				return
			}
			fmt.Fprint(w, "ok")
		case "/metrics":
			m.ServeHTTP(w, r)
		default:
			i.ServeHTTP(w, r)
		}
	})
}
