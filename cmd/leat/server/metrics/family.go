package metrics

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Declaration is what is fixed about a metric: its series, and its row in the
// reference page, come out of it.
type Declaration struct {
	Name, Help, Type string
	Labels           []string
}

// maxLabels is the most that a metric has.
const maxLabels = 7

// values are the values of a metric's labels, in the order declared.
type values [maxLabels]string

// vector is one of the client library's vectors.
type vector[M any] interface {
	prometheus.Collector
	WithLabelValues(...string) M
	DeleteLabelValues(...string) bool
}

// family is a metric with a bounded number of series. What would go beyond the
// bound is counted, and otherwise dropped.
type family[M any] struct {
	vector[M]
	labels  int
	limit   int
	refused prometheus.Counter
	nowhere M

	mu     sync.RWMutex
	series map[values]M
}

// with finds or begins a series.
func (f *family[M]) with(v values) M {
	m, _ := f.find(v)
	return m
}

// find is with; it says no where there is no such series, and no room for it.
func (f *family[M]) find(v values) (M, bool) {
	f.mu.RLock()
	m, ok := f.series[v]
	f.mu.RUnlock()
	if ok {
		return m, true
	}
	return f.begin(v)
}

// begin begins a series, unless another has meanwhile. The values are copied,
// so that they are on the heap in this case only.
func (f *family[M]) begin(v values) (M, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m, ok := f.series[v]; ok {
		return m, true
	}
	if len(f.series) >= f.limit {
		f.refused.Inc()
		return f.nowhere, false
	}
	m := f.WithLabelValues(slices.Clone(v[:f.labels])...)
	f.series[v] = m
	return m, true
}

// handle keeps a series at hand that each request is counted in: to find it by
// its labels takes longer than to count. Whoever has handles drops them where
// series are ended (retain).
type handle[M any] struct{ found atomic.Pointer[M] }

// in finds or begins the series in f.
func (h *handle[M]) in(f *family[M], v *values) M {
	if m := h.found.Load(); m != nil {
		return *m
	}
	m, ok := f.find(*v)
	if ok { // else each observation is one refused
		h.found.Store(&m)
	}
	return m
}

// by is in, with values that are made only where the series is not at hand.
func (h *handle[M]) by(f *family[M], v func() values) M {
	if m := h.found.Load(); m != nil {
		return *m
	}
	made := v()
	return h.in(f, &made)
}

// atHand keeps the handles of each of many, bounded: at its limit it begins anew,
// so that none stays of what has been gone for long.
type atHand[K comparable, H any] struct {
	mu  sync.RWMutex
	all map[K]*H
}

// find gives nil where there is none.
func (a *atHand[K, H]) find(k K) *H {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.all[k]
}

func (a *atHand[K, H]) keep(k K, h *H, limit int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all == nil || len(a.all) >= limit {
		a.all = map[K]*H{}
	}
	a.all[k] = h
}

// forget drops the handles, as series have been ended.
func (a *atHand[K, H]) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.all)
}

// retain ends the series that keep says no to.
func (f *family[M]) retain(keep func(values) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for v := range f.series {
		if !keep(v) {
			delete(f.series, v)
			f.DeleteLabelValues(slices.Clone(v[:f.labels])...)
		}
	}
}

type (
	counters   = family[prometheus.Counter]
	histograms = family[prometheus.Observer]
)

// set is where metrics are declared.
type set struct {
	registry     *prometheus.Registry
	limit        int
	refused      *prometheus.CounterVec
	declarations []Declaration
}

func (s *set) declare(kind, name, help string, labels []string) Declaration {
	d := Declaration{Name: name, Help: help, Type: kind, Labels: labels}
	s.declarations = append(s.declarations, d)
	return d
}

func (s *set) counter(name, help string, labels ...string) *counters {
	s.declare("counter", name, help, labels)
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	s.registry.MustRegister(v)
	return &counters{
		vector: v, labels: len(labels), limit: s.limit, refused: s.refused.WithLabelValues(name),
		nowhere: prometheus.NewCounter(prometheus.CounterOpts{Name: "nowhere"}), series: map[values]prometheus.Counter{},
	}
}

func (s *set) histogram(name, help string, buckets []float64, labels ...string) *histograms {
	s.declare("histogram", name, help, labels)
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	s.registry.MustRegister(v)
	return &histograms{
		vector: v, labels: len(labels), limit: s.limit, refused: s.refused.WithLabelValues(name),
		nowhere: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "nowhere"}), series: map[values]prometheus.Observer{},
	}
}

// scraped is a metric whose values are looked up at each scrape.
type scraped struct {
	desc    *prometheus.Desc
	kind    prometheus.ValueType
	limit   int
	refused prometheus.Counter
}

func (s *set) scraped(kind prometheus.ValueType, name, help string, labels ...string) *scraped {
	text := "gauge"
	if kind == prometheus.CounterValue {
		text = "counter"
	}
	s.declare(text, name, help, labels)
	return &scraped{
		desc: prometheus.NewDesc(name, help, labels, nil), kind: kind, limit: s.limit, refused: s.refused.WithLabelValues(name),
	}
}

func (s *set) gauge(name, help string, labels ...string) *scraped {
	return s.scraped(prometheus.GaugeValue, name, help, labels...)
}

// scrape is one scrape: what each metric has sent so far.
type scrape struct {
	to   chan<- prometheus.Metric
	sent map[*scraped]int
}

// full says whether a metric has as many series as it may.
func (s scrape) full(m *scraped) bool { return s.sent[m] >= m.limit }

func (s scrape) send(m *scraped, value float64, labels ...string) {
	if s.full(m) {
		m.refused.Inc()
		return
	}
	s.sent[m]++
	s.to <- prometheus.MustNewConstMetric(m.desc, m.kind, value, labels...)
}
