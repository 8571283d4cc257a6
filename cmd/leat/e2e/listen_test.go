package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/leat-dev/leat/cmd/leat/client"
)

// TestListen: events reach a program as a trigger's do, its answers are shown,
// and what it answers with goes into the broker.
func TestListen(t *testing.T) {
	s := startServer(t)
	s.apply(broker)
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		if r.Header.Get("Ce-Knativebrokerttl") != "" || r.Header.Get("Prefer") != "reply" || r.Header.Get("Ce-Specversion") != "1.0" {
			t.Errorf("headers %v", r.Header)
		}
		switch r.Header.Get("Ce-Type") {
		case "ask":
			w.Header().Set("Ce-Specversion", "1.0")
			w.Header().Set("Ce-Id", "answer-to-"+r.Header.Get("Ce-Id"))
			w.Header().Set("Ce-Source", "/program")
			w.Header().Set("Ce-Type", "answer")
			fmt.Fprint(w, "{}")
		case "bad":
			w.WriteHeader(http.StatusBadGateway)
			fmt.Fprint(w, "no")
		}
	}))
	defer program.Close()
	for _, kind := range []string{"ask", "plain", "bad", "unwanted"} {
		if _, stderr, status := leat(t, s.env(), "", "send", "default", "--type", kind, "--id", kind, "--data", "{}"); status != 0 {
			t.Fatal(stderr)
		}
	}
	out, stderr, status := leat(t, s.env(), "", "listen", "default", "--to", program.URL, "--since", "beginning", "--limit", "3",
		"--filter", "cesql:type != 'unwanted' AND type != 'answer'", "--retry", "1", "--retry-delay", "1ms", "--concurrency", "1", "-o", "json")
	if status != 0 || !strings.Contains(stderr, "2 events taken, 2 attempts failed") {
		t.Fatalf("%d: %s", status, stderr)
	}
	var got []string
	for line := range strings.Lines(out) {
		var a client.Answer
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatal(err)
		}
		if a.Took <= 0 || a.Time.IsZero() {
			t.Errorf("%+v", a)
		}
		got = append(got, fmt.Sprintf("%s %d attempt %d, %d bytes, %d replies", a.ID, a.Status, a.Attempt, a.Bytes, a.Replies))
	}
	want := "ask 200 attempt 1, 2 bytes, 1 replies\nplain 200 attempt 1, 0 bytes, 0 replies\nbad 502 attempt 1, 2 bytes, 0 replies\nbad 502 attempt 2, 2 bytes, 0 replies"
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	ids, _, _ := leat(t, s.env(), "", "tail", "default", "--since", "beginning", "--no-follow", "--filter", "type=answer", "-o", "name")
	if ids != "answer-to-ask\n" {
		t.Errorf("replies in the broker: %q", ids)
	}
	table, _, _ := leat(t, s.env(), "", "listen", "default", "--to", "127.0.0.1:1", "--since", "beginning", "--limit", "1")
	if !strings.Contains(table, "STATUS") || !strings.Contains(table, "nothing listens at http://127.0.0.1:1/") || strings.Contains(table, "\x1b") {
		t.Errorf("the table:\n%s", table)
	}
	for _, args := range [][]string{{"listen", "default"}, {"listen", "default", "--to", "ftp://x"}, {"listen", "default", "--to", "3000", "--concurrency", "0"}} {
		if _, stderr, status := leat(t, s.env(), "", args...); status != 2 || !strings.Contains(stderr, "--") {
			t.Errorf("%v: %d, %s", args, status, stderr)
		}
	}
}

// TestSendFile: one event, one a line, and an array, from a file and from
// standard input; a bad one is named, and those before it are sent.
func TestSendFile(t *testing.T) {
	s := startServer(t)
	s.apply(broker)
	e := func(id string) string {
		return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/file","type":"filed","data":{"of":%q}}`, id, id)
	}
	dir := t.TempDir()
	for name, c := range map[string]struct {
		content string
		args    []string
	}{
		"one":         {e("one"), nil},
		"lines":       {e("l1") + "\n" + e("l2") + "\n\n" + e("l3") + "\n", []string{"--batch", "2"}},
		"array":       {"\n[" + e("a1") + "," + e("a2") + "]\n", []string{"--concurrency", "2"}},
		"empty":       {"", nil},
		"empty array": {"[]", []string{"--batch", "10"}},
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, stderr, status := leat(t, s.env(), "", append([]string{"send", "default", "--file", file}, c.args...)...); status != 0 {
			t.Errorf("%s: %d: %s", name, status, stderr)
		}
	}
	if _, stderr, status := leat(t, s.env(), e("stdin"), "send", "default", "-f", "-", "--rate", "1000"); status != 0 {
		t.Errorf("standard input: %d: %s", status, stderr)
	}
	out, _, _ := leat(t, s.env(), "", "tail", "default", "--since", "beginning", "--no-follow", "-o", "name")
	for _, id := range []string{"one", "l1", "l2", "l3", "a1", "a2", "stdin"} {
		if strings.Count("\n"+out, "\n"+id+"\n") != 1 {
			t.Errorf("%s is not there once:\n%s", id, out)
		}
	}
	for name, c := range map[string]struct{ content, want string }{
		"no source":     {e("b1") + `{"specversion":"1.0","id":"x","type":"t"}`, "event 2"},
		"no JSON":       {e("b2") + "nonsense", "after 1 events"},
		"a cut array":   {"[" + e("b3"), "unexpected"},
		"after the end": {"[" + e("b4") + "] more", "follows the array"},
	} {
		_, stderr, status := leat(t, s.env(), c.content, "send", "default", "-f", "-")
		if status != 1 || !strings.Contains(stderr, c.want) || !strings.Contains(stderr, "1 events are durable") {
			t.Errorf("%s: %d: %s", name, status, stderr)
		}
	}
	if _, stderr, status := leat(t, s.env(), "", "send", "default", "-f", "x", "--type", "y"); status != 2 || !strings.Contains(stderr, "--type") {
		t.Errorf("%d: %s", status, stderr)
	}
}

// TestListenWithAToken: the program's answers go into a broker that asks who
// sends.
func TestListenWithAToken(t *testing.T) {
	s := startServer(t, "--ingress-auth", "token")
	s.apply(broker)
	program := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for name, value := range map[string]string{"Specversion": "1.0", "Id": "answer", "Source": "/program", "Type": "answer"} {
			w.Header().Set("Ce-"+name, value)
		}
	}))
	defer program.Close()
	env := append(s.env(), "LEAT_TOKEN="+s.token("sender"))
	if _, stderr, status := leat(t, env, "", "send", "default", "--type", "ask"); status != 0 {
		t.Fatal(stderr)
	}
	listen := []string{"listen", "default", "--to", program.URL, "--since", "beginning", "--limit", "1", "--filter", "type=ask"}
	if _, stderr, status := leat(t, s.env(), "", listen...); status != 0 || !strings.Contains(stderr, "1 attempts failed") {
		t.Errorf("without a token: %d %s", status, stderr)
	}
	if _, stderr, status := leat(t, env, "", listen...); status != 0 || !strings.Contains(stderr, "1 events taken, 0 attempts failed") {
		t.Errorf("with a token: %d %s", status, stderr)
	}
	ids, _, _ := leat(t, s.env(), "", "tail", "default", "--since", "beginning", "--no-follow", "--filter", "type=answer", "-o", "name")
	if ids != "answer\n" {
		t.Errorf("replies in the broker: %q", ids)
	}
}
