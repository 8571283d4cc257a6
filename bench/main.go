//go:build linux

// Command bench measures a Leat server, on the same disk and in the same run
// as what the machine itself can do and as its peers, and prints one table.
// Absolute figures say little on another machine; the ratios do.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/leat-dev/leat/bench/ceiling"
	"github.com/leat-dev/leat/bench/peers"
	"github.com/leat-dev/leat/bench/table"
)

type options struct {
	leat, dir, cache string
	length           time.Duration
	runs, size       int
	triggers         int
	backlog          int
	full, install    bool
	only             string
	peers, rows      string
	markdown         string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == serve {
		exit(ceiling.Serve(strings.Join(os.Args[2:], "")))
	}
	var o options
	flag.StringVar(&o.leat, "leat", "bin/leat", "the leat binary")
	flag.StringVar(&o.dir, "dir", os.TempDir(), "where the data goes; the disk that is measured")
	flag.StringVar(&o.cache, "cache", ".cache/bench", "where the peers' programs are kept")
	flag.DurationVar(&o.length, "length", 2*time.Second, "length of each measurement")
	flag.IntVar(&o.runs, "runs", 3, "how often each is made; medians are printed")
	flag.IntVar(&o.size, "size", 1024, "payload of an event, in bytes")
	flag.IntVar(&o.triggers, "triggers", 10_000, "triggers, where there are many")
	flag.IntVar(&o.backlog, "backlog", 1_000_000, "events, where there are many")
	flag.BoolVar(&o.full, "full", false, "a backlog of ten million events (10 GB), whatever -backlog says")
	flag.BoolVar(&o.install, "install", true, "install the peers that Debian has, where apt-get can be used")
	flag.StringVar(&o.only, "only", "", "leat or peers: only those")
	flag.StringVar(&o.peers, "peers", "", "only these peers: "+strings.Join(peers.Names(), ",")+"; or none")
	flag.StringVar(&o.rows, "rows", "", "only these rows of Leat's: "+strings.Join(partNames(), ","))
	flag.StringVar(&o.markdown, "markdown", "", "file to write the table to as well, as Markdown")
	flag.Parse()
	if o.full {
		o.backlog = 10_000_000
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(run(ctx, o))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(ctx context.Context, o options) (err error) {
	parts, err := selected(o)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.dir, "leat-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := newBench(o, dir)
	for _, p := range parts {
		if err := p.run(ctx, b); err != nil {
			// What else can be measured still is; the run fails in the end.
			b.failed(p.name, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return b.report(os.Stdout)
}

// part measures some rows that share their servers.
type part struct {
	name string
	run  func(ctx context.Context, b *bench) error
}

var leatParts = []part{
	{"publish", publishPart},
	{"deliver", deliverPart},
	{"filters", filtersPart},
	{"idle", idlePart},
	{"start", startPart},
	{"backlog", backlogPart},
}

func partNames() []string {
	var names []string
	for _, p := range leatParts {
		names = append(names, p.name)
	}
	return names
}

// selected are the parts that the flags ask for.
func selected(o options) ([]part, error) {
	rows, err := oneOf("rows", o.rows, partNames())
	if err != nil {
		return nil, err
	}
	names := []string{}
	if o.peers != "none" {
		if names, err = oneOf("peers", o.peers, peers.Names()); err != nil {
			return nil, err
		}
	}
	if _, err := oneOf("only", o.only, []string{"leat", "peers"}); err != nil {
		return nil, err
	}
	var parts []part
	for _, p := range leatParts {
		if o.only != "peers" && slices.Contains(rows, p.name) {
			parts = append(parts, p)
		}
	}
	for _, name := range names {
		if o.only != "leat" {
			parts = append(parts, part{name, func(ctx context.Context, b *bench) error { return peerPart(ctx, b, name) }})
		}
	}
	return parts, nil
}

// oneOf takes a list apart; all where it is empty.
func oneOf(flag, list string, all []string) ([]string, error) {
	if list == "" {
		return all, nil
	}
	chosen := strings.Split(list, ",")
	for _, c := range chosen {
		if !slices.Contains(all, c) {
			return nil, fmt.Errorf("-%s: there is no %q; there are %s", flag, c, strings.Join(all, ", "))
		}
	}
	return chosen, nil
}

func (b *bench) report(out *os.File) error {
	rows := b.table()
	if err := table.Text(out, rows); err != nil {
		return err
	}
	met, missed, unknown := table.Summary(rows)
	fmt.Fprintf(out, "\n%d targets are met, %d are not, %d could not be judged. Ratios are medians of %d turns.\n", met, missed, unknown, b.runs)
	if b.markdown != "" {
		f, err := os.Create(b.markdown)
		if err != nil {
			return err
		}
		if err := errors.Join(table.Markdown(f, rows), f.Close()); err != nil {
			return err
		}
	}
	return errors.Join(b.failures...)
}
