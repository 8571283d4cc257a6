package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/leat-dev/leat/broker/operations"
	"github.com/leat-dev/leat/cmd/leat/client"
)

func skipCommand() *cobra.Command {
	var (
		flags     client.Flags
		isChannel bool
		yes       bool
		s         operations.Skip
	)
	c := &cobra.Command{
		Use:   "skip BROKER --offset N --file FILE --at BYTE",
		Short: "Give up damaged events, so that subscribers go on behind them",
		Long: `Give up damaged events of a broker, or with --channel of a channel, for good. A
subscriber that has to pass them waits in front of them until then: nothing is
lost in silence. What has not been delivered of them is recorded with each
subscription, as outcome damaged.

Offset, file and byte are those that ` + "`leat log verify`" + ` names; where they are
not those of the damage that is there now, nothing is done. Without --yes it
asks first.`,
		Example: `  leat log skip default --offset 104 --file 0000000000000001.seg --at 2096856`,
		Args:    usage(named("BROKER")),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := client.Connect(flags)
			if err != nil {
				return err
			}
			out := c.OutOrStdout()
			if !yes {
				fmt.Fprintf(out, "The events of %s/%s, partition %d, that are damaged from offset %d on (%s at byte %d) will never be delivered.\n",
					cl.Namespace, args[0], s.Partition, s.Offset, s.File, s.At)
				if err := confirm(c.InOrStdin(), out, "Give them up?"); err != nil {
					return err
				}
			}
			skipped, err := cl.Skip(c.Context(), isChannel, args[0], s)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "offsets %d to %d of %s/%s, partition %d, were given up\n", skipped.From, skipped.To, cl.Namespace, args[0], s.Partition)
			return nil
		},
	}
	f := c.Flags()
	flags.Declare(f)
	f.BoolVar(&isChannel, "channel", false, "of a Channel instead of a Broker")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.IntVar(&s.Partition, "partition", 0, "partition of the events")
	f.Uint64Var(&s.Offset, "offset", 0, "first offset that is damaged")
	f.StringVar(&s.File, "file", "", "the damaged file, by name or path; empty where the damage is in no file")
	f.Int64Var(&s.At, "at", 0, "byte in the file at which the damaged record begins")
	cobra.CheckErr(c.MarkFlagRequired("offset"))
	c.ValidArgsFunction = completeNames(&flags, func() string {
		if isChannel {
			return "channels"
		}
		return brokers()
	})
	return c
}

// errNotConfirmed is what a command ends with that was not to go on.
var errNotConfirmed = errors.New("nothing was changed")

// confirm asks a question that must be answered with yes.
func confirm(in io.Reader, out io.Writer, question string) error {
	fmt.Fprintf(out, "%s Answer yes to go on: ", question)
	line, err := readLine(in)
	if err != nil {
		return err
	}
	if strings.TrimSpace(line) != "yes" {
		fmt.Fprintln(out)
		return fmt.Errorf("%w: the answer was not yes (--yes does not ask)", errNotConfirmed)
	}
	return nil
}

// readLine reads one line, and nothing behind it: there may be another question.
func readLine(in io.Reader) (string, error) {
	var line strings.Builder
	for b := make([]byte, 1); ; {
		n, err := in.Read(b)
		if n > 0 && b[0] != '\n' {
			line.WriteByte(b[0])
		}
		switch {
		case n > 0 && b[0] == '\n', errors.Is(err, io.EOF):
			return line.String(), nil
		case err != nil:
			return "", err
		}
	}
}
