package apiserver

import (
	"fmt"
	"runtime"
	"testing"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BenchmarkNamespace deletes a namespace of 5,000 objects, over a store without
// a log below: the time until it is gone, and what the heap grew meanwhile.
func BenchmarkNamespace(b *testing.B) {
	const objects = 5000
	s := start(b, options(b))
	c := s.client().CoreV1()
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapSys
	}
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		name := fmt.Sprint("n", n)
		s.namespace(name)
		var work errgroup.Group
		work.SetLimit(16)
		for i := range objects {
			work.Go(func() error {
				_, err := c.ConfigMaps(name).Create(b.Context(), configMap(fmt.Sprint("c-", i), nil), metav1.CreateOptions{})
				return err
			})
		}
		if err := work.Wait(); err != nil {
			b.Fatal(err)
		}
		before := heap()
		b.StartTimer()
		if err := c.Namespaces().Delete(b.Context(), name, metav1.DeleteOptions{}); err != nil {
			b.Fatal(err)
		}
		s.namespaceGone(name)
		b.ReportMetric(float64(heap()-before)/(1<<20), "MiB-grown")
	}
}
