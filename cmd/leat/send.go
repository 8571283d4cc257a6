package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
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
		events     string
		count      int
		to         eventFlags
	)
	c := &cobra.Command{
		Use:   "send BROKER",
		Short: "Send events to a broker",
		Long: `Send one event, or many, to a broker. The command ends when each of them is
durable, or with the broker's reason for refusing one.

--file sends CloudEvents as they stand in a file, in the JSON format: one, several
one after another (such as one a line), or a JSON array. What ` + "`leat tail -o json`" + `
prints has its event in the member "event".`,
		Example: `  leat send default --type order.created --data '{"id":17}'
  leat send default --type order.created --data-file order.json --ext tenant=a
  echo '{"id":17}' | leat send default --type order.created --data-file -
  leat send default --type tick --count 100000 --batch 64 --rate 5000
  leat send default --file events.ndjson --batch 100
  leat tail default --since 1h --no-follow -o json | jq -c .event | leat send copy --file -`,
		Args: usage(named("BROKER")),
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkPlan(p, count); err != nil {
				return usageError{err}
			}
			var err error
			if t.Data, err = readData(c, data, file); err != nil {
				return err
			}
			if err := checkData(t); err != nil {
				return usageError{err}
			}
			source, closeSource, err := sourceOf(c, events, t, &count)
			if err != nil {
				return err
			}
			defer closeSource()
			cl, err := client.Connect(flags)
			if err != nil {
				return err
			}
			url, err := cl.IngressURL(c.Context(), args[0])
			if err != nil {
				return err
			}
			sender, err := to.client(cl, p.Concurrency)
			if err != nil {
				return err
			}
			return send(c.Context(), c.ErrOrStderr(), sender, url, source, count, p)
		},
	}
	f := c.Flags()
	flags.Declare(f)
	f.StringVar(&t.Type, "type", "dev.leat.sent", "type attribute")
	f.StringVar(&t.Source, "source", "/leat/send", "source attribute")
	f.StringVar(&t.Subject, "subject", "", "subject attribute")
	f.StringVar(&t.ID, "id", "", "id attribute; with --count above 1, -0, -1 and so on are added (default: a new UUID for each event)")
	f.StringVar(&t.ContentType, "content-type", "application/json", "datacontenttype attribute")
	f.StringVar(&data, "data", "", "payload")
	f.StringVar(&file, "data-file", "", "file that holds the payload; - for standard input")
	f.StringToStringVar(&t.Extensions, "ext", nil, "extension attribute, NAME=VALUE")
	f.StringVarP(&events, "file", "f", "", "file of CloudEvents in JSON, instead of one made of the other flags; - for standard input")
	f.IntVar(&count, "count", 1, "how many events to send")
	f.Float64Var(&p.Rate, "rate", 0, "events a second (default: as fast as they are taken)")
	f.IntVar(&p.Batch, "batch", 1, "events in one request")
	f.IntVar(&p.Concurrency, "concurrency", 1, "requests at once")
	to.declare(f)
	c.ValidArgsFunction = completeNames(&flags, brokers)
	return c
}

// sourceOf is what is sent: a file's events, or those that the flags describe.
// count becomes -1 where it is not known.
func sourceOf(c *cobra.Command, file string, t client.Template, count *int) (client.Source, func(), error) {
	if file == "" {
		return t.Events(*count), func() {}, nil
	}
	for _, name := range []string{"type", "source", "subject", "id", "content-type", "data", "data-file", "ext", "count"} {
		if c.Flags().Changed(name) {
			return nil, nil, usageError{fmt.Errorf("--file sends events as they are: --%s does not go with it", name)}
		}
	}
	*count = -1
	named := func(next client.Source, name string) client.Source {
		return func() (json.RawMessage, error) {
			e, err := next()
			if err != nil && !errors.Is(err, io.EOF) {
				err = fmt.Errorf("%s: %w\nIt must hold CloudEvents in the JSON format, such as {\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/me\",\"type\":\"greeting\",\"data\":{}}", name, err)
			}
			return e, err
		}
	}
	if file == "-" {
		return named(client.ReadEvents(c.InOrStdin()), "standard input"), func() {}, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, fmt.Errorf("--file: %w", err)
	}
	return named(client.ReadEvents(f), file), func() { _ = f.Close() }, nil // it was read only
}

func checkPlan(p client.Plan, count int) error {
	switch {
	case count < 1:
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

// checkData refuses what is not of the content type, which no subscriber could
// read as what it is said to be.
func checkData(t client.Template) error {
	if t.Data == nil || !client.IsJSON(t.ContentType) {
		return nil
	}
	var v json.RawMessage
	if err := json.Unmarshal(t.Data, &v); err != nil {
		return fmt.Errorf("the payload is no JSON, although --content-type is %s: %w\nCorrect it, or say what it is, such as --content-type text/plain", t.ContentType, err)
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

// send sends count events, -1 where it is not known how many.
func send(ctx context.Context, out io.Writer, sender *http.Client, url string, source client.Source, count int, p client.Plan) error {
	p.Progress = func(int) {}
	if count != 1 && isTerminal(out) {
		bar := progressbar.NewOptions(count, progressbar.OptionSetWriter(out), progressbar.OptionShowIts(),
			progressbar.OptionSetItsString("events"), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
		p.Progress = func(n int) { _ = bar.Set(n) } // what cannot be drawn does not matter
	}
	start := time.Now()
	sent, err := client.Send(ctx, sender, url, source, p)
	if certificate := (*tls.CertificateVerificationError)(nil); errors.As(err, &certificate) {
		err = fmt.Errorf("%w\nIs it signed by an authority of your own? Name that with --ca FILE", err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", reportSent(sent, count), err)
	}
	if sent.Durable != 1 {
		fmt.Fprintf(out, "%s, %.0f a second\n", reportSent(sent, -1), float64(sent.Durable)/time.Since(start).Seconds())
	}
	return nil
}

// reportSent says what became of count events; -1: it is not known how many there
// were to be.
func reportSent(sent client.Sent, count int) string {
	s := fmt.Sprintf("%d events are durable", sent.Durable)
	if count >= 0 {
		s = fmt.Sprintf("%d of %d events are durable", sent.Durable, count)
	}
	if sent.Unknown > 0 {
		s += fmt.Sprintf(", and %d may be, of which it was not answered", sent.Unknown)
	}
	return s
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
