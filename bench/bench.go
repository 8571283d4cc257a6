//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/leat-dev/leat/bench/proc"
	"github.com/leat-dev/leat/bench/server"
	"github.com/leat-dev/leat/bench/stats"
	"github.com/leat-dev/leat/bench/table"
)

// bench holds what is measured until all of it is.
type bench struct {
	options
	dir string
	// rows are made when all is measured, for a row may be held against a
	// later one.
	rows     []func() table.Row
	samples  map[string][]stats.Sample // by what was measured
	changes  []time.Duration           // of the trigger set, until each held
	failures []error
}

func newBench(o options, dir string) *bench {
	return &bench{options: o, dir: dir, samples: map[string][]stats.Sample{}}
}

func (b *bench) table() []table.Row {
	rows := make([]table.Row, len(b.rows))
	for i, row := range b.rows {
		rows[i] = row()
	}
	return rows
}

func (b *bench) add(row func() table.Row) { b.rows = append(b.rows, row) }

func (b *bench) failed(part string, err error) {
	err = fmt.Errorf("%s: %w", part, err)
	b.failures = append(b.failures, err)
	b.add(func() table.Row { return table.Row{Work: part, Note: "failed; see the end"} })
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
}

// step is something that is measured, in turns with others.
type step struct {
	key string
	// server is whose processor time is counted; nil: nobody's.
	server *proc.Group
	run    func(ctx context.Context) (stats.Sample, error)
}

// turns makes all steps, one after another, as often as is asked for.
func (b *bench) turns(ctx context.Context, steps []step) error {
	return b.repeat(ctx, b.runs, steps)
}

// repeat makes all steps, one after another, n times.
func (b *bench) repeat(ctx context.Context, n int, steps []step) error {
	for turn := range n {
		for _, s := range steps {
			progress("turn %d of %d: %s", turn+1, n, s.key)
			if err := b.measure(ctx, s); err != nil {
				return fmt.Errorf("%s: %w", s.key, err)
			}
		}
	}
	return nil
}

func (b *bench) measure(ctx context.Context, s step) error {
	var before, after time.Duration
	var err error
	own := proc.OwnCPU()
	if s.server != nil {
		if before, err = s.server.CPU(); err != nil {
			return err
		}
	}
	sample, err := s.run(ctx)
	if err != nil {
		return err
	}
	if s.server != nil {
		if after, err = s.server.CPU(); err != nil {
			return err
		}
		sample.ServerCPU = stats.CPUPer100k(after-before, sample.Events)
		if math.IsNaN(sample.ClientCPU) { // else another process was the client
			sample.ClientCPU = stats.CPUPer100k(proc.OwnCPU()-own, sample.Events)
		}
	}
	b.samples[s.key] = append(b.samples[s.key], sample)
	return nil
}

// median is that of what was measured.
func (b *bench) median(key string) stats.Sample {
	if len(b.samples[key]) == 0 {
		n := math.NaN()
		return stats.Sample{Rate: n, ServerCPU: n, ClientCPU: n}
	}
	return stats.Median(b.samples[key])
}

// note keeps a figure that is no rate as a sample of its own.
func (b *bench) note(key string, value float64) {
	b.samples[key] = append(b.samples[key], stats.Sample{Rate: value, ServerCPU: math.NaN(), ClientCPU: math.NaN()})
}

// startLeat starts a server on a directory of its own.
func (b *bench) startLeat(ctx context.Context, name string) (*server.Server, error) {
	binary, err := filepath.Abs(b.leat)
	if err != nil {
		return nil, err
	}
	return server.Start(ctx, binary, filepath.Join(b.dir, name))
}

// serve, as the first argument, makes this program one of the ceilings.
const serve = "serve-http"

// ceilingServer is net/http, as a process of its own.
type ceilingServer struct {
	*proc.Group
	address string
}

func (b *bench) startCeiling(ctx context.Context, target string) (*ceilingServer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	log := filepath.Join(b.dir, "serve.log")
	if err := os.Remove(log); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	g, err := proc.Start(exec.Command(self, serve, target), log)
	if err != nil {
		return nil, err
	}
	for tick := time.NewTicker(time.Millisecond); ; {
		if f, err := os.Open(log); err == nil {
			line, err := bufio.NewReader(f).ReadString('\n')
			f.Close()
			if err == nil {
				return &ceilingServer{g, line[:len(line)-1]}, nil
			}
		}
		select {
		case <-tick.C:
		case <-g.Ended():
			return nil, g.Failure(errors.New("net/http did not start"))
		case <-ctx.Done():
			g.Kill()
			return nil, ctx.Err()
		}
	}
}
