package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"github.com/leat-dev/leat/broker/operations"
	"github.com/leat-dev/leat/cmd/leat/client"
)

func tailCommand() *cobra.Command {
	var (
		flags    client.Flags
		q        client.TailQuery
		noFollow bool
		output   *choice
	)
	c := &cobra.Command{
		Use:   "tail BROKER",
		Short: "Show a broker's events as they come, or from some point on",
		Example: `  leat tail default
  leat tail default --since 1h --filter type=order.created
  leat tail default --since beginning --no-follow --filter 'cesql:source LIKE "/shop/%"' -o json
  leat tail default --filter 'expr:data.total > 100'`,
		Args: usage(named("BROKER")),
		RunE: func(c *cobra.Command, args []string) error {
			if q.Limit < 0 {
				return usageError{errNegativeLimit}
			}
			cl, err := client.Connect(flags)
			if err != nil {
				return err
			}
			q.Follow = !noFollow
			q.Notice = noticePrinter(c.ErrOrStderr())
			out := bufio.NewWriterSize(c.OutOrStdout(), 64<<10)
			q.Waits = out.Flush
			err = cl.Tail(c.Context(), args[0], q, linePrinter(out, newStyle(c.OutOrStdout()), output.value))
			return errors.Join(err, out.Flush())
		},
	}
	f := c.Flags()
	flags.Declare(f)
	declareTail(f, &q)
	f.BoolVar(&q.Channel, "channel", false, "the name is a Channel's")
	f.BoolVar(&noFollow, "no-follow", false, "end with the last event there is")
	output = outputFlag(c)
	c.ValidArgsFunction = completeNames(&flags, func() string {
		if q.Channel {
			return "channels"
		}
		return "brokers"
	})
	return c
}

// declareTail adds the flags of commands that follow events.
func declareTail(f *pflag.FlagSet, q *client.TailQuery) {
	f.StringVar(&q.Since, "since", "end", "where to begin: end, beginning, an offset, PARTITION:OFFSET,..., a time, or a duration back")
	f.StringVar(&q.Filter, "filter", "", "only events that match: k=v,... or DIALECT:EXPR (exact, prefix, suffix, cesql, expr)")
	f.IntVar(&q.Limit, "limit", 0, "end after so many events")
	f.DurationVar(&q.Reconnect, "reconnect", 5*time.Minute, "how long to try to go on, with the event that follows, where the connection breaks off; 0: not at all")
}

// noticePrinter prints what people should know, and no program reads.
func noticePrinter(w io.Writer) func(string) {
	return func(s string) { fmt.Fprintln(w, "leat:", s) }
}

// errNegativeLimit keeps a slip from following a broker for ever.
var errNegativeLimit = errors.New("--limit must not be negative; 0 is no limit")

// linePrinter prints events in one of the output formats.
func linePrinter(w io.Writer, s style, format string) func(operations.Line) error {
	switch format {
	case "json":
		var b []byte
		return func(l operations.Line) (err error) {
			if b, err = operations.AppendLine(b[:0], l); err != nil {
				return err
			}
			_, err = w.Write(b)
			return err
		}
	case "yaml":
		return func(l operations.Line) error {
			b, err := yaml.Marshal(l)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(w, "---\n%s", b)
			return err
		}
	case "name":
		return func(l operations.Line) error {
			_, err := io.WriteString(w, attributesOf(l).id+"\n")
			return err
		}
	}
	return tablePrinter(w, s, format == "wide")
}

// attributes are those of an event that a row shows, and its data as it stands
// in the event.
type attributes struct{ id, kind, source, data string }

func attributesOf(l operations.Line) (a attributes) {
	for name, value := range l.Members {
		switch name {
		case "id":
			a.id = operations.Text(value)
		case "type":
			a.kind = operations.Text(value)
		case "source":
			a.source = operations.Text(value)
		case "data":
			a.data = string(value)
		case "data_base64":
			a.data = operations.Text(value)
		}
	}
	return a
}

// Widths of a row: what it shows of a payload, in bytes, and of a type and a
// source, in characters. The types of the system broker fit.
const (
	tableData   = 60
	typeWidth   = 38
	sourceWidth = 30
)

func tablePrinter(w io.Writer, s style, wide bool) func(operations.Line) error {
	// One row at a time, so that a row is seen when it comes: widths are fixed.
	const row = "%-12s  %8s  %-38s  %-30s  %s\n"
	header := false
	return func(l operations.Line) error {
		if !header {
			header = true
			if _, err := fmt.Fprint(w, s.bold(fmt.Sprintf(row, "TIME", "OFFSET", "TYPE", "SOURCE", "DATA"))); err != nil {
				return err
			}
		}
		a := attributesOf(l)
		data := a.data
		if !wide && len(data) > tableData {
			data = strings.ToValidUTF8(data[:tableData], "") + "…"
		}
		offset := fmt.Sprint(l.Offset)
		if l.Partition > 0 {
			offset = fmt.Sprintf("%d/%d", l.Partition, l.Offset)
		}
		_, err := fmt.Fprintf(w, s.faint("%-12s  %8s")+"  "+s.cyan("%-38s")+"  %-30s  %s\n", l.Time.Local().Format("15:04:05.000"), offset, shorten(a.kind, typeWidth), shorten(a.source, sourceWidth), strings.ReplaceAll(data, "\n", " "))
		if err == nil && wide {
			err = wideAttributes(w, l.Event)
		}
		return err
	}
}

// shorten leaves out the middle of a text that is wider than its column: types
// and sources differ at their ends. -o wide has the whole.
func shorten(s string, width int) string {
	if len(s) <= width {
		return s
	}
	r := []rune(s)
	if len(r) <= width {
		return s
	}
	begin := (width - 1) / 3
	return string(r[:begin]) + "…" + string(r[len(r)-(width-1-begin):])
}

// wideAttributes prints every attribute of an event below its row.
func wideAttributes(w io.Writer, e json.RawMessage) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(e, &all); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if name != "data" && name != "data_base64" {
			fmt.Fprintf(t, "    %s:\t%s\n", name, all[name])
		}
	}
	return t.Flush()
}
