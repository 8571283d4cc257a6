// Command orders shows Leat's main job on real processes: a shop's orders are
// sent through a broker to seven subscribers, the server is killed in
// mid-flow, and at the end everything that was acknowledged is counted.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "subscriber" {
		exit(subscribe(os.Args[2]))
	}
	leat := flag.String("leat", "bin/leat", "the leat binary")
	orders := flag.Int("orders", 3000, "how many orders are sent")
	keep := flag.Bool("keep", false, "keep the data directory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	exit(run(ctx, *leat, *orders, *keep))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "orders:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(ctx context.Context, leat string, orders int, keep bool) (err error) {
	leat, err = filepath.Abs(leat)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "leat-orders-")
	if err != nil {
		return err
	}
	if !keep {
		defer os.RemoveAll(dir)
	}

	say("Starting the server on an empty directory")
	server := &server{leat: leat, dir: filepath.Join(dir, "data"), log: filepath.Join(dir, "server.log")}
	if err := server.start(ctx); err != nil {
		return err
	}
	defer server.kill()
	say("  ready after %s: events at %s, the API at %s", server.took.Round(time.Millisecond), server.endpoints.HTTP, server.endpoints.API)

	say("Starting seven subscribers, each a process of its own")
	subscribers, err := startSubscribers(ctx)
	if err != nil {
		return err
	}
	defer subscribers.stop()

	say("Applying examples/orders/resources.yaml")
	if err := apply(ctx, server.endpoints.Kubeconfig, subscribers.urls()); err != nil {
		return err
	}

	say("Sending %d orders with the CloudEvents SDK; `audit` fails for its first seconds", orders)
	producer := newProducer(server.brokerURL())
	killed := make(chan error, 1)
	go func() { killed <- killHalfWay(ctx, server, producer, orders) }()
	if err := producer.send(ctx, orders); err != nil {
		return err
	}
	if err := <-killed; err != nil {
		return err
	}
	say("  %d events acknowledged; %d requests had no answer while the server was away, and were sent again", producer.acknowledged(), producer.retried())

	say("Waiting for what each subscriber is owed")
	return account(ctx, producer, subscribers)
}

// killHalfWay ends the server with SIGKILL once half of the orders have been
// acknowledged, and starts it again.
func killHalfWay(ctx context.Context, s *server, p *producer, orders int) error {
	if err := p.waitFor(ctx, orders/2); err != nil {
		return err
	}
	say("  %d acknowledged: killing the server with SIGKILL", p.acknowledged())
	s.kill()
	if err := s.start(ctx); err != nil {
		return fmt.Errorf("start again: %w", err)
	}
	say("  started again on the same directory, ready after %s", s.took.Round(time.Millisecond))
	return nil
}

// account waits until every subscriber has what it is owed, and prints the
// table.
func account(ctx context.Context, p *producer, subscribers subscribers) error {
	deadline, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	var rows []row
	for {
		var missing int
		var err error
		if rows, missing, err = count(deadline, p, subscribers); err != nil {
			return err
		}
		if missing == 0 {
			break
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-deadline.Done():
			printRows(rows)
			return fmt.Errorf("%d deliveries are missing", missing)
		}
	}
	printRows(rows)
	say("")
	say("Every event that was answered with 202 reached every subscriber that it matched.")
	for _, r := range rows {
		if r.disorder > 0 {
			return fmt.Errorf("%s got %d events out of order", r.name, r.disorder)
		}
	}
	say("`warehouse` got each customer's orders in the order they were sent.")
	say("")
	say("What to try next:")
	say("  bin/leat server --data ./data &")
	say("  export KUBECONFIG=$PWD/data/kubeconfig")
	say("  kubectl apply -f examples/greeting.yaml && kubectl get brokers,triggers")
	say("  bin/leat send default --type greeting --data '{\"hello\":\"world\"}'")
	say("  bin/leat tail default --since beginning")
	return nil
}

func say(format string, args ...any) { fmt.Fprintf(os.Stdout, format+"\n", args...) }
