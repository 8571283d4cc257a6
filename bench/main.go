// Command bench publishes and delivers through a broker, and measures in the
// same run what the machine itself can do: write and sync, and answer HTTP.
// Absolute figures say little on another machine; the ratios do.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

type options struct {
	leat    string
	dir     string
	seconds float64
	runs    int
	size    int
}

func main() {
	var o options
	flag.StringVar(&o.leat, "leat", "bin/leat", "the leat binary")
	flag.StringVar(&o.dir, "dir", os.TempDir(), "where the data goes; the disk that is measured")
	flag.Float64Var(&o.seconds, "seconds", 3, "length of each measurement")
	flag.IntVar(&o.runs, "runs", 3, "how often everything is measured; medians are printed")
	flag.IntVar(&o.size, "size", 1024, "payload of an event, in bytes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// result is one row of the table in one run.
type result struct {
	events   int
	rate     float64 // events a second
	p50, p99 time.Duration
}

// step is one row of the table.
type step struct {
	name    string
	ceiling string // the row that it is compared with
	run     func(ctx context.Context) (result, error)
}

func run(ctx context.Context, o options, out io.Writer) error {
	dir, err := os.MkdirTemp(o.dir, "leat-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	length := time.Duration(o.seconds * float64(time.Second))

	sink := newSink()
	defer sink.close()
	null, err := newNullServer()
	if err != nil {
		return err
	}
	defer null.close()
	leat, err := startLeat(ctx, o.leat, filepath.Join(dir, "data"), sink.url())
	if err != nil {
		return err
	}
	defer leat.stop()

	steps := []step{
		{name: "write + fdatasync, 4 KiB", run: func(ctx context.Context) (result, error) { return syncCeiling(ctx, dir, 4<<10, length) }},
		{name: "write + fdatasync, 1 MiB", run: func(ctx context.Context) (result, error) { return syncCeiling(ctx, dir, 1<<20, length) }},
	}
	for _, w := range []int{1, 16, 256} {
		ceiling := fmt.Sprintf("net/http answering 202, W=%d", w)
		steps = append(steps,
			step{name: ceiling, run: func(ctx context.Context) (result, error) {
				return publish(ctx, null.address(), "/", w, 1, o.size, length)
			}},
			step{name: fmt.Sprintf("publish, W=%d", w), ceiling: ceiling, run: func(ctx context.Context) (result, error) {
				return publish(ctx, leat.address(), "/default/idle", w, 1, o.size, length)
			}})
	}
	steps = append(steps,
		step{name: "publish in batches of 64, W=16", ceiling: "net/http answering 202, W=256", run: func(ctx context.Context) (result, error) {
			return publish(ctx, leat.address(), "/default/idle", 16, 64, o.size, length)
		}},
		step{name: "HTTP in, one trigger, HTTP out, W=256", ceiling: "net/http answering 202, W=256", run: func(ctx context.Context) (result, error) {
			return endToEnd(ctx, leat, sink, 256, o.size, length)
		}})

	all := map[string][]result{}
	for i := range o.runs {
		for _, s := range steps {
			fmt.Fprintf(os.Stderr, "run %d of %d: %s\n", i+1, o.runs, s.name)
			r, err := s.run(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			all[s.name] = append(all[s.name], r)
		}
	}
	return print(out, steps, all)
}

func print(out io.Writer, steps []step, all map[string][]result) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\ta second\tp50 ms\tp99 ms\tratio\t")
	for _, s := range steps {
		m := median(all[s.name])
		ratio := ""
		if s.ceiling != "" {
			ratio = fmt.Sprintf("%.2f", m.rate/median(all[s.ceiling]).rate)
		}
		fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%.2f\t%s\t\n", s.name, m.rate, ms(m.p50), ms(m.p99), ratio)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, "\nThe ratio is against net/http answering 202 with as many requests in flight (256 for batches and end to end).\nW is requests in flight; a 202 from the broker means synced to disk. The client runs on the same cores.")
	return err
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func median(rs []result) result {
	rates := make([]float64, len(rs))
	p50, p99 := make([]time.Duration, len(rs)), make([]time.Duration, len(rs))
	for i, r := range rs {
		rates[i], p50[i], p99[i] = r.rate, r.p50, r.p99
	}
	slices.Sort(rates)
	slices.Sort(p50)
	slices.Sort(p99)
	return result{rate: rates[len(rs)/2], p50: p50[len(rs)/2], p99: p99[len(rs)/2]}
}

// summarize makes a result of latencies.
func summarize(latencies [][]time.Duration, perRequest int, took time.Duration) result {
	var all []time.Duration
	for _, l := range latencies {
		all = append(all, l...)
	}
	if len(all) == 0 {
		return result{}
	}
	slices.Sort(all)
	events := len(all) * perRequest
	return result{
		events: events, rate: float64(events) / took.Seconds(),
		p50: all[len(all)/2], p99: all[len(all)*99/100],
	}
}

// payload is JSON of the given size.
func payload(size int) string {
	const frame = `{"pad":""}`
	return `{"pad":"` + strings.Repeat("x", max(0, size-len(frame))) + `"}`
}
