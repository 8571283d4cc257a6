package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// use is what the server's threads have taken.
type use struct {
	cpu      time.Duration
	switches int64 // how often they have lain down, which is how often they were woken
}

// over tells it of a while.
func (u use) over(d time.Duration) string {
	return fmt.Sprintf("%.2f%% of a core, %.0f switches a second", 100*u.cpu.Seconds()/d.Seconds(), float64(u.switches)/d.Seconds())
}

// busy is what the server takes for a while. The scheduler counts it by
// nanoseconds; in the process' own count ten seconds of an idle server are too
// short.
func (s *server) busy(ctx context.Context, d time.Duration) (use, error) {
	before, err := s.threads()
	if err != nil {
		return use{}, err
	}
	if err := wait(ctx, d); err != nil {
		return use{}, err
	}
	after, err := s.threads()
	return use{cpu: after.cpu - before.cpu, switches: after.switches - before.switches}, err
}

// threads sums up what the threads have taken. None of them ends: the runtime
// keeps them.
func (s *server) threads() (sum use, err error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", s.cmd.Process.Pid))
	if err != nil || len(tasks) == 0 {
		return use{}, fmt.Errorf("no threads of process %d: %w", s.cmd.Process.Pid, err)
	}
	for _, task := range tasks {
		stat, err := os.ReadFile(filepath.Join(task, "schedstat"))
		if err != nil {
			return use{}, err
		}
		status, err := os.ReadFile(filepath.Join(task, "status"))
		if err != nil {
			return use{}, err
		}
		ran, _, _ := bytes.Cut(stat, []byte(" "))
		_, rest, _ := bytes.Cut(status, []byte("\nvoluntary_ctxt_switches:"))
		lay, _, _ := bytes.Cut(rest, []byte("\n"))
		ns, err := strconv.ParseInt(string(ran), 10, 64)
		if err != nil {
			return use{}, fmt.Errorf("%s/schedstat: %w", task, err)
		}
		n, err := strconv.ParseInt(string(bytes.TrimSpace(lay)), 10, 64)
		if err != nil {
			return use{}, fmt.Errorf("switches in %s/status: %w", task, err)
		}
		sum.cpu += time.Duration(ns)
		sum.switches += n
	}
	return sum, nil
}
