// Package server wires the parts into a running server.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/leat-dev/leat/broker"
	"github.com/leat-dev/leat/broker/controller"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/cmd/leat/server/certs"
	"github.com/leat-dev/leat/cmd/leat/server/metrics"
	"github.com/leat-dev/leat/cmd/leat/settings"
	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/kv"
)

// Ready is called once, when a server is ready, on a goroutine of its own; an
// error ends the server. ctx ends when the server stops.
type Ready func(ctx context.Context, e Endpoints) error

// Run runs a server until ctx ends, then drains it: requests in flight are
// answered, deliveries in flight are finished, within ShutdownTimeout. An error
// says why it could not start, or why it had to stop; a *RunningError that
// another one has the directory. ready may be nil.
func Run(ctx context.Context, s settings.Server, version string, logger *slog.Logger, ready Ready) (err error) {
	lock, err := lockDir(s.Data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()

	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	fatal := endProcess(logger)

	listeners, err := listen(ctx, s, logger)
	if err != nil {
		return err
	}
	defer listeners.close()

	var stops stack
	defer func() {
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.ShutdownTimeout)
		defer cancel()
		err = errors.Join(err, stops.run(drain))
	}()

	m := metrics.New(metrics.Options{MaxSeries: s.MaxMetricSeries, MaxScrapes: s.MaxScrapes, ScrapeTimeout: s.ScrapeTimeout, Version: version})
	meta, metaGroup, err := openMeta(ctx, s, m, logger, fatal, &stops)
	if err != nil {
		return err
	}
	log, logGroup, err := openLog(ctx, s, m, logger, fatal, fail, &stops)
	if err != nil {
		return err
	}
	spans, err := startTracing(ctx, s, m, version, logger, &stops)
	if err != nil {
		return err
	}
	publishers := newPublishers()
	d, err := startDispatcher(s, listeners, publishers.ownTokens(listeners), m, spans, logger, &stops)
	if err != nil {
		return err
	}
	registry := controller.NewRegistry(log)
	recorder := newRecorder(s, logger)
	ingress := broker.NewIngress(ingressOptions(s, registry, publishers, recorder, m, spans))

	asked, stalled := &declared{}, notReady(metaGroup, logGroup)
	api, err := startAPI(ctx, s, listeners, meta, operationsOptions(s, log, d, asked, version, metaGroup, logGroup), stalled, version, logger, fail, &stops)
	if err != nil {
		return err
	}
	publishers.api.Store(api)
	c, err := startController(ctx, s, listeners, api, log, d, registry, ingress, logger, fail, &stops)
	if err != nil {
		return err
	}
	asked.by.Store(c)
	if err := startSources(ctx, s, api, c, log, d, ingress, logger, fail, &stops); err != nil {
		return err
	}
	if err := recorder.start(ctx, api, fail, &stops); err != nil {
		return err
	}
	if err := startSystem(ctx, s, listeners, meta, api, registry, recorder, m, logger, fail, &stops); err != nil {
		return err
	}
	startHTTP(ctx, s, listeners, ingress, m, stalled, logger, fail, &stops)

	e, err := announce(s, listeners, &stops)
	if err != nil {
		return err
	}
	logger.Info("ready", "http", e.HTTP, "api", e.API, "kubeconfig", e.Kubeconfig, "version", version)
	stops.push("memory", run(ctx, "memory", fail, newKeeper(ctx, s.MemoryInterval, int64(s.GarbageBytes), log.Room, logger, meta.Forget, log.Forget, api.Forget).run))
	if ready != nil {
		stops.push("what follows the start", run(ctx, "after the start", fail, func(ctx context.Context) error { return ready(ctx, e) }))
	}

	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	logger.Info("draining", "timeout", s.ShutdownTimeout)
	return nil
}

// endProcess ends the process where what is on disk is not known any more:
// nothing may be answered on the strength of it, so nothing is drained.
func endProcess(logger *slog.Logger) func(error) {
	return func(err error) {
		logger.Error("the log cannot be written; the process ends", "error", err)
		os.Exit(1)
	}
}

// announce tells other programs that the server is ready, until it stops.
func announce(s settings.Server, l listeners, stops *stack) (e Endpoints, err error) {
	e = Endpoints{HTTP: l.httpURL(), API: l.apiURL(), PID: os.Getpid()}
	if e.Kubeconfig, err = filepath.Abs(filepath.Join(s.Data, kubeconfigFile)); err != nil {
		return e, err
	}
	if err := e.write(s.Data); err != nil {
		return e, err
	}
	stops.push("endpoints", func(context.Context) error { return os.Remove(filepath.Join(s.Data, endpointsFile)) })
	return e, nil
}

// stack is what must be stopped, last started first.
type stack struct{ parts []part }

type part struct {
	name string
	stop func(context.Context) error
}

func (s *stack) push(name string, stop func(context.Context) error) {
	s.parts = append(s.parts, part{name, stop})
}

func (s *stack) run(ctx context.Context) error {
	var errs []error
	for i := len(s.parts) - 1; i >= 0; i-- {
		if err := s.parts[i].stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", s.parts[i].name, err))
		}
	}
	return errors.Join(errs...)
}

// listeners are the two ports.
type listeners struct {
	http, api net.Listener
	// scheme is that of http, public where others reach it.
	scheme, public string
	// certificate is that of http; nil where it has none.
	certificate *certs.Pair
}

func listen(ctx context.Context, s settings.Server, logger *slog.Logger) (l listeners, err error) {
	l.scheme, l.public = "http", strings.TrimSuffix(s.PublicURL, "/")
	if s.TLSCert != "" {
		l.scheme = "https"
		l.certificate, err = certs.Load(certs.Options{Cert: s.TLSCert, Key: s.TLSKey, Every: s.TLSReload, Logger: logger})
		if err != nil {
			return l, fmt.Errorf("--tls-cert: %w", err)
		}
	}
	var c net.ListenConfig
	if l.http, err = c.Listen(ctx, "tcp", s.HTTP); err != nil {
		return l, listenError("http", s.HTTP, err)
	}
	if l.api, err = c.Listen(ctx, "tcp", s.API); err != nil {
		l.close()
		return l, listenError("api", s.API, err)
	}
	return l, nil
}

// listenError says what to do where somebody else has the port.
func listenError(flag, address string, err error) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("--%s: %w", flag, err)
	}
	return fmt.Errorf("--%s: another program uses %s: stop it, or choose another address, such as --%s 127.0.0.1:0 for a free port", flag, address, flag)
}

func (l listeners) close() {
	for _, c := range []net.Listener{l.http, l.api} {
		if c != nil {
			c.Close() // it may be closed by its server
		}
	}
}

// httpURL is the address for events as this machine reaches it, publicURL as
// others do.
func (l listeners) httpURL() string { return l.scheme + "://" + reachable(l.http) }

func (l listeners) publicURL() string {
	if l.public != "" {
		return l.public
	}
	return l.httpURL()
}

func (l listeners) apiURL() string { return "https://" + reachable(l.api) }

// reachable is a listener's address as this machine can dial it.
func reachable(l net.Listener) string {
	a := l.Addr().(*net.TCPAddr).AddrPort()
	if a.Addr().IsUnspecified() {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port()).String()
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String()
}

// Names of the groups, and of their directories.
const (
	metaName  = "meta"
	shardName = "s0"
)

func groupOptions(s settings.Server, name string, machine raftlog.Machine, m *metrics.Metrics, logger *slog.Logger, fatal func(error)) raftlog.Options {
	return raftlog.Options{
		Dir: filepath.Join(s.Data, "groups", name), Name: name, NodeID: s.Node, Machine: machine, Logger: logger, Fatal: fatal,
		SegmentBytes: int64(s.SegmentBytes), SnapshotBytes: int64(s.SnapshotBytes), Snapshots: s.Snapshots,
		MaxEntryBytes: int(s.MaxEntryBytes), MaxPendingBytes: int64(s.MaxPendingBytes),
		DiskFloor: uint64(s.DiskFloor), DiskReserve: uint64(s.DiskReserve), StallAfter: s.StallAfter,
		Hooks: m.Log(name),
	}
}

// openMeta opens the group that holds the resources.
func openMeta(ctx context.Context, s settings.Server, m *metrics.Metrics, logger *slog.Logger, fatal func(error), stops *stack) (*kv.Store, *raftlog.Group, error) {
	store, err := kv.Open(kv.Options{
		Dir: filepath.Join(s.Data, "meta"), Logger: logger, Fatal: fatal,
		MaxKeyBytes: int(s.MaxObjectKeyBytes), MaxValueBytes: int(s.MaxObjectBytes),
		HistoryEvents: uint64(s.ResourceHistoryCount), HistoryAge: s.ResourceHistoryAge, CompactEvery: s.CompactInterval, ExpireEvery: s.ExpireInterval,
		RecentEvents: s.RecentWrites, RecentBytes: int64(s.RecentWriteBytes), WatchQueue: s.WatchQueue,
	})
	if err != nil {
		return nil, nil, err
	}
	stops.push("resources", bounded(store.Close))
	group, err := raftlog.Open(ctx, groupOptions(s, metaName, store, m, logger, fatal))
	if err != nil {
		return nil, nil, err
	}
	stops.push("meta group", group.Close)
	store.Bind(group)
	m.ObserveGroup(metaName, group)
	return store, group, nil
}

// openLog opens the shard that holds the events.
func openLog(ctx context.Context, s settings.Server, m *metrics.Metrics, logger *slog.Logger, fatal func(error), fail context.CancelCauseFunc, stops *stack) (*channel.Log, *raftlog.Group, error) {
	shard := channel.NewShard(channel.Options{
		RetentionAge: s.RetentionAge, DeadLetterRetention: s.DeadLetterRetentionAge, DeadLetterBytes: int64(s.DeadLetterMaxBytes),
		MaxDisk: int64(s.MaxDisk), RefuseOverMaxDisk: s.MaxDiskPolicy == "refuse",
		RetentionInterval: s.RetentionInterval, RetentionStep: uint64(s.RetentionStep), TermsBytes: int(s.TermsBytes),
		MaxPartitions: s.MaxPartitions, MaxProducers: s.MaxProducers,
		TailBytes: int64(s.TailBytes), CacheBytes: int64(s.ReadCacheBytes), Expired: m.Expired, Logger: logger,
	})
	o := groupOptions(s, shardName, shard, m, logger, fatal)
	o.Reuse = true // as a shard allows
	group, err := raftlog.Open(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	stops.push("shard s0", group.Close)
	shard.Bind(group)
	log := channel.NewLog(shard)
	m.ObserveGroup(shardName, group)
	m.ObserveLog(log)
	stops.push("retention", run(ctx, "retention", fail, log.Run))
	return log, group, nil
}
