package e2e

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leat-dev/leat/broker/operations"
)

func (s *server) status(args ...string) operations.Status {
	s.t.Helper()
	out, stderr, code := leat(s.t.(*testing.T), s.env(), "", append([]string{"status", "-o", "json"}, args...)...)
	if code != 0 {
		s.t.Fatalf("%d: %s", code, stderr)
	}
	var st operations.Status
	if err := json.Unmarshal([]byte(out), &st); err != nil {
		s.t.Fatal(err)
	}
	return st
}

// TestStatus: a subscriber that works, one that fails, and one that is not
// there, told apart.
func TestStatus(t *testing.T) {
	s := startServer(t)
	good, bad := subscriber(t, func(string) int { return http.StatusOK }), subscriber(t, func(string) int { return http.StatusBadRequest })
	s.apply(broker + "\n---\n" + of("good", good.URL) + "\n---\n" + of("bad", bad.URL))
	if err := s.tryApply("apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: lost}\nspec: {broker: default, subscriber: {ref: {apiVersion: v1, kind: Service, name: absent}}}"); err != nil {
		t.Fatal(err)
	}
	s.put(of("spy", "http://169.254.169.254/") + "\n---\n" + strings.Replace(of("orphan", good.URL), "broker: default", "broker: gone", 1))
	s.becomes(of("spy", ""), "DestinationDenied subscriber: deliveries to 169.254.169.254:80 are refused: it is a link-local address, where machines' credentials are served; the server's setting allow-destinations allows it; name another destination")
	eventually(t, 20*time.Second, "the log knows the trigger that is denied", func() bool {
		return s.condition(parse(t, of("spy", ""))[0], "SubscriptionReady") == "True"
	})
	if _, stderr, code := leat(t, s.env(), "", "send", "default", "--count", "10"); code != 0 {
		t.Fatal(stderr)
	}
	find := func(name string) operations.SubscriptionStatus {
		for _, sub := range s.status().Channels[0].Subscriptions {
			if sub.Name == name {
				return sub
			}
		}
		return operations.SubscriptionStatus{}
	}
	eventually(t, 20*time.Second, "all have ended", func() bool {
		return find("good").DeliveredPerSecond > 0 && find("bad").DeadLetters == 10 && find("spy").DeadLetters == 10 && find("lost").Reason == "Unresolved"
	})
	if st := s.status("default"); st.Channels[0].Events != 10 || st.Channels[0].Bytes == 0 || st.Disk.FreeBytes == 0 || st.Version.Node == "" {
		t.Errorf("%+v", st)
	}
	out, _, _ := leat(t, s.env(), "", "status")
	out = regexp.MustCompile(`(?m)^Log: .*`).ReplaceAllString(out, "Log: …")
	out = strings.ReplaceAll(out, bad.URL, "http://127.0.0.1:1")
	out = regexp.MustCompile(`\d+\.\d/s`).ReplaceAllString(out, "N.N/s")
	want := `NAME            EVENTS   RATE  LAG  AGE  OUT  WAITING  DEAD  STATE
broker/default      10  N.N/s
  trigger/bad             0/s    0    -    0        0    10  failing: subscriber http://127.0.0.1:1 answered 400 Bad Request
  trigger/good          N.N/s    0    -    0        0     0  ok
  trigger/lost            0/s   10    …    0        0     0  not ready, NotFound: subscriber: Service default/absent not found
  trigger/spy             0/s    0    -    0        0    10  not ready, DestinationDenied: subscriber: deliveries to 169.254.169.254:80 are refused: it is a link-local address, where machines' credentials are served; the server's setting allow-destinations allows it; name another destination
broker/gone                                                  not ready, NotFound: there is no Broker default/gone
  trigger/orphan          0/s    0    -    0        0     0  not ready, BrokerNotFound: Broker default/gone not found: create it, or delete this Trigger and name another

Log: …
`
	out = regexp.MustCompile(`(lost +0/s +\d+ +)\S+`).ReplaceAllString(out, "${1}…")
	if squeeze(out) != squeeze(want) {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	if out, _, _ := leat(t, s.env(), "", "status", "trigger/bad", "-o", "name"); out != "broker/default\ntrigger/bad\n" {
		t.Errorf("one trigger: %q", out)
	}
	if out, _, _ := leat(t, s.env(), "", "status", "-A", "-o", "wide", "bad"); !strings.Contains(out, "default broker/default") || !strings.Contains(out, "last error") || strings.Contains(out, "good") {
		t.Errorf("wide:\n%s", out)
	}
	if _, stderr, code := leat(t, s.env(), "", "status", "nothing"); code != 1 || !strings.Contains(stderr, `"nothing"`) {
		t.Errorf("%d, %s", code, stderr)
	}
	if out, _, _ := leat(t, s.env(), "", "__complete", "status", ""); !strings.Contains(out, "trigger/good\n") {
		t.Errorf("completion: %q", out)
	}
}

// squeeze makes runs of spaces one: widths depend on what is in the columns.
func squeeze(s string) string { return regexp.MustCompile(` +`).ReplaceAllString(s, " ") }

// of is a trigger of the broker `default`.
func of(name, url string) string {
	return "apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: " + name + "}\nspec: {broker: default, subscriber: {uri: \"" + url + "\"}}"
}

// TestStatusWatch shows it again and again, and ends well when it is told to.
func TestStatusWatch(t *testing.T) {
	s := startServer(t)
	s.apply(broker)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "status", "--watch", "--interval", "10ms", "-o", "name")
	cmd.Env = append(os.Environ(), s.env()...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for range 3 {
		if !lines.Scan() || lines.Text() != "broker/default" {
			t.Errorf("%q, %v", lines.Text(), lines.Err())
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() { // until it ends
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, stderr, code := leat(t, s.env(), "", "status", "--watch", "--interval", "0s"); code != 2 || !strings.Contains(stderr, "--interval") {
		t.Errorf("%d, %s", code, stderr)
	}
}

// TestHelp: a newcomer finds the first two commands on the first page.
func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"--help"}, nil} {
		out, stderr, code := leat(t, nil, "", args...)
		at := []int{strings.Index(out, "leat dev "), strings.Index(out, "leat send default --data"), strings.Index(out, "A server:"), strings.Index(out, "Events:")}
		if code != 0 || at[0] < 0 || !slices.IsSorted(at) {
			t.Errorf("leat %v: %d, %v\n%s%s", args, code, at, out, stderr)
		}
	}
	if _, stderr, code := leat(t, nil, "", "sned"); code != 2 || !strings.Contains(stderr, "sned") {
		t.Errorf("a command that is not there: %d, %s", code, stderr)
	}
}
