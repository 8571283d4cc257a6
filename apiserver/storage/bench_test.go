package storage

import (
	"fmt"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
	suite "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/utils/clock"
)

// The suite's own benchmarks, over a store without a log below.
func BenchmarkSuite(b *testing.B) {
	data := suite.PrepareBenchmarkData(10, 100, 50)
	b.Run("Write", func(b *testing.B) {
		suite.RunBenchmarkWriteThroughput(b.Context(), b, newStore(b), data, false, suite.NewWatchLatencyTracker(clock.RealClock{}))
	})
	s := newStore(b)
	if err := suite.PrecreateBenchmarkPods(b.Context(), s, data); err != nil {
		b.Fatal(err)
	}
	b.Run("List", func(b *testing.B) { suite.RunBenchmarkStoreList(b.Context(), b, s, data, false) })
	b.Run("Stats", func(b *testing.B) { suite.RunBenchmarkStoreStats(b.Context(), b, s) })
}

// BenchmarkStore is the common requests.
func BenchmarkStore(b *testing.B) {
	b.Run("create", func(b *testing.B) {
		s := newStore(b)
		b.ResetTimer()
		for i := range b.N {
			mustCreate(b, s, pod(fmt.Sprint("pod-", i)))
		}
	})
	b.Run("create beside 1000 watches", func(b *testing.B) {
		s := newStore(b)
		b.ResetTimer()
		watchAll(b, s, 1000, b.N)
	})
	b.Run("update by 16", func(b *testing.B) {
		s := newStore(b)
		var n atomic.Int64
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			p := pod(fmt.Sprint("pod-", n.Add(1)))
			mustCreate(b, s, p)
			for i := 0; pb.Next(); i++ {
				err := s.GuaranteedUpdate(b.Context(), "/pods/ns/"+p.Name, &example.Pod{}, false, nil,
					apistorage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
						obj.(*example.Pod).Labels = map[string]string{"i": fmt.Sprint(i)}
						return obj, nil
					}), nil)
				if err != nil {
					b.Error(err)
				}
			}
		})
	})
	s := newStore(b)
	for i := range 1000 {
		mustCreate(b, s, pod(fmt.Sprintf("pod-%04d", i)))
	}
	b.Run("get", func(b *testing.B) {
		for i := range b.N {
			if err := s.Get(b.Context(), fmt.Sprintf("/pods/ns/pod-%04d", i%1000), apistorage.GetOptions{}, &example.Pod{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("list of 1000", func(b *testing.B) {
		for range b.N {
			if err := s.GetList(b.Context(), "/pods/", apistorage.ListOptions{Predicate: apistorage.Everything, Recursive: true}, &example.PodList{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
