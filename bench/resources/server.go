package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// server is a leat server process.
type server struct {
	cmd        *exec.Cmd
	kubeconfig string
	dynamic    dynamic.Interface
	raw        rest.Interface
	config     *rest.Config
}

func startServer(ctx context.Context, binary, dir string) (*server, error) {
	s := &server{cmd: exec.Command(binary, "server", "--data", dir, "--http", "127.0.0.1:0", "--api", "127.0.0.1:0", "--log-level", "warn")}
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	var e struct{ Kubeconfig string }
	for {
		b, err := os.ReadFile(filepath.Join(dir, "endpoints.json"))
		if err == nil && json.Unmarshal(b, &e) == nil {
			break
		}
		if err := wait(ctx, 10*time.Millisecond); err != nil {
			s.stop()
			return nil, err
		}
	}
	s.kubeconfig = e.Kubeconfig
	var err error
	if s.config, err = clientcmd.BuildConfigFromFlags("", e.Kubeconfig); err != nil {
		return nil, err
	}
	s.config.QPS = -1
	if s.dynamic, err = dynamic.NewForConfig(s.config); err != nil {
		return nil, err
	}
	c, err := kubernetes.NewForConfig(s.config)
	if err != nil {
		return nil, err
	}
	s.raw = c.CoreV1().RESTClient()
	return s, nil
}

func (s *server) stop() {
	s.cmd.Process.Signal(os.Interrupt) // it may have ended
	s.cmd.Wait()                       // however it ends
}

func (s *server) of(plural string) dynamic.ResourceInterface {
	return s.dynamic.Resource(schema.GroupVersionResource{Group: "eventing.knative.dev", Version: "v1", Resource: plural}).Namespace("default")
}

func (s *server) broker(ctx context.Context) error {
	b := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": map[string]any{"name": "default"}}}
	_, err := s.of("brokers").Create(ctx, b, metav1.CreateOptions{})
	return err
}

func trigger(n int) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "eventing.knative.dev/v1", "kind": "Trigger",
		"metadata": map[string]any{"name": fmt.Sprintf("t-%05d", n)},
		"spec": map[string]any{
			"broker":     "default",
			"filters":    []any{map[string]any{"exact": map[string]any{"type": fmt.Sprintf("type-%d", n)}}},
			"subscriber": map[string]any{"uri": "http://127.0.0.1:1/"},
		},
	}}
}

func (s *server) createByClients(ctx context.Context, n, parallel int) error {
	work, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	c := s.of("triggers")
	for range parallel {
		work.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				if _, err := c.Create(ctx, trigger(i), metav1.CreateOptions{}); err != nil {
					return err
				}
			}
		})
	}
	return work.Wait()
}

// createByKubectl returns how long it took from the first answer to the last:
// kubectl reads and checks all that it is given before it sends the first.
func (s *server) createByKubectl(ctx context.Context, kubectl string, n int) (time.Duration, error) {
	var all bytes.Buffer
	for i := range n {
		b, err := json.Marshal(trigger(i))
		if err != nil {
			return 0, err
		}
		all.Write(append(b, '\n'))
	}
	cmd := exec.CommandContext(ctx, kubectl, "apply", "--kubeconfig", s.kubeconfig, "-f", "-")
	var answers lines
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &all, &answers, os.Stderr
	err := cmd.Run()
	return answers.last.Sub(answers.first), err
}

// lines notes when the first and the last thing was written.
type lines struct{ first, last time.Time }

func (l *lines) Write(b []byte) (int, error) {
	l.last = time.Now()
	if l.first.IsZero() {
		l.first = l.last
	}
	return len(b), nil
}

// awaitReady waits until n Triggers are Ready. It looks at each as it is, and at
// each change from then on: to list them all again and again would cost more
// than what is measured.
func (s *server) awaitReady(ctx context.Context, n int) error {
	body, err := s.raw.Get().AbsPath("/apis/eventing.knative.dev/v1/namespaces/default/triggers").
		Param("watch", "1").Param("resourceVersion", "0").Stream(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	ready := map[string]bool{}
	for d := json.NewDecoder(body); len(ready) < n; {
		var event struct {
			Object struct {
				Metadata struct{ Name string }
				Status   struct {
					Conditions []struct{ Type, Status string }
				}
			}
		}
		if err := d.Decode(&event); err != nil {
			return err
		}
		for _, c := range event.Object.Status.Conditions {
			if c.Type == "Ready" && c.Status == "True" {
				ready[event.Object.Metadata.Name] = true
			}
		}
	}
	return nil
}

// revision is the store's: each write takes one.
func (s *server) revision(ctx context.Context) (int64, error) {
	l, err := s.of("triggers").List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(l.GetResourceVersion(), 10, 64)
}

// memory is what the server takes.
type memory struct {
	heap     int64 // after a collection
	resident int64
}

func (m memory) String() string {
	return fmt.Sprintf("heap %d MiB after a collection, %d MiB resident", m.heap>>20, m.resident>>20)
}

func (s *server) memory(ctx context.Context) (memory, error) {
	b, err := s.raw.Get().AbsPath("/debug/pprof/heap").Param("gc", "1").Param("debug", "1").DoRaw(ctx)
	if err != nil {
		return memory{}, err
	}
	alloc := regexp.MustCompile(`# HeapAlloc = (\d+)`).FindSubmatch(b)
	if alloc == nil {
		return memory{}, fmt.Errorf("no HeapAlloc in the server's profile")
	}
	heap, err := strconv.ParseInt(string(alloc[1]), 10, 64)
	if err != nil {
		return memory{}, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return memory{}, err
	}
	rss := regexp.MustCompile(`VmRSS:\s*(\d+) kB`).FindSubmatch(status)
	if rss == nil {
		return memory{}, fmt.Errorf("no VmRSS in the process' status")
	}
	kib, err := strconv.ParseInt(string(rss[1]), 10, 64)
	return memory{heap, kib << 10}, err
}

func (s *server) profile(ctx context.Context, file string) error {
	return s.save(ctx, "/debug/pprof/profile", "seconds", "15", file)
}

// save writes one of the server's profiles to a file.
func (s *server) save(ctx context.Context, path, parameter, value, file string) error {
	b, err := s.raw.Get().AbsPath(path).Param(parameter, value).DoRaw(ctx)
	if err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o600)
}

// changes are made while the watchers look.
const changes = 50

// watch has n watchers see some changes; the latencies are sorted.
func (s *server) watch(ctx context.Context, n int) ([]time.Duration, memory, error) {
	rev, err := s.revision(ctx)
	if err != nil {
		return nil, memory{}, err
	}
	seen := make(chan error, n)
	for range n {
		body, err := s.raw.Get().AbsPath("/apis/eventing.knative.dev/v1/namespaces/default/triggers").
			Param("watch", "1").Param("resourceVersion", strconv.FormatInt(rev, 10)).Stream(ctx)
		if err != nil {
			return nil, memory{}, err
		}
		defer body.Close()
		go func() {
			d := json.NewDecoder(body)
			for {
				var event struct{ Type string }
				err := d.Decode(&event)
				seen <- err
				if err != nil {
					return
				}
			}
		}()
	}
	var latencies []time.Duration
	for i := range changes {
		began := time.Now()
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{"change":"%d"}}}`, i)
		if _, err := s.of("triggers").Patch(ctx, "t-00000", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return nil, memory{}, err
		}
		for range n {
			if err := <-seen; err != nil {
				return nil, memory{}, err
			}
		}
		latencies = append(latencies, time.Since(began))
	}
	slices.Sort(latencies)
	m, err := s.memory(ctx)
	return latencies, m, err
}

// cpu is the processor time that the server has taken, and that this process
// and those that it has waited for have.
func (s *server) cpu() (server, own time.Duration, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	for _, f := range fields[11:13] { // user and system, in hundredths of a second
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, 0, err
		}
		server += time.Duration(n) * 10 * time.Millisecond
	}
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			return 0, 0, err
		}
		own += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return server, own, nil
}

func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(string(b))[:1], " ")
}
