package docs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// block is a fenced block of a page.
type block struct {
	info string // what stands behind the fence: "sh", "sh refused", ...
	text string
	line int
}

func fenced(page string) (blocks []block) {
	var open *block
	n := 0
	for line := range strings.Lines(page) {
		n++
		info, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && open == nil:
			open = &block{info: strings.TrimSpace(info), line: n}
		case fence:
			blocks, open = append(blocks, *open), nil
		case open != nil:
			open.text += line
		}
	}
	return blocks
}

// script makes one shell script of a page's commands. Those of a block marked
// "sh refused" must each fail.
func script(page string) string {
	var b strings.Builder
	for _, f := range fenced(page) {
		switch f.info {
		case "sh":
			b.WriteString(f.text)
		case "sh refused":
			for command := range strings.Lines(f.text) {
				fmt.Fprintf(&b, "if %s; then echo 'line %d: this was to be refused'; exit 1; fi\n", strings.TrimSpace(command), f.line)
			}
		}
	}
	return b.String()
}

// TestCommandsOnPagesRun runs the commands of each page in folder kinds, and of
// those beside it that have some, on a server of its own.
func TestCommandsOnPagesRun(t *testing.T) {
	pages, err := filepath.Glob("kinds/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	pages = append(pages, "observability.md", "https.md", "api.md", "system-broker.md", "event-types.md", "operations.md", "sizing.md")
	leat := binary(t)
	for _, page := range pages {
		t.Run(filepath.Base(page), func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath("openssl"); err != nil && page == "https.md" {
				t.Skip("the page's openssl is not installed here")
			}
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			s := script(string(text))
			if s == "" {
				t.Fatal("there is no command on this page")
			}
			runScript(t, leat, s)
		})
	}
}

// runScript runs a script beside a server, with leat and kubectl on the path,
// and gives its output.
func runScript(t *testing.T, leat, script string) string {
	t.Helper()
	dir := t.TempDir()
	const prologue = `
leat server --data data --http 127.0.0.1:0 --api 127.0.0.1:0 >server.log 2>&1 &
server=$!
trap 'kill $server; wait $server' EXIT
until [ -e data/endpoints.json ]; do kill -0 $server; sleep 0.05; done
export KUBECONFIG=$PWD/data/kubeconfig
set -x
`
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(leat, filepath.Join(bin, "leat")); err != nil {
		t.Fatal(err)
	}
	kubectl := "#!/bin/sh\nexec leat kubectl \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "kubectl"), []byte(kubectl), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euc", prologue+script)
	cmd.Dir = dir
	cmd.WaitDelay = 10 * time.Second
	// A page may start servers of its own: what is left of the script ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	defer func() {
		if cmd.Process != nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // there may be nothing left
		}
	}()
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "server.log")) // shown if it can be
		t.Fatalf("%v\n%s\nserver:\n%s", err, out.String(), log)
	}
	return out.String()
}
