// Command leat is the Leat server, and the command line that talks to it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit statuses.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "leat:", err)
	if usage := (usageError{}); errors.As(err, &usage) {
		os.Exit(exitUsage)
	}
	os.Exit(exitFailed)
}

// usageError is a command line that cannot be run as it is.
type usageError struct{ error }

// Unwrap returns the error itself.
func (e usageError) Unwrap() error { return e.error }

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "leat",
		Short: "An event-streaming broker: events in, made durable, filtered, delivered",
		Long: `Leat takes CloudEvents, makes them durable, matches them against the filters
of triggers and delivers them. Brokers and triggers are Kubernetes resources,
with or without Kubernetes.

Start a server:   leat server --data ./data
Talk to it:       export KUBECONFIG=$PWD/data/kubeconfig
                  kubectl apply -f broker.yaml
                  leat send default --type greeting --data '{"hello":"world"}'
                  leat tail default --since beginning`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          usage(cobra.NoArgs),
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w\nSee `%s --help`", err, c.CommandPath())}
	})
	root.AddCommand(serverCommand(), sendCommand(), tailCommand(), versionCommand())
	return root
}

// usage makes a wrong number of arguments a wrong usage.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usageError{fmt.Errorf("%w\nSee `%s --help`", err, c.CommandPath())}
		}
		return nil
	}
}
