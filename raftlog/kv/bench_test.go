package kv_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/kv"
	"github.com/leat-dev/leat/raftlog/kv/kvtest"
)

var value1K = make([]byte, 1024)

// BenchmarkPut writes without a log: what the machine itself costs.
func BenchmarkPut(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("%d in an entry", n), func(b *testing.B) {
			s, log := kvtest.Open(b, kv.Options{})
			record := &recorder{}
			rec, err := kv.Open(kv.Options{Dir: b.TempDir(), Fatal: func(err error) { b.Error(err) }})
			if err != nil {
				b.Fatal(err)
			}
			defer rec.Close()
			rec.Bind(record)
			b.ResetTimer()
			for i := 0; i < b.N; i += n {
				record.cmds = record.cmds[:0]
				for j := range n {
					_, _ = rec.Put(b.Context(), fmt.Sprintf("/registry/pods/ns/%d", (i+j)%10000), value1K, kv.AnyRev, 0)
				}
				if _, err := log.ProposeAll(b.Context(), raftlog.Control, record.cmds...); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(s.Rev())/b.Elapsed().Seconds(), "writes/s")
		})
	}
}

func filled(b *testing.B, keys int) *kv.Store {
	s, _ := kvtest.Open(b, kv.Options{})
	for i := range keys {
		mustPut(b, s, fmt.Sprintf("/registry/pods/ns/%06d", i), string(value1K))
	}
	b.ResetTimer()
	return s
}

func BenchmarkGet(b *testing.B) {
	s := filled(b, 10000)
	for i := range b.N {
		if k, _, err := s.Get(fmt.Sprintf("/registry/pods/ns/%06d", i%10000)); err != nil || k == nil {
			b.Fatal(k, err)
		}
	}
}

func BenchmarkList(b *testing.B) {
	s := filled(b, 10000)
	for _, limit := range []int{0, 500} {
		b.Run(fmt.Sprintf("limit %d of 10000", limit), func(b *testing.B) {
			for range b.N {
				if _, err := s.List("/registry/pods/", "", limit, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFanOut is one write seen by all watchers.
func BenchmarkFanOut(b *testing.B) {
	for _, c := range []struct{ watchers, matching int }{{1, 1}, {1000, 1}, {1000, 1000}} {
		b.Run(fmt.Sprintf("%d watchers, %d of the key", c.watchers, c.matching), func(b *testing.B) {
			s, _ := kvtest.Open(b, kv.Options{})
			var wg sync.WaitGroup
			for i := range c.watchers {
				w := mustWatch(b, s, map[bool]string{true: "/a/", false: fmt.Sprint("/b", i, "/")}[i < c.matching], false, 0)
				if i >= c.matching {
					continue
				}
				wg.Go(func() {
					next(b, w, b.N)
				})
			}
			b.ResetTimer()
			for range b.N {
				mustPut(b, s, "/a/x", "value")
			}
			wg.Wait()
		})
	}
}
