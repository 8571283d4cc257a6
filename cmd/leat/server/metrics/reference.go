package metrics

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// WriteReference writes the reference page: a table of every metric.
func WriteReference(w io.Writer) error {
	var b strings.Builder
	b.WriteString("# Metrics\n\n`/metrics` on the HTTP port, for Prometheus. Labels that do not apply (`channel` of a broker) are empty, which to Prometheus is the same as not being there. " +
		"A metric has at most `max-metric-series` series (a histogram's count as one); what would have begun another is counted in `leat_metrics_series_refused_total`. " +
		"The series of an object end when it is deleted.\n\nBeside these there are those of the Go runtime (`go_`), of the process (`process_`) and of the scrapes (`promhttp_`). " +
		"The metrics of the Kubernetes API are at `/metrics` of the API port.\n\n" +
		"This page is generated from the declarations in `cmd/leat/server/metrics`.\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n")
	all := New(Options{}).declarations
	slices.SortFunc(all, func(a, b Declaration) int { return strings.Compare(a.Name, b.Name) })
	for _, d := range all {
		labels := "none"
		if len(d.Labels) > 0 {
			labels = "`" + strings.Join(d.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", d.Name, d.Type, labels, d.Help)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
