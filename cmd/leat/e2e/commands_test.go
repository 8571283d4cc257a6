package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const broker = "apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: default}"

func TestSendAndTail(t *testing.T) {
	s := startServer(t)
	s.apply(broker)
	file := filepath.Join(t.TempDir(), "order.json")
	if err := os.WriteFile(file, []byte(`{"total":250}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--type", "greeting", "--data", `{"hello":"world"}`, "--id", "one"},
		{"--type", "order.created", "--data-file", file, "--subject", "17", "--ext", "tenant=a"},
		{"--type", "note", "--data-file", "-", "--content-type", "text/plain"},
		{"--type", "tick", "--count", "100", "--batch", "16", "--id", "tick"},
	} {
		if _, stderr, status := leat(t, s.env(), "from standard input", append([]string{"send", "default"}, args...)...); status != 0 {
			t.Fatalf("send %v: %d: %s", args, status, stderr)
		}
	}
	for _, c := range []struct {
		name   string
		args   []string
		events int
		want   string
	}{
		{"all", []string{"--since", "beginning"}, 103, `"id":"one"`},
		{"an offset", []string{"--since", "1"}, 102, `"tenant":"a"`},
		{"a duration back", []string{"--since", "1h"}, 103, ""},
		{"the end", nil, 0, ""},
		{"exact", []string{"--since", "beginning", "--filter", "type=greeting"}, 1, `"hello":"world"`},
		{"prefix", []string{"--since", "beginning", "--filter", "prefix:type=order."}, 1, `"subject":"17"`},
		{"cesql", []string{"--since", "beginning", "--filter", "cesql:type = 'note'"}, 1, "from standard input"},
		{"expr on data", []string{"--since", "beginning", "--filter", "expr:data.total > 100"}, 1, "order.created"},
		{"a limit", []string{"--since", "beginning", "--filter", "type=tick", "--limit", "7"}, 7, "tick-3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, stderr, status := leat(t, s.env(), "", append([]string{"tail", "default", "--no-follow", "-o", "json"}, c.args...)...)
			if status != 0 {
				t.Fatalf("%d: %s", status, stderr)
			}
			if n := strings.Count(out, "\n"); n != c.events {
				t.Errorf("%d events, want %d", n, c.events)
			}
			if !strings.Contains(out, c.want) {
				t.Errorf("%q is not in\n%s", c.want, out)
			}
		})
	}
	out, _, _ := leat(t, s.env(), "", "tail", "default", "--since", "0", "--limit", "1")
	if !strings.Contains(out, "TIME") || !strings.Contains(out, "greeting") {
		t.Errorf("the table:\n%s", out)
	}
}

// TestTailFollows: what is sent later is shown when it comes.
func TestTailFollows(t *testing.T) {
	s := startServer(t)
	s.apply(broker)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "tail", "default", "--since", "beginning", "--limit", "2", "-o", "name")
	cmd.Env = append(os.Environ(), s.env()...)
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"first", "second"} {
		if status, body, err := post(t.Context(), s.url("/default/default"), id, "x", nil, "{}"); err != nil || status != 202 {
			t.Fatalf("%d %s %v", status, body, err)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if out.String() != "first\nsecond\n" {
		t.Errorf("got %q", out.String())
	}
}

func TestExitStatusAndErrors(t *testing.T) {
	s := startServer(t)
	s.apply(broker)
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"version"}, 0, ""},
		{[]string{"send"}, 2, "takes one argument, BROKER"},
		{[]string{"tail", "default", "extra"}, 2, "takes one argument, BROKER"},
		{[]string{"send", "default", "--nonsense"}, 2, "unknown flag"},
		{[]string{"send", "default", "--count", "0"}, 2, "--count"},
		{[]string{"send", "default", "--data", "x", "--data-file", "y"}, 2, "exclude each other"},
		{[]string{"send", "missing"}, 1, "\"missing\" not found\nThe brokers in namespace default: default; -n names another namespace"},
		{[]string{"send", "missing", "-n", "empty"}, 1, "There are no brokers in namespace empty: `leat kubectl apply` makes one"},
		{[]string{"send", "default", "--data", "{bad"}, 2, "the payload is no JSON, although --content-type is application/json: invalid character 'b'"},
		{[]string{"send", "default", "--data", ""}, 2, "--content-type text/plain"},
		{[]string{"send", "default", "--data", "{bad", "--content-type", "text/plain"}, 0, ""},
		{[]string{"send", "default", "--retry-delay", "5"}, 2, "unknown flag: --retry-delay"},
		{[]string{"listen", "default", "--retry-delay", "5"}, 2, "--retry-delay: \"5\" is not a duration: a number with its unit"},
		{[]string{"send", "default", "--ratee", "5"}, 2, "did you mean --rate?"},
		{[]string{"send", "default", "--ext", "Not-A-Name=1"}, 1, "not-a-name"},
		{[]string{"tail", "missing"}, 1, "The brokers in namespace default: default"},
		{[]string{"tail", "missing", "--channel"}, 1, "There are no channels in namespace default"},
		{[]string{"log", "skip", "missing", "--offset", "1", "--yes"}, 1, "The brokers in namespace default: default"},
		{[]string{"tail", "default", "--filter", "cesql:type ="}, 1, "filter"},
		{[]string{"tail", "default", "--since", "yesterday"}, 1, "since"},
		{[]string{"tail", "default", "-o", "xml"}, 2, "table, wide, json, yaml or name"},
		{[]string{"tail", "default", "--limit", "-1"}, 2, "--limit must not be negative"},
		{[]string{"listen", "default", "--to", "3000", "--limit", "-1"}, 2, "--limit must not be negative"},
		{[]string{"server"}, 2, "--data"},
		{[]string{"server", "--data", t.TempDir(), "--http", "0.0.0.0:0"}, 2, "--insecure-no-auth"},
		{[]string{"server", "--data", s.dir}, 1, "another server uses this directory"},
	} {
		_, stderr, status := leat(t, s.env(), "", c.args...)
		if status != c.status || !strings.Contains(strings.ToLower(stderr), strings.ToLower(c.want)) {
			t.Errorf("leat %v: %d, %q; want %d and %q", c.args, status, stderr, c.status, c.want)
		}
	}
	_, stderr, status := leat(t, []string{"KUBECONFIG=", "XDG_DATA_HOME=" + t.TempDir()}, "", "send", "default")
	if status != 1 || !strings.Contains(stderr, "leat server --data DIR") {
		t.Errorf("without a server: %d, %q", status, stderr)
	}
	nowhere := t.TempDir()
	_, stderr, status = leat(t, []string{"KUBECONFIG=", "XDG_DATA_HOME=" + nowhere}, "", "kubectl", "get", "brokers")
	if status != 1 || !strings.Contains(stderr, "no kubeconfig at "+filepath.Join(nowhere, "leat", "kubeconfig")) || !strings.Contains(stderr, "`leat dev`") {
		t.Errorf("kubectl without a server: %d, %q", status, stderr)
	}
	_, stderr, status = leat(t, []string{"KUBECONFIG=", "XDG_DATA_HOME=" + nowhere}, "", "kubectl", "--server", "http://127.0.0.1:1", "get", "brokers")
	if status != 1 || !strings.Contains(stderr, "is the server running? If not, start one with `leat dev`") {
		t.Errorf("kubectl, a server that is not running: %d, %q", status, stderr)
	}
	if _, stderr, status = leat(t, s.env(), "", "kubectl", "get", "broker", "missing"); status != 1 || strings.Contains(stderr, "leat dev") {
		t.Errorf("kubectl, a broker that is not there: %d, %q", status, stderr)
	}
}

// TestShutdownDrains: SIGINT ends the server with 0; the data is there again.
func TestShutdownDrains(t *testing.T) {
	s := startServer(t)
	s.apply(broker)
	if status, body, err := post(t.Context(), s.url("/default/default"), "kept", "x", nil, "{}"); err != nil || status != 202 {
		t.Fatalf("%d %s %v", status, body, err)
	}
	if status := s.stop(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "endpoints.json")); !os.IsNotExist(err) {
		t.Errorf("endpoints.json of a server that has gone: %v", err)
	}
	s.start()
	out, stderr, _ := leat(t, s.env(), "", "tail", "default", "--since", "beginning", "--no-follow", "-o", "name")
	if out != "kept\n" {
		t.Errorf("got %q, %s", out, stderr)
	}
}

func TestHealthMetricsAndFiles(t *testing.T) {
	s := startServer(t)
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		resp, err := http.Get(s.url(path))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	var e map[string]any
	b, err := os.ReadFile(filepath.Join(s.dir, "endpoints.json"))
	if err != nil || json.Unmarshal(b, &e) != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"http", "api", "kubeconfig", "pid"} {
		if e[key] == nil {
			t.Errorf("endpoints.json has no %s: %s", key, b)
		}
	}
	for _, name := range []string{"kubeconfig", "keys"} {
		i, err := os.Stat(filepath.Join(s.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if i.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s can be read by others: %s", name, i.Mode())
		}
	}
}

// TestNothingAnonymous: the API tells nobody without credentials anything but
// its health.
func TestNothingAnonymous(t *testing.T) {
	s := startServer(t)
	client := insecureClient()
	for path, want := range map[string]int{
		"/healthz": 200, "/livez": 200, "/readyz": 200, "/api": 401, "/apis": 401, "/version": 401, "/metrics": 401,
		"/apis/eventing.knative.dev/v1/brokers": 401, "/leat/v1/openapi.json": 401, "/openapi/v3": 401,
		"/leat/v1/namespaces/default/brokers/default/events": 401,
	} {
		var status int
		eventually(t, 10*time.Second, "the API answers", func() bool {
			resp, err := client.Get("https://" + hostPort(s.API) + path)
			if err != nil {
				return false
			}
			resp.Body.Close()
			status = resp.StatusCode
			return true
		})
		if status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
}
