package server

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/leat-dev/leat/dispatcher"
)

// metrics are what is counted where the contract says "counted".
type metrics struct {
	registry *prometheus.Registry

	requests       *prometheus.CounterVec
	events         *prometheus.CounterVec
	deliveries     *prometheus.CounterVec
	attempts       *prometheus.CounterVec
	attemptSeconds *prometheus.HistogramVec
	replies        *prometheus.CounterVec
	filterErrors   *prometheus.CounterVec
	commits        *prometheus.CounterVec
}

func newMetrics() *metrics {
	subscription := []string{"namespace", "channel", "kind", "subscription"}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "leat_ingress_requests_total", Help: "Event requests, by the broker or channel they named and the status they were answered with.",
		}, []string{"namespace", "channel", "code"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "leat_ingress_events_total", Help: "Events accepted, by the broker or channel that has them.",
		}, []string{"namespace", "channel"}),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "leat_delivery_events_total", Help: "Deliveries that ended, by result.",
		}, append(subscription, "result")),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "leat_delivery_attempts_total", Help: "Delivery requests, by what they went to and the status answered; -1: no answer.",
		}, append(subscription, "to", "code")),
		attemptSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "leat_delivery_attempt_seconds", Help: "Time from a delivery request to its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"namespace", "channel"}),
		replies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "leat_delivery_replies_total", Help: "Events that subscribers answered with, by result.",
		}, append(subscription, "result")),
		filterErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "leat_filter_errors_total", Help: "Events that a subscription's filter failed on, and so did not match.",
		}, subscription),
		commits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "leat_delivery_commits_total", Help: "Commits of cursors, outcomes and dead letters, by result.",
		}, []string{"result"}),
	}
	m.registry.MustRegister(m.requests, m.events, m.deliveries, m.attempts, m.attemptSeconds, m.replies, m.filterErrors, m.commits,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}

// counted is told of each request by the ingress.
func (m *metrics) counted(namespace, name string, status, events int) {
	m.requests.WithLabelValues(namespace, name, strconv.Itoa(status)).Inc()
	if events > 0 {
		m.events.WithLabelValues(namespace, name).Add(float64(events))
	}
}

func labels(t *dispatcher.Target, more ...string) []string {
	return append([]string{t.Namespace, t.Channel, t.Kind, t.Name}, more...)
}

func (m *metrics) dispatcherHooks() dispatcher.Hooks {
	return dispatcher.Hooks{
		Delivered: func(t *dispatcher.Target, r dispatcher.Result, _ int, _ time.Duration) {
			m.deliveries.WithLabelValues(labels(t, string(r))...).Inc()
		},
		Attempt: func(t *dispatcher.Target, to string, code int, took time.Duration) {
			m.attempts.WithLabelValues(labels(t, to, strconv.Itoa(code))...).Inc()
			m.attemptSeconds.WithLabelValues(t.Namespace, t.Channel).Observe(took.Seconds())
		},
		Reply: func(t *dispatcher.Target, result string) {
			m.replies.WithLabelValues(labels(t, result)...).Inc()
		},
		FilterError: func(uid string, t *dispatcher.Target) {
			if t == nil {
				t = &dispatcher.Target{Name: uid}
			}
			m.filterErrors.WithLabelValues(labels(t)...).Inc()
		},
		Commit: func(_ dispatcher.ID, _ int, _ time.Duration, err error) {
			result := "ok"
			if err != nil {
				result = "failed"
			}
			m.commits.WithLabelValues(result).Inc()
		},
	}
}
