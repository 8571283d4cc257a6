package dispatcher

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"

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

func benchmark(b *testing.B, sender Sender, count func() int64, per int, subs ...channel.Subscription) {
	s := newStore(b)
	s.subscribe(subs...)
	d := New(Options{Sender: sender})
	for _, x := range subs {
		d.SetTarget(Target{UID: x.UID, Name: x.UID, URL: "http://x"})
	}
	d.Attach(s.open())
	b.ReportAllocs()
	b.ResetTimer()
	const batch = 64
	for n := 0; n < b.N; n += batch {
		s.publish("t", min(batch, b.N-n), func(_ int, e *event.Event) { e.Data = payload })
	}
	for want := int64(b.N * per); count() < want; {
		runtime.Gosched()
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N*per)/b.Elapsed().Seconds(), "deliveries/s")
	if err := d.Close(context.Background()); err != nil {
		b.Error(err)
	}
}

var payload = make([]byte, 1024)

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
				benchmark(b, &c, c.n.Load, n, subs...)
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
			benchmark(b, &c, c.n.Load, 1, subs...)
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
	sender := &fixed{NewHTTPSender(HTTPOptions{}), srv.URL}
	benchmark(b, sender, n.Load, 1, byType("a", "t"))
}

// fixed sends everything to one URL.
type fixed struct {
	Sender
	url string
}

func (f *fixed) Send(ctx context.Context, r *Request) (Response, error) {
	q := *r
	q.URL = f.url
	return f.Sender.Send(ctx, &q)
}
