package metrics

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/leat-dev/leat/broker"
)

type ingressMetrics struct {
	requests, events, bytes, unavailable *counters
	seconds                              *histograms

	channels atHand[channelName, channelSeries]
}

func (m *ingressMetrics) declare(s *set) {
	m.requests = s.counter("leat_ingress_requests_total", "Event requests, by the broker or channel that they named, and the status they were answered with. Those that named nothing have no name here.", with(channelLabels, "code")...)
	m.events = s.counter("leat_ingress_events_total", "Events accepted: written and synced.", channelLabels...)
	m.bytes = s.counter("leat_ingress_received_bytes_total", "Bodies of event requests, also of those refused.", channelLabels...)
	m.seconds = s.histogram("leat_ingress_request_duration_seconds", "Time from an event request's headers to its answer.", diskBuckets, channelLabels...)
	m.unavailable = s.counter("leat_ingress_unavailable_total", "Event requests answered with 503, by reason: disk (free space is below disk-floor, or the log at max-disk), stall (the disk has not answered for stall-after), queue (max-pending-bytes), requests (max-requests), body_memory (max-body-memory), time (append-timeout, or the sender left), leader, other.", "reason")
}

// channelName is what a request named.
type channelName struct{ kind, namespace, name string }

// channelSeries are the series of one broker or channel.
type channelSeries struct {
	of, ofAccepted          values // the latter with the code of what is accepted
	seconds                 handle[prometheus.Observer]
	bytes, events, accepted handle[prometheus.Counter]
}

// series are those of what a request named. They are bounded as each metric's are.
func (m *ingressMetrics) series(n channelName) *channelSeries {
	if s := m.channels.find(n); s != nil {
		return s
	}
	// The names are pieces of a request's head, which is not to be kept.
	n.namespace, n.name = strings.Clone(n.namespace), strings.Clone(n.name)
	of := channelValues(n.kind, n.namespace, n.name)
	s := &channelSeries{of: of, ofAccepted: of}
	s.ofAccepted[len(channelLabels)] = strconv.Itoa(http.StatusAccepted)
	m.channels.keep(n, s, m.seconds.limit)
	return s
}

// Request is told of each event request.
func (m *Metrics) Request(r broker.Served) {
	x := &m.ingress
	s := x.series(channelName{r.Kind, r.Namespace, r.Name})
	s.seconds.in(x.seconds, &s.of).Observe(r.Took.Seconds())
	if r.Bytes > 0 {
		s.bytes.in(x.bytes, &s.of).Add(float64(r.Bytes))
	}
	if r.Events > 0 {
		s.events.in(x.events, &s.of).Add(float64(r.Events))
	}
	if r.Status == http.StatusAccepted {
		s.accepted.in(x.requests, &s.ofAccepted).Inc()
		return
	}
	v := s.of
	v[len(channelLabels)] = strconv.Itoa(r.Status)
	x.requests.with(v).Inc()
	if r.Shortage != "" {
		x.unavailable.with(values{r.Shortage}).Inc()
	}
}

// channelValues are the values of channelLabels.
func channelValues(kind, namespace, name string) values {
	if kind == "Broker" {
		return values{namespace, name}
	}
	return values{namespace, "", name}
}
