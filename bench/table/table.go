// Package table is the table that the bench prints: figures, ratios, and
// whether they are what is to be reached.
package table

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
)

// Row is one piece of work.
type Row struct {
	Work   string
	Figure string // with its unit
	// P50, P99, ServerCPU and ClientCPU are empty where they say nothing.
	P50, P99, ServerCPU, ClientCPU string
	Checks                         []Check
	// Note says what the row's figures are, or why there are none.
	Note string
}

// Check holds a figure against what is to be reached.
type Check struct {
	Name   string // what the figure is, such as "of net/http"
	Value  float64
	Bound  float64
	AtMost bool   // the bound is not to be passed; else it is to be reached
	Unit   string // of both
}

// Verdict says whether a check holds; known is false where the figure, or what
// it is held against, was not measured.
func (c Check) Verdict() (met, known bool) {
	if math.IsNaN(c.Value) || math.IsNaN(c.Bound) {
		return false, false
	}
	if c.AtMost {
		return c.Value <= c.Bound, true
	}
	return c.Value >= c.Bound, true
}

func (c Check) value() string {
	if math.IsNaN(c.Value) {
		return "? " + c.Name
	}
	return strings.TrimSpace(Number(c.Value) + c.Unit + " " + c.Name)
}

func (c Check) bound() string {
	sign := "≥ "
	if c.AtMost {
		sign = "≤ "
	}
	if math.IsNaN(c.Bound) {
		return sign + "?"
	}
	return sign + Number(c.Bound) + c.Unit
}

func (c Check) met() string {
	switch met, known := c.Verdict(); {
	case !known:
		return "?"
	case met:
		return "yes"
	default:
		return "no"
	}
}

// Number has three significant digits, and as many before the point as it has.
func Number(f float64) string {
	switch a := math.Abs(f); {
	case a >= 100 || a == math.Trunc(a):
		return fmt.Sprintf("%.0f", f)
	case a >= 10:
		return fmt.Sprintf("%.1f", f)
	default:
		return fmt.Sprintf("%.2f", f)
	}
}

var columns = []string{"work", "figure", "p50 ms", "p99 ms", "server CPU s/100k", "client CPU s/100k", "ratio", "to reach", "met", "note"}

func (r Row) cells() []string {
	var value, bound, met []string
	for _, c := range r.Checks {
		value = append(value, c.value())
		bound = append(bound, c.bound())
		met = append(met, c.met())
	}
	join := func(s []string) string { return strings.Join(s, "; ") }
	return []string{r.Work, r.Figure, r.P50, r.P99, r.ServerCPU, r.ClientCPU, join(value), join(bound), join(met), r.Note}
}

// Text writes the table for a terminal.
func Text(w io.Writer, rows []Row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(columns, "\t"))
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r.cells(), "\t"))
	}
	return t.Flush()
}

// Markdown writes the table as Markdown.
func Markdown(w io.Writer, rows []Row) error {
	var b strings.Builder
	line := func(cells []string) {
		for _, c := range cells {
			b.WriteString("| " + strings.ReplaceAll(c, "|", `\|`) + " ")
		}
		b.WriteString("|\n")
	}
	line(columns)
	b.WriteString(strings.Repeat("|---", len(columns)) + "|\n")
	for _, r := range rows {
		line(r.cells())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Summary counts the checks that hold, that do not, and that could not be made.
func Summary(rows []Row) (met, missed, unknown int) {
	for _, r := range rows {
		for _, c := range r.Checks {
			switch ok, known := c.Verdict(); {
			case !known:
				unknown++
			case ok:
				met++
			default:
				missed++
			}
		}
	}
	return met, missed, unknown
}
