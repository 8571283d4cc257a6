package e2e

import (
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/prototext"
)

// Credentials that are put wherever users put some.
var planted = map[string]string{
	"a Secret":                   "pl4nted-in-a-secret",
	"a Secret's annotation":      "pl4nted-in-an-annotation",
	"a subscriber's URL":         "pl4nted-in-a-subscriber",
	"a dead letter sink's URL":   "pl4nted-in-a-sink",
	"a URL in an annotation":     "pl4nted-in-an-annotated-url",
	"a header of a request":      "pl4nted-in-a-header",
	"a URL that is refused":      "pl4nted-in-a-refused-url",
	"a Secret that is not valid": "pl4nted-in-a-refused-secret",
}

// TestPlantedSecretsAreFoundNowhere puts credentials into Secrets, tokens, URLs
// and annotations, lets deliveries with them fail, and then looks for them in
// everything that the server writes or shows but to the admin who asks for the
// object itself: log, snapshots, database, log lines, metrics, traces, events.
func TestPlantedSecretsAreFoundNowhere(t *testing.T) {
	traces := newCollector(t)
	s := startServer(t, "--log-level", "debug", "--snapshot-bytes", "64KiB",
		"--otlp-endpoint", traces.URL, "--trace-sample-ratio", "1")
	down := subscriber(t, func(string) int { return http.StatusInternalServerError })
	with := func(where string) string {
		return "http://user:" + planted[where] + "@" + strings.TrimPrefix(down.URL, "http://")
	}
	manifest := fmt.Sprintf(`apiVersion: v1
kind: Secret
metadata:
  name: s
  annotations: {example.com/password: %q}
stringData: {password: %q}
---
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: default}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata:
  name: failing
  annotations: {example.com/from: %q}
spec:
  broker: default
  subscriber: {uri: %q}
  delivery: {retry: 2, backoffDelay: PT0.01S, deadLetterSink: {uri: %q}}
`, planted["a Secret's annotation"], planted["a Secret"], with("a URL in an annotation"), with("a subscriber's URL"), with("a dead letter sink's URL"))
	if _, stderr, status := leat(t, s.env(), manifest, "kubectl", "apply", "-f", "-"); status != 0 {
		t.Fatal(stderr)
	}
	if _, stderr, status := leat(t, s.env(), "", "kubectl", "wait", "--for=condition=Ready", "trigger/failing"); status != 0 {
		t.Fatal(stderr)
	}
	if err := s.tryApply(triggerTo("uri: " + strings.Replace(with("a URL that is refused"), "http://", "ftp://", 1))); err == nil {
		t.Error("a URL of another scheme was taken")
	}
	if err := s.tryApply("apiVersion: v1\nkind: Secret\nmetadata: {name: bad}\ntype: kubernetes.io/tls\nstringData: {other: " + planted["a Secret that is not valid"] + "}"); err == nil {
		t.Error("a TLS Secret without a certificate was taken")
	}
	token := s.token("publisher")
	secrets := map[string]string{"a token": token[strings.LastIndexByte(token, '.')+1:]}
	for where, secret := range planted {
		secrets[where] = secret
	}
	for i := range 50 {
		id := fmt.Sprint(i)
		headers := map[string]string{"Authorization": "Bearer " + token, "Cookie": planted["a header of a request"]}
		if status, body, err := post(t.Context(), s.url("/default/default"), id, "x", headers, `{"n":`+id+`}`); err != nil || status != http.StatusAccepted {
			t.Fatalf("%d %s %v", status, body, err)
		}
	}
	shown := map[string]string{}
	eventually(t, 30*time.Second, "every delivery has failed for good", func() bool {
		shown["the metrics"] = scrape(t, s)
		return strings.Contains(shown["the metrics"], `result="kept"`)
	})
	shown["the status"], _, _ = leat(t, s.env(), "", "status", "-A", "-o", "json")
	for _, at := range [][]string{{"leat-system", "default"}, {"default", "default"}} {
		out, stderr, status := leat(t, s.env(), "", "tail", at[1], "-n", at[0], "--since", "beginning", "--no-follow", "-o", "json")
		if status != 0 || out == "" {
			t.Fatalf("tail %v: %d %s", at, status, stderr)
		}
		shown["the events of "+at[0]] = out
	}
	for _, kind := range []string{"Secret", "Trigger"} {
		if !strings.Contains(shown["the events of leat-system"], `"kind":"`+kind+`"`) {
			t.Errorf("no write of a %s is on the system broker, so it is not shown that it hides anything", kind)
		}
	}
	if status := s.stop(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	traces.mu.Lock()
	for _, span := range traces.spans {
		shown["the traces"] += prototext.Format(span)
	}
	traces.mu.Unlock()
	if shown["the traces"] == "" {
		t.Error("there are no traces to look at")
	}
	searchFiles(t, s, shown)
	for where, text := range shown {
		for what, secret := range secrets {
			for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte("user:" + secret))} {
				if at := strings.Index(text, form); at >= 0 {
					t.Errorf("%s holds what was in %s: …%q…", where, what, text[max(0, at-80):min(len(text), at+len(form)+20)])
				}
			}
		}
	}
}

// searchFiles adds what is in the data directory and in the server's log. The
// keys and the admin's kubeconfig are credentials themselves.
func searchFiles(t *testing.T, s *server, shown map[string]string) {
	t.Helper()
	segments, snapshots := 0, 0
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && d.Name() == "keys" {
				return filepath.SkipDir
			}
			return err
		}
		if d.Name() == "kubeconfig" {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.HasSuffix(path, ".seg") {
			segments++
		}
		if strings.Contains(path, "snapshots") {
			snapshots++
		}
		shown["file "+strings.TrimPrefix(path, s.dir)] = string(b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if segments < 2 || snapshots == 0 {
		t.Errorf("%d segments and %d snapshots were searched: too few", segments, snapshots)
	}
	b, err := os.ReadFile(s.dir + ".log")
	if err != nil {
		t.Fatal(err)
	}
	shown["the server's log"] = string(b)
}
