//go:build linux

// Package peers starts the servers that Leat is measured against, and drives
// them by their own clients, which are in a module of their own (driver).
package peers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/leat-dev/leat/bench/proc"
	"github.com/leat-dev/leat/bench/stats"
)

// Peer is a server with its settings.
type Peer struct {
	Name  string // as in a flag
	Title string
	// Client is the client in the driver that drives it.
	Client string
	// Synced says that what it has acknowledged was synced.
	Synced  bool
	install func(ctx context.Context, m Machine) error
	// command starts it on a directory, which is there, and a port, of which
	// the next two are free too. It may be started there again.
	command func(m Machine, dir string, port int) (*exec.Cmd, error)
}

// Machine is where peers are installed.
type Machine struct {
	// Cache keeps what was built or fetched; an absolute path.
	Cache string
	// Driver is the folder of the driver's module.
	Driver string
	// Install allows to install Debian packages.
	Install bool
}

func all() []Peer {
	return []Peer{
		nats("nats-sync", "NATS JetStream, sync always", true),
		nats("nats", "NATS JetStream, default", false),
		redis(),
		kafka("kafka-flush", "Kafka, flush each", true),
		kafka("kafka", "Kafka, default", false),
		rabbitMQ(),
	}
}

// Names are the peers' names.
func Names() []string {
	var names []string
	for _, p := range all() {
		names = append(names, p.Name)
	}
	return names
}

// Named is a peer by its name.
func Named(name string) (Peer, error) {
	for _, p := range all() {
		if p.Name == name {
			return p, nil
		}
	}
	return Peer{}, fmt.Errorf("there is no peer %q", name)
}

// Install installs what the peer needs, where that is not there yet.
func (p Peer) Install(ctx context.Context, m Machine) error {
	if err := os.MkdirAll(m.Cache, 0o755); err != nil {
		return err
	}
	if err := m.build(ctx, ".", "driver"); err != nil {
		return err
	}
	return p.install(ctx, m)
}

// build builds a program of the driver's module, whose go.mod pins it.
func (m Machine) build(ctx context.Context, path, name string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", filepath.Join(m.Cache, name), path)
	cmd.Dir = m.Driver
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return run(cmd)
}

// run runs a command; where it fails, its output says why.
func run(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		const end = 400
		return fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, out[max(0, len(out)-end):])
	}
	return nil
}

// Server is a peer that runs.
type Server struct {
	*proc.Group
	// Started is how long it took to be ready.
	Started time.Duration

	peer    Peer
	machine Machine
	dir     string
	port    int
}

// Start starts the peer on a directory, and waits until it takes events.
func (p Peer) Start(ctx context.Context, m Machine, dir string) (*Server, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	port, err := freePorts()
	if err != nil {
		return nil, err
	}
	s := &Server{peer: p, machine: m, dir: dir, port: port}
	return s, s.start(ctx)
}

// Restart kills the peer and starts it again where it was.
func (s *Server) Restart(ctx context.Context) error {
	s.Kill()
	return s.start(ctx)
}

func (s *Server) start(ctx context.Context) error {
	cmd, err := s.peer.command(s.machine, s.dir, s.port)
	if err != nil {
		return err
	}
	began := time.Now()
	if s.Group, err = proc.Start(cmd, filepath.Join(s.dir, "log")); err != nil {
		return fmt.Errorf("start %s: %w", s.peer.Title, err)
	}
	// The driver waits until it can be used.
	if _, err := s.drive(ctx, "-await"); err != nil {
		s.Kill()
		return s.Failure(fmt.Errorf("start %s: %w", s.peer.Title, err))
	}
	s.Started = time.Since(began)
	return nil
}

// ports is how many a peer needs, beside each other.
const ports = 3

// freePorts is the first of some ports that nobody listens on.
func freePorts() (int, error) {
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		first := l.Addr().(*net.TCPAddr).Port
		free := true
		for port := first + 1; port < first+ports; port++ {
			next, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			if free = free && err == nil; err == nil {
				next.Close()
			}
		}
		l.Close()
		if free {
			return first, nil
		}
	}
	return 0, fmt.Errorf("no %d free ports beside each other were found", ports)
}

// Work is what a peer is to do.
type Work struct {
	Window  int // events in flight
	Size    int // payload
	Length  time.Duration
	Deliver bool // and consume, acknowledging each; the rate is the consumer's
}

// report is what the driver says.
type report struct {
	Events    int
	Seconds   float64
	CPU       float64
	Latencies []uint32 // of each event, in microseconds
}

// Do does some work, on a topic of its own, and checks that each event is
// there afterwards, or has been consumed.
func (s *Server) Do(ctx context.Context, w Work) (stats.Sample, error) {
	args := []string{"-window", strconv.Itoa(w.Window), "-size", strconv.Itoa(w.Size), "-length", w.Length.String()}
	if w.Deliver {
		args = append(args, "-deliver")
	}
	r, err := s.drive(ctx, args...)
	if err != nil {
		return stats.Sample{}, err
	}
	latencies := make([]time.Duration, len(r.Latencies))
	for i, l := range r.Latencies {
		latencies[i] = time.Duration(l) * time.Microsecond
	}
	sample := stats.Of(r.Events, time.Duration(r.Seconds*float64(time.Second)), latencies)
	sample.ClientCPU = stats.CPUPer100k(time.Duration(r.CPU*float64(time.Second)), r.Events)
	sample.ServerCPU, sample.Bytes = math.NaN(), w.Size
	return sample, nil
}

func (s *Server) drive(ctx context.Context, args ...string) (r report, err error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.machine.Cache, "driver"),
		append([]string{"-client", s.peer.Client, "-address", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return r, fmt.Errorf("the client of %s: %w", s.peer.Title, err)
	}
	return r, json.Unmarshal(out, &r)
}
