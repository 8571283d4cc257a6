//go:build linux

package peers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Debian's program in PATH changes the user; this is what it runs.
const rabbitServer = "/usr/lib/rabbitmq/bin/rabbitmq-server"

func rabbitMQ() Peer {
	return Peer{
		Name: "rabbitmq", Title: "RabbitMQ quorum queues, confirms", Client: "rabbitmq", Synced: true,
		install: func(ctx context.Context, m Machine) error { return m.debian(ctx, "rabbitmq-server", rabbitServer) },
		command: func(_ Machine, dir string, port int) (*exec.Cmd, error) {
			plugins := filepath.Join(dir, "enabled_plugins")
			if err := os.WriteFile(plugins, []byte("[].\n"), 0o600); err != nil {
				return nil, err
			}
			// Its name service is one of its own, and ends with it.
			cmd := exec.Command("sh", "-c", `epmd -address 127.0.0.1 & exec "$0"`, rabbitServer)
			cmd.Env = append(os.Environ(),
				"HOME="+dir, // of the cookie
				fmt.Sprintf("ERL_EPMD_PORT=%d", port+1),
				"RABBITMQ_NODENAME=leat-bench@localhost",
				"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
				fmt.Sprintf("RABBITMQ_NODE_PORT=%d", port),
				fmt.Sprintf("RABBITMQ_DIST_PORT=%d", port+2),
				"RABBITMQ_MNESIA_BASE="+filepath.Join(dir, "data"),
				"RABBITMQ_LOG_BASE="+filepath.Join(dir, "logs"),
				"RABBITMQ_PID_FILE="+filepath.Join(dir, "pid"),
				"RABBITMQ_ENABLED_PLUGINS_FILE="+plugins,
			)
			return cmd, nil
		},
	}
}
