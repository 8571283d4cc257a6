package table

import (
	"math"
	"strings"
	"testing"
)

var rows = []Row{
	{Work: "publish, W=256", Figure: "40000/s", P50: "4.00", Checks: []Check{
		{Name: "of net/http", Value: 1.234, Bound: 1.1, Unit: ""},
		{Name: "of Redis", Value: math.NaN(), Bound: 1},
	}},
	{Work: "memory | idle", Figure: "150 MB", Checks: []Check{{Value: 150, Bound: 140, AtMost: true, Unit: " MB"}}},
	{Work: "a peer", Note: "not available: not installed"},
}

func TestMarkdown(t *testing.T) {
	var b strings.Builder
	if err := Markdown(&b, rows); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	want := []string{
		"| work | figure | p50 ms | p99 ms | server CPU s/100k | client CPU s/100k | ratio | to reach | met | note |",
		"|---|---|---|---|---|---|---|---|---|---|",
		"| publish, W=256 | 40000/s | 4.00 |  |  |  | 1.23 of net/http; ? of Redis | ≥ 1.10; ≥ 1 | yes; ? |  |",
		`| memory \| idle | 150 MB |  |  |  |  | 150 MB | ≤ 140 MB | no |  |`,
		"| a peer |  |  |  |  |  |  |  |  | not available: not installed |",
	}
	for i := range want {
		if i >= len(lines) || lines[i] != want[i] {
			t.Errorf("line %d is\n%s\nnot\n%s", i, strings.Join(lines[min(i, len(lines)):], "\n"), want[i])
		}
	}
}

func TestSummary(t *testing.T) {
	if met, missed, unknown := Summary(rows); met != 1 || missed != 1 || unknown != 1 {
		t.Errorf("%d met, %d missed, %d not known", met, missed, unknown)
	}
}

func TestBoundsThemselvesHold(t *testing.T) {
	for _, c := range []Check{{Value: 1, Bound: 1}, {Value: 1, Bound: 1, AtMost: true}} {
		if met, known := c.Verdict(); !met || !known {
			t.Errorf("%+v does not hold", c)
		}
	}
	if met, _ := (Check{Value: 2, Bound: 1, AtMost: true}).Verdict(); met {
		t.Error("2 is held for at most 1")
	}
}

func TestNumber(t *testing.T) {
	for f, want := range map[float64]string{0.123: "0.12", 1: "1", 12.34: "12.3", 12345.6: "12346"} {
		if got := Number(f); got != want {
			t.Errorf("%f is written %s, not %s", f, got, want)
		}
	}
}
