// Command driver is the client of one of Leat's peers: it publishes events,
// with so many in flight, to a topic of its own, checks that all of them are
// there, or consumes them, and reports what it measured as JSON.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

type options struct {
	client, address string
	window, size    int
	length          time.Duration
	deliver, await  bool
}

// report is what is printed.
type report struct {
	Events    int
	Seconds   float64
	CPU       float64  // of this process, in seconds
	Latencies []uint32 // of each event, in microseconds
}

func main() {
	var o options
	flag.StringVar(&o.client, "client", "", "nats, kafka, redis or rabbitmq")
	flag.StringVar(&o.address, "address", "", "HOST:PORT of the server")
	flag.IntVar(&o.window, "window", 1, "events in flight")
	flag.IntVar(&o.size, "size", 1024, "payload of an event, in bytes")
	flag.DurationVar(&o.length, "length", time.Second, "how long events are published")
	flag.BoolVar(&o.deliver, "deliver", false, "consume and acknowledge the events as well")
	flag.BoolVar(&o.await, "await", false, "wait until the server can be used, and do nothing else")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r, err := run(ctx, o)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "driver:", err)
		os.Exit(1)
	}
}

// client is a connection to a server, and a topic there.
type client interface {
	// publish publishes an event, and returns when it is acknowledged. It is
	// called by many goroutines at once, each with a number of its own.
	publish(ctx context.Context, worker int, payload []byte) error
	// stored is how many events the topic has.
	stored(ctx context.Context) (int, error)
	// consume hands on each event and acknowledges it, until ctx ends.
	consume(ctx context.Context, each func(payload []byte)) error
	close()
}

var open = map[string]func(ctx context.Context, address, topic string, window int) (client, error){
	"nats":     openNATS,
	"kafka":    openKafka,
	"redis":    openRedis,
	"rabbitmq": openRabbitMQ,
}

func run(ctx context.Context, o options) (report, error) {
	if open[o.client] == nil {
		return report{}, fmt.Errorf("-client: there is no %q", o.client)
	}
	topic := fmt.Sprintf("bench-%d", time.Now().UnixNano())
	if o.await {
		return report{}, await(ctx, o, topic)
	}
	c, err := open[o.client](ctx, o.address, topic, o.window)
	if err != nil {
		return report{}, err
	}
	defer c.close()
	l := &load{client: c, options: o}
	before := cpu()
	r, err := l.run(ctx)
	r.CPU = (cpu() - before).Seconds()
	return r, err
}

// await opens a topic and publishes to it, until that succeeds.
func await(ctx context.Context, o options, topic string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	try := func() error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		c, err := open[o.client](ctx, o.address, topic, 1)
		if err != nil {
			return err
		}
		defer c.close()
		return c.publish(ctx, 0, []byte("ready"))
	}
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0 // it cannot fail with these arguments
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
