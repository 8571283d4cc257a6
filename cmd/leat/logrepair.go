package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/leat-dev/leat/cmd/leat/server"
	"github.com/leat-dev/leat/raftlog"
)

func repairCommand() *cobra.Command {
	var r repairRun
	var data string
	c := &cobra.Command{
		Use:   "repair --data DIR",
		Short: "Put right what is damaged in the log of a server that does not run",
		Long: `Put right what is damaged in the log of a server that does not run. It says what
it will do, and asks, unless --yes is given. Nothing is deleted: what is replaced
stays beside, under a name with .damaged in it.

What can be had back: a record, an index or a snapshot in which one bit has
flipped, as its checksum tells which; one of two copies of a small file; the
log's state, from its segments; term and vote of the only voter; a snapshot that
an older one replaces; the database of the resources.

What cannot is left as it is, and named. Events that cannot be read hold up only
who has to pass them, and are given up by ` + "`leat log skip`" + ` on the running server.
Where the server cannot start without what is lost, --cut gives up everything
from there on, and that alone.

Exit status: 0 when nothing is damaged any more, 1 otherwise.`,
		Example: `  leat log repair --data ./data --dry-run
  leat log repair --data ./data`,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			dir, err := server.OpenRepair(data)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, dir.Close()) }()
			r.in, r.out, r.dir = c.InOrStdin(), c.OutOrStdout(), dir
			return r.run(c.Context())
		},
	}
	f := c.Flags()
	f.StringVar(&data, "data", "", "directory of the server")
	f.BoolVarP(&r.yes, "yes", "y", false, "do not ask")
	f.BoolVar(&r.dry, "dry-run", false, "say what would be done, and do nothing")
	f.StringVar(&r.cut, "cut", "", "FILE:BYTE of a segment: give up everything that this group's log has from there on")
	cobra.CheckErr(c.MarkFlagRequired("data"))
	return c
}

type repairRun struct {
	in       io.Reader
	out      io.Writer
	dir      *server.Repair
	yes, dry bool
	cut      string
}

func (r *repairRun) run(ctx context.Context) error {
	if r.cut != "" {
		if err := r.doCut(ctx); err != nil {
			return err
		}
	}
	for {
		plan, err := r.dir.Plan(ctx)
		if err != nil {
			return err
		}
		steps := r.print(plan)
		switch {
		case len(plan) == 0:
			fmt.Fprintln(r.out, "nothing is damaged")
			return nil
		case r.dry:
			return fmt.Errorf("damaged in %d places; %w", len(plan), errNotConfirmed)
		case steps == 0:
			return fmt.Errorf("damaged in %d places, which cannot be had back from what is here", len(plan))
		}
		if err := r.ask(fmt.Sprintf("Do this (%d of %d)?", steps, len(plan))); err != nil {
			return err
		}
		for _, m := range plan {
			if m.Do == nil {
				continue
			}
			if err := m.Do(); err != nil {
				return fmt.Errorf("%s: %s: %w", m.File, m.Step, err)
			}
			fmt.Fprintf(r.out, "done: %s: %s\n", m.File, m.Step)
		}
	}
}

// print says what is damaged and what can be done; it returns how many steps
// there are.
func (r *repairRun) print(plan []raftlog.Remedy) (steps int) {
	for _, m := range plan {
		fmt.Fprintf(r.out, "damaged %s\n  at byte %d: %s\n", m.File, m.Offset, m.Reason)
		if m.Do != nil {
			steps++
			fmt.Fprintf(r.out, "  repair: %s\n", m.Step)
		} else {
			fmt.Fprintf(r.out, "  cannot be had back: %s\n", m.Hint)
		}
	}
	return steps
}

func (r *repairRun) ask(question string) error {
	if r.yes {
		return nil
	}
	return confirm(r.in, r.out, question)
}

func (r *repairRun) doCut(ctx context.Context) error {
	fmt.Fprintf(r.out, "everything that this log has from %s on will be given up, also what was acknowledged; the files stay beside\n", r.cut)
	if r.dry {
		return nil
	}
	if err := r.ask("Give it up?"); err != nil {
		return err
	}
	return r.dir.Cut(ctx, r.cut)
}
