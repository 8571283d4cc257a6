//go:build linux

package peers

import (
	"context"
	"os/exec"
	"strconv"
)

func redis() Peer {
	return Peer{
		Name: "redis-always", Title: "Redis streams, appendfsync always", Client: "redis", Synced: true,
		install: func(ctx context.Context, m Machine) error { return m.debian(ctx, "redis-server", "redis-server") },
		command: func(_ Machine, dir string, port int) (*exec.Cmd, error) {
			return exec.Command("redis-server", "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", dir,
				"--save", "", "--appendonly", "yes", "--appendfsync", "always", "--enable-debug-command", "no"), nil
		},
	}
}
