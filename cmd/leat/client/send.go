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
)

// Template is what the events of one send look like.
type Template struct {
	ID, Source, Type string
	Subject          string
	ContentType      string
	Extensions       map[string]string
	Data             []byte
}

// Plan says how many events are sent, and how.
type Plan struct {
	Count       int
	Rate        float64 // events a second; 0: as fast as they are taken
	Batch       int     // events a request; 1: each on its own
	Concurrency int     // requests at once
	Progress    func(sent int)
}

// Send sends events to url and returns how many were acknowledged. It stops at
// the first that is refused.
func Send(ctx context.Context, client *http.Client, url string, t Template, p Plan) (int, error) {
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
	for first := 0; first < p.Count && sending.Err() == nil; first += p.Batch {
		n := min(p.Batch, p.Count-first)
		if limiter != nil && limiter.WaitN(sending, n) != nil {
			break
		}
		g.Go(func() error {
			if err := post(sending, client, url, t, first, n, p); err != nil {
				return err
			}
			sent <- n
			return nil
		})
	}
	err := g.Wait()
	close(sent)
	return <-total, errors.Join(err, context.Cause(ctx))
}

func post(ctx context.Context, client *http.Client, url string, t Template, first, n int, p Plan) error {
	events := make([]map[string]any, n)
	for i := range events {
		events[i] = t.event(first+i, p.Count)
	}
	var body []byte
	var err error
	contentType := "application/cloudevents+json"
	if p.Batch > 1 {
		contentType = "application/cloudevents-batch+json"
		body, err = json.Marshal(events)
	} else {
		body, err = json.Marshal(events[0])
	}
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
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
	case isJSON(t.ContentType) && json.Valid(t.Data):
		e["data"] = json.RawMessage(t.Data)
	case !isJSON(t.ContentType) && utf8.Valid(t.Data):
		e["data"] = string(t.Data)
	default:
		e["data_base64"] = base64.StdEncoding.EncodeToString(t.Data)
	}
	return e
}

func isJSON(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.TrimSpace(strings.ToLower(media))
	return strings.HasSuffix(media, "/json") || strings.HasSuffix(media, "+json")
}
