package metrics

import (
	"strconv"

	"github.com/leat-dev/leat/broker"
)

type ingressMetrics struct {
	requests, events, bytes, unavailable *counters
	seconds                              *histograms
}

func (m *ingressMetrics) declare(s *set) {
	m.requests = s.counter("leat_ingress_requests_total", "Event requests, by the broker or channel that they named, and the status they were answered with. Those that named nothing have no name here.", with(channelLabels, "code")...)
	m.events = s.counter("leat_ingress_events_total", "Events accepted: written and synced.", channelLabels...)
	m.bytes = s.counter("leat_ingress_received_bytes_total", "Bodies of event requests, also of those refused.", channelLabels...)
	m.seconds = s.histogram("leat_ingress_request_duration_seconds", "Time from an event request's headers to its answer.", diskBuckets, channelLabels...)
	m.unavailable = s.counter("leat_ingress_unavailable_total", "Event requests answered with 503, by reason: disk (free space is below disk-floor, or the log at max-disk), stall (the disk has not answered for stall-after), queue (max-pending-bytes), requests (max-requests), body_memory (max-body-memory), time (append-timeout, or the sender left), leader, other.", "reason")
}

// Request is told of each event request.
func (m *Metrics) Request(r broker.Served) {
	v := channelValues(r.Kind, r.Namespace, r.Name)
	m.ingress.seconds.with(v).Observe(r.Took.Seconds())
	if r.Bytes > 0 {
		m.ingress.bytes.with(v).Add(float64(r.Bytes))
	}
	if r.Events > 0 {
		m.ingress.events.with(v).Add(float64(r.Events))
	}
	v[len(channelLabels)] = strconv.Itoa(r.Status)
	m.ingress.requests.with(v).Inc()
	if r.Shortage != "" {
		m.ingress.unavailable.with(values{r.Shortage}).Inc()
	}
}

// channelValues are the values of channelLabels.
func channelValues(kind, namespace, name string) values {
	if kind == "Broker" {
		return values{namespace, name}
	}
	return values{namespace, "", name}
}
