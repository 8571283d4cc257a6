package kubectl

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/tools/clientcmd"
	kubectlversion "k8s.io/kubectl/pkg/cmd/version"
	"sigs.k8s.io/yaml"
)

// module is kubectl's; its version v0.X.Y belongs to Kubernetes v1.X.Y.
const module = "k8s.io/kubectl"

// ClientVersion is kubectl's, read from the modules that the binary was built
// from. The library's own answer is made by the linker's flags, which "go
// install" does not give.
func ClientVersion() version.Info {
	v := version.Info{GitVersion: "unknown", GoVersion: runtime.Version(), Compiler: runtime.Compiler, Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, dep := range info.Deps {
		rest, ok := strings.CutPrefix(dep.Version, "v0.")
		if dep.Path != module || !ok {
			continue
		}
		v.GitVersion = "v1." + rest
		v.Major = "1"
		v.Minor, _, _ = strings.Cut(rest, ".")
	}
	return v
}

// versionCommand takes the place of kubectl's own, which cannot know what it
// was built from; its flags and its output are the same.
func versionCommand(flags *genericclioptions.ConfigFlags, s genericiooptions.IOStreams) *cobra.Command {
	var (
		clientOnly bool
		output     string
	)
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the client and server version information",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if output != "" && output != "json" && output != "yaml" {
				return errors.New("--output must be 'yaml' or 'json'")
			}
			client := ClientVersion()
			v := kubectlversion.Version{ClientVersion: &client, KustomizeVersion: "unknown"}
			if kustomize, ok := kubectlversion.GetKustomizeModVersion(); ok {
				v.KustomizeVersion = kustomize
			}
			var err error
			if !clientOnly {
				v.ServerVersion, err = serverVersion(flags)
			}
			return errors.Join(printVersion(s, v, output), err)
		},
	}
	c.Flags().BoolVar(&clientOnly, "client", false, "If true, shows client version only (no server required).")
	c.Flags().StringVarP(&output, "output", "o", "", "One of 'yaml' or 'json'.")
	return c
}

// serverVersion asks the server; nil where no server is configured.
func serverVersion(flags *genericclioptions.ConfigFlags) (*version.Info, error) {
	d, err := flags.ToDiscoveryClient()
	if err != nil {
		if clientcmd.IsEmptyConfig(err) {
			return nil, nil
		}
		return nil, err
	}
	d.Invalidate() // what is running now
	return d.ServerVersion()
}

func printVersion(s genericiooptions.IOStreams, v kubectlversion.Version, output string) error {
	var (
		b   []byte
		err error
	)
	switch output {
	case "json":
		b, err = json.MarshalIndent(&v, "", "  ")
	case "yaml":
		b, err = yaml.Marshal(&v)
	default:
		b = fmt.Appendf(nil, "Client Version: %s\nKustomize Version: %s", v.ClientVersion.GitVersion, v.KustomizeVersion)
		if v.ServerVersion != nil {
			b = fmt.Appendf(b, "\nServer Version: %s", v.ServerVersion.GitVersion)
		}
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.Out, string(b))
	return err
}
