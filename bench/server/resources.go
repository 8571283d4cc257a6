//go:build linux

package server

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

const namespace = "default"

// Trigger is a trigger to be made.
type Trigger struct {
	Name, Broker, Subscriber string
	Filter                   map[string]any // one of spec.filters; none when nil
	Annotations              map[string]any
}

func (t Trigger) object() *unstructured.Unstructured {
	spec := map[string]any{"broker": t.Broker, "subscriber": map[string]any{"uri": t.Subscriber}}
	if t.Filter != nil {
		spec["filters"] = []any{t.Filter}
	}
	return object("Trigger", t.Name, t.Annotations, spec)
}

func object(kind, name string, annotations, spec map[string]any) *unstructured.Unstructured {
	metadata := map[string]any{"name": name}
	if annotations != nil {
		metadata["annotations"] = annotations
	}
	o := map[string]any{"apiVersion": "eventing.knative.dev/v1", "kind": kind, "metadata": metadata}
	if spec != nil {
		o["spec"] = spec
	}
	return &unstructured.Unstructured{Object: o}
}

func (s *Server) of(plural string) dynamic.ResourceInterface {
	return s.dynamic.Resource(schema.GroupVersionResource{Group: "eventing.knative.dev", Version: "v1", Resource: plural}).Namespace(namespace)
}

// Broker makes a broker, and waits until it is Ready.
func (s *Server) Broker(ctx context.Context, name string) error {
	if _, err := s.of("brokers").Create(ctx, object("Broker", name, nil, nil), metav1.CreateOptions{}); err != nil {
		return err
	}
	return s.ready(ctx, "brokers", 1, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
}

// Path is where a broker takes events.
func Path(broker string) string { return "/" + namespace + "/" + broker }

// Create makes triggers, and does not wait.
func (s *Server) Create(ctx context.Context, triggers ...Trigger) error {
	const clients = 16
	work, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(clients, len(triggers)) {
		work.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(triggers) {
					return nil
				}
				if _, err := s.of("triggers").Create(ctx, triggers[i].object(), metav1.CreateOptions{}); err != nil {
					return err
				}
			}
		})
	}
	return work.Wait()
}

// Delete deletes a trigger, and does not wait.
func (s *Server) Delete(ctx context.Context, name string) error {
	return s.of("triggers").Delete(ctx, name, metav1.DeleteOptions{})
}

// Ready waits until all triggers, of which there are n, are Ready.
func (s *Server) Ready(ctx context.Context, n int) error {
	return s.ready(ctx, "triggers", n, metav1.ListOptions{})
}

func (s *Server) ready(ctx context.Context, plural string, n int, which metav1.ListOptions) error {
	each := 10 * time.Millisecond
	if n > 100 {
		each = 250 * time.Millisecond // looking costs too
	}
	ready := 0
	err := s.until(ctx, each, func() (bool, error) {
		b, err := s.raw.Get().AbsPath("/apis/eventing.knative.dev/v1/namespaces", namespace, plural).Param("fieldSelector", which.FieldSelector).DoRaw(ctx)
		ready = bytes.Count(b, []byte(`"status":"True","type":"Ready"`))
		return ready >= n, err
	})
	if err != nil {
		return fmt.Errorf("%d of %d %s are Ready: %w", ready, n, plural, err)
	}
	return nil
}
