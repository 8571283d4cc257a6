package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
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

// Sent is what became of the events that were sent.
type Sent struct {
	Durable int // were acknowledged
	// Unknown are those whose requests had no answer that tells: they may be
	// durable, too.
	Unknown int
}

// Send sends a source's events to url. It sends no more after the first that is
// refused, or that the source cannot give; what is on its way then is waited for.
func Send(ctx context.Context, client *http.Client, url string, next Source, p Plan) (sent Sent, err error) {
	var limiter *rate.Limiter
	if p.Rate > 0 {
		limiter = rate.NewLimiter(rate.Limit(p.Rate), max(p.Batch, 1))
	}
	var mu sync.Mutex // of sent
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
			if sending.Err() != nil { // since it has waited for its turn
				return nil
			}
			known, err := post(ctx, client, url, events, p.Batch > 1)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				sent.Durable += len(events)
				p.Progress(sent.Durable)
			case !known:
				sent.Unknown += len(events)
			}
			return err
		})
	}
	err = g.Wait()
	return sent, errors.Join(err, bad, context.Cause(ctx))
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

// post sends events. After an error known says that they were not stored.
func post(ctx context.Context, client *http.Client, url string, events []json.RawMessage, batch bool) (known bool, err error) {
	body, contentType := []byte(events[0]), event.StructuredType
	if batch {
		contentType = event.BatchType
		if body, err = json.Marshal(events); err != nil {
			return true, fmt.Errorf("encode events: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return true, err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := client.Do(req)
	if err != nil {
		dial := (*net.OpError)(nil)
		return errors.As(err, &dial) && dial.Op == "dial", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode == http.StatusAccepted {
		return true, nil // whatever else there was to say
	}
	refused := resp.StatusCode >= 400 && resp.StatusCode < 500
	if err != nil {
		return refused, fmt.Errorf("%s answered %s: %w", url, resp.Status, err)
	}
	return refused, fmt.Errorf("%s answered %s: %w", url, resp.Status, responseError(resp.Status, bytes.TrimSpace(answer)))
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
