package stats

import (
	"math"
	"testing"
	"time"
)

func TestPercentileIsAValueThatWasMeasured(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(100-i))
	}
	if p50, p99 := Percentiles(hundred); p50 != 50 || p99 != 99 {
		t.Errorf("of 1 to 100: %d and %d, not 50 and 99", p50, p99)
	}
	if p50, p99 := Percentiles([]time.Duration{7}); p50 != 7 || p99 != 7 {
		t.Errorf("of one value: %d and %d", p50, p99)
	}
	if p50, p99 := Percentiles(nil); p50 != 0 || p99 != 0 {
		t.Errorf("of nothing: %d and %d", p50, p99)
	}
}

func TestMedianIsOfEachFigure(t *testing.T) {
	m := Median([]Sample{
		{Rate: 10, P50: 3, P99: 30, ServerCPU: 1, ClientCPU: math.NaN()},
		{Rate: 30, P50: 1, P99: 50, ServerCPU: 3, ClientCPU: 1},
		{Rate: 20, P50: 2, P99: 40, ServerCPU: 2, ClientCPU: 1},
	})
	if m.Rate != 20 || m.P50 != 2 || m.P99 != 40 || m.ServerCPU != 2 {
		t.Errorf("got %+v", m)
	}
	if !math.IsNaN(m.ClientCPU) {
		t.Errorf("the median of figures one of which is not known is %f", m.ClientCPU)
	}
}

func TestMiddle(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{5}, 5}, {[]float64{4, 2}, 3}, {[]float64{9, 1, 2}, 2}} {
		if got := Middle(c.values); got != c.want {
			t.Errorf("Middle(%v) = %f, not %f", c.values, got, c.want)
		}
	}
	if got := Middle(nil); !math.IsNaN(got) {
		t.Errorf("of nothing: %f", got)
	}
}

// TestRatioIsByTurns: one turn on a machine that was busy does not count twice.
func TestRatioIsByTurns(t *testing.T) {
	rate := func(s Sample) float64 { return s.Rate }
	a := []Sample{{Rate: 100}, {Rate: 10}, {Rate: 90}}
	b := []Sample{{Rate: 50}, {Rate: 5}, {Rate: 30}}
	if got := Ratio(a, b, rate); got != 2 {
		t.Errorf("turn by turn: %f, not 2", got)
	}
	if got := Ratio(a, b[:1], rate); got != 90.0/50 {
		t.Errorf("of medians: %f, not 1.8", got)
	}
	if got := Ratio(a, nil, rate); !math.IsNaN(got) {
		t.Errorf("against nothing: %f", got)
	}
}

func TestCPUPer100k(t *testing.T) {
	if got := CPUPer100k(2*time.Second, 50_000); got != 4 {
		t.Errorf("2 s for 50,000 are %f s for 100,000", got)
	}
	if got := CPUPer100k(time.Second, 0); !math.IsNaN(got) {
		t.Errorf("for no events: %f", got)
	}
}
