package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// effects changes a Trigger's filter n times, each time until that holds, and
// returns how long it took, sorted.
func (s *server) effects(ctx context.Context, n int) ([]time.Duration, error) {
	const name = "t-00000"
	var latencies []time.Duration
	for i := range n {
		patch := fmt.Appendf(nil, `{"spec":{"filters":[{"exact":{"type":"changed-%d"}}]}}`, i)
		began := time.Now()
		u, err := s.of("triggers").Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
		if err != nil {
			return nil, err
		}
		for generation := u.GetGeneration(); !holds(u, generation); {
			if err := wait(ctx, time.Millisecond); err != nil {
				return nil, err
			}
			if u, err = s.of("triggers").Get(ctx, name, metav1.GetOptions{}); err != nil {
				return nil, err
			}
		}
		latencies = append(latencies, time.Since(began))
	}
	slices.Sort(latencies)
	return latencies, nil
}

// holds says whether a Trigger is Ready as it was asked for at a generation.
func holds(u *unstructured.Unstructured, generation int64) bool {
	observed, _, _ := unstructured.NestedInt64(u.Object, "status", "observedGeneration")
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	return observed >= generation && slices.ContainsFunc(conditions, func(c any) bool {
		m, ok := c.(map[string]any)
		return ok && m["type"] == "Ready" && m["status"] == "True"
	})
}
