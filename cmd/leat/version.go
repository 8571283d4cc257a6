package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/leat-dev/leat/cmd/leat/kubectl"
)

// buildVersion is what this binary was built from, as the Go toolchain
// recorded it.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	version := info.Main.Version
	if version == "" || version == "(devel)" {
		version = "devel"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			version += "+" + s.Value[:min(12, len(s.Value))]
		}
	}
	return version
}

// Version is what `leat version -o json` prints.
type Version struct {
	Version    string `json:"version"`
	Go         string `json:"go"`
	Platform   string `json:"platform"`
	Kubernetes string `json:"kubernetes"` // whose API is spoken
}

func versionCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  usage(cobra.NoArgs),
	}
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return printVersion(c.OutOrStdout(), output.value, Version{
			Version: buildVersion(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
			Kubernetes: kubectl.ClientVersion().GitVersion,
		})
	}
	return c
}

func printVersion(w io.Writer, format string, v Version) error {
	if done, err := printObject(w, format, v); done {
		return err
	}
	line := "leat " + v.Version + ", " + v.Go + ", " + v.Platform
	switch format {
	case "name":
		line = v.Version
	case "wide":
		line += ", Kubernetes API " + v.Kubernetes
	}
	_, err := fmt.Fprintln(w, line)
	return err
}
