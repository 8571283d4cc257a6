package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	_ "embed"
)

// server is a leat process.
type server struct {
	leat, dir, log string
	endpoints      struct {
		HTTP, API, Kubeconfig string
		PID                   int
	}
	took time.Duration

	mu      sync.Mutex
	process *exec.Cmd
	exited  chan struct{}
}

// start runs the server and waits until it is ready. Once started, it takes
// the same ports again.
func (s *server) start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	http, api := "127.0.0.1:0", "127.0.0.1:0"
	if s.endpoints.HTTP != "" {
		http, api = address(s.endpoints.HTTP), address(s.endpoints.API)
	}
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	file := filepath.Join(s.dir, "endpoints.json")
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	cmd := exec.Command(s.leat, "server", "--data", s.dir, "--http", http, "--api", api)
	cmd.Stdout, cmd.Stderr = log, log
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	s.process, s.exited = cmd, make(chan struct{})
	go func(exited chan struct{}) {
		cmd.Wait() // its end is what counts; a killed process is no error here
		close(exited)
	}(s.exited)
	for {
		if b, err := os.ReadFile(file); err == nil && json.Unmarshal(b, &s.endpoints) == nil {
			s.took = time.Since(began)
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-s.exited:
			b, _ := os.ReadFile(s.log) // shown if it can be
			return fmt.Errorf("the server ended: %s", b)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// kill ends the process at once, as a crash would.
func (s *server) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process.Process.Kill() // it may have ended by itself
	<-s.exited
}

func (s *server) brokerURL() string { return "http://" + address(s.endpoints.HTTP) + "/default/orders" }

// address is the HOST:PORT of an endpoint.
func address(endpoint string) string {
	if _, rest, ok := strings.Cut(endpoint, "://"); ok {
		endpoint = rest
	}
	return strings.TrimSuffix(endpoint, "/")
}

//go:embed resources.yaml
var resources string

// apply puts the example's resources on the server, as `kubectl apply
// --server-side` would, and waits until they are ready.
func apply(ctx context.Context, kubeconfig string, urls map[string]string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	text := os.Expand(resources, func(name string) string { return urls[name] })
	for doc := range strings.SplitSeq(text, "\n---\n") {
		var u unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(doc), &u.Object); err != nil {
			return err
		}
		gvr, _ := meta.UnsafeGuessKindToResource(u.GroupVersionKind())
		if _, err := client.Resource(gvr).Namespace("default").Apply(ctx, u.GetName(), &u, metav1.ApplyOptions{FieldManager: "orders"}); err != nil {
			return fmt.Errorf("apply %s %s: %w", u.GetKind(), u.GetName(), err)
		}
		if err := waitReady(ctx, client, gvr, u.GetName()); err != nil {
			return err
		}
		say("  %s/%s is ready", strings.ToLower(u.GetKind()), u.GetName())
	}
	return nil
}

func waitReady(ctx context.Context, client dynamic.Interface, gvr schema.GroupVersionResource, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		u, err := client.Resource(gvr).Namespace("default").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("wait for %s/%s: %w", gvr.Resource, name, err)
		}
		conditions, _, err := unstructured.NestedSlice(u.Object, "status", "conditions")
		if err != nil {
			return err
		}
		for _, c := range conditions {
			if c, ok := c.(map[string]any); ok && c["type"] == "Ready" && c["status"] == "True" {
				return nil
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s/%s did not become ready: %v", gvr.Resource, name, conditions)
		}
	}
}
