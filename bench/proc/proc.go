//go:build linux

// Package proc starts the servers that are measured, as processes in groups of
// their own, and reads what they take from /proc.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Group is a process and what it has started.
type Group struct {
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
}

// Start starts a command; what it prints is appended to the file log.
func Start(cmd *exec.Cmd, log string) (*Group, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	// What is killed while it runs must not leave servers behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	g := &Group{cmd: cmd, log: log, ended: make(chan struct{})}
	go func() {
		cmd.Wait() // how it ended is in ProcessState
		close(g.ended)
	}()
	return g, nil
}

// PID is the process that was started.
func (g *Group) PID() int { return g.cmd.Process.Pid }

// Ended is closed when the process has ended.
func (g *Group) Ended() <-chan struct{} { return g.ended }

// Kill ends the group at once, as a power cut would, but for what the kernel
// still holds.
func (g *Group) Kill() { g.end(syscall.SIGKILL) }

// Stop asks the process to end, and kills the group if it does not.
func (g *Group) Stop() {
	select {
	case <-g.ended:
	default:
		g.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-g.ended:
		case <-time.After(30 * time.Second):
		}
	}
	g.end(syscall.SIGKILL)
}

func (g *Group) end(signal syscall.Signal) {
	syscall.Kill(-g.PID(), signal) // there may be none left
	<-g.ended
	// Its children hold locks and ports until they have ended too.
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-time.After(time.Millisecond) {
		if n, err := g.each(func(string, []string) error { return nil }); n == 0 || err != nil {
			return
		}
	}
}

// Failure says that the server did what it should not, with the end of what
// it has printed.
func (g *Group) Failure(err error) error {
	b, readErr := os.ReadFile(g.log)
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	const end = 2000
	return fmt.Errorf("%w; %s ends with:\n%s", err, filepath.Base(g.log), b[max(0, len(b)-end):])
}

// CPU is the processor time that the group's processes have taken.
func (g *Group) CPU() (time.Duration, error) {
	var ticks int64
	err := g.every(func(_ string, stat []string) error {
		for _, f := range stat[11:13] { // user and system
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return err
			}
			ticks += n
		}
		return nil
	})
	const tick = 10 * time.Millisecond // USER_HZ, which Linux fixes for /proc
	return time.Duration(ticks) * tick, err
}

// Resident is the memory that the group's processes have, in bytes.
func (g *Group) Resident() (int64, error) {
	return g.sum("status", "VmRSS:", 1<<10)
}

// Written is what the group's processes have given to write, in bytes, to
// files and to sockets. (What /proc calls write_bytes is no measure of a log:
// where the page cache keeps a file in large pieces, a small write counts as
// the whole piece.)
func (g *Group) Written() (int64, error) {
	return g.sum("io", "wchar:", 1)
}

func (g *Group) sum(file, name string, unit int64) (total int64, err error) {
	err = g.every(func(dir string, _ []string) error {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return err
		}
		n, err := member(b, name)
		total += n * unit
		return err
	})
	return total, err
}

// member is the number behind a name at the start of a line.
func member(b []byte, name string) (int64, error) {
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			return strconv.ParseInt(strings.Fields(string(rest))[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("there is no %s", name)
}

// every visits the group's processes, of which there must be some.
func (g *Group) every(visit func(dir string, stat []string) error) error {
	found, err := g.each(visit)
	if found == 0 && err == nil {
		<-g.ended
		err = g.Failure(fmt.Errorf("process %d has ended: %v", g.PID(), g.cmd.ProcessState))
	}
	return err
}

// each visits the group's processes, and counts them. One that ends meanwhile
// is passed by.
func (g *Group) each(visit func(dir string, stat []string) error) (found int, err error) {
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, dir := range all {
		b, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(fields) < 13 || fields[2] != strconv.Itoa(g.PID()) || fields[0] == "Z" {
			continue // not of the group, or ended
		}
		if err := visit(dir, fields); err != nil {
			if _, gone := os.Stat(dir); errors.Is(gone, os.ErrNotExist) {
				continue
			}
			return found, err
		}
		found++
	}
	return found, nil
}

// OwnCPU is the processor time of this process.
func OwnCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0 // it cannot fail with these arguments
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
