package broker

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/broker/http1"
	"github.com/leat-dev/leat/channel"
)

// nowhere takes events and keeps none.
type nowhere struct{ channel.Channel }

func (nowhere) Append(context.Context, []*event.Event) error { return nil }

func (nowhere) Begin([]*event.Event, time.Time, func(error)) error { return nil }

func (nowhere) Flush() {}

func (nowhere) Commit() {}

func (nowhere) ID() channel.ID { return channel.ID{} }

// everywhere resolves each path to it.
type everywhere struct{}

func (everywhere) Broker(string, string) (channel.Channel, bool)  { return nowhere{}, true }
func (everywhere) Channel(string, string) (channel.Channel, bool) { return nowhere{}, true }

// forgetful records spans nowhere.
type forgetful struct{ sample bool }

func (f forgetful) Samples([16]byte) bool { return f.sample }
func (forgetful) Record(event.Span)       {}

// BenchmarkIngress is what a request costs beside its connection and its log,
// and what traces add to it.
func BenchmarkIngress(b *testing.B) {
	for name, spans := range map[string]event.Spans{"traces=off": nil, "traces=unsampled": forgetful{}, "traces=sampled": forgetful{true}} {
		b.Run(name, func(b *testing.B) {
			i := NewIngress(IngressOptions{Resolver: everywhere{}, Spans: spans})
			h := http.Header{
				"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Type": {"order.created"}, "Ce-Source": {"/shop"},
				"Content-Type": {"application/json"},
			}
			const data = `{"order":17,"total":250}`
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest(http.MethodPost, "/default/b", strings.NewReader(data))
				r.Header = h
				w := httptest.NewRecorder()
				if i.ServeHTTP(w, r); w.Code != http.StatusAccepted {
					b.Fatal(w.Code, w.Body)
				}
			}
		})
	}
}

// BenchmarkPlain is that of a plain request.
func BenchmarkPlain(b *testing.B) {
	i := NewIngress(IngressOptions{Resolver: everywhere{}})
	r := http1.Request{Path: "/default/b", Began: time.Now(), Headers: event.HeaderList{
		{Name: "Ce-Specversion", Value: "1.0"}, {Name: "Ce-Id", Value: "1"}, {Name: "Ce-Type", Value: "order.created"},
		{Name: "Ce-Source", Value: "/shop"}, {Name: "Content-Type", Value: "application/json"}, {Name: "Content-Length", Value: "0"},
	}}
	b.ReportAllocs()
	for b.Loop() {
		var a http1.Answer
		if !i.ServePlain(&r, &a) || a.Status != http.StatusAccepted {
			b.Fatal(a.Status)
		}
	}
}

// BenchmarkBegun is that of one that a loop serves, with an event of a type that
// is known.
func BenchmarkBegun(b *testing.B) {
	y := NewIngress(IngressOptions{Resolver: everywhere{}, Told: func(channel.ID, []*event.Event) bool { return true }}).async()()
	r := http1.Request{Path: "/default/b", Began: time.Now(), Headers: event.HeaderList{
		{Name: "Content-Type", Value: "application/json"}, {Name: "Ce-Specversion", Value: "1.0"}, {Name: "Ce-Id", Value: "000000000001"},
		{Name: "Ce-Source", Value: "/bench"}, {Name: "Ce-Type", Value: "bench.event"}, {Name: "Ce-Subject", Value: "17"},
		{Name: "Content-Length", Value: "0"},
	}}
	b.ReportAllocs()
	for b.Loop() {
		var a http1.Answer
		if !y.Begin(&r) {
			b.Fatal("not begun")
		}
		if y.Finish(&r, &a, r.Began); a.Status != http.StatusAccepted {
			b.Fatal(a.Status)
		}
	}
}
