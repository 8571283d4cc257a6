package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"golang.org/x/sync/errgroup"
)

// order is the payload of the events.
type order struct {
	Customer string  `json:"customer"`
	Sequence int     `json:"sequence"` // counts up for each customer
	Total    float64 `json:"total"`
}

// sent is an event that was acknowledged.
type sent struct {
	id, kind, region, mode string
	order                  order
}

// producer sends orders through the CloudEvents SDK, several customers at once.
type producer struct {
	url string

	mu      sync.Mutex
	done    []sent
	retries int
	notify  chan struct{} // closed, and replaced, at each acknowledgement
}

func newProducer(url string) *producer {
	return &producer{url: url, notify: make(chan struct{})}
}

const customers = 8

// send sends n orders. An order of a customer goes out when the one before it
// was acknowledged; what has no answer is sent again, under the same id.
func (p *producer) send(ctx context.Context, n int) error {
	protocol, err := cloudevents.NewHTTP(cloudevents.WithTarget(p.url))
	if err != nil {
		return err
	}
	client, err := cloudevents.NewClient(protocol)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for c := range customers {
		g.Go(func() error {
			for i := 0; c+i*customers < n; i++ {
				if err := p.one(ctx, client, c, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

var (
	kinds   = []string{"shop.order.placed", "shop.order.placed", "shop.order.cancelled", "shop.order.returned", "shop.visit", "stock.counted"}
	regions = []string{"de", "us", "fr", "jp", "it"}
)

func (p *producer) one(ctx context.Context, client cloudevents.Client, customer, i int) error {
	s := sent{
		id: fmt.Sprintf("order-%d-%d", customer, i), kind: kinds[(customer+i)%len(kinds)], region: regions[(customer*3+i)%len(regions)],
		order: order{Customer: fmt.Sprintf("customer-%d", customer), Sequence: i, Total: float64((customer*131 + i*37) % 1000)},
	}
	e := cloudevents.NewEvent()
	e.SetID(s.id)
	e.SetType(s.kind)
	e.SetSource("/shop/web")
	e.SetExtension("region", s.region)
	e.SetExtension("partitionkey", s.order.Customer)
	if i%4 == 0 {
		s.mode = "test"
		e.SetExtension("mode", s.mode)
	}
	if err := e.SetData(cloudevents.ApplicationJSON, s.order); err != nil {
		return err
	}
	for {
		result := client.Send(ctx, e)
		var answer *cehttp.Result
		if cloudevents.ResultAs(result, &answer) && answer.StatusCode == 202 {
			p.acknowledge(s)
			return nil
		}
		if answer != nil && answer.StatusCode < 500 {
			return fmt.Errorf("event %s was refused: %w", s.id, result)
		}
		p.mu.Lock()
		p.retries++
		p.mu.Unlock()
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("event %s: %w: %w", s.id, ctx.Err(), result)
		}
	}
}

func (p *producer) acknowledge(s sent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = append(p.done, s)
	close(p.notify)
	p.notify = make(chan struct{})
}

func (p *producer) acknowledged() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.done)
}

func (p *producer) retried() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.retries
}

func (p *producer) waitFor(ctx context.Context, n int) error {
	for {
		p.mu.Lock()
		enough, notify := len(p.done) >= n, p.notify
		p.mu.Unlock()
		if enough {
			return nil
		}
		select {
		case <-notify:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// owed says which subscribers a sent event must reach: the triggers' filters,
// written out by hand.
var owed = map[string]func(s sent) bool{
	"warehouse": func(s sent) bool { return s.kind == "shop.order.placed" },
	"billing":   func(s sent) bool { return s.kind == "shop.order.placed" },
	"audit":     func(s sent) bool { return strings.HasPrefix(s.kind, "shop.") },
	"europe": func(s sent) bool {
		return strings.HasPrefix(s.kind, "shop.order.") && (s.region == "de" || s.region == "fr" || s.region == "it")
	},
	"fraud": func(s sent) bool { return s.kind == "shop.order.placed" && s.order.Total > 900 },
	"refunds": func(s sent) bool {
		return (s.kind == "shop.order.cancelled" || s.kind == "shop.order.returned") && s.mode != "test"
	},
	"mailer": func(sent) bool { return false },
}

// invoiced says which subscribers the invoice must reach that billing replies
// with to each order placed.
var invoiced = map[string]bool{"mailer": true, "audit": true}

// expected are the ids that a subscriber must have seen.
func (p *producer) expected(subscriber string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ids []string
	for _, s := range p.done {
		if owed[subscriber](s) {
			ids = append(ids, s.id)
		}
		if invoiced[subscriber] && owed["billing"](s) {
			ids = append(ids, "invoice-"+s.id)
		}
	}
	return ids
}
