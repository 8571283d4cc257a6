package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/leat-dev/leat/cmd/leat/client"
)

func sendCommand() *cobra.Command {
	var (
		flags      client.Flags
		t          client.Template
		p          client.Plan
		data, file string
	)
	c := &cobra.Command{
		Use:   "send BROKER",
		Short: "Send events to a broker",
		Long: `Send one event, or many, to a broker. The command ends when each of them is
durable, or with the broker's reason for refusing one.`,
		Example: `  leat send default --type order.created --data '{"id":17}'
  leat send default --type order.created --data-file order.json --ext tenant=a
  echo '{"id":17}' | leat send default --type order.created --data-file -
  leat send default --type tick --count 100000 --batch 64 --rate 5000`,
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkPlan(p); err != nil {
				return usageError{err}
			}
			var err error
			if t.Data, err = readData(c, data, file); err != nil {
				return err
			}
			cl, err := client.Connect(flags)
			if err != nil {
				return err
			}
			url, err := cl.IngressURL(c.Context(), args[0])
			if err != nil {
				return err
			}
			return send(c.Context(), c.ErrOrStderr(), url, t, p)
		},
	}
	f := c.Flags()
	flags.Declare(f)
	f.StringVar(&t.Type, "type", "dev.leat.sent", "type attribute")
	f.StringVar(&t.Source, "source", "/leat/send", "source attribute")
	f.StringVar(&t.Subject, "subject", "", "subject attribute")
	f.StringVar(&t.ID, "id", "", "id attribute (default: a new UUID for each event)")
	f.StringVar(&t.ContentType, "content-type", "application/json", "datacontenttype attribute")
	f.StringVar(&data, "data", "", "payload")
	f.StringVar(&file, "data-file", "", "file that holds the payload; - for standard input")
	f.StringToStringVar(&t.Extensions, "ext", nil, "extension attribute, NAME=VALUE")
	f.IntVar(&p.Count, "count", 1, "how many events to send")
	f.Float64Var(&p.Rate, "rate", 0, "events a second (default: as fast as they are taken)")
	f.IntVar(&p.Batch, "batch", 1, "events in one request")
	f.IntVar(&p.Concurrency, "concurrency", 1, "requests at once")
	c.ValidArgsFunction = completeNames(&flags, brokers)
	return c
}

func checkPlan(p client.Plan) error {
	switch {
	case p.Count < 1:
		return errors.New("--count must be at least 1")
	case p.Batch < 1:
		return errors.New("--batch must be at least 1")
	case p.Concurrency < 1:
		return errors.New("--concurrency must be at least 1")
	case p.Rate < 0:
		return errors.New("--rate must not be negative")
	}
	return nil
}

func readData(c *cobra.Command, data, file string) ([]byte, error) {
	if file == "" {
		if !c.Flags().Changed("data") {
			return nil, nil
		}
		return []byte(data), nil
	}
	if c.Flags().Changed("data") {
		return nil, usageError{errors.New("--data and --data-file exclude each other")}
	}
	if file == "-" {
		return io.ReadAll(c.InOrStdin())
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--data-file: %w", err)
	}
	return b, nil
}

func send(ctx context.Context, out io.Writer, url string, t client.Template, p client.Plan) error {
	p.Progress = func(int) {}
	if p.Count > 1 && isTerminal(out) {
		bar := progressbar.NewOptions(p.Count, progressbar.OptionSetWriter(out), progressbar.OptionShowIts(),
			progressbar.OptionSetItsString("events"), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
		p.Progress = func(n int) { _ = bar.Set(n) } // what cannot be drawn does not matter
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.MaxIdleConnsPerHost = p.Concurrency
	start := time.Now()
	n, err := client.Send(ctx, &http.Client{Transport: transport, CheckRedirect: noRedirect}, url, t, p)
	if err != nil {
		return fmt.Errorf("%d of %d events are durable: %w", n, p.Count, err)
	}
	if p.Count > 1 {
		d := time.Since(start)
		fmt.Fprintf(out, "%d events are durable, %.0f a second\n", n, float64(n)/d.Seconds())
	}
	return nil
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
