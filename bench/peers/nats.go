//go:build linux

package peers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

func nats(name, title string, sync bool) Peer {
	return Peer{
		Name: name, Title: title, Client: "nats", Synced: sync,
		install: func(ctx context.Context, m Machine) error {
			return m.build(ctx, "github.com/nats-io/nats-server/v2", "nats-server")
		},
		command: func(m Machine, dir string, port int) (*exec.Cmd, error) {
			config := fmt.Sprintf("listen: 127.0.0.1:%d\njetstream {\n  store_dir: %q\n", port, filepath.Join(dir, "data"))
			if sync {
				config += "  sync_interval: always\n"
			}
			file := filepath.Join(dir, "nats.conf")
			if err := os.WriteFile(file, []byte(config+"}\n"), 0o600); err != nil {
				return nil, err
			}
			return exec.Command(filepath.Join(m.Cache, "nats-server"), "-c", file), nil
		},
	}
}
