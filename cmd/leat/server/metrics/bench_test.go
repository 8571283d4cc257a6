package metrics

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/leat-dev/leat/broker"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/dispatcher"
)

// BenchmarkCounting is what is added to a request, and to a delivery.
func BenchmarkCounting(b *testing.B) {
	m := New(Options{MaxSeries: 10_000})
	hooks := m.Deliveries()
	t := &dispatcher.Target{Kind: "Trigger", Namespace: "default", Channel: "b", Name: "t"}
	b.Run("request", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.Request(broker.Served{Kind: "Broker", Namespace: "default", Name: "b", Status: 202, Events: 1, Bytes: 100, Took: time.Millisecond})
		}
	})
	b.Run("delivery", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			hooks.Attempt(t, dispatcher.Attempt{To: "subscriber", Number: 1, Code: 202, Took: time.Millisecond})
			hooks.Delivered(t, dispatcher.ResultDelivered, 1, time.Millisecond)
		}
	})
}

// BenchmarkScrape is a scrape with so many triggers on one broker.
func BenchmarkScrape(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint("triggers=", n), func(b *testing.B) {
			r := newRig(b)
			subs := make([]channel.Subscription, n)
			for i := range subs {
				uid := fmt.Sprint("u", i)
				subs[i] = channel.Subscription{UID: uid, Engine: 1, Filter: fmt.Appendf(nil, `{"filters":[{"exact":{"type":"t%d"}}]}`, i)}
				r.d.SetTarget(dispatcher.Target{UID: uid, Kind: "Trigger", Namespace: "ns", Channel: "b", Name: uid, URL: "http://s"})
			}
			r.subscribe(2, subs...)
			r.eventually(fmt.Sprintf(`leat_matcher_filters{broker="b",channel="",namespace="ns"} %d`, n))
			for b.Loop() {
				r.m.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil))
			}
		})
	}
}
