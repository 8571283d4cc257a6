package docs

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tour collects the commands of README.md's tour, as one shell script.
func tour(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), "\n## A tour\n")
	if !ok {
		t.Fatal("README.md has no tour")
	}
	text, _, _ = strings.Cut(text, "\n## ")
	var script strings.Builder
	for line := range strings.Lines(text) {
		if command, ok := strings.CutPrefix(line, "    "); ok {
			script.WriteString(command)
		}
	}
	return script.String()
}

// TestReadmeTourRuns runs the tour as it stands, but for the port, which may be
// taken, and `make build`, which has been run.
func TestReadmeTourRuns(t *testing.T) {
	if _, err := exec.LookPath("kubectl"); err != nil {
		t.Skip("the tour's kubectl is not installed here")
	}
	leat := binary(t)
	dir := t.TempDir()
	examples, err := filepath.Abs("../examples")
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{leat: "bin/leat", examples: "examples"} {
		link := filepath.Join(dir, to)
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(from, link); err != nil {
			t.Fatal(err)
		}
	}
	port := freePort(t)
	script := strings.NewReplacer("make build\n", "", "127.0.0.1:8080", "127.0.0.1:"+port,
		"--data ./data &\n", "--data ./data >server.log 2>&1 &\nserver=$!\ntrap 'kill $server; wait $server' EXIT\nuntil [ -e data/endpoints.json ]; do kill -0 $server; sleep 0.05; done\n").Replace(tour(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euxc", script)
	cmd.Dir = dir
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = append(os.Environ(), "LEAT_HTTP=127.0.0.1:"+port, "LEAT_API=127.0.0.1:0")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "server.log")) // shown if it can be
		t.Fatalf("%v\n%s\nserver:\n%s", err, out.String(), log)
	}
	for _, want := range []string{
		"broker.eventing.knative.dev/default created", "trigger.eventing.knative.dev/everything created",
		"READY", `{"hello":"world"}`, "202 Accepted",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in the tour's output:\n%s", want, out.String())
		}
	}
}

// binary is the leat that is tested: the one that was built, or a new one.
func binary(t *testing.T) string {
	t.Helper()
	if leat := os.Getenv("LEAT_BIN"); leat != "" {
		return leat
	}
	leat := filepath.Join(t.TempDir(), "leat")
	if out, err := exec.Command("go", "build", "-o", leat, "../cmd/leat").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return leat
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}
