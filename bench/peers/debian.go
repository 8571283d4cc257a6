//go:build linux

package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// debian has a Debian package installed, where its program is not there.
func (m Machine) debian(ctx context.Context, pkg, program string) error {
	if _, err := exec.LookPath(program); err == nil {
		return nil
	}
	switch _, err := exec.LookPath("apt-get"); {
	case err != nil:
		return fmt.Errorf("%s is not installed, and there is no apt-get", program)
	case os.Geteuid() != 0:
		return fmt.Errorf("%s is not installed; as root: apt-get install %s", program, pkg)
	case !m.Install:
		return fmt.Errorf("%s is not installed, and -install=false says that it is not to be", program)
	}
	install := func() error {
		cmd := exec.CommandContext(ctx, "apt-get", "install", "-y", "-qq", "--no-install-recommends", pkg)
		// The package's own service is not wanted.
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")
		return run(cmd)
	}
	if err := install(); err == nil {
		return nil
	}
	// The lists of packages may be missing, or old.
	if err := run(exec.CommandContext(ctx, "apt-get", "update", "-qq")); err != nil {
		return err
	}
	if err := install(); err != nil {
		return err
	}
	if _, err := exec.LookPath(program); err != nil {
		return errors.New("the package " + pkg + " has no program " + program)
	}
	return nil
}
