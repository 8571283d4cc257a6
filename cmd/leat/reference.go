package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// referenceCommand writes docs/commands.md.
func referenceCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "reference",
		Short:  "Print the reference page of the commands",
		Hidden: true,
		Args:   usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return writeReference(c.OutOrStdout(), c.Root())
		},
	}
}

// manySettings are commands whose flags have a page of their own.
var manySettings = []string{"leat server", "leat dev"}

// writeReference writes a section for each command, in the order of help.
func writeReference(w io.Writer, root *cobra.Command) error {
	var b strings.Builder
	b.WriteString("<!-- Written by `make docs` from the commands themselves. -->\n\n# Commands\n\n")
	b.WriteString("Client commands find their server by `--kubeconfig`, else by `$KUBECONFIG`, else they take that of `leat dev`. ")
	b.WriteString("Exit status: 0 done, 1 failed, 2 wrong usage. `leat completion bash|zsh|fish` prints what completes them in a shell, names of brokers and triggers included.\n")
	for _, c := range commandsOf(root) {
		section(&b, c)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// commandsOf are all visible commands below one.
func commandsOf(c *cobra.Command) []*cobra.Command {
	var all []*cobra.Command
	for _, sub := range c.Commands() {
		if sub.Hidden || sub.Name() == "help" || sub.Name() == "completion" {
			continue
		}
		all = append(append(all, sub), commandsOf(sub)...)
	}
	return all
}

func section(b *strings.Builder, c *cobra.Command) {
	text := c.Long
	if text == "" {
		text = c.Short + "."
	}
	fmt.Fprintf(b, "\n## %s\n\n%s\n", c.CommandPath(), text)
	if c.Runnable() {
		fmt.Fprintf(b, "\n    %s\n", c.UseLine())
	}
	if c.Example != "" {
		b.WriteString("\nExamples:\n\n")
		for line := range strings.Lines(c.Example) {
			b.WriteString("    " + strings.TrimPrefix(strings.TrimRight(line, "\n"), "  ") + "\n")
		}
	}
	if slices.Contains(manySettings, c.CommandPath()) {
		b.WriteString("\nIts flags are the server's settings: see [settings.md](settings.md).\n")
		return
	}
	flags := flagRows(c.NonInheritedFlags())
	if len(flags) > 0 {
		b.WriteString("\n| flag | default | meaning |\n|---|---|---|\n" + strings.Join(flags, ""))
	}
}

func flagRows(flags *pflag.FlagSet) []string {
	var rows []string
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		def := f.DefValue
		switch def {
		case "", "[]", "false":
			def = ""
		default:
			def = "`" + def + "`"
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | %s |\n", name, def, strings.ReplaceAll(f.Usage, "|", `\|`)))
	})
	return rows
}
