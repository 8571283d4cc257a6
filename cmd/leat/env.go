package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/leat-dev/leat/cmd/leat/client"
)

func envCommand() *cobra.Command {
	var data string
	shell := choice{value: "sh", allowed: []string{"sh", "fish", "powershell"}}
	if filepath.Base(os.Getenv("SHELL")) == "fish" {
		shell.value = "fish"
	}
	c := &cobra.Command{
		Use:   "env",
		Short: "Print what points kubectl and kn at the server of `leat dev`",
		Example: `  eval "$(leat env)"
  eval "$(leat env --data ./data)"
  leat env --shell fish | source`,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			path, err := filepath.Abs(filepath.Join(data, "kubeconfig"))
			if err != nil {
				return err
			}
			if _, err := os.Stat(path); err != nil {
				return fmt.Errorf("no server has run in %s yet: %w\nStart one with `leat dev`, or name another directory with --data", data, err)
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), exportLine(shell.value, path))
			return err
		},
	}
	c.Flags().StringVar(&data, "data", client.DevDir(os.Getenv), "the server's directory")
	c.Flags().Lookup("data").DefValue = "$XDG_DATA_HOME/leat"
	c.Flags().Var(&shell, "shell", "sh (bash, zsh and the like), fish or powershell (default: by $SHELL)")
	c.Flags().Lookup("shell").DefValue = ""
	completeChoice(c, "shell", shell.allowed)
	return c
}

// exportLine sets KUBECONFIG, whatever characters the path has.
func exportLine(shell, path string) string {
	switch shell {
	case "fish":
		return "set -gx KUBECONFIG '" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(path) + "'"
	case "powershell":
		return "$Env:KUBECONFIG = '" + strings.ReplaceAll(path, "'", "''") + "'"
	}
	return "export KUBECONFIG='" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
