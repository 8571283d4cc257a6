//go:build linux

package peers

import (
	"context"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

func TestPeersAreFoundByTheirNames(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range Names() {
		p, err := Named(name)
		if err != nil || p.Name != name || p.Title == "" || p.Client == "" || seen[name] {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
		seen[name] = true
	}
	if _, err := Named("pulsar"); err == nil {
		t.Error("a peer was found that there is not")
	}
}

func TestPortsAreFree(t *testing.T) {
	first, err := freePorts()
	if err != nil {
		t.Fatal(err)
	}
	for port := first; port < first+ports; port++ {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}

// TestWhyAPeerCannotBeHad is what its row says.
func TestWhyAPeerCannotBeHad(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if err := (Machine{Install: true}).debian(context.Background(), "redis-server", "redis-server"); err == nil || !strings.Contains(err.Error(), "redis-server is not installed") {
		t.Errorf("without apt-get: %v", err)
	}
	if err := installKafka(t.Context(), Machine{Cache: t.TempDir()}); err == nil || err.Error() != "java is not installed" {
		t.Errorf("without Java: %v", err)
	}
}

func TestACommandThatFailsSaysWhy(t *testing.T) {
	err := run(exec.Command("sh", "-c", "echo no such package >&2; exit 3"))
	if err == nil || !strings.Contains(err.Error(), "no such package") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
}

func TestKafkaFlushesEachWhereAsked(t *testing.T) {
	const each = "log.flush.interval.messages=1\n"
	if !strings.Contains(kafkaConfig("/d", 1, true), each) || strings.Contains(kafkaConfig("/d", 1, false), each) {
		t.Error("the setting is not where it should be")
	}
}
