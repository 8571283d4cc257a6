package metrics

import (
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/dispatcher"
	"github.com/leat-dev/leat/raftlog"
)

// sources are what is looked at for each scrape. A part that has not been
// started yet is not.
type sources struct {
	log        atomic.Pointer[channel.Log]
	dispatcher atomic.Pointer[dispatcher.Dispatcher]

	mu     sync.Mutex
	groups []namedGroup
}

type namedGroup struct {
	name  string
	group *raftlog.Group
}

// ObserveLog, ObserveDispatcher and ObserveGroup add a part to what is looked
// at for each scrape.
func (m *Metrics) ObserveLog(l *channel.Log) { m.sources.log.Store(l) }

// ObserveDispatcher is one of those.
func (m *Metrics) ObserveDispatcher(d *dispatcher.Dispatcher) { m.sources.dispatcher.Store(d) }

// ObserveGroup is one of those.
func (m *Metrics) ObserveGroup(name string, g *raftlog.Group) {
	m.sources.mu.Lock()
	defer m.sources.mu.Unlock()
	m.sources.groups = append(m.sources.groups, namedGroup{name, g})
}

type scrapeMetrics struct {
	lag, inFlight, uncommitted, waiting, blocked, letters, detached, paused *scraped
	kept                                                                    *scraped
	filters, unindexed, matched, candidates, matches                        *scraped
	applied, segments, size, free, stalled                                  *scraped
	tailReads, cacheReads                                                   *scraped
}

func (m *scrapeMetrics) declare(s *set) {
	m.lag = s.gauge("leat_subscription_lag_events", "Events of the log that have not been looked at for a subscription.", subscriptionLabels...)
	m.inFlight = s.gauge("leat_subscription_in_flight_events", "Delivery requests that are out.", subscriptionLabels...)
	m.uncommitted = s.gauge("leat_subscription_uncommitted_events", "Events that are delivered, and whose cursor is on its way to disk.", subscriptionLabels...)
	m.waiting = s.gauge("leat_subscription_waiting_events", "Events that wait for their next attempt.", subscriptionLabels...)
	m.blocked = s.gauge("leat_subscription_blocked_events", "Events of an ordered subscription that wait for an earlier one of their key.", subscriptionLabels...)
	m.letters = s.gauge("leat_subscription_dead_letters", "Dead letters that are kept.", subscriptionLabels...)
	m.detached = s.gauge("leat_subscription_detached", "1 for a subscription that is behind and reads from a position of its own.", subscriptionLabels...)
	m.paused = s.gauge("leat_subscription_paused", "1 for a subscription that looks at nothing new, with the reason; see its status.", with(subscriptionLabels, "reason")...)
	m.kept = s.gauge("leat_channel_kept_events", "Events that the log of a broker or channel has.", channelLabels...)
	m.filters = s.gauge("leat_matcher_filters", "Filters of the subscriptions that follow the log of a broker or channel.", channelLabels...)
	m.unindexed = s.gauge("leat_matcher_unindexed_filters", "Those of them that run on every event, because the index has nothing to file them under.", channelLabels...)
	m.matched = s.scraped(prometheus.CounterValue, "leat_matcher_events_total", "Events that were matched against the filters.", channelLabels...)
	m.candidates = s.scraped(prometheus.CounterValue, "leat_matcher_candidates_total", "Filters that the index named for these events, and that ran.", channelLabels...)
	m.matches = s.scraped(prometheus.CounterValue, "leat_matcher_matches_total", "Filters that matched.", channelLabels...)
	m.applied = s.gauge("leat_log_applied_index", "The last entry that is applied.", "group")
	m.segments = s.gauge("leat_log_segments", "Segments of the log.", "group")
	m.size = s.gauge("leat_log_size_bytes", "Size of the log on disk.", "group")
	m.free = s.gauge("leat_log_disk_free_bytes", "Space that is left on the log's file system.", "group")
	m.stalled = s.gauge("leat_log_stalled_seconds", "How long the disk has not answered, where that is longer than stall-after; else 0.", "group")
	m.tailReads = s.scraped(prometheus.CounterValue, "leat_log_tail_reads_total", "Reads of events, by result: hit, where recent entries in memory had them (tail-bytes); miss, where older ones were asked for.", "result")
	m.cacheReads = s.scraped(prometheus.CounterValue, "leat_log_cache_reads_total", "Reads of older entries, by result: hit (read-cache-bytes); miss, which went to disk.", "result")
}

// collect is one scrape.
func (m *Metrics) collect(to chan<- prometheus.Metric) {
	s := scrape{to: to, sent: map[*scraped]int{}}
	m.collectGroups(s)
	d, l := m.sources.dispatcher.Load(), m.sources.log.Load()
	if d != nil {
		m.collectSubscriptions(s, d)
	}
	if l != nil {
		m.collectChannels(s, l, d)
	}
}

func (m *Metrics) collectGroups(s scrape) {
	m.sources.mu.Lock()
	defer m.sources.mu.Unlock()
	for _, g := range m.sources.groups {
		s.send(m.scrapes.applied, float64(g.group.Applied()), g.name)
		segments, size := g.group.Size()
		s.send(m.scrapes.segments, float64(segments), g.name)
		s.send(m.scrapes.size, float64(size), g.name)
		s.send(m.scrapes.stalled, g.group.Stalled().Seconds(), g.name)
		if free, err := g.group.Free(); err == nil { // else there is no telling
			s.send(m.scrapes.free, float64(free), g.name)
		}
	}
}

func (m *Metrics) collectSubscriptions(s scrape, d *dispatcher.Dispatcher) {
	x := &m.scrapes
	for _, t := range d.Targets() {
		if s.full(x.lag) {
			x.lag.refused.Inc()
			continue // the others have as many series
		}
		st, known := d.Status(t.UID)
		if !known {
			continue
		}
		v := targetValues(t)
		labels := v[:len(subscriptionLabels)]
		s.send(x.lag, float64(st.Lag), labels...)
		s.send(x.inFlight, float64(st.InFlight), labels...)
		s.send(x.uncommitted, float64(st.Uncommitted), labels...)
		s.send(x.waiting, float64(st.Waiting), labels...)
		s.send(x.blocked, float64(st.Blocked), labels...)
		s.send(x.letters, float64(st.DeadLetters), labels...)
		s.send(x.detached, oneIf(st.Detached), labels...)
		s.send(x.paused, oneIf(st.Paused), append(labels, st.Reason)...)
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (m *Metrics) collectChannels(s scrape, l *channel.Log, d *dispatcher.Dispatcher) {
	x := &m.scrapes
	seen := map[values]bool{} // of a name, the latest
	all := l.List()
	for i := len(all) - 1; i >= 0; i-- {
		id := all[i].ID()
		v := channelValues(id.Kind, id.Namespace, id.Name)
		if seen[v] {
			continue
		}
		seen[v] = true
		labels := v[:len(channelLabels)]
		kept := uint64(0)
		for _, p := range all[i].Partitions() {
			floor, next := p.Bounds()
			kept += next - floor
		}
		s.send(x.kept, float64(kept), labels...)
		if d == nil {
			continue
		}
		f := d.Filters(id.UID)
		s.send(x.filters, float64(f.Filters), labels...)
		s.send(x.unindexed, float64(f.Unindexed), labels...)
		s.send(x.matched, float64(f.Events), labels...)
		s.send(x.candidates, float64(f.Candidates), labels...)
		s.send(x.matches, float64(f.Matches), labels...)
	}
	r := l.ReadStats()
	s.send(x.tailReads, float64(r.TailHits), "hit")
	s.send(x.tailReads, float64(r.TailMisses), "miss")
	s.send(x.cacheReads, float64(r.CacheHits), "hit")
	s.send(x.cacheReads, float64(r.CacheMisses), "miss")
}

// prune ends the series of objects that are gone.
func (m *Metrics) prune() {
	d, l := m.sources.dispatcher.Load(), m.sources.log.Load()
	if d == nil || l == nil {
		return
	}
	channels := map[values]bool{{}: true} // what has no name stays
	for _, c := range l.List() {
		id := c.ID()
		channels[channelValues(id.Kind, id.Namespace, id.Name)] = true
	}
	subscriptions := map[values]bool{}
	for _, t := range d.Targets() {
		subscriptions[targetValues(t)] = true
	}
	channelThere := func(v values) bool { return channels[v.channel()] }
	subscriptionThere := func(v values) bool {
		of := v.and("", "")
		if of[3] == "" && of[4] == "" { // it has no name yet
			return channels[of.channel()]
		}
		return subscriptions[of]
	}
	for _, f := range []*counters{m.ingress.requests, m.ingress.events, m.ingress.bytes, m.delivery.commits} {
		f.retain(channelThere)
	}
	for _, f := range []*histograms{m.ingress.seconds, m.delivery.attemptSeconds, m.delivery.age} {
		f.retain(channelThere)
	}
	m.ingress.channels.forget()
	for _, f := range []*counters{
		m.delivery.events, m.delivery.attempts, m.delivery.retries, m.delivery.denied, m.delivery.replies,
		m.delivery.filterErrors, m.delivery.expired,
	} {
		f.retain(subscriptionThere)
	}
	m.delivery.targets.forget()
}
