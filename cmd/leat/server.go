package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/leat-dev/leat/apiserver"
	"github.com/leat-dev/leat/cmd/leat/server"
	"github.com/leat-dev/leat/cmd/leat/server/metrics"
	"github.com/leat-dev/leat/cmd/leat/settings"
)

func serverCommand() *cobra.Command {
	var s settings.Server
	c := &cobra.Command{
		Use:   "server --data DIR",
		Short: "Run a server",
		Long: `Run a server. When it is ready it has written DIR/kubeconfig, for kubectl and
the other commands, and DIR/endpoints.json with its addresses. SIGTERM drains
it: requests and deliveries in flight are finished.

Each setting is a flag, a key of the configuration file, and a LEAT_ variable.`,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := settings.Load(c.Flags(), os.Environ()); err != nil {
				return usageError{err}
			}
			return runServer(c, s, nil)
		},
	}
	s.Declare(c.Flags())
	c.AddCommand(&cobra.Command{
		Use:   "settings",
		Short: "Print the reference page of the settings",
		Args:  usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			f := pflag.NewFlagSet("server", pflag.ContinueOnError)
			new(settings.Server).Declare(f)
			return settings.WriteReference(c.OutOrStdout(), f)
		},
	})
	c.AddCommand(&cobra.Command{
		Use:   "metrics",
		Short: "Print the reference page of the metrics",
		Args:  usage(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return metrics.WriteReference(c.OutOrStdout()) },
	})
	return c
}

// runServer runs a server by settings that have been loaded.
func runServer(c *cobra.Command, s settings.Server, ready server.Ready) error {
	if err := s.Validate(); err != nil {
		return usageError{err}
	}
	logger, err := newLogger(c.ErrOrStderr(), s.LogFormat, s.LogLevel)
	if err != nil {
		return usageError{err}
	}
	for _, unknown := range settings.UnknownVariables(c.Flags(), os.Environ()) {
		logger.Warn(unknown)
	}
	apiserver.RedirectLogs(logger)
	return server.Run(c.Context(), s, buildVersion(), logger, ready)
}

func newLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level must be debug, info, warn or error, not %q", level)
	}
	o := &slog.HandlerOptions{Level: l}
	if format == "text" || (format == "auto" && isTerminal(w)) {
		return slog.New(slog.NewTextHandler(w, o)), nil
	}
	return slog.New(slog.NewJSONHandler(w, o)), nil
}
