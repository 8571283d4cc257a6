package main

import (
	"os"
	"path/filepath"

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
			root := kubectl.New(kubectl.Streams{In: c.InOrStdin(), Out: c.OutOrStdout(), Err: c.ErrOrStderr()}, defaultKubeconfig(), args)
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
