package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/leat-dev/leat/cmd/leat/client"
	"github.com/leat-dev/leat/cmd/leat/server"
	"github.com/leat-dev/leat/cmd/leat/settings"
)

// devBroker is the broker that a server for development comes with.
const devBroker = "default"

func devCommand() *cobra.Command {
	var s settings.Server
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run a server for development, with a broker `default`",
		Long: `Run a server for development: as ` + "`leat server`" + `, with its data in
$XDG_DATA_HOME/leat (else ~/.local/share/leat), and with a broker "default" in
the namespace "default", which is made again where it was deleted. The other
commands find it by themselves; ` + "`eval \"$(leat env)\"`" + ` points kubectl and kn at it.

Its log shows warnings only, unless --log-level says otherwise.`,
		Example: `  leat dev
  leat dev --http 127.0.0.1:0 --api 127.0.0.1:0
  leat dev --data ./data --log-level info`,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := settings.Load(c.Flags(), os.Environ()); err != nil {
				return usageError{err}
			}
			err := runServer(c, s, func(ctx context.Context, e server.Endpoints) error {
				return devReady(ctx, c.OutOrStdout(), e)
			})
			if running := (*server.RunningError)(nil); errors.As(err, &running) {
				return devRunning(running)
			}
			return err
		},
	}
	s.Declare(c.Flags())
	setDefault(c, "data", client.DevDir(os.Getenv), "$XDG_DATA_HOME/leat")
	setDefault(c, "log-level", "warn", "warn")
	return c
}

// setDefault gives a setting another default, and says in help which.
func setDefault(c *cobra.Command, name, value, shown string) {
	f := c.Flags().Lookup(name)
	if err := f.Value.Set(value); err != nil {
		panic(fmt.Sprintf("the default of --%s: %v", name, err)) // a fault of this program
	}
	f.DefValue = shown
	f.Usage = strings.TrimSuffix(f.Usage, " (required)")
}

// devRunning says which server runs already.
func devRunning(e *server.RunningError) error {
	if e.Endpoints.PID == 0 {
		return fmt.Errorf("another server is starting in %s already; wait for it, or choose another directory with --data", e.Dir)
	}
	return fmt.Errorf("a server is running in %s already: process %d, events at %s, API at %s\nUse it as it is; or choose another directory and other ports: --data DIR --http 127.0.0.1:0 --api 127.0.0.1:0",
		e.Dir, e.Endpoints.PID, e.Endpoints.HTTP, e.Endpoints.API)
}

// devReady makes the broker, and says what to try next.
func devReady(ctx context.Context, w io.Writer, e server.Endpoints) error {
	cl, err := client.Connect(client.Flags{Kubeconfig: e.Kubeconfig, Namespace: "default"})
	if err != nil {
		return err
	}
	if err := cl.EnsureBroker(ctx, devBroker); err != nil {
		return err
	}
	url, err := cl.AwaitBroker(ctx, devBroker)
	if err != nil {
		return err
	}
	return welcome(w, newStyle(w), programName(os.Args[0]), url, e)
}

// programName is how the user calls this program.
func programName(arg0 string) string {
	if strings.ContainsRune(arg0, filepath.Separator) {
		return arg0
	}
	return "leat"
}

func welcome(w io.Writer, s style, leat, url string, e server.Endpoints) error {
	tries := [][2]string{
		{leat + " tail default", "see events come"},
		{leat + ` send default --type greeting --data '{"hello":"world"}'`, "send one"},
		{`eval "$(` + leat + ` env)"`, "point kubectl and kn here"},
	}
	width := 0
	for _, t := range tries {
		width = max(width, len(t[0]))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", s.bold("Leat is ready."))
	for _, row := range [][2]string{{"Events", url}, {"API", e.API}, {"Data", filepath.Dir(e.Kubeconfig)}} {
		fmt.Fprintf(&b, "  %-8s%s\n", row[0], row[1])
	}
	fmt.Fprint(&b, "\nTry, in another terminal:\n\n")
	for _, t := range tries {
		fmt.Fprintf(&b, "  %s%s  %s\n", s.cyan(t[0]), strings.Repeat(" ", width-len(t[0])), s.faint("# "+t[1]))
	}
	fmt.Fprint(&b, "\nCtrl-C stops it; what it has is kept.\n")
	_, err := io.WriteString(w, b.String())
	return err
}
