//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"github.com/leat-dev/leat/bench/table"
)

// idlePart has bench/resources measure what many triggers cost that have
// nothing to do, and tells what it says.
func idlePart(ctx context.Context, b *bench) error {
	progress("%d idle triggers", b.triggers)
	cmd := exec.CommandContext(ctx, "go", "run", "github.com/leat-dev/leat/bench/resources",
		"-leat", b.leat, "-dir", b.dir, "-triggers", strconv.Itoa(b.triggers), "-watchers", "0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("bench/resources: %w", err)
	}
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		line := s.Text()
		b.add(func() table.Row { return table.Row{Work: fmt.Sprintf("%d idle triggers", b.triggers), Note: line} })
	}
	return nil
}
