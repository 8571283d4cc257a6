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

func readPage(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// tour collects the commands of README.md's tour, as one shell script.
func tour(t *testing.T) string {
	t.Helper()
	_, text, ok := strings.Cut(readPage(t, "../README.md"), "\n## A tour\n")
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

// walk runs a page's commands as they stand, but for the port, which may be
// taken, and `make build`, which has been run; and gives what they printed.
func walk(t *testing.T, script string) string {
	t.Helper()
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
	const start = "bin/leat dev &\n"
	if strings.Count(script, start) != 1 {
		t.Fatalf("the page does not start a server by %q, once:\n%s", start, script)
	}
	port := freePort(t)
	script = strings.NewReplacer("make build\n", "", "127.0.0.1:8080", "127.0.0.1:"+port,
		start, "bin/leat dev >server.log 2>&1 &\nserver=$!\ntrap 'kill $server; wait $server' EXIT\nuntil grep -q ready server.log; do kill -0 $server; sleep 0.05; done\n").Replace(script)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euxc", script)
	cmd.Dir = dir
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = append(os.Environ(), "LEAT_HTTP=127.0.0.1:"+port, "LEAT_API=127.0.0.1:0", "XDG_DATA_HOME="+filepath.Join(dir, "data"), "KUBECONFIG=")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "server.log")) // shown if it can be
		t.Fatalf("%v\n%s\nserver:\n%s", err, out.String(), log)
	}
	return out.String()
}

func contains(t *testing.T, out string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in the output:\n%s", want, out)
		}
	}
}

func TestReadmeTourRuns(t *testing.T) {
	contains(t, walk(t, tour(t)),
		"broker.eventing.knative.dev/default unchanged", "trigger.eventing.knative.dev/everything created",
		"READY", `{"hello":"world"}`, "trigger/everything", "202 Accepted")
}

func TestQuickstartRuns(t *testing.T) {
	contains(t, walk(t, script(readPage(t, "quickstart.md"))),
		`{"hello":"world"}`, "trigger.eventing.knative.dev/large created", `{"total":250}`, "trigger/large", "all read back",
		"2 events are durable", "nothing listens at http://localhost:3000/")
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
