package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/broker/system"
	"github.com/leat-dev/leat/channel"
)

type systemMetrics struct {
	events, gaps *counters
	revision     prometheus.Gauge
}

func (m *systemMetrics) declare(s *set) {
	m.events = s.counter("leat_system_events_total", "Writes to the API that appeared on the system broker.")
	m.gaps = s.counter("leat_system_gaps_total", "Events of the system broker that say which writes do not appear on it.")
	const name, help = "leat_system_revision", "The resourceVersion up to which writes to the API are on the system broker."
	s.declare("gauge", name, help, nil)
	m.revision = prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	s.registry.MustRegister(m.revision)
}

// Published is told of what the system broker has.
func (m *Metrics) Published(_ channel.ID, events []*event.Event, revision uint64) {
	m.system.revision.Set(float64(revision))
	for _, e := range events {
		if e.Type == system.TypeGap {
			m.system.gaps.with(values{}).Inc()
			continue
		}
		m.system.events.with(values{}).Inc()
	}
}
