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
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
)

// leat is the server that is measured, with its default settings.
type leat struct {
	cmd  *exec.Cmd
	http string
}

// startLeat starts a server with two brokers: idle has no trigger, delivered
// has one that takes everything to sink.
func startLeat(ctx context.Context, binary, dir, sink string) (_ *leat, err error) {
	log, err := os.Create(dir + ".log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, binary, "server", "--data", dir, "--http", "127.0.0.1:0", "--api", "127.0.0.1:0")
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	l := &leat{cmd: cmd}
	defer func() {
		if err != nil {
			l.stop()
			b, _ := os.ReadFile(dir + ".log") // shown if it can be
			err = fmt.Errorf("%w\n%s", err, b)
		}
	}()
	var endpoints struct{ HTTP, Kubeconfig string }
	if err := poll(ctx, func() (bool, error) {
		b, err := os.ReadFile(filepath.Join(dir, "endpoints.json"))
		if errors.Is(err, os.ErrNotExist) {
			return false, nil
		}
		return err == nil, errors.Join(err, json.Unmarshal(b, &endpoints))
	}); err != nil {
		return nil, fmt.Errorf("start %s: %w", binary, err)
	}
	_, l.http, _ = strings.Cut(endpoints.HTTP, "://")
	l.http = strings.TrimSuffix(l.http, "/")
	return l, l.prepare(ctx, endpoints.Kubeconfig, sink)
}

func (l *leat) prepare(ctx context.Context, kubeconfig, sink string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	broker := func(name string) map[string]any {
		return map[string]any{"kind": "Broker", "metadata": map[string]any{"name": name}}
	}
	for _, o := range []map[string]any{
		broker("idle"), broker("delivered"),
		{"kind": "Trigger", "metadata": map[string]any{"name": "all"},
			"spec": map[string]any{"broker": "delivered", "subscriber": map[string]any{"uri": sink}}},
	} {
		o["apiVersion"] = "eventing.knative.dev/v1"
		u := &unstructured.Unstructured{Object: o}
		r := client.Resource(schema.GroupVersionResource{Group: "eventing.knative.dev", Version: "v1", Resource: strings.ToLower(u.GetKind()) + "s"}).Namespace("default")
		if _, err := r.Create(ctx, u, metav1.CreateOptions{}); err != nil {
			return err
		}
		if err := poll(ctx, func() (bool, error) {
			u, err := r.Get(ctx, u.GetName(), metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			return ready(u), nil
		}); err != nil {
			return fmt.Errorf("%s %s: %w", u.GetKind(), u.GetName(), err)
		}
	}
	return nil
}

func ready(u *unstructured.Unstructured) bool {
	conditions, _, err := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && err == nil && c["type"] == "Ready" {
			return c["status"] == "True"
		}
	}
	return false
}

func poll(ctx context.Context, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *leat) address() string { return l.http }

func (l *leat) stop() {
	l.cmd.Process.Kill() // it may have ended by itself
	l.cmd.Wait()         // as above
}
