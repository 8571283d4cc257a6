package dispatcher

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/filter"
)

// countingSender answers at once, and counts.
type countingSender struct{ n atomic.Int64 }

func (s *countingSender) Send(context.Context, *Request) (Response, error) {
	s.n.Add(1)
	return Response{Status: 200}, nil
}
func (s *countingSender) Close() {}

func benchmark(b *testing.B, sender Sender, url string, count func() int64, per int, subs ...channel.Subscription) {
	s := newStore(b)
	s.subscribe(subs...)
	d := New(Options{Sender: sender})
	for _, x := range subs {
		d.SetTarget(Target{UID: x.UID, Name: x.UID, URL: url})
	}
	d.Attach(s.open())
	b.ReportAllocs()
	b.ResetTimer()
	const batch = 64
	for n := 0; n < b.N; n += batch {
		s.publish("t", min(batch, b.N-n), func(_ int, e *event.Event) {
			e.Data = payload
			e.Extensions = stamped
		})
	}
	tick := time.NewTicker(time.Millisecond)
	for want := int64(b.N * per); count() < want; {
		<-tick.C
	}
	tick.Stop()
	b.StopTimer()
	b.ReportMetric(float64(b.N*per)/b.Elapsed().Seconds(), "deliveries/s")
	if err := d.Close(context.Background()); err != nil {
		b.Error(err)
	}
}

var payload = make([]byte, 1024)

// stamped are the extensions that the ingress gives each event.
var stamped = []event.Extension{
	{Name: "knativearrivaltime", Value: event.Value{Str: "2024-01-01T12:00:00.123456Z"}},
	{Name: "knativebrokerttl", Value: event.IntegerValue(254)},
	{Name: "traceparent", Value: event.Value{Str: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}},
}

// BenchmarkPipeline: everything but HTTP and the log, with n subscriptions
// that all match.
func BenchmarkPipeline(b *testing.B) {
	for _, n := range []int{1, 10} {
		for _, ordered := range []bool{false, true} {
			b.Run(fmt.Sprintf("subscriptions=%d/ordered=%v", n, ordered), func(b *testing.B) {
				var c countingSender
				subs := make([]channel.Subscription, n)
				for i := range subs {
					subs[i] = byType(fmt.Sprint("s", i), "t")
					subs[i].Ordered = ordered
				}
				benchmark(b, &c, "http://x", c.n.Load, n, subs...)
			})
		}
	}
}

// BenchmarkOneOfMany: ten thousand subscriptions, of which one matches.
func BenchmarkOneOfMany(b *testing.B) {
	for _, dialect := range []string{"exact", "expr"} {
		b.Run(dialect, func(b *testing.B) {
			var c countingSender
			subs := make([]channel.Subscription, 10_000)
			for i := range subs {
				subs[i] = byType(fmt.Sprint("s", i), fmt.Sprint("type", i))
				if dialect == "expr" {
					subs[i].Filter = filter.Spec{Filters: []filter.Node{{Expr: fmt.Sprintf("type == 'type%d'", i)}}}.Canonical()
				}
			}
			subs[77] = byType("s77", "t")
			benchmark(b, &c, "http://x", c.n.Load, 1, subs...)
		})
	}
}

// BenchmarkHTTP: the same over real HTTP, with the subscriber beside it.
func BenchmarkHTTP(b *testing.B) {
	var n atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n.Add(1)
		w.WriteHeader(http.StatusOK)
	}))
	defer srv.Close()
	benchmark(b, NewHTTPSender(HTTPOptions{}), srv.URL, n.Load, 1, byType("a", "t"))
}

// BenchmarkFanOut: one and ten subscriptions that all match, over HTTP, to a
// subscriber that does as little as possible.
func BenchmarkFanOut(b *testing.B) {
	for _, n := range []int{1, 10} {
		b.Run(fmt.Sprint("subscriptions=", n), func(b *testing.B) {
			var got atomic.Int64
			var subs []channel.Subscription
			for i := range n {
				subs = append(subs, byType(fmt.Sprint("s", i), "t"))
			}
			benchmark(b, NewHTTPSender(HTTPOptions{}), leanSink(b, &got), got.Load, n, subs...)
		})
	}
}

// leanSink answers each request whose body is payload.
func leanSink(b *testing.B, got *atomic.Int64) (url string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 0, 8<<10)
				for {
					n, err := c.Read(buf[len(buf):cap(buf)])
					if err != nil {
						return
					}
					buf = buf[:len(buf)+n]
					head := bytes.Index(buf, []byte("\r\n\r\n"))
					if head < 0 || len(buf) < head+4+len(payload) {
						continue
					}
					buf = buf[:copy(buf, buf[head+4+len(payload):])]
					got.Add(1)
					if _, err := c.Write([]byte("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")); err != nil {
						return
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}
