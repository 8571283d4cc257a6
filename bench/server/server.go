//go:build linux

// Package server runs the leat server that is measured, with its default
// settings, and makes the resources that it is measured with.
package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/leat-dev/leat/bench/proc"
)

// Server is a running leat server.
type Server struct {
	*proc.Group
	// Address is where events are sent to.
	Address string
	// Started is how long it took to be ready.
	Started time.Duration

	dynamic dynamic.Interface
	raw     rest.Interface
}

// Start starts a server on a directory, which it makes or goes on with, and
// waits until it is ready.
func Start(ctx context.Context, binary, dir string) (_ *Server, err error) {
	began := time.Now()
	g, err := proc.Start(exec.Command(binary, "server", "--data", dir, "--http", "127.0.0.1:0", "--api", "127.0.0.1:0"), dir+".log")
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", binary, err)
	}
	s := &Server{Group: g}
	defer func() {
		if err != nil {
			g.Kill()
			err = g.Failure(fmt.Errorf("start %s: %w", binary, err))
		}
	}()
	var e struct {
		HTTP, Kubeconfig string
		PID              int
	}
	if err := s.until(ctx, time.Millisecond, func() (bool, error) {
		b, err := os.ReadFile(filepath.Join(dir, "endpoints.json"))
		if errors.Is(err, os.ErrNotExist) {
			return false, nil
		}
		// One that was killed has left its own behind.
		return err == nil && json.Unmarshal(b, &e) == nil && e.PID == g.PID(), err
	}); err != nil {
		return nil, err
	}
	s.Started = time.Since(began)
	_, s.Address, _ = strings.Cut(strings.TrimSuffix(e.HTTP, "/"), "://")
	return s, s.connect(e.Kubeconfig)
}

func (s *Server) connect(kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS = -1
	if s.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return err
	}
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	s.raw = c.CoreV1().RESTClient()
	return nil
}

// until waits for a condition, for as long as the server runs, but no longer
// than a start of it may take.
func (s *Server) until(ctx context.Context, each time.Duration, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(each)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-s.Ended():
			return errors.New("it has ended")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
