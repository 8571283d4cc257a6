package apiserver

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/leat-dev/leat/api"
	"github.com/leat-dev/leat/api/admission"
	"github.com/leat-dev/leat/api/eventing/conversion"
	"github.com/leat-dev/leat/raftlog/kv"
	"github.com/leat-dev/leat/raftlog/kv/kvtest"
)

func TestMain(m *testing.M) {
	RedirectLogs(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})))
	os.Exit(m.Run())
}

// running is a server with what its clients need.
type running struct {
	*Server
	tb   testing.TB
	stop context.CancelFunc
	done chan error
	// config is the admin's, from the kubeconfig, over HTTPS.
	config     *rest.Config
	kubeconfig string
}

// options are a server's on a new store, with the kinds of package api.
func options(tb testing.TB) Options {
	tb.Helper()
	store, _ := kvtest.Open(tb, kv.Options{ExpireEvery: 50 * time.Millisecond})
	crds, err := api.CRDs()
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	return Options{
		KV: store, Listener: listen(tb), KeysDir: filepath.Join(dir, "keys"), Kubeconfig: filepath.Join(dir, "kubeconfig"),
		CRDs: crds, Kinds: admission.New(admission.Options{}), Node: Node{Name: "n1"}, Version: "0.1.0",
		Convert: conversion.Convert,
	}
}

func listen(tb testing.TB) net.Listener {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// start runs a server until it is ready; it is stopped with the test.
func start(tb testing.TB, o Options) *running {
	tb.Helper()
	s, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, stop := context.WithCancel(tb.Context())
	r := &running{Server: s, tb: tb, stop: stop, done: make(chan error, 1), kubeconfig: o.Kubeconfig}
	go func() { r.done <- s.Run(ctx) }()
	tb.Cleanup(r.end)
	select {
	case <-s.Ready():
	case err := <-r.done:
		r.done <- err
		tb.Fatalf("the server ended: %v", err)
	}
	if r.config, err = clientcmd.BuildConfigFromFlags("", o.Kubeconfig); err != nil {
		tb.Fatal(err)
	}
	r.config.QPS = -1
	return r
}

// end stops the server and waits for it.
func (r *running) end() {
	r.stop()
	if err := <-r.done; err != nil {
		r.tb.Errorf("the server ended: %v", err)
	}
	r.done <- nil
}

func (r *running) client() kubernetes.Interface {
	r.tb.Helper()
	return clientOf(r.tb, r.config)
}

func clientOf(tb testing.TB, c *rest.Config) kubernetes.Interface {
	tb.Helper()
	client, err := kubernetes.NewForConfig(c)
	if err != nil {
		tb.Fatal(err)
	}
	return client
}

// resource is the client of a resource, in namespace default.
func (r *running) resource(group, version, plural string) dynamic.ResourceInterface {
	r.tb.Helper()
	c, err := dynamic.NewForConfig(r.config)
	if err != nil {
		r.tb.Fatal(err)
	}
	return c.Resource(schema.GroupVersionResource{Group: group, Version: version, Resource: plural}).Namespace(metav1.NamespaceDefault)
}

func (r *running) triggers() dynamic.ResourceInterface {
	return r.resource("eventing.knative.dev", "v1", "triggers")
}

func object(tb testing.TB, manifest string) *unstructured.Unstructured {
	tb.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(manifest), &u.Object); err != nil {
		tb.Fatal(err)
	}
	return u
}

const triggerManifest = `
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: t1}
spec: {broker: default, subscriber: {uri: "http://example.com"}}
`

var brokerResource = schema.GroupVersionResource{Group: "eventing.knative.dev", Version: "v1", Resource: "brokers"}

// unordered is words in an order of their own.
func unordered(words string) string {
	all := strings.Fields(words)
	slices.Sort(all)
	return strings.Join(all, " ")
}
