// Package operations serves Leat's own API, under /leat/v1/: what there is to
// see and do beside resources. openapi.json describes it.
package operations

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/filter"
)

// Channels finds a channel by the kind and name of its resource.
type Channels interface {
	ByName(kind, namespace, name string) (channel.Channel, bool)
}

// Options configure the API's handler.
type Options struct {
	Channels Channels
	// Now is the clock for times given as a duration back; time.Now when nil.
	Now func() time.Time
	// ReadEvents is how many events one read of a stream takes; 256.
	ReadEvents int
	// ReadBytes bounds such a read, in bytes; 1 MiB.
	ReadBytes int
}

// Handler serves /leat/v1/.
func Handler(o Options) http.Handler {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.ReadEvents == 0 {
		o.ReadEvents = 256
	}
	if o.ReadBytes == 0 {
		o.ReadBytes = 1 << 20
	}
	h := &handler{Options: o}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /leat/v1/openapi.json", h.openAPI)
	mux.HandleFunc("GET /leat/v1/namespaces/{namespace}/brokers/{name}/events", func(w http.ResponseWriter, r *http.Request) { h.events(w, r, "Broker") })
	mux.HandleFunc("GET /leat/v1/namespaces/{namespace}/channels/{name}/events", func(w http.ResponseWriter, r *http.Request) { h.events(w, r, "Channel") })
	return mux
}

type handler struct{ Options }

//go:embed openapi.json
var openAPI []byte

// OpenAPI is the document that describes the API.
func OpenAPI() []byte { return openAPI }

func (h *handler) openAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Write(openAPI)
}

// Problem is the body of a refusal.
type Problem struct {
	// Field is the parameter or path element that is wrong, when one is.
	Field  string `json:"field,omitempty"`
	Reason string `json:"reason"`
}

func refuse(w http.ResponseWriter, status int, field, reason string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(Problem{Field: field, Reason: reason})
}

// Line is one line of a stream of events: an event with its place in the log,
// or the error that ended the stream.
type Line struct {
	Partition int             `json:"partition"`
	Offset    uint64          `json:"offset"`
	Time      time.Time       `json:"time,omitzero"` // when it was accepted
	Event     json.RawMessage `json:"event,omitempty"`
	Error     string          `json:"error,omitempty"`
}

// events streams a channel's events as lines of JSON, each partition in order.
func (h *handler) events(w http.ResponseWriter, r *http.Request, kind string) {
	namespace, name := r.PathValue("namespace"), r.PathValue("name")
	ch, ok := h.Channels.ByName(kind, namespace, name)
	if !ok {
		refuse(w, http.StatusNotFound, "name", fmt.Sprintf("%s %s/%s is not there, or not ready yet", kind, namespace, name))
		return
	}
	q, field, err := h.parseQuery(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, field, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	rc := http.NewResponseController(w)
	if err := rc.Flush(); err != nil {
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	lines := make(chan Line, h.ReadEvents)
	partitions := ch.Partitions()
	ended := make(chan struct{}, len(partitions))
	for _, p := range partitions {
		go func() {
			defer func() { ended <- struct{}{} }()
			if err := h.stream(ctx, p, q, lines); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		}()
	}
	go func() {
		for range partitions {
			<-ended
		}
		close(lines)
	}()
	encoder := json.NewEncoder(w)
	for n := 0; ; n++ {
		line, ok := next(lines, rc)
		if !ok || (q.limit > 0 && n == q.limit) {
			break
		}
		if encoder.Encode(line) != nil {
			break // the reader has gone
		}
	}
	if err := context.Cause(ctx); err != nil && r.Context().Err() == nil {
		encoder.Encode(Line{Error: err.Error()})
	}
	cancel(nil)
	for range lines { // until each partition's goroutine has ended
	}
}

// next takes a line, and flushes before it waits for one.
func next(lines <-chan Line, rc *http.ResponseController) (Line, bool) {
	select {
	case line, ok := <-lines:
		return line, ok
	default:
	}
	if rc.Flush() != nil {
		return Line{}, false
	}
	line, ok := <-lines
	return line, ok
}

type query struct {
	since  string
	start  time.Time
	offset uint64
	follow bool
	limit  int
	filter *filter.Filter
}

func (h *handler) parseQuery(r *http.Request) (q query, field string, err error) {
	v := r.URL.Query()
	q.since, q.follow = "end", true
	if s := v.Get("since"); s != "" {
		if err := q.parseSince(s, h.Now()); err != nil {
			return q, "since", err
		}
	}
	if s := v.Get("follow"); s != "" {
		if q.follow, err = strconv.ParseBool(s); err != nil {
			return q, "follow", fmt.Errorf("%q must be true or false", s)
		}
	}
	if s := v.Get("limit"); s != "" {
		if q.limit, err = strconv.Atoi(s); err != nil || q.limit < 1 {
			return q, "limit", fmt.Errorf("%q must be a number from 1 on", s)
		}
	}
	if s := v.Get("filter"); s != "" {
		spec, err := filter.ParseFlag(s)
		if err == nil {
			q.filter, err = filter.Compile(spec)
		}
		if err != nil {
			return q, "filter", err
		}
	}
	return q, "", nil
}

func (q *query) parseSince(s string, now time.Time) error {
	if s == "end" || s == "beginning" {
		q.since = s
		return nil
	}
	if n, err := strconv.ParseUint(s, 10, 64); err == nil {
		q.since, q.offset = "offset", n
		return nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		q.since, q.start = "time", t
		return nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		q.since, q.start = "time", now.Add(-d)
		return nil
	}
	return fmt.Errorf("%q must be end, beginning, an offset, a time such as 2026-01-02T15:04:05Z, or a duration back such as 1h30m", s)
}

// stream sends a partition's matching events from the query's start on, until
// ctx ends or, where it does not follow, the end is reached.
func (h *handler) stream(ctx context.Context, p channel.Partition, q query, lines chan<- Line) error {
	offset, err := h.startOffset(ctx, p, q)
	if err != nil {
		return err
	}
	view := filter.NewView(nil)
	for {
		events, err := p.Read(ctx, offset, h.ReadEvents, h.ReadBytes)
		if errors.Is(err, channel.ErrExpired) {
			offset, _ = p.Bounds() // retention was faster than this reader
			continue
		}
		if err != nil {
			return err
		}
		if len(events) == 0 {
			if !q.follow {
				return nil
			}
			if err := p.Wait(ctx, offset, noTerms); err != nil {
				return err
			}
			continue
		}
		for _, s := range events {
			offset = s.Offset + 1
			if q.filter != nil {
				view.Reset(s.Event)
				if ok, err := q.filter.Match(view); err != nil || !ok {
					continue // one that errors does not match
				}
			}
			line, err := toLine(p.Number(), s)
			if err != nil {
				return err
			}
			select {
			case lines <- line:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// noTerms makes Wait deaf to changes of terms.
const noTerms = ^uint64(0)

func (h *handler) startOffset(ctx context.Context, p channel.Partition, q query) (uint64, error) {
	floor, next := p.Bounds()
	switch q.since {
	case "beginning":
		return floor, nil
	case "offset":
		return max(q.offset, floor), nil
	case "time":
		return p.OffsetAt(ctx, q.start)
	default:
		return next, nil
	}
}

func toLine(partition int, s channel.Stored) (Line, error) {
	b, err := s.Event.MarshalJSON()
	if err != nil {
		return Line{}, fmt.Errorf("event at offset %d: %w", s.Offset, err)
	}
	return Line{Partition: partition, Offset: s.Offset, Time: time.UnixMicro(s.Time).UTC(), Event: b}, nil
}
