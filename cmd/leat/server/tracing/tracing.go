// Package tracing sends the steps of traces to an OpenTelemetry collector, by
// OTLP over HTTP.
package tracing

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"

	"github.com/leat-dev/leat/api/event"
)

// Options configure an Exporter.
type Options struct {
	// Endpoint is the collector's URL; without a path it is that of OTLP's
	// traces. Headers and certificates are those of the OTEL_EXPORTER_OTLP_
	// variables.
	Endpoint string
	// Ratio is the share, 0 to 1, of the traces that begin here that are sampled.
	Ratio float64
	// Queue bounds the steps that wait to be sent.
	Queue int
	// Interval is how long steps wait for others, and Timeout bounds one upload,
	// its retries included; 1 s, 30 s.
	Interval, Timeout time.Duration
	// Node and Version say who sends.
	Node, Version string
	// Counted is told what became of steps: "exported", "dropped" or "failed".
	Counted func(result string, n int)
	Logger  *slog.Logger
}

// batchSteps bounds what is sent at once.
const batchSteps = 512

// Exporter sends steps. Record never waits for it: what does not fit into its
// queue is dropped, and counted.
type Exporter struct {
	o      Options
	bound  uint64
	client otlptrace.Client
	queue  chan event.Span
	// quit ends the loop once the queue is empty, cancel at once.
	quit, ended chan struct{}
	ctx         context.Context
	cancel      context.CancelFunc
	failing     bool
}

var _ event.Spans = (*Exporter)(nil)

// tracesPath is where a collector takes traces.
const tracesPath = "/v1/traces"

// Endpoint checks a collector's URL.
func Endpoint(endpoint string) (*url.URL, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" {
		return nil, errors.New("it must be a URL such as http://127.0.0.1:4318, without credentials (OTEL_EXPORTER_OTLP_HEADERS has room for these)")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = tracesPath
	}
	return u, nil
}

// Start starts to send. Close ends it.
func Start(ctx context.Context, o Options) (*Exporter, error) {
	u, err := Endpoint(o.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("trace collector: %w", err)
	}
	client := otlptracehttp.NewClient(otlptracehttp.WithEndpointURL(u.String()), otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
	if err := client.Start(ctx); err != nil {
		return nil, fmt.Errorf("trace collector %s: %w", u, err)
	}
	o.Interval, o.Timeout = cmp.Or(o.Interval, time.Second), cmp.Or(o.Timeout, 30*time.Second)
	e := &Exporter{
		o: o, bound: bound(o.Ratio), client: client, queue: make(chan event.Span, max(o.Queue, 1)),
		quit: make(chan struct{}), ended: make(chan struct{}),
	}
	e.ctx, e.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go e.run()
	return e, nil
}

// bound is what the low 63 bits of a trace's ID must be below for it to be
// sampled: of several programs with the same ratio all take the same traces.
func bound(ratio float64) uint64 {
	if ratio >= 1 {
		return math.MaxUint64
	}
	return uint64(max(ratio, 0) * (1 << 63))
}

// Samples implements event.Spans.
func (e *Exporter) Samples(trace [16]byte) bool {
	return binary.BigEndian.Uint64(trace[8:])>>1 < e.bound
}

// Record implements event.Spans.
func (e *Exporter) Record(s event.Span) {
	if !s.Context.Sampled() && s.Error == "" {
		return
	}
	select {
	case e.queue <- s:
	default:
		e.o.Counted("dropped", 1)
	}
}

// run sends what comes, until Close.
func (e *Exporter) run() {
	defer close(e.ended)
	batch := make([]event.Span, 0, batchSteps)
	for {
		var due <-chan time.Time
		if len(batch) > 0 {
			due = time.After(e.o.Interval)
		}
		for full := false; !full; {
			select {
			case s := <-e.queue:
				batch = append(batch, s)
				if due == nil {
					due = time.After(e.o.Interval)
				}
				full = len(batch) == batchSteps
			case <-due:
				full = true
			case <-e.quit:
				e.drain(batch)
				return
			}
		}
		e.send(batch)
		clear(batch)
		batch = batch[:0]
	}
}

// drain sends what is left.
func (e *Exporter) drain(batch []event.Span) {
	for {
		select {
		case s := <-e.queue:
			if batch = append(batch, s); len(batch) == batchSteps {
				e.send(batch)
				batch = batch[:0]
			}
		default:
			if len(batch) > 0 {
				e.send(batch)
			}
			return
		}
	}
}

// send uploads a batch. The first failure of a row is logged.
func (e *Exporter) send(batch []event.Span) {
	ctx, cancel := context.WithTimeout(e.ctx, e.o.Timeout)
	defer cancel()
	err := e.client.UploadTraces(ctx, e.encode(batch))
	if err == nil {
		e.o.Counted("exported", len(batch))
		if e.failing {
			e.o.Logger.Info("the trace collector takes traces again", "endpoint", e.o.Endpoint)
		}
		e.failing = false
		return
	}
	e.o.Counted("failed", len(batch))
	if !e.failing && e.ctx.Err() == nil {
		e.o.Logger.Warn("the trace collector does not take traces; they are dropped until it does", "endpoint", e.o.Endpoint, "error", err)
	}
	e.failing = true
}

// Close sends what is left, until ctx ends. Nothing may be recorded after it.
func (e *Exporter) Close(ctx context.Context) error {
	close(e.quit)
	select {
	case <-e.ended:
	case <-ctx.Done():
		e.cancel()
		<-e.ended
	}
	e.cancel()
	err := e.client.Stop(ctx)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil // there is nothing left to wait for
	}
	return err
}
