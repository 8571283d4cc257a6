// Package e2e tests the leat binary from outside: real processes, real HTTP.
package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("LEAT_BIN"); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "leat-e2e-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "leat")
	out, err := exec.Command("go", "build", "-o", path, "github.com/leat-dev/leat/cmd/leat").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build leat: %w\n%s", err, out)
	}
	return path, nil
})

// leat runs a command to its end and returns its output.
func leat(t *testing.T, env []string, stdin string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// server is a leat server process.
type server struct {
	t    testing.TB
	dir  string
	args []string
	cmd  *exec.Cmd
	log  *os.File
	// prepare, unless nil, changes the command before it is started.
	prepare func(*exec.Cmd)

	HTTP, API, Kubeconfig string
	PID                   int

	exited chan error
}

// startServer starts a server on a fresh directory.
func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	s := newServer(t, filepath.Join(t.TempDir(), "data"), args...)
	s.start()
	return s
}

// newServer is a server on a directory, that is yet to be started.
func newServer(t testing.TB, dir string, args ...string) *server {
	s := &server{t: t, dir: dir, args: args}
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			b, err := os.ReadFile(s.dir + ".log")
			t.Logf("the server's log (%v):\n%s", err, lastLines(b, 40))
		}
	})
	return s
}

func lastLines(b []byte, n int) string {
	lines := strings.Split(string(b), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// start starts the server, on the ports it had before if it had some, and
// waits until it says that it is ready.
func (s *server) start() {
	s.t.Helper()
	path, err := binary()
	if err != nil {
		s.t.Fatal(err)
	}
	file := filepath.Join(s.dir, "endpoints.json")
	os.Remove(file) // may not be there
	http, api := "127.0.0.1:0", "127.0.0.1:0"
	if s.HTTP != "" {
		http, api = hostPort(s.HTTP), hostPort(s.API)
	}
	s.log, err = os.OpenFile(s.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	s.cmd = exec.Command(path, append([]string{"server", "--data", s.dir, "--http", http, "--api", api}, s.args...)...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if s.prepare != nil {
		s.prepare(s.cmd)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.exited = make(chan error, 1)
	go func(cmd *exec.Cmd, exited chan error) { exited <- cmd.Wait() }(s.cmd, s.exited)
	eventually(s.t, 30*time.Second, "the server is ready", func() bool {
		select {
		case err := <-s.exited:
			s.exited <- err
			b, _ := os.ReadFile(s.dir + ".log") // shown if it can be
			s.t.Fatalf("the server ended: %v\n%s", err, lastLines(b, 40))
		default:
		}
		b, err := os.ReadFile(file)
		return err == nil && json.Unmarshal(b, s) == nil
	})
}

// kill ends the server with SIGKILL.
func (s *server) kill() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill() // it may have ended
	<-s.exited
	s.cmd = nil
	s.log.Close()
}

// stop ends the server with SIGTERM and returns its exit status.
func (s *server) stop() int {
	s.t.Helper()
	s.cmd.Process.Signal(os.Interrupt) // it may have ended
	select {
	case err := <-s.exited:
		s.exited <- err
	case <-time.After(time.Minute):
		s.t.Error("the server did not end within a minute of SIGINT")
	}
	state := s.cmd.ProcessState
	s.kill()
	if state == nil {
		return -1
	}
	return state.ExitCode()
}

func hostPort(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" {
		return endpoint
	}
	return u.Host
}

func (s *server) url(path string) string { return "http://" + hostPort(s.HTTP) + path }

func (s *server) env() []string { return []string{"KUBECONFIG=" + s.Kubeconfig} }

func (s *server) client() dynamic.Interface {
	s.t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	if err != nil {
		s.t.Fatal(err)
	}
	config.QPS = -1
	c, err := dynamic.NewForConfig(config)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func resource(c dynamic.Interface, u *unstructured.Unstructured) dynamic.ResourceInterface {
	gvr, _ := meta.UnsafeGuessKindToResource(u.GroupVersionKind())
	return c.Resource(gvr).Namespace("default")
}

func parse(t testing.TB, manifest string) []*unstructured.Unstructured {
	t.Helper()
	var all []*unstructured.Unstructured
	for doc := range strings.SplitSeq(manifest, "\n---\n") {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &u.Object); err != nil {
			t.Fatal(err)
		}
		all = append(all, u)
	}
	return all
}

// apply applies a manifest by server-side apply and waits until every object
// that has conditions is ready.
func (s *server) apply(manifest string) {
	s.t.Helper()
	c := s.client()
	for _, u := range parse(s.t, manifest) {
		if _, err := resource(c, u).Apply(s.t.Context(), u.GetName(), u, metav1.ApplyOptions{FieldManager: "e2e", Force: true}); err != nil {
			s.t.Fatalf("apply %s %s: %v", u.GetKind(), u.GetName(), err)
		}
	}
	for _, u := range parse(s.t, manifest) {
		if !strings.Contains(u.GetAPIVersion(), "knative") {
			continue
		}
		eventually(s.t, 20*time.Second, u.GetKind()+" "+u.GetName()+" is ready", func() bool {
			return s.condition(u, "Ready") == "True"
		})
	}
}

// tryApply returns the API's answer to one object.
func (s *server) tryApply(manifest string) error {
	u := parse(s.t, manifest)[0]
	_, err := resource(s.client(), u).Apply(s.t.Context(), u.GetName(), u, metav1.ApplyOptions{FieldManager: "e2e", Force: true})
	return err
}

func (s *server) condition(u *unstructured.Unstructured, kind string) string {
	got, err := resource(s.client(), u).Get(s.t.Context(), u.GetName(), metav1.GetOptions{})
	if err != nil {
		return err.Error()
	}
	conditions, _, err := unstructured.NestedSlice(got.Object, "status", "conditions")
	if err != nil {
		return err.Error()
	}
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && c["type"] == kind {
			return fmt.Sprint(c["status"])
		}
	}
	return ""
}

// eventually waits for a condition that the outside world brings about.
func eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// post sends one event in binary mode and returns the status, and the body.
func post(ctx context.Context, url, id, kind string, headers map[string]string, data string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(data))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Ce-Specversion", "1.0")
	req.Header.Set("Ce-Id", id)
	req.Header.Set("Ce-Type", kind)
	req.Header.Set("Ce-Source", "/e2e")
	req.Header.Set("Content-Type", "application/json")
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// insecureClient does not check the server's certificate: it has no
// credentials that could be stolen.
func insecureClient() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
}
