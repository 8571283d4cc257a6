package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/leat-dev/leat/api/event"
)

// Template is what the events of one send look like.
type Template struct {
	ID, Source, Type string
	Subject          string
	ContentType      string
	Extensions       map[string]string
	Data             []byte
}

// Plan says how events are sent.
type Plan struct {
	Rate        float64 // events a second; 0: as fast as they are taken
	Batch       int     // events a request; 1: each on its own
	Concurrency int     // requests at once
	Progress    func(sent int)
}

// Send sends a source's events to url and returns how many were acknowledged.
// It stops at the first that is refused, or that the source cannot give.
func Send(ctx context.Context, client *http.Client, url string, next Source, p Plan) (int, error) {
	var limiter *rate.Limiter
	if p.Rate > 0 {
		limiter = rate.NewLimiter(rate.Limit(p.Rate), max(p.Batch, 1))
	}
	sent := make(chan int, p.Concurrency)
	total := make(chan int)
	go func() {
		n := 0
		for k := range sent {
			n += k
			p.Progress(n)
		}
		total <- n
	}()
	g, sending := errgroup.WithContext(ctx)
	g.SetLimit(max(p.Concurrency, 1))
	var bad error
	for more := true; more && sending.Err() == nil; {
		var events []json.RawMessage
		if events, more, bad = take(next, max(p.Batch, 1)); len(events) == 0 {
			break
		}
		if limiter != nil && limiter.WaitN(sending, len(events)) != nil {
			break
		}
		g.Go(func() error {
			if err := post(sending, client, url, events, p.Batch > 1); err != nil {
				return err
			}
			sent <- len(events)
			return nil
		})
	}
	err := g.Wait()
	close(sent)
	return <-total, errors.Join(err, bad, context.Cause(ctx))
}

// take takes up to n events, and says whether there may be more.
func take(next Source, n int) (events []json.RawMessage, more bool, err error) {
	for len(events) < n {
		e, err := next()
		if errors.Is(err, io.EOF) {
			return events, false, nil
		}
		if err != nil {
			return events, false, err
		}
		events = append(events, e)
	}
	return events, true, nil
}

func post(ctx context.Context, client *http.Client, url string, events []json.RawMessage, batch bool) error {
	body, contentType := []byte(events[0]), event.StructuredType
	if batch {
		contentType = event.BatchType
		var err error
		if body, err = json.Marshal(events); err != nil {
			return fmt.Errorf("encode events: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("%s answered %s: %w", url, resp.Status, responseError(resp.Status, bytes.TrimSpace(answer)))
	}
	return nil
}

// event is the n-th of count events, in the JSON format.
func (t Template) event(n, count int) map[string]any {
	e := map[string]any{"specversion": "1.0", "source": t.Source, "type": t.Type, "time": time.Now().UTC().Format(time.RFC3339Nano)}
	switch {
	case t.ID == "":
		e["id"] = uuid.NewString()
	case count > 1:
		e["id"] = fmt.Sprintf("%s-%d", t.ID, n)
	default:
		e["id"] = t.ID
	}
	if t.Subject != "" {
		e["subject"] = t.Subject
	}
	for k, v := range t.Extensions {
		e[k] = v
	}
	if t.Data == nil {
		return e
	}
	e["datacontenttype"] = t.ContentType
	switch {
	case IsJSON(t.ContentType) && json.Valid(t.Data):
		e["data"] = json.RawMessage(t.Data)
	case !IsJSON(t.ContentType) && utf8.Valid(t.Data):
		e["data"] = string(t.Data)
	default:
		e["data_base64"] = base64.StdEncoding.EncodeToString(t.Data)
	}
	return e
}

// IsJSON says whether a content type is that of JSON.
func IsJSON(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.TrimSpace(strings.ToLower(media))
	return strings.HasSuffix(media, "/json") || strings.HasSuffix(media, "+json")
}
