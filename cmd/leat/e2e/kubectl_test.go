package e2e

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

var update = flag.Bool("update", false, "write what the commands print into testdata/kubectl")

// TestKubectlScripts runs the scripts of testdata/kubectl by `leat kubectl`,
// and by kubectl itself where one is installed, and compares what is printed
// with what the scripts say. A script is a txtar archive: its files lie in the
// directory that its commands run in, and its head is a session of a shell:
//
//	$ COMMAND       run by sh; what follows is its output, errors too
//	[exit N]        the last line of that, where a command fails
//	$ COMMAND &     has printed a line, and goes on while the next ones run
//	$ until N       the output of that one, ended after N lines
//
// A line that begins with # after an empty one speaks of what follows. With
// -update what the commands print is written into the scripts.
//
// Each script has a namespace of its own, which bears its name.
func TestKubectlScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/kubectl/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatal(scripts, err)
	}
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	real, err := exec.LookPath("kubectl")
	if err != nil {
		t.Log("no kubectl on PATH: only leat kubectl is tried")
	}
	for client, path := range map[string]string{"leat kubectl": bin + " kubectl", "kubectl": real} {
		if path == "" || (*update && client == "kubectl") {
			continue
		}
		t.Run(client, func(t *testing.T) {
			s := startServer(t)
			for _, file := range scripts {
				name := strings.TrimSuffix(filepath.Base(file), ".txt")
				t.Run(name, func(t *testing.T) {
					sh := newShell(t, s, name, path)
					sh.script(file)
				})
			}
			if b, err := os.ReadFile(s.dir + ".log"); err != nil || bytes.Contains(b, []byte(`"level":"ERROR"`)) {
				t.Errorf("what clients get wrong is no error of the server's: %v\n%s", err, b)
			}
		})
	}
}

// noteStart is where an output ends because a script speaks of what follows.
var noteStart = regexp.MustCompile(`(?m)^\n# `)

// shell runs one script's commands.
type shell struct {
	*testing.T
	dir        string
	env        []string
	background *background
}

// background is a command that goes on.
type background struct {
	cmd *exec.Cmd
	out *os.File
}

// newShell makes the script's namespace and a directory in which `kubectl` is
// what is tried and looks at that namespace.
func newShell(t *testing.T, s *server, namespace, kubectl string) *shell {
	t.Helper()
	sh := &shell{T: t, dir: t.TempDir()}
	bin := filepath.Join(t.TempDir(), "bin")
	config, err := clientcmd.LoadFromFile(s.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range config.Contexts {
		c.Namespace = namespace
	}
	config.AuthInfos["nobody"] = &api.AuthInfo{} // for who comes with a token of its own
	kubeconfig := filepath.Join(filepath.Dir(bin), "kubeconfig")
	wrapper := "#!/bin/sh\nexec " + kubectl + " \"$@\"\n"
	if err := errors.Join(os.Mkdir(bin, 0o700), os.WriteFile(filepath.Join(bin, "kubectl"), []byte(wrapper), 0o700),
		clientcmd.WriteToFile(*config, kubeconfig)); err != nil {
		t.Fatal(err)
	}
	sh.env = append(os.Environ(), "KUBECONFIG="+kubeconfig, "HOME="+t.TempDir(), "PATH="+bin+":"+os.Getenv("PATH"), "KUBECTL_EXTERNAL_DIFF=diff -u")
	if out := sh.run("kubectl create namespace " + namespace); out != "namespace/"+namespace+" created\n" {
		t.Fatal(out)
	}
	return sh
}

// script runs a file's commands and compares, or writes, their output.
func (sh *shell) script(file string) {
	sh.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		sh.Fatal(err)
	}
	for _, f := range archive.Files {
		mode := os.FileMode(0o600)
		if bytes.HasPrefix(f.Data, []byte("#!")) {
			mode = 0o700
		}
		if err := os.WriteFile(filepath.Join(sh.dir, f.Name), f.Data, mode); err != nil {
			sh.Fatal(err)
		}
	}
	var got strings.Builder
	blocks := regexp.MustCompile(`(?m)^\$ `).Split(string(archive.Comment), -1)
	got.WriteString(blocks[0]) // what the script says of itself
	for _, block := range blocks[1:] {
		command, want, _ := strings.Cut(block, "\n")
		note := ""
		if at := noteStart.FindStringIndex(want); at != nil {
			want, note = want[:at[0]], want[at[0]:]
		}
		out := normal(sh.run(command))
		if out != want && !*update {
			sh.Errorf("$ %s\n%s\nwant\n%s", command, out, want)
		}
		got.WriteString("$ " + command + "\n" + out + note)
	}
	if *update {
		archive.Comment = []byte(got.String())
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			sh.Fatal(err)
		}
	}
}

// run returns what one command prints.
func (sh *shell) run(command string) string {
	sh.Helper()
	var lines int
	if n, err := fmt.Sscanf(command, "until %d", &lines); n == 1 && err == nil {
		return sh.until(lines)
	}
	ctx, cancel := context.WithTimeout(sh.Context(), time.Minute)
	command, goesOn := strings.CutSuffix(command, " &")
	cmd := exec.CommandContext(ctx, "sh", "-c", "exec 2>&1; "+command)
	cmd.Dir, cmd.Env = sh.dir, sh.env
	if goesOn {
		sh.Cleanup(cancel)
		sh.goOn(cmd)
		return ""
	}
	defer cancel()
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		out = fmt.Appendf(out, "[exit %d]\n", exit.ExitCode())
	} else if err != nil {
		sh.Fatal(err)
	}
	return string(out)
}

func (sh *shell) goOn(cmd *exec.Cmd) {
	sh.Helper()
	out, err := os.Create(filepath.Join(sh.TempDir(), "out"))
	if err != nil {
		sh.Fatal(err)
	}
	cmd.Stdout = out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the shell's child too has to end
	if err := cmd.Start(); err != nil {
		sh.Fatal(err)
	}
	sh.background = &background{cmd, out}
	sh.Cleanup(sh.end)
	sh.lines(1)
}

// end ends what goes on.
func (sh *shell) end() {
	if b := sh.background; b != nil {
		syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
		b.cmd.Wait()                                      // and was killed
		b.out.Close()
		sh.background = nil
	}
}

// until waits for that many lines of what goes on, and ends it.
func (sh *shell) until(n int) string {
	sh.Helper()
	lines := sh.lines(n)
	sh.end()
	return strings.Join(lines[:n], "")
}

// lines waits for that many lines of what goes on.
func (sh *shell) lines(n int) (lines []string) {
	sh.Helper()
	eventually(sh.T, 20*time.Second, fmt.Sprintf("%d lines", n), func() bool {
		b, err := os.ReadFile(sh.background.out.Name())
		lines = strings.SplitAfter(string(b), "\n")
		return err == nil && len(lines) > n
	})
	return lines
}

// normal takes out what differs from run to run, and from one version of
// kubectl to the next.
func normal(out string) string {
	for _, r := range []struct{ pattern, with string }{
		{`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| [+-]\d{4}( UTC)?)?`, "TIME"},
		{`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`, "UID"},
		{`(resourceVersion: |Resource Version:  *)"?\d+"?`, "${1}VERSION"},
		{`X509SHA256=[0-9a-f]+`, "X509SHA256=SUM"},
		{`127\.0\.0\.1:\d\d\d+`, "127.0.0.1:PORT"},
		{`/\S*/(LIVE|MERGED)-\d+/`, "$1/"},
		{`\b\d+(\.\d+)?m?s\b`, "AGE"},
		{` from \S+ namespace`, ""},
		{`(\S) {2,}`, "$1  "},
		{`(?m)\s+$`, ""},
	} {
		out = regexp.MustCompile(r.pattern).ReplaceAllString(out, r.with)
	}
	if out != "" {
		out += "\n"
	}
	return out
}
