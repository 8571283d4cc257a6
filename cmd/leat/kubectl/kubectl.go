// Package kubectl is Kubernetes' kubectl as a library, pointed at our server
// where nothing else is asked for.
package kubectl

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/plugin"
	"k8s.io/kubectl/pkg/cmd/util"
)

// Streams are what a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// New makes kubectl for one command line. kubeconfig is used where the command
// line names none; where it is empty kubectl's own rules hold. Its commands end
// the process themselves where they fail, with kubectl's exit status.
func New(s Streams, kubeconfig string, args []string) *cobra.Command {
	streams := genericiooptions.IOStreams{In: s.In, Out: s.Out, ErrOut: s.Err}
	flags := genericclioptions.NewConfigFlags(true).WithDeprecatedPasswordFlag().
		WithDiscoveryBurst(300).WithDiscoveryQPS(50).WithWarningPrinter(streams)
	*flags.KubeConfig = kubeconfig // the flag's default
	root := cmd.NewDefaultKubectlCommandWithArgs(cmd.KubectlOptions{
		PluginHandler: cmd.NewDefaultPluginHandler(plugin.ValidPluginFilenamePrefixes),
		Arguments:     append([]string{"kubectl"}, args...),
		ConfigFlags:   flags,
		IOStreams:     streams,
	})
	for _, c := range root.Commands() {
		if c.Name() == "version" {
			root.RemoveCommand(c)
		}
	}
	root.AddCommand(versionCommand(flags, streams))
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	return root
}

// OnFailure has a line added, where hint gives one, below the message that a
// command of kubectl ends the process with.
func OnFailure(errs io.Writer, hint func(message string) string) {
	util.BehaviorOnFatal(func(message string, code int) {
		if message != "" {
			fmt.Fprintln(errs, strings.TrimSuffix(message, "\n"))
		}
		if more := hint(message); more != "" {
			fmt.Fprintln(errs, more)
		}
		os.Exit(code)
	})
}

// Complete asks kubectl how a command line may go on.
func Complete(kubeconfig string, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
	request := append(append([]string{cobra.ShellCompRequestCmd}, args...), toComplete)
	var out bytes.Buffer
	root := New(Streams{In: strings.NewReader(""), Out: &out, Err: io.Discard}, kubeconfig, request)
	if err := root.Execute(); err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return parseCompletions(out.String())
}

// parseCompletions reads what cobra prints for a shell: a line for each
// completion, then a colon and the directive.
func parseCompletions(out string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var all []cobra.Completion
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		if directive, ok := strings.CutPrefix(line, ":"); ok {
			if n, err := strconv.Atoi(directive); err == nil {
				return all, cobra.ShellCompDirective(n)
			}
		}
		all = append(all, line)
	}
	return all, cobra.ShellCompDirectiveDefault
}
