package storage

import (
	"testing"

	suite "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/utils/clock"
)

// The suite's own benchmarks, over a store without a log below and without a
// cache in front.
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
