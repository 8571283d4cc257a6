package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/leat-dev/leat/cmd/leat/client"
	"github.com/leat-dev/leat/cmd/leat/kubectl"
)

func kubectlCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl [COMMAND]",
		Short: "Kubernetes' kubectl, pointed at the server",
		Long: `kubectl, as Kubernetes has it, for machines that have none. It talks to the
server that --kubeconfig or $KUBECONFIG names, else to that of ` + "`leat dev`" + `.`,
		Example: `  leat kubectl get brokers,triggers
  leat kubectl apply -f broker.yaml
  leat kubectl explain trigger.spec`,
		DisableFlagParsing: true, // they are kubectl's
		RunE: func(c *cobra.Command, args []string) error {
			kubectl.OnFailure(c.ErrOrStderr(), func(message string) string { return kubectlHint(args, message) })
			root := kubectl.New(kubectl.Streams{In: c.InOrStdin(), Out: c.OutOrStdout(), Err: c.ErrOrStderr()}, kubeconfigFor(args), args)
			return root.ExecuteContext(c.Context())
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return kubectl.Complete(defaultKubeconfig(), args, toComplete)
		},
	}
}

// defaultKubeconfig is the dev server's where the environment names none.
func defaultKubeconfig() string {
	if os.Getenv("KUBECONFIG") != "" {
		return ""
	}
	return filepath.Join(client.DevDir(os.Getenv), "kubeconfig")
}

// kubeconfigFor is the default one. Who names a server needs none; kubectl
// would ask for the file all the same.
func kubeconfigFor(args []string) string {
	path := defaultKubeconfig()
	if path != "" && given(args, "--server", "-s") {
		if _, err := os.Stat(path); os.IsNotExist(err) {
			return os.DevNull
		}
	}
	return path
}

// given says whether a command line has one of the flags.
func given(args []string, flags ...string) bool {
	return slices.ContainsFunc(args, func(a string) bool {
		name, _, _ := strings.Cut(a, "=")
		return slices.Contains(flags, name)
	})
}

// kubectlHint says what to do where kubectl failed for want of a server: its
// own words name an address that nobody has asked for.
func kubectlHint(args []string, message string) string {
	const start = "start one with `leat dev`; or with `leat server --data DIR`, then set KUBECONFIG=DIR/kubeconfig or pass --kubeconfig"
	if path := defaultKubeconfig(); path != "" && !given(args, "--kubeconfig", "--server", "-s") {
		if _, err := os.Stat(path); os.IsNotExist(err) {
			return fmt.Sprintf("leat: there is no server to talk to: there is no kubeconfig at %s, and KUBECONFIG is not set: %s", path, start)
		}
	}
	if strings.Contains(message, "The connection to the server") {
		return "leat: is the server running? If not, " + start
	}
	return ""
}
