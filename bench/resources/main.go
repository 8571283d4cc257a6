// Command resources measures what many resources cost: Triggers created by many
// clients at once, or by kubectl one after the other; how soon all are Ready;
// what they take and write when nothing happens; and what many watchers take.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

type options struct {
	leat, kubectl, dir, profile, heap string
	triggers, parallel                int
	watchers                          int
	idle                              time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.leat, "leat", "bin/leat", "the leat binary")
	flag.StringVar(&o.kubectl, "kubectl", "", "create with this kubectl, one Trigger after the other, and not by clients of our own")
	flag.StringVar(&o.dir, "dir", os.TempDir(), "where the data goes")
	flag.StringVar(&o.profile, "profile", "", "file for a CPU profile of the server while it creates")
	flag.StringVar(&o.heap, "heap", "", "file for a profile of the server's memory, when all are Ready")
	flag.IntVar(&o.triggers, "triggers", 10_000, "how many Triggers")
	flag.IntVar(&o.parallel, "parallel", 16, "clients that create them")
	flag.IntVar(&o.watchers, "watchers", 1000, "watches of all Triggers")
	flag.DurationVar(&o.idle, "idle", 10*time.Second, "how long writes are counted while nothing happens")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "resources:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp(o.dir, "leat-resources-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := startServer(ctx, o.leat, filepath.Join(dir, "data"))
	if err != nil {
		return err
	}
	defer s.stop()
	if err := s.broker(ctx); err != nil {
		return err
	}
	before, err := s.memory(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("load %s\nempty: %s\n", load(), before)
	if err := create(ctx, o, s); err != nil {
		return err
	}
	if err := idle(ctx, o, s, before); err != nil {
		return err
	}
	if err := effect(ctx, s); err != nil {
		return err
	}
	return watch(ctx, o, s)
}

// effect tells how soon a change of one Trigger's filter holds, among all the
// others: Ready at the new generation means that the next event is matched by it.
func effect(ctx context.Context, s *server) error {
	latencies, err := s.effects(ctx, 20)
	if err != nil {
		return err
	}
	fmt.Printf("a changed filter holds after %s (median of %d), at most %s\n",
		latencies[len(latencies)/2].Round(time.Millisecond), len(latencies), latencies[len(latencies)-1].Round(time.Millisecond))
	return nil
}

// create creates the Triggers, and waits until all are Ready.
func create(ctx context.Context, o options, s *server) error {
	profiled := make(chan error, 1)
	if o.profile != "" {
		go func() { profiled <- s.profile(ctx, o.profile) }()
	} else {
		profiled <- nil
	}
	began := time.Now()
	from, err := s.revision(ctx)
	if err != nil {
		return err
	}
	cpu, own, err := s.cpu()
	if err != nil {
		return err
	}
	var answering time.Duration
	if o.kubectl != "" {
		answering, err = s.createByKubectl(ctx, o.kubectl, o.triggers)
	} else {
		err = s.createByClients(ctx, o.triggers, o.parallel)
	}
	if err != nil {
		return err
	}
	took := time.Since(began)
	_, ownAfter, err := s.cpu()
	if err != nil {
		return err
	}
	fmt.Printf("created: %d in %s, %.0f a second\n", o.triggers, took.Round(time.Millisecond), float64(o.triggers)/took.Seconds())
	if answering > 0 {
		fmt.Printf("of that between the first answer and the last: %s, %.0f a second\n", answering.Round(time.Millisecond), float64(o.triggers-1)/answering.Seconds())
	}
	began = time.Now()
	if err := s.awaitReady(ctx, o.triggers); err != nil {
		return err
	}
	fmt.Printf("all are Ready %s later\n", time.Since(began).Round(time.Millisecond))
	// The time of processors says more than the clock, on a machine that others
	// use too.
	cpuAfter, _, err := s.cpu()
	if err != nil {
		return err
	}
	to, err := s.revision(ctx)
	if err != nil {
		return err
	}
	each := func(d time.Duration) time.Duration {
		return (d / time.Duration(o.triggers)).Round(10 * time.Microsecond)
	}
	fmt.Printf("processor time for each Trigger: server %s until all are Ready, client %s until all are created\n", each(cpuAfter-cpu), each(ownAfter-own))
	fmt.Printf("writes for each Trigger: %.2f\n", float64(to-from)/float64(o.triggers))
	return <-profiled
}

// idle counts the writes of a server on which nothing happens, and its processor
// time: first while it collects what the creation left behind, then for good.
func idle(ctx context.Context, o options, s *server, before memory) error {
	if err := wait(ctx, 2*time.Second); err != nil { // for what was begun
		return err
	}
	from, err := s.revision(ctx)
	if err != nil {
		return err
	}
	var busy [2]use
	for i := range busy {
		if busy[i], err = s.busy(ctx, o.idle); err != nil {
			return err
		}
	}
	to, err := s.revision(ctx)
	if err != nil {
		return err
	}
	after, err := s.memory(ctx)
	if err != nil {
		return err
	}
	if o.heap != "" {
		if err := s.save(ctx, "/debug/pprof/heap", "gc", "1", o.heap); err != nil {
			return err
		}
	}
	fmt.Printf("idle twice for %s: %d writes; processor %s, while it collects what the creation left, then %s\n", o.idle, to-from, busy[0].over(o.idle), busy[1].over(o.idle))
	fmt.Printf("with %d Triggers: %s, %+d MiB of heap, %+d MiB resident\n", o.triggers, after, (after.heap-before.heap)>>20, (after.resident-before.resident)>>20)
	return nil
}

func watch(ctx context.Context, o options, s *server) error {
	if o.watchers == 0 {
		return nil
	}
	before, err := s.memory(ctx)
	if err != nil {
		return err
	}
	latencies, after, err := s.watch(ctx, o.watchers)
	if err != nil {
		return err
	}
	fmt.Printf("%d watchers: %s, %+d MiB of heap; a change reaches the last of them after %s (median of %d), at most %s\n",
		o.watchers, after, (after.heap-before.heap)>>20, latencies[len(latencies)/2].Round(time.Millisecond), len(latencies), latencies[len(latencies)-1].Round(time.Millisecond))
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
