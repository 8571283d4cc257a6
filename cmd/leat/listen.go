package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/leat-dev/leat/broker/operations"
	"github.com/leat-dev/leat/cmd/leat/client"
)

func listenCommand() *cobra.Command {
	var (
		flags   client.Flags
		q       = client.TailQuery{Follow: true}
		l       client.Listener
		to      string
		noReply bool
		replies eventFlags
		output  *choice
	)
	c := &cobra.Command{
		Use:   "listen BROKER --to ADDRESS",
		Short: "Deliver a broker's events to a program on this machine",
		Long: `Deliver a broker's events to a program on this machine, for as long as the command
runs, and show what it answers. Events come as a trigger delivers them, in binary
mode; what the program answers with as an event goes into the broker. There is
no trigger and no cursor: what comes while the command does not run is not
delivered (--since looks back), and an event that fails is not kept. It is not
tried again either, unless --retry says so. Where the connection to the server
breaks off, it goes on with the event that follows.

Several requests are out at once: --concurrency 1 keeps the order.`,
		Example: `  leat listen default --to localhost:3000
  leat listen default --to http://localhost:3000/events --filter type=order.created
  leat listen default --to 3000 --since 1h --concurrency 1 --retry 3`,
		Args: usage(named("BROKER")),
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			if err = checkListener(l, to); err != nil {
				return usageError{err}
			}
			if q.Limit < 0 {
				return usageError{errNegativeLimit}
			}
			if l.To, err = client.LocalURL(to); err != nil {
				return usageError{fmt.Errorf("--to: %w", err)}
			}
			cl, err := client.Connect(flags)
			if err != nil {
				return err
			}
			url, err := cl.IngressURL(c.Context(), args[0])
			if err != nil {
				return err
			}
			if !noReply {
				l.ReplyTo = url
			}
			if l.Broker, err = replies.client(cl, l.Concurrency); err != nil {
				return err
			}
			l.Namespace = cl.Namespace
			return listen(c, cl, args[0], q, l, output.value)
		},
	}
	f := c.Flags()
	flags.Declare(f)
	f.StringVar(&to, "to", "", "where the program listens: HOST:PORT, PORT or a URL (required)")
	declareTail(f, &q)
	f.IntVar(&l.Concurrency, "concurrency", 10, "requests at once")
	f.DurationVar(&l.Timeout, "timeout", time.Minute, "time for one attempt")
	f.IntVar(&l.Retries, "retry", 0, "attempts after the first, where a trigger would make some")
	f.DurationVar(&l.Delay, "retry-delay", 200*time.Millisecond, "wait before the second attempt; it doubles each time")
	f.BoolVar(&noReply, "no-reply", false, "do not send the program's answers to the broker")
	replies.declare(f)
	output = outputFlag(c)
	c.ValidArgsFunction = completeNames(&flags, brokers)
	return c
}

func checkListener(l client.Listener, to string) error {
	switch {
	case to == "":
		return errors.New("--to is required: where the program listens, such as --to localhost:3000")
	case l.Concurrency < 1:
		return errors.New("--concurrency must be at least 1")
	case l.Retries < 0:
		return errors.New("--retry must not be negative")
	case l.Timeout <= 0 || l.Delay <= 0:
		return errors.New("--timeout and --retry-delay must be more than 0")
	}
	return nil
}

func listen(c *cobra.Command, cl *client.Client, broker string, q client.TailQuery, l client.Listener, format string) error {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.MaxIdleConnsPerHost = l.Concurrency
	l.HTTP = &http.Client{Transport: transport, CheckRedirect: noRedirect}
	defer transport.CloseIdleConnections()
	print := answerPrinter(c.OutOrStdout(), format)
	var mu sync.Mutex
	taken, failed := 0, 0
	var printErr error
	l.Answered = func(a client.Answer) {
		mu.Lock()
		defer mu.Unlock()
		if a.OK() {
			taken++
		} else {
			failed++
		}
		if err := print(a); printErr == nil {
			printErr = err // the next ones would be the same
		}
	}
	errs := c.ErrOrStderr()
	q.Notice = noticePrinter(errs)
	fmt.Fprintf(errs, "Events of broker %s/%s go to %s. Ctrl-C ends it.\n", cl.Namespace, broker, l.To)
	err := l.Run(c.Context(), func(ctx context.Context, each func(operations.Line) error) error {
		return cl.Tail(ctx, broker, q, each)
	})
	fmt.Fprintf(errs, "%d events taken, %d attempts failed\n", taken, failed)
	return errors.Join(err, printErr)
}

// answerPrinter prints answers in one of the output formats.
func answerPrinter(w io.Writer, format string) func(client.Answer) error {
	switch format {
	case "json":
		e := json.NewEncoder(w)
		return func(a client.Answer) error { return e.Encode(a) }
	case "yaml":
		return func(a client.Answer) error {
			b, err := yaml.Marshal(a)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(w, "---\n%s", b)
			return err
		}
	case "name":
		return func(a client.Answer) error {
			_, err := fmt.Fprintln(w, a.ID)
			return err
		}
	}
	return answerTable(w, format == "wide")
}

func answerTable(w io.Writer, wide bool) func(client.Answer) error {
	s := newStyle(w)
	header := false
	return func(a client.Answer) error {
		if !header {
			header = true
			head := fmt.Sprintf("%-12s  %-6s  %8s  %9s  %-38s  %s", "TIME", "STATUS", "TOOK", "SIZE", "TYPE", "ID")
			if _, err := fmt.Fprintln(w, s.bold(head)); err != nil {
				return err
			}
		}
		status, paint := fmt.Sprint(a.Status), s.green
		if a.Status == 0 {
			status = "-"
		}
		if !a.OK() {
			paint = s.red
		}
		line := fmt.Sprintf("%s  %s  %8s  %9s  %-38s  %s", s.faint(fmt.Sprintf("%-12s", a.Time.Local().Format("15:04:05.000"))),
			paint(fmt.Sprintf("%-6s", status)), a.Took.Round(100*time.Microsecond), size(uint64(a.Bytes)), shorten(a.Type, typeWidth), a.ID)
		if a.Replies > 0 {
			line += fmt.Sprintf("  %d replies", a.Replies)
		}
		if a.Attempt > 1 {
			line += fmt.Sprintf("  attempt %d", a.Attempt)
		}
		if wide {
			line += fmt.Sprintf("  from %s, offset %d of partition %d", a.Source, a.Offset, a.Partition)
		}
		if a.Error != "" {
			line += "  " + s.red(a.Error)
		}
		_, err := fmt.Fprintln(w, line)
		return err
	}
}
