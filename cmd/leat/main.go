// Command leat is the Leat server, and the command line that talks to it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // where the machine has no database of time zones

	"github.com/spf13/cobra"

	"github.com/leat-dev/leat/cmd/leat/settings"
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

// Groups of commands, as help shows them.
const (
	groupServer    = "server"
	groupEvents    = "events"
	groupResources = "resources"
)

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "leat",
		Short: "An event-streaming broker: events in, made durable, filtered, delivered",
		Long: `Leat takes CloudEvents, makes them durable, matches them against the filters
of triggers and delivers them. Brokers and triggers are Kubernetes resources,
with or without Kubernetes.

Two commands show an event go through, each in a terminal of its own:

  leat dev                                       a server, with a broker "default"
  leat send default --data '{"hello":"world"}'   an event

What else there is to do:

  leat tail default --since beginning            see the events
  leat listen default --to localhost:3000        have them posted to your program
  leat status                                    who is behind, waits or has failed
  leat kubectl apply -f trigger.yaml             make resources`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          usage(cobra.NoArgs),
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w\nSee `%s --help`", settings.FlagError(c.Flags(), err), c.CommandPath())}
	})
	root.AddGroup(&cobra.Group{ID: groupServer, Title: "A server:"}, &cobra.Group{ID: groupEvents, Title: "Events:"}, &cobra.Group{ID: groupResources, Title: "Resources:"})
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupServer, devCommand(), envCommand(), serverCommand(), logCommand())
	add(groupEvents, sendCommand(), tailCommand(), listenCommand(), statusCommand())
	add(groupResources, kubectlCommand())
	add("", versionCommand(), referenceCommand())
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

// named takes one argument, and says what it is where it is not there.
func named(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 1 {
			return nil
		}
		return fmt.Errorf("takes one argument, %s, and %d are given: %s", what, len(args), c.UseLine())
	}
}
