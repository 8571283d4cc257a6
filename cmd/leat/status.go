package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/leat-dev/leat/broker/operations"
	"github.com/leat-dev/leat/cmd/leat/client"
)

func statusCommand() *cobra.Command {
	var (
		flags    client.Flags
		all      bool
		watch    bool
		interval time.Duration
		output   *choice
	)
	c := &cobra.Command{
		Use:   "status [[KIND/]NAME]",
		Short: "Show how brokers, channels and their subscribers are doing",
		Long: `Show brokers and channels with their triggers and subscriptions: how many events
came in and went out a second over the last minute, how many have not been
looked at yet (LAG) and how old the oldest one is that is not done (AGE), how
many requests are out, how many events wait for their next attempt, and how many
dead letters are kept. What is not ready, or is of a broker or channel that is
not there, is shown with the reason; STATE is ok only where nothing is amiss, and
no dead letter is kept. A name shows that broker, channel, trigger or
subscription alone.`,
		Example: `  leat status
  leat status trigger/mail -o wide
  leat status --watch
  leat status -A -o json`,
		Args: usage(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if interval <= 0 {
				return usageError{errors.New("--interval must be more than 0, such as 2s")}
			}
			cl, err := client.Connect(flags)
			if err != nil {
				return err
			}
			name := strings.Join(args, "")
			show := func(ctx context.Context, w io.Writer, s style) error {
				status, err := cl.Status(ctx, all)
				if err != nil {
					return err
				}
				if status, err = onlyNamed(status, name); err != nil {
					return err
				}
				return printStatus(w, s, output.value, all, status)
			}
			out := c.OutOrStdout()
			if !watch {
				return show(c.Context(), out, newStyle(out))
			}
			return (&watching{out: out, notice: noticePrinter(c.ErrOrStderr()), interval: interval}).run(c.Context(), show)
		},
	}
	f := c.Flags()
	flags.Declare(f)
	f.BoolVarP(&all, "all-namespaces", "A", false, "those of every namespace")
	f.BoolVarP(&watch, "watch", "w", false, "show it again and again; on a terminal in its place")
	f.DurationVar(&interval, "interval", 2*time.Second, "how often --watch asks")
	output = outputFlag(c)
	c.ValidArgsFunction = func(c *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return completeStatus(commandContext(c), flags, args), cobra.ShellCompDirectiveNoFileComp
	}
	return c
}

// completeStatus are the names that status can show.
func completeStatus(ctx context.Context, flags client.Flags, args []string) []cobra.Completion {
	if len(args) > 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	cl, err := client.Connect(flags)
	if err != nil {
		return nil
	}
	status, err := cl.Status(ctx, false)
	if err != nil {
		cobra.CompDebugln(err.Error(), false)
		return nil
	}
	return namesOf(status)
}

// watching shows something again and again: on a terminal in its place, elsewhere
// one after another.
type watching struct {
	out      io.Writer
	notice   func(string)
	interval time.Duration

	shown string // the last there was to show
	told  string // why there is none now
}

// run goes on until ctx ends. What fails, as while the server starts again, is
// told, and tried again, but for what time does not mend: that the server refuses
// it, or that what it is asked for was never there.
func (w *watching) run(ctx context.Context, show func(context.Context, io.Writer, style) error) error {
	tick := time.NewTicker(w.interval)
	defer tick.Stop()
	for {
		var b strings.Builder
		err := show(ctx, &b, newStyle(w.out))
		switch {
		case ctx.Err() != nil:
			return nil // it was asked to end
		case err == nil:
			w.shown, w.told = b.String(), ""
			err = redraw(w.out, w.shown)
		case client.Refused(err), w.shown == "" && errors.As(err, new(*unknownNameError)):
		default:
			err = w.tell(err)
		}
		if err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// tell says why there is nothing new, once; on a terminal above what was shown
// last.
func (w *watching) tell(err error) error {
	told := fmt.Sprintf("no status: %v; asking again every %s", err, w.interval)
	if told == w.told {
		return nil
	}
	w.told = told
	if isTerminal(w.out) {
		return redraw(w.out, told+"\n\n"+w.shown)
	}
	w.notice(told)
	return nil
}

// redraw writes over what is on a terminal, line by line, so that it does not
// flicker.
func redraw(out io.Writer, text string) error {
	if isTerminal(out) {
		text = "\x1b[H" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J"
	}
	_, err := io.WriteString(out, text)
	return err
}

// onlyNamed keeps what has a name: NAME, or KIND/NAME.
func onlyNamed(s operations.Status, name string) (operations.Status, error) {
	if name == "" {
		return s, nil
	}
	channels := s.Channels
	s.Channels = nil
	for _, ch := range channels {
		if isNamed(name, ch.Kind, ch.Name) {
			s.Channels = append(s.Channels, ch)
			continue
		}
		subscriptions := ch.Subscriptions
		ch.Subscriptions = nil
		for _, sub := range subscriptions {
			if isNamed(name, sub.Kind, sub.Name) {
				ch.Subscriptions = append(ch.Subscriptions, sub)
			}
		}
		if len(ch.Subscriptions) > 0 {
			s.Channels = append(s.Channels, ch)
		}
	}
	if len(s.Channels) == 0 {
		return s, &unknownNameError{name}
	}
	return s, nil
}

// unknownNameError says that nothing has the name that was asked for.
type unknownNameError struct{ name string }

func (e *unknownNameError) Error() string {
	return fmt.Sprintf("no broker, channel, trigger or subscription is named %q here; `leat status` shows those there are, -n and -A other namespaces", e.name)
}

func isNamed(asked, kind, name string) bool {
	return asked == name || strings.EqualFold(asked, kind+"/"+name) && strings.HasSuffix(asked, "/"+name)
}

// namesOf are the names of everything in a status, as KIND/NAME.
func namesOf(s operations.Status) []string {
	var names []string
	for _, ch := range s.Channels {
		names = append(names, strings.ToLower(ch.Kind)+"/"+ch.Name)
		for _, sub := range ch.Subscriptions {
			names = append(names, strings.ToLower(sub.Kind)+"/"+sub.Name)
		}
	}
	return names
}
