package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/leat-dev/leat/broker/operations"
)

func printStatus(w io.Writer, s style, format string, namespaces bool, status operations.Status) error {
	if done, err := printObject(w, format, status); done {
		return err
	}
	if format == "name" {
		for _, name := range namesOf(status) {
			if _, err := fmt.Fprintln(w, name); err != nil {
				return err
			}
		}
		return nil
	}
	var b strings.Builder
	if len(status.Channels) == 0 {
		b.WriteString("There is no broker and no channel here: `leat kubectl apply` makes one, -A shows other namespaces.\n")
	} else {
		t := statusTable(s, format == "wide", namespaces, status)
		t.write(&b)
	}
	d := status.Disk
	limit := ""
	if d.LimitBytes > 0 {
		limit = fmt.Sprintf(" of at most %s", size(d.LimitBytes))
	}
	free := size(d.FreeBytes) + " free"
	if d.FreeBytes < d.FloorBytes {
		free = s.red(free + ": events are refused")
	}
	fmt.Fprintf(&b, "\nLog: %s on disk%s; %s (below %s events are refused)\n", size(d.LogBytes), limit, free, size(d.FloorBytes))
	if d.StalledSeconds > 0 {
		fmt.Fprintln(&b, s.red(fmt.Sprintf("The disk has not answered for %.0f s: events are refused until it does.", d.StalledSeconds)))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func statusTable(s style, wide, namespaces bool, status operations.Status) *table {
	head := []string{"NAME", "EVENTS", "RATE", "LAG", "AGE", "OUT", "WAITING", "DEAD"}
	if wide {
		head = append(head, "BLOCKED", "BYTES", "OLDEST", "PARTITIONS")
	}
	head = append(head, "STATE") // last: it may be a line of text
	t := &table{right: map[int]bool{1: true, 2: true, 3: true, 4: true, 5: true, 6: true, 7: true, 8: wide, 9: wide, 10: wide, 11: wide}}
	t.add(s.bold, head...)
	for _, ch := range status.Channels {
		name := strings.ToLower(ch.Kind) + "/" + ch.Name
		if namespaces {
			name = ch.Namespace + " " + name
		}
		row := []string{name, fmt.Sprint(ch.Events), rate(ch.EventsPerSecond), "", "", "", "", ""}
		if ch.Partitions == 0 { // there is no log
			row[1], row[2] = "", ""
		}
		if wide {
			row = append(row, "", size(ch.Bytes), age(status.Time, ch.Oldest), fmt.Sprint(ch.Partitions))
		}
		state, paint := notReady(s, ch.Ready)
		t.add(paint, append(row, state)...)
		for _, sub := range ch.Subscriptions {
			state, paint := stateOf(s, sub)
			row := []string{
				"  " + strings.ToLower(sub.Kind) + "/" + sub.Name, "", rate(sub.DeliveredPerSecond), fmt.Sprint(sub.Lag), span(sub.LagSeconds),
				fmt.Sprint(sub.InFlight), fmt.Sprint(sub.Waiting), fmt.Sprint(sub.DeadLetters),
			}
			if wide {
				row = append(row, fmt.Sprint(sub.Blocked), "", "", "")
				if sub.LastError != "" {
					state += "; last error " + age(status.Time, sub.LastErrorAt) + " ago: " + sub.LastError
				}
			}
			t.add(paint, append(row, state)...)
		}
	}
	return t
}

// stateOf says in a word or a line how a subscription is.
func stateOf(s style, sub operations.SubscriptionStatus) (string, func(string) string) {
	state, paint := notReady(s, sub.Ready)
	switch {
	case state != "":
		return state, paint
	case sub.Paused:
		return "paused, " + sub.Reason + ": " + sub.Message, s.red
	case sub.LastErrorAt.After(sub.LastSuccessAt) && (sub.Waiting > 0 || sub.DeadLetters > 0):
		return "failing: " + sub.LastError, s.yellow
	case sub.DeadLetters > 0:
		state = "dead letters"
		if sub.LastError != "" {
			state += ", last error: " + sub.LastError
		}
		return state, s.yellow
	}
	return "ok", nil
}

// notReady says why a resource is not; "" where it is, or nobody knows of it.
func notReady(s style, r operations.Ready) (string, func(string) string) {
	switch {
	case r.Status == "False":
		return "not ready, " + r.Reason + ": " + r.Message, s.red
	case r.Status == "Unknown" && r.Reason != "":
		return "not known yet, " + r.Reason + ": " + r.Message, s.yellow
	}
	return "", nil
}

// table aligns columns. A row is painted after it has been aligned.
type table struct {
	right  map[int]bool
	rows   [][]string
	paints []func(string) string
}

func (t *table) add(paint func(string) string, cells ...string) {
	t.rows = append(t.rows, cells)
	t.paints = append(t.paints, paint)
}

func (t *table) write(b *strings.Builder) {
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	for n, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-len([]rune(cell)))
			if t.right[i] {
				line.WriteString(pad + cell + "  ")
			} else {
				line.WriteString(cell + pad + "  ")
			}
		}
		text := strings.TrimRight(line.String(), " ")
		if t.paints[n] != nil {
			text = t.paints[n](text)
		}
		b.WriteString(text + "\n")
	}
}

func rate(perSecond float64) string {
	if perSecond > 0 && perSecond < 10 {
		return fmt.Sprintf("%.1f/s", perSecond)
	}
	return fmt.Sprintf("%.0f/s", perSecond)
}

// span is a duration in its largest unit.
func span(seconds float64) string {
	switch d := time.Duration(min(seconds, math.MaxInt64/float64(time.Second)) * float64(time.Second)); {
	case d <= 0:
		return "-"
	case d < time.Second:
		return fmt.Sprintf("%dms", max(1, d.Milliseconds()))
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

func age(now, then time.Time) string {
	if then.IsZero() {
		return "-"
	}
	return span(now.Sub(then).Seconds())
}

// size is a number of bytes, rounded.
func size(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	v, i := float64(n), 0
	for ; v >= 1024 && i < len(units)-1; i++ {
		v /= 1024
	}
	if i == 0 || v >= 10 {
		return fmt.Sprintf("%.0f %s", v, units[i])
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
