package e2e

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// dev is a `leat dev` process, with a home of its own.
type dev struct {
	*testing.T
	home   string
	cmd    *exec.Cmd
	out    string // file with what it has printed
	exited chan error
}

func newDev(t *testing.T) *dev {
	d := &dev{T: t, home: t.TempDir()}
	d.out = filepath.Join(d.home, "out")
	return d
}

// env is what every command of the test is run with: nothing but its home.
func (d *dev) env() []string {
	return []string{"XDG_DATA_HOME=" + d.home, "KUBECONFIG=", "SHELL=/bin/sh"}
}

func (d *dev) dir() string { return filepath.Join(d.home, "leat") }

// start starts it on free ports and returns what it says once it is ready.
func (d *dev) start(args ...string) string {
	d.Helper()
	path, err := binary()
	if err != nil {
		d.Fatal(err)
	}
	f, err := os.Create(d.out)
	if err != nil {
		d.Fatal(err)
	}
	d.cmd = exec.Command(path, append([]string{"dev", "--http", "127.0.0.1:0", "--api", "127.0.0.1:0"}, args...)...)
	d.cmd.Env = append(os.Environ(), d.env()...)
	d.cmd.Stdout, d.cmd.Stderr = f, f
	if err := d.cmd.Start(); err != nil {
		d.Fatal(err)
	}
	d.exited = make(chan error, 1)
	go func(cmd *exec.Cmd, exited chan error) { exited <- cmd.Wait(); f.Close() }(d.cmd, d.exited)
	d.Cleanup(func() { d.cmd.Process.Kill() }) // it may have ended
	var said string
	eventually(d.T, 30*time.Second, "leat dev is ready", func() bool {
		b, err := os.ReadFile(d.out)
		if err != nil {
			d.Fatal(err)
		}
		said = string(b)
		return strings.Contains(said, "Ctrl-C")
	})
	return said
}

func (d *dev) stop() {
	d.Helper()
	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		d.Fatal(err)
	}
	select {
	case err := <-d.exited:
		if err != nil {
			b, _ := os.ReadFile(d.out) // shown if it can be
			d.Errorf("after Ctrl-C: %v\n%s", err, b)
		}
	case <-time.After(30 * time.Second):
		d.Fatal("leat dev did not end within 30 seconds of Ctrl-C")
	}
}

// run runs a command that must end well.
func (d *dev) run(args ...string) string {
	d.Helper()
	out, stderr, status := leat(d.T, d.env(), "", args...)
	if status != 0 {
		d.Fatalf("leat %v: %d: %s", args, status, stderr)
	}
	return out
}

var address = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// TestDev: from nothing to an event seen, with two commands; a second one says
// what runs; what it has outlives it.
func TestDev(t *testing.T) {
	d := newDev(t)
	said := address.ReplaceAllString(d.start(), "127.0.0.1:PORT")
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer("LEAT", path, "DIR", d.dir()).Replace(`Leat is ready.

  Events  http://127.0.0.1:PORT/default/default
  API     https://127.0.0.1:PORT
  Data    DIR

Try, in another terminal:

  LEAT tail default                                             # see events come
  LEAT send default --type greeting --data '{"hello":"world"}'  # send one
  eval "$(LEAT env)"                                            # point kubectl and kn here

Ctrl-C stops it; what it has is kept.
`)
	if said != want {
		t.Errorf("it says\n%s\nwant\n%s", said, want)
	}
	_, stderr, status := leat(t, d.env(), "", "dev")
	if status != 1 || !strings.Contains(stderr, "is running in "+d.dir()+" already: process ") || !address.MatchString(stderr) {
		t.Errorf("a second one: %d, %s", status, stderr)
	}
	d.run("send", "default", "--id", "one", "--data", `{"hello":"world"}`)
	if out := d.run("tail", "default", "--since", "beginning", "--no-follow", "-o", "name"); out != "one\n" {
		t.Errorf("tail: %q", out)
	}
	if got, want := d.run("env"), "export KUBECONFIG='"+filepath.Join(d.dir(), "kubeconfig")+"'\n"; got != want {
		t.Errorf("env: %q, want %q", got, want)
	}
	d.stop()
	d.start()
	if out := d.run("tail", "default", "--since", "beginning", "--no-follow", "-o", "name"); out != "one\n" {
		t.Errorf("after a restart: %q", out)
	}
	d.stop()
}

// TestKubectl is kubectl's own code against the server: resources, and the
// versions of both ends.
func TestKubectl(t *testing.T) {
	d := newDev(t)
	d.start()
	defer d.stop()
	manifest := filepath.Join(t.TempDir(), "trigger.yaml")
	if err := os.WriteFile(manifest, []byte(`
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: all}
spec: {broker: default, subscriber: {uri: "http://127.0.0.1:9/"}}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := d.run("kubectl", "apply", "-f", manifest); out != "trigger.eventing.knative.dev/all created\n" {
		t.Errorf("apply: %q", out)
	}
	d.run("kubectl", "wait", "--for=condition=Ready", "--timeout=20s", "trigger/all")
	if out := d.run("kubectl", "get", "triggers", "-o", "name"); out != "trigger.eventing.knative.dev/all\n" {
		t.Errorf("get: %q", out)
	}
	type version struct{ Major, Minor, GitVersion string }
	var v struct{ ClientVersion, ServerVersion version }
	if err := json.Unmarshal([]byte(d.run("kubectl", "version", "-o", "json")), &v); err != nil {
		t.Fatal(err)
	}
	server, _, _ := strings.Cut(v.ServerVersion.GitVersion, "+")
	if v.ClientVersion.GitVersion != server || v.ClientVersion.Major != "1" || v.ClientVersion.Minor != v.ServerVersion.Minor {
		t.Errorf("the client is %+v, the server %+v", v.ClientVersion, v.ServerVersion)
	}
	if _, stderr, status := leat(t, d.env(), "", "kubectl", "get", "nonsense"); status != 1 || !strings.Contains(stderr, "nonsense") {
		t.Errorf("%d, %s", status, stderr)
	}
	// Another server's kubeconfig wins over the default.
	if _, stderr, status := leat(t, d.env(), "", "kubectl", "--kubeconfig", "/none", "get", "brokers"); status != 1 || !strings.Contains(stderr, "/none") {
		t.Errorf("%d, %s", status, stderr)
	}
	for args, want := range map[string]string{"kubectl get trig": "triggers.eventing.knative.dev", "kubectl get brokers ": "default", "tail ": "default", "send d": "default"} {
		if out := d.run(append([]string{"__complete"}, strings.Split(args, " ")...)...); !strings.Contains(out, want) {
			t.Errorf("completing %q: %q, want %q", args, out, want)
		}
	}
}

func TestVersionAndCompletion(t *testing.T) {
	for format, want := range map[string]string{"table": "leat ", "wide": "Kubernetes API v1.", "json": `"kubernetes": "v1.`, "yaml": "kubernetes: v1.", "name": ""} {
		out, stderr, status := leat(t, nil, "", "version", "-o", format)
		if status != 0 || !strings.Contains(out, want) {
			t.Errorf("-o %s: %d %q %s", format, status, out, stderr)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if out, stderr, status := leat(t, nil, "", "completion", shell); status != 0 || !strings.Contains(out, "__complete") {
			t.Errorf("%s: %d %s", shell, status, stderr)
		}
	}
	out, _, _ := leat(t, nil, "", "__complete", "tail", "default", "-o", "")
	if want := "table\nwide\njson\nyaml\nname\n"; !strings.HasPrefix(out, want) {
		t.Errorf("%q, want %q", out, want)
	}
	for shell, want := range map[string]string{
		"sh": `export KUBECONFIG='/it'\''s/kubeconfig'`, "fish": `set -gx KUBECONFIG '/it\'s/kubeconfig'`, "powershell": `$Env:KUBECONFIG = '/it''s/kubeconfig'`,
	} {
		dir := filepath.Join(t.TempDir(), "it's")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if _, stderr, status := leat(t, nil, "", "env", "--data", dir); status != 1 || !strings.Contains(stderr, "leat dev") {
			t.Errorf("env of an empty directory: %d, %s", status, stderr)
		}
		if err := os.WriteFile(filepath.Join(dir, "kubeconfig"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		out, stderr, status := leat(t, nil, "", "env", "--shell", shell, "--data", dir)
		if got := strings.Replace(strings.TrimSpace(out), filepath.Dir(dir), "", 1); status != 0 || got != want {
			t.Errorf("env for %s: %d %q %s, want %q", shell, status, got, stderr, want)
		}
	}
}

// TestPortTaken: what is wrong, with which flag, and what to do.
func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, stderr, status := leat(t, newDev(t).env(), "", "dev", "--http", l.Addr().String())
	if want := "--http: another program uses " + l.Addr().String(); status != 1 || !strings.Contains(stderr, want) || !strings.Contains(stderr, "127.0.0.1:0") {
		t.Errorf("%d, %s", status, stderr)
	}
}
