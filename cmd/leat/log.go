package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/leat-dev/leat/broker/operations"
	"github.com/leat-dev/leat/cmd/leat/client"
	"github.com/leat-dev/leat/cmd/leat/server"
)

func logCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "log",
		Short: "Look after the log that holds everything",
		Args:  usage(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(verifyCommand(), repairCommand(), skipCommand())
	return c
}

func verifyCommand() *cobra.Command {
	var (
		flags  client.Flags
		data   string
		output *choice
	)
	c := &cobra.Command{
		Use:   "verify",
		Short: "Read every record of the log, and say what is damaged",
		Long: `Read every record, index and snapshot of every group, check their sums, and say
what is damaged: which file, where, why, and which offsets of which brokers and
channels are lost. Nothing is changed.

A running server reads its own log, while it works. --data reads the directory of
a server that does not run, also of one that refuses to start.

Exit status: 0 when everything reads back, 1 when something is damaged.`,
		Example: `  leat log verify
  leat log verify --data ./data
  leat log verify -o json | jq '.files[] | select(.damages)'`,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			verify := func(ctx context.Context, report func(operations.FileReport) error) error {
				return server.VerifyDir(ctx, data, report)
			}
			if data == "" {
				cl, err := client.Connect(flags)
				if err != nil {
					return err
				}
				verify = cl.Verify
			}
			err := runVerify(c, output.value, verify)
			if running := (*server.RunningError)(nil); errors.As(err, &running) {
				return fmt.Errorf("%w\nOr let that server read its own log: leat log verify --kubeconfig %s", err, filepath.Join(data, "kubeconfig"))
			}
			return err
		},
	}
	f := c.Flags()
	flags.Declare(f)
	f.StringVar(&data, "data", "", "directory of a server that does not run, to be read instead")
	output = outputFlag(c)
	return c
}

// verification is what `leat log verify -o json` prints.
type verification struct {
	Files []operations.FileReport  `json:"files"`
	Sum   operations.VerifySummary `json:"sum"`
}

func runVerify(c *cobra.Command, format string, verify operations.Verifier) error {
	out, errs := c.OutOrStdout(), c.ErrOrStderr()
	progress := isTerminal(errs)
	var v verification
	err := verify(c.Context(), func(f operations.FileReport) error {
		v.Files = append(v.Files, f)
		v.Sum.Add(f)
		if progress {
			fmt.Fprintf(errs, "\r\x1b[K%d files, %s, %d records", v.Sum.Files, size(uint64(v.Sum.Bytes)), v.Sum.Records)
		}
		return nil
	})
	if progress {
		fmt.Fprint(errs, "\r\x1b[K")
	}
	if printErr := printVerification(out, newStyle(out), format, v); printErr != nil {
		return errors.Join(err, printErr)
	}
	if err != nil {
		return fmt.Errorf("the log has not been read to its end: %w", err)
	}
	if v.Sum.Damages > 0 {
		return fmt.Errorf("the log is damaged in %d places; nothing was changed. Copy the directory before anything else is tried", v.Sum.Damages)
	}
	return nil
}

func printVerification(w io.Writer, s style, format string, v verification) error {
	if done, err := printObject(w, format, v); done {
		return err
	}
	var b strings.Builder
	for _, f := range v.Files {
		switch {
		case format == "name" && len(f.Damages) > 0:
			fmt.Fprintln(&b, f.Path)
		case format == "name":
		case len(f.Damages) > 0:
			damagedFile(&b, s, f)
		case format == "wide":
			fmt.Fprintf(&b, "%s %s: %s, %d records%s\n", s.green("ok"), f.Path, size(uint64(f.Bytes)), f.Records, entriesOf(f.First, f.Last))
		}
		if f.Torn != 0 && format != "name" {
			fmt.Fprintf(&b, "%s: an interrupted write begins at byte %d. It was never acknowledged; the next start cuts it off\n", f.Path, f.Torn)
		}
	}
	if format != "name" {
		fmt.Fprintf(&b, "%d files, %s, %d records: ", v.Sum.Files, size(uint64(v.Sum.Bytes)), v.Sum.Records)
		if v.Sum.Damages == 0 {
			b.WriteString(s.green("all read back") + "\n")
		} else {
			b.WriteString(s.red(fmt.Sprintf("%d damaged", v.Sum.Damages)) + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func entriesOf(first, last uint64) string {
	switch {
	case first == 0 || last < first:
		return ""
	case first == last:
		return fmt.Sprintf(", entry %d", first)
	}
	return fmt.Sprintf(", entries %d to %d", first, last)
}

func damagedFile(b *strings.Builder, s style, f operations.FileReport) {
	fmt.Fprintf(b, "%s %s (group %s)\n", s.red("damaged"), f.Path, f.Group)
	for _, d := range f.Damages {
		fmt.Fprintf(b, "  at byte %d: %s%s\n", d.Offset, d.Reason, entriesOf(d.First, d.Last))
		for _, l := range d.Lost {
			of := fmt.Sprintf("%s of %s %s/%s, partition %d", l.What, strings.ToLower(l.Kind), l.Namespace, l.Name, l.Partition)
			if l.Subscription != "" {
				of += ", of the subscription with the UID " + l.Subscription
			}
			fmt.Fprintf(b, "    lost: %d to %d of the %s\n", l.From, l.To, of)
		}
		if f.Kind == "segment" && !d.Known {
			b.WriteString("    which events it held is not known: no index tells\n")
		}
	}
}
