package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/broker/operations"
)

// Listener delivers a broker's events to a program on this machine.
type Listener struct {
	HTTP *http.Client
	// Broker sends what goes to ReplyTo.
	Broker *http.Client
	// To is the program's address.
	To string
	// ReplyTo takes the events that the program answers with; empty: they are
	// only counted.
	ReplyTo string
	// Concurrency bounds the requests at once.
	Concurrency int
	// Timeout bounds one attempt, its answer included.
	Timeout time.Duration
	// Retries are the attempts after the first, Delay the wait before the first
	// of them; it doubles.
	Retries int
	Delay   time.Duration
	// Namespace is what Kn-Namespace says.
	Namespace string
	// Answered is told of each attempt, from many goroutines.
	Answered func(Answer)
}

// Answer is what a program answered to an attempt.
type Answer struct {
	Time      time.Time     `json:"time"`
	Partition int           `json:"partition"`
	Offset    uint64        `json:"offset"`
	ID        string        `json:"id"`
	Type      string        `json:"type"`
	Source    string        `json:"source"`
	Attempt   int           `json:"attempt"`
	Status    int           `json:"status"` // 0: there was no answer
	Took      time.Duration `json:"tookNanoseconds"`
	Bytes     int           `json:"bytes"`   // of the answer
	Replies   int           `json:"replies"` // events in it
	Error     string        `json:"error,omitempty"`
}

// OK says whether the program took the event.
func (a Answer) OK() bool { return a.Error == "" && a.Status >= 200 && a.Status < 300 }

// LocalURL is the address of a program, given as a URL, HOST:PORT or PORT.
func LocalURL(to string) (string, error) {
	if _, err := strconv.ParseUint(strings.TrimPrefix(to, ":"), 10, 64); err == nil {
		to = "localhost:" + strings.TrimPrefix(to, ":")
	}
	if !strings.Contains(to, "://") {
		to = "http://" + to
	}
	u, err := url.Parse(to)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("%q is no address: say localhost:3000, or http://localhost:3000/path", to)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", fmt.Errorf("%q has no port: there are those from 1 to 65535", to)
		}
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u.String(), nil
}

// Run delivers the events that tail gives, until it ends.
func (l *Listener) Run(ctx context.Context, tail func(ctx context.Context, each func(operations.Line) error) error) error {
	var out errgroup.Group
	out.SetLimit(l.Concurrency)
	err := tail(ctx, func(line operations.Line) error {
		events, _, err := event.FromMessage(structured{}, bytes.Clone(line.Event), generous) // the next line takes its place
		if err != nil {
			return fmt.Errorf("the event at offset %d of partition %d: %w", line.Offset, line.Partition, err)
		}
		out.Go(func() error { // waits for a place: the stream waits with it
			l.deliver(ctx, line, events[0])
			return nil
		})
		return nil
	})
	return errors.Join(err, out.Wait())
}

// deliver makes the attempts at one event.
func (l *Listener) deliver(ctx context.Context, line operations.Line, e *event.Event) {
	delay := l.Delay
	for attempt := 1; ; attempt++ {
		a := Answer{Partition: line.Partition, Offset: line.Offset, ID: e.ID, Type: e.Type, Source: e.Source, Attempt: attempt}
		err := l.attempt(ctx, e, &a)
		if ctx.Err() != nil {
			return // it was asked to end
		}
		if err != nil {
			a.Error = err.Error()
		}
		l.Answered(a)
		if a.OK() || attempt > l.Retries || !mayRetry(a.Status) {
			return
		}
		select {
		case <-time.After(delay):
			delay *= 2
		case <-ctx.Done():
			return
		}
	}
}

// mayRetry says whether a trigger would try again after this answer.
func mayRetry(status int) bool {
	switch status {
	case 0, http.StatusNotFound, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return true
	}
	return status >= 500 || status < 300 // a reply that could not be taken
}

// ttl is the extension that ends loops of replies; subscribers do not see it.
const ttl = "knativebrokerttl"

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 1 << 20

func (l *Listener) attempt(ctx context.Context, e *event.Event, a *Answer) error {
	ctx, cancel := context.WithTimeout(ctx, l.Timeout)
	defer cancel()
	out := e.Clone()
	out.DeleteExtension(ttl)
	headers, body := out.AppendMessage(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.To, bytes.NewReader(body))
	if err != nil {
		return err
	}
	for _, h := range headers {
		req.Header.Add(h.Name, h.Value)
	}
	req.Header.Set("Prefer", "reply")
	req.Header.Set("Kn-Namespace", l.Namespace)
	start := time.Now()
	a.Time = start.UTC()
	resp, err := l.HTTP.Do(req)
	a.Took = time.Since(start)
	if err != nil {
		return l.noAnswer(err)
	}
	defer resp.Body.Close()
	a.Status = resp.StatusCode
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	a.Took, a.Bytes = time.Since(start), len(answer)
	switch {
	case err != nil:
		return fmt.Errorf("read the answer: %w", err)
	case a.Status < 200 || a.Status > 299:
		return nil
	}
	return l.reply(ctx, e, resp.Header, answer, a)
}

// noAnswer says it shortly: the address is known.
func (l *Listener) noAnswer(err error) error {
	if e := (*url.Error)(nil); errors.As(err, &e) {
		err = e.Err
	}
	if e := (*net.OpError)(nil); errors.As(err, &e) && e.Op == "dial" {
		return fmt.Errorf("nothing listens at %s: %w", l.To, e.Err)
	}
	return fmt.Errorf("no answer: %w", err)
}

// reply sends the events of an answer to the broker. Their TTL is what is left
// of the event's that they answer, so that a loop ends.
func (l *Listener) reply(ctx context.Context, e *event.Event, h http.Header, body []byte, a *Answer) error {
	if h.Get("Ce-Specversion") == "" && !strings.HasPrefix(strings.ToLower(h.Get("Content-Type")), "application/cloudevents") {
		return nil
	}
	if len(body) > maxAnswer {
		return fmt.Errorf("the answer is an event of more than %d bytes, which a broker does not take", maxAnswer)
	}
	replies, _, err := event.FromMessage(httpHeaders{h}, body, event.Limits{})
	if err != nil {
		return fmt.Errorf("the answer says that it is an event: %w", err)
	}
	a.Replies = len(replies)
	if l.ReplyTo == "" || len(replies) == 0 {
		return nil
	}
	for _, r := range replies {
		r.DeleteExtension(ttl)
		if v, ok := e.Attribute(ttl); ok {
			r.SetExtension(ttl, v)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.ReplyTo, bytes.NewReader(event.AppendBatch(nil, replies)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", event.BatchType)
	resp, err := l.Broker.Do(req)
	if err != nil {
		return fmt.Errorf("send the reply to the broker: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err == nil && resp.StatusCode != http.StatusAccepted {
		err = responseError(resp.Status, bytes.TrimSpace(answer))
	}
	if err != nil {
		return fmt.Errorf("the broker does not take the reply: %w", err)
	}
	return nil
}

// httpHeaders are net/http's headers as package event reads them.
type httpHeaders struct{ http.Header }

// Each implements event.Headers.
func (h httpHeaders) Each(f func(name, value string)) {
	for name, values := range h.Header {
		for _, v := range values {
			f(name, v)
		}
	}
}
