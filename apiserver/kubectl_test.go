package apiserver

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// kubectl runs the real one, where there is one, with an empty home.
type kubectl struct {
	t    *testing.T
	env  []string
	path string
}

func newKubectl(t *testing.T, s *running) *kubectl {
	t.Helper()
	path, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("no kubectl on PATH")
	}
	return &kubectl{t, append(os.Environ(), "KUBECONFIG="+s.kubeconfig, "HOME="+t.TempDir()), path}
}

func (k *kubectl) command(stdin string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(k.t.Context(), time.Minute)
	k.t.Cleanup(cancel)
	c := exec.CommandContext(ctx, k.path, args...)
	c.Env, c.Stdin = k.env, strings.NewReader(stdin)
	return c
}

// run returns what a command prints, errors and warnings too.
func (k *kubectl) run(stdin string, args ...string) string {
	k.t.Helper()
	out, err := k.command(stdin, args...).CombinedOutput()
	if err != nil {
		k.t.Errorf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// fail is run, for what has to fail.
func (k *kubectl) fail(stdin string, args ...string) string {
	k.t.Helper()
	out, err := k.command(stdin, args...).CombinedOutput()
	if err == nil {
		k.t.Errorf("kubectl %s does not fail:\n%s", strings.Join(args, " "), out)
	}
	return string(out)
}

// expect compares output with a pattern: spaces stand for any number of them,
// AGE* for an age, and … for anything, also within a word.
func (k *kubectl) expect(out, want string) {
	k.t.Helper()
	var lines []string
	for line := range strings.Lines(strings.TrimSpace(want)) {
		words := strings.Fields(line)
		for i, w := range words {
			switch w {
			case "AGE*":
				words[i] = `\S+`
			case "…":
				words[i] = `.*`
			default:
				words[i] = strings.ReplaceAll(regexp.QuoteMeta(w), "…", `.*`)
			}
		}
		lines = append(lines, `\s*`+strings.Join(words, `\s+`)+`\s*`)
	}
	if !regexp.MustCompile(`(?s)^` + strings.Join(lines, `\n`) + `$`).MatchString(strings.TrimSpace(out)) {
		k.t.Errorf("got\n%s\nwant\n%s", out, want)
	}
}

func TestKubectl(t *testing.T) {
	s := start(t, options(t))
	k := newKubectl(t, s)

	k.expect(k.run("", "version", "-o", "yaml"), "… gitVersion: v"+KubernetesVersion+"+leat.0.1.0 …")
	k.expect(k.run("", "api-resources", "--categories=eventing", "-o", "name"), "brokers.eventing.knative.dev\neventtypes.eventing.knative.dev\ntriggers.eventing.knative.dev")
	k.expect(k.run("", "get", "nodes"), "NAME STATUS ROLES AGE VERSION\nn1 Ready member AGE* 0.1.0")
	k.expect(k.run("", "get", "--raw", "/readyz"), "ok")

	const broker = "apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: b, annotations: {eventing.knative.dev/broker.class: Kafka}}\n"
	k.expect(k.run(broker, "apply", "-f", "-"), "Warning: class Kafka is served as class Leat: by Leat's own log\nbroker.eventing.knative.dev/b created")
	k.expect(k.run(triggerManifest, "apply", "-f", "-"), "trigger.eventing.knative.dev/t1 created")
	k.expect(k.run(triggerManifest, "apply", "-f", "-"), "trigger.eventing.knative.dev/t1 unchanged")
	k.expect(k.run(strings.Replace(triggerManifest, "example.com", "other.example", 1), "apply", "--server-side", "--force-conflicts", "-f", "-"), "trigger.eventing.knative.dev/t1 serverside-applied")
	k.expect(k.fail(strings.Replace(triggerManifest, "subscriber", "subscribr", 1), "apply", "-f", "-"), `…strict decoding error: unknown field "spec.subscribr"…`)
	k.expect(k.fail(strings.Replace(triggerManifest, `"http://example.com"`, "/relative", 1), "apply", "-f", "-"),
		`The Trigger "t1" is invalid: spec.subscriber.uri: Invalid value: "/relative": must be absolute without a ref, such as http://127.0.0.1:8081/`)

	k.expect(k.run("", "get", "trigger", "t1"), "NAME BROKER SUBSCRIBER_URI AGE READY REASON\nt1 default AGE*")
	k.expect(k.run("", "get", "all", "-o", "name"), "broker.eventing.knative.dev/b\ntrigger.eventing.knative.dev/t1")
	k.expect(k.run("", "get", "trigger", "t1", "-o", "jsonpath={.spec.subscriber.uri}"), "http://other.example")
	k.expect(k.run("", "explain", "trigger.spec.filters.cesql"), "GROUP: eventing.knative.dev\nKIND: Trigger\nVERSION: v1\n\nFIELD: cesql <string>\n\n\nDESCRIPTION:\nThe CloudEvents SQL expression is true.")
	k.expect(k.run("", "explain", "service.spec.externalName"), "KIND: Service\nVERSION: v1\n\nFIELD: externalName <string>\n\n\nDESCRIPTION:\n…")
	k.expect(k.run("", "describe", "trigger", "t1"), "Name: t1\nNamespace: default\nLabels: eventing.knative.dev/broker=default\n… Subscriber: …")

	k.expect(k.run("", "patch", "trigger", "t1", "--type=merge", "-p", `{"spec":{"delivery":{"retry":3}}}`), "trigger.eventing.knative.dev/t1 patched")
	k.expect(k.run("", "label", "trigger", "t1", "a=b"), "trigger.eventing.knative.dev/t1 labeled")
	k.expect(k.run("", "get", "triggers", "-l", "a=b", "-o", "name"), "trigger.eventing.knative.dev/t1")
	k.edit("t1", "s/retry: 3/retry: 4/")
	k.expect(k.run("", "get", "trigger", "t1", "-o", "jsonpath={.spec.delivery.retry}"), "4")

	k.wait(s)
	k.watch(s)

	k.expect(k.run("", "create", "configmap", "c", "--from-literal=a=b"), "configmap/c created")
	k.expect(k.run("", "create", "secret", "generic", "s", "--from-literal=a=b"), "secret/s created")
	k.expect(k.run("", "create", "service", "externalname", "x", "--external-name=x.example"), "service/x created")
	k.expect(k.run("", "get", "cm,secret,svc"), "NAME DATA AGE\nconfigmap/c 1 AGE*\n\nNAME TYPE DATA AGE\nsecret/s Opaque 1 AGE*\n\nNAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE\nservice/x ExternalName <none> x.example <none> AGE*")
	k.expect(k.run("", "create", "namespace", "n"), "namespace/n created")
	k.expect(k.run("", "delete", "namespace", "n"), `namespace "n" deleted`)
	k.expect(k.run("", "delete", "trigger", "t1", "--cascade=foreground"), `trigger.eventing.knative.dev "t1" deleted…`)
	k.expect(k.run("", "delete", "brokers", "--all"), `broker.eventing.knative.dev "b" deleted…`)
	k.expect(k.fail("", "get", "trigger", "t1"), `Error from server (NotFound): triggers.eventing.knative.dev "t1" not found`)
}

// edit has an editor change a trigger.
func (k *kubectl) edit(name, script string) {
	k.t.Helper()
	editor := filepath.Join(k.t.TempDir(), "editor")
	if err := os.WriteFile(editor, []byte("#!/bin/sh\nexec sed -i '"+script+"' \"$1\"\n"), 0o700); err != nil {
		k.t.Fatal(err)
	}
	c := k.command("", "edit", "trigger", name)
	c.Env = append(c.Env, "EDITOR="+editor, "KUBE_EDITOR="+editor)
	if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "edited") {
		k.t.Errorf("edit: %v\n%s", err, out)
	}
}

// wait waits for a condition that is set meanwhile.
func (k *kubectl) wait(s *running) {
	k.t.Helper()
	c := k.command("", "wait", "--for=condition=Ready", "trigger/t1", "--timeout=30s")
	done := make(chan string)
	go func() {
		out, err := c.CombinedOutput()
		if err != nil {
			k.t.Errorf("wait: %v", err)
		}
		done <- string(out)
	}()
	status := object(k.t, `{apiVersion: eventing.knative.dev/v1, kind: Trigger, metadata: {name: t1}, status: {conditions: [{type: Ready, status: "True"}]}}`)
	if _, err := s.triggers().ApplyStatus(k.t.Context(), "t1", status, metav1.ApplyOptions{FieldManager: "test"}); err != nil {
		k.t.Error(err)
	}
	k.expect(<-done, "trigger.eventing.knative.dev/t1 condition met")
}

// watch shows a change when it comes.
func (k *kubectl) watch(s *running) {
	k.t.Helper()
	c := k.command("", "get", "triggers", "-w", "--no-headers", "-o", "custom-columns=N:.metadata.name,L:.metadata.labels.seen")
	out, err := c.StdoutPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		k.t.Fatal(err)
	}
	defer func() {
		c.Process.Kill() // it watches for ever
		c.Wait()         // and was killed
	}()
	lines := bufio.NewScanner(out)
	for _, want := range []string{"t1 <none>", "t1 yes"} {
		if !lines.Scan() || strings.Join(strings.Fields(lines.Text()), " ") != want {
			k.t.Fatalf("the watch shows %q, want %q", lines.Text(), want)
		}
		u, err := s.triggers().Get(k.t.Context(), "t1", metav1.GetOptions{})
		if err != nil {
			k.t.Fatal(err)
		}
		u.SetLabels(map[string]string{"seen": "yes"})
		if _, err := s.triggers().Update(k.t.Context(), u, metav1.UpdateOptions{}); err != nil {
			k.t.Fatal(err)
		}
	}
}
