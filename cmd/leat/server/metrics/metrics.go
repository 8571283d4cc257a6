// Package metrics counts what the server does, for Prometheus. Each metric is
// declared once, here; docs/metrics.md is made of the declarations.
package metrics

import (
	"cmp"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Options configure Metrics.
type Options struct {
	// MaxSeries bounds the series of one metric.
	MaxSeries int
	// MaxScrapes bounds the scrapes at once, which anyone who reaches the port
	// may ask for, and ScrapeTimeout the time of one; 4, 30 s.
	MaxScrapes    int
	ScrapeTimeout time.Duration
	// Version is the build's.
	Version string
}

// Metrics are the server's. They serve themselves over HTTP. The hooks may be
// called from many goroutines at once, and never block.
type Metrics struct {
	set
	sources sources
	handler http.Handler

	ingress  ingressMetrics
	delivery deliveryMetrics
	log      logMetrics
	scrapes  scrapeMetrics
	system   systemMetrics
	spans    *counters
}

// Labels of metrics that are about a Broker or Channel, and about a Trigger or
// Subscription on it. Those that do not apply are empty, which to Prometheus is
// the same as not being there.
var (
	channelLabels      = []string{"namespace", "broker", "channel"}
	subscriptionLabels = []string{"namespace", "broker", "channel", "trigger", "subscription"}
)

func with(labels []string, more ...string) []string {
	return append(labels[:len(labels):len(labels)], more...)
}

// Buckets of the histograms, in seconds: of what waits for the local disk, and
// of what waits for somebody else.
var (
	diskBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5}
	peerBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	ageBuckets  = []float64{.005, .025, .1, .5, 1, 5, 30, 60, 300, 1800, 7200, 43200, 86400}
)

// New makes metrics that count nothing yet.
func New(o Options) *Metrics {
	refused := prometheus.CounterOpts{
		Name: "leat_metrics_series_refused_total",
		Help: "Observations that were dropped because they would have begun a series beyond the bound (max-metric-series), by the metric.",
	}
	m := &Metrics{set: set{
		registry: prometheus.NewRegistry(), limit: o.MaxSeries, refused: prometheus.NewCounterVec(refused, []string{"metric"}),
	}}
	m.registry.MustRegister(m.refused, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.ingress.declare(&m.set)
	m.delivery.declare(&m.set)
	m.log.declare(&m.set)
	m.scrapes.declare(&m.set)
	m.system.declare(&m.set)
	m.spans = m.counter("leat_trace_spans_total", "Spans of traces, by result: exported; dropped, because the queue was full; or failed, because the collector did not take them.", "result")
	m.declare("counter", refused.Name, refused.Help, []string{"metric"})
	build := m.gauge("leat_build_info", "Always 1; the labels say which build this is.", "version", "goversion")
	m.registry.MustRegister(collector{func(to chan<- prometheus.Metric) {
		scrape{to, map[*scraped]int{}}.send(build, 1, o.Version, runtime.Version())
	}}, collector{m.collect})
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry, MaxRequestsInFlight: cmp.Or(o.MaxScrapes, 4), Timeout: cmp.Or(o.ScrapeTimeout, 30*time.Second)})
	return m
}

// collector is a collector without fixed descriptions: each of its metrics is
// declared before.
type collector struct {
	collect func(chan<- prometheus.Metric)
}

// Describe implements prometheus.Collector.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(to chan<- prometheus.Metric) { c.collect(to) }

// ServeHTTP implements http.Handler. What is about objects that are gone goes
// first.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.prune()
	m.handler.ServeHTTP(w, r)
}

// Span counts spans.
func (m *Metrics) Span(result string, n int) { m.spans.with(values{result}).Add(float64(n)) }
