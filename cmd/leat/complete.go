package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/leat-dev/leat/cmd/leat/client"
)

// completionTime is how long a shell waits for names.
const completionTime = 2 * time.Second

// completeNames completes a first argument by the names of resources, such as
// "brokers".
func completeNames(flags *client.Flags, resource func() string) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		cl, err := client.Connect(*flags)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(commandContext(c), completionTime)
		defer cancel()
		names, err := cl.Names(ctx, resource())
		if err != nil {
			cobra.CompDebugln(err.Error(), false)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// commandContext is a command's context, also where it is only completed.
func commandContext(c *cobra.Command) context.Context {
	if ctx := c.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}

func brokers() string { return "brokers" }
