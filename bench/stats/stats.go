// Package stats turns what was measured into figures that can be compared.
package stats

import (
	"math"
	"slices"
	"time"
)

// Sample is one measurement of one piece of work.
type Sample struct {
	Events   int
	Rate     float64 // events a second
	P50, P99 time.Duration
	// ServerCPU and ClientCPU are processor seconds for 100,000 events; NaN
	// where they are not known.
	ServerCPU, ClientCPU float64
	// Bytes is the payload of one event.
	Bytes int
}

// BytesRate is the payload bytes a second.
func (s Sample) BytesRate() float64 { return s.Rate * float64(s.Bytes) }

// Of makes a sample of events that took so long, and of the latencies of the
// requests that carried them.
func Of(events int, took time.Duration, latencies []time.Duration) Sample {
	p50, p99 := Percentiles(latencies)
	return Sample{
		Events: events, Rate: float64(events) / took.Seconds(), P50: p50, P99: p99,
		ServerCPU: math.NaN(), ClientCPU: math.NaN(),
	}
}

// Percentiles are the 50th and the 99th; 0 where there is nothing. The
// latencies are sorted in place.
func Percentiles(latencies []time.Duration) (p50, p99 time.Duration) {
	slices.Sort(latencies)
	return Percentile(latencies, 50), Percentile(latencies, 99)
}

// Percentile is the smallest of the sorted values that p percent of them do
// not exceed.
func Percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

// CPUPer100k is processor time as seconds for 100,000 events.
func CPUPer100k(cpu time.Duration, events int) float64 {
	if events == 0 {
		return math.NaN()
	}
	return cpu.Seconds() * 1e5 / float64(events)
}

// Median is the median of each figure by itself; the zero Sample of none.
func Median(samples []Sample) Sample {
	if len(samples) == 0 {
		return Sample{}
	}
	return Sample{
		Events:    samples[0].Events,
		Bytes:     samples[0].Bytes,
		Rate:      Middle(each(samples, func(s Sample) float64 { return s.Rate })),
		P50:       time.Duration(Middle(each(samples, func(s Sample) float64 { return float64(s.P50) }))),
		P99:       time.Duration(Middle(each(samples, func(s Sample) float64 { return float64(s.P99) }))),
		ServerCPU: Middle(each(samples, func(s Sample) float64 { return s.ServerCPU })),
		ClientCPU: Middle(each(samples, func(s Sample) float64 { return s.ClientCPU })),
	}
}

func each(samples []Sample, of func(Sample) float64) []float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	return values
}

// Middle is the median, the mean of the two in the middle where there are two;
// NaN of nothing, or where one is not a number.
func Middle(values []float64) float64 {
	if len(values) == 0 || slices.ContainsFunc(values, math.IsNaN) {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Ratio compares a figure of two pieces of work. Where both were measured as
// often, turn by turn, it is the median of the turns' ratios: what slows a
// machine for a while slows both. Else it is the ratio of the medians.
func Ratio(a, b []Sample, figure func(Sample) float64) float64 {
	of, to := each(a, figure), each(b, figure)
	if len(of) != len(to) {
		return Middle(of) / Middle(to)
	}
	for i := range of {
		of[i] /= to[i]
	}
	return Middle(of)
}
