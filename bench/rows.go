//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/leat-dev/leat/bench/stats"
	"github.com/leat-dev/leat/bench/table"
)

// rate adds a row with what was measured under a key. The checks are made when
// the table is; one that says the same as another is left out.
func (b *bench) rate(work, key string, checks ...func() table.Check) {
	b.add(func() table.Row {
		m := b.median(key)
		r := table.Row{
			Work: work, Figure: perSecond(m), P50: ms(m.P50), P99: ms(m.P99),
			ServerCPU: seconds(m.ServerCPU), ClientCPU: seconds(m.ClientCPU),
		}
		for _, check := range checks {
			if c := check(); !slices.Contains(r.Checks, c) {
				r.Checks = append(r.Checks, c)
			}
		}
		return r
	})
}

// figure adds a row with a figure that is no rate.
func (b *bench) figure(work, key, unit string, checks ...func() table.Check) {
	b.add(func() table.Row {
		r := table.Row{Work: work}
		if m := b.median(key); !math.IsNaN(m.Rate) {
			r.Figure = table.Number(m.Rate) + unit
		}
		for _, c := range checks {
			r.Checks = append(r.Checks, c())
		}
		return r
	})
}

func rate(s stats.Sample) float64      { return s.Rate }
func bytesRate(s stats.Sample) float64 { return s.BytesRate() }

// atLeast checks the rate of one thing against another's.
func (b *bench) atLeast(bound float64, key, against, name string) func() table.Check {
	return func() table.Check {
		return table.Check{Name: "of " + name, Value: stats.Ratio(b.samples[key], b.samples[against], rate), Bound: bound}
	}
}

// atMost checks a figure by itself.
func (b *bench) atMost(bound float64, unit, name string, figure func() float64) func() table.Check {
	return func() table.Check {
		return table.Check{Name: name, Value: figure(), Bound: bound, AtMost: true, Unit: unit}
	}
}

func (b *bench) value(key string) func() float64 {
	return func() float64 { return b.median(key).Rate }
}

func (b *bench) serverCPU(key string) func() float64 {
	return func() float64 { return b.median(key).ServerCPU }
}

// latency is a median latency in milliseconds; NaN where there is none.
func (b *bench) latency(key string, of func(stats.Sample) time.Duration) float64 {
	d := of(b.median(key))
	if d == 0 {
		return math.NaN()
	}
	return float64(d) / float64(time.Millisecond)
}

func p50(s stats.Sample) time.Duration { return s.P50 }
func p99(s stats.Sample) time.Duration { return s.P99 }

func perSecond(s stats.Sample) string {
	if math.IsNaN(s.Rate) {
		return ""
	}
	if s.Bytes >= 4<<10 {
		return fmt.Sprintf("%.0f/s, %.0f MB/s", s.Rate, s.BytesRate()/1e6)
	}
	return fmt.Sprintf("%.0f/s", s.Rate)
}

func ms(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return table.Number(float64(d) / float64(time.Millisecond))
}

func seconds(f float64) string {
	if math.IsNaN(f) {
		return ""
	}
	return table.Number(f)
}
