// Package operations serves Leat's own API, under /leat/v1/: what there is to
// see and do beside resources. openapi.json describes it.
package operations

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/leat-dev/leat/channel"
)

// Channels finds a channel by the kind and name of its resource.
type Channels interface {
	ByName(kind, namespace, name string) (channel.Channel, bool)
}

// Options configure the API's handler.
type Options struct {
	Channels      Channels
	Inventory     Inventory
	Subscriptions Subscriptions
	// Resources are those that were asked for; nil where nobody knows them.
	Resources func() []Resource
	Version   Version
	Verify    Verifier
	// Disk reads what there is of it now.
	Disk func() (Disk, error)
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
	mux := http.NewServeMux()
	for pattern, f := range (&handler{Options: o}).routes() {
		if strings.HasSuffix(pattern, "/") {
			pattern += "{$}" // this path, and not all below it
		}
		mux.HandleFunc(pattern, f)
	}
	return mux
}

type handler struct{ Options }

// routes are those that openapi.json describes.
func (h *handler) routes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"GET /leat/v1/":                                              h.index,
		"GET /leat/v1/openapi.json":                                  h.openAPI,
		"GET /leat/v1/log/verify":                                    h.verify,
		"GET /leat/v1/version":                                       h.version,
		"GET /leat/v1/status":                                        func(w http.ResponseWriter, r *http.Request) { h.status(w, r, "") },
		"GET /leat/v1/namespaces/{namespace}/status":                 func(w http.ResponseWriter, r *http.Request) { h.status(w, r, "") },
		"GET /leat/v1/namespaces/{namespace}/brokers/{name}/status":  func(w http.ResponseWriter, r *http.Request) { h.status(w, r, "Broker") },
		"GET /leat/v1/namespaces/{namespace}/channels/{name}/status": func(w http.ResponseWriter, r *http.Request) { h.status(w, r, "Channel") },
		"GET /leat/v1/namespaces/{namespace}/brokers/{name}/events":  func(w http.ResponseWriter, r *http.Request) { h.events(w, r, "Broker") },
		"GET /leat/v1/namespaces/{namespace}/channels/{name}/events": func(w http.ResponseWriter, r *http.Request) { h.events(w, r, "Channel") },
		"POST /leat/v1/namespaces/{namespace}/brokers/{name}/skip":   func(w http.ResponseWriter, r *http.Request) { h.skip(w, r, "Broker") },
		"POST /leat/v1/namespaces/{namespace}/channels/{name}/skip":  func(w http.ResponseWriter, r *http.Request) { h.skip(w, r, "Channel") },
	}
}

// Index is what there is to ask for.
type Index struct {
	// Paths are those of openapi.json, each with its method.
	Paths []string `json:"paths"`
}

func (h *handler) index(w http.ResponseWriter, _ *http.Request) {
	answer(w, Index{Paths: slices.Sorted(maps.Keys(h.routes()))})
}

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

// Headers of a stream.
const (
	// LogHeader names the log. Whoever makes a broker of the same name anew makes
	// another log.
	LogHeader = "Leat-Log"
	// PositionsHeader has the offset that the stream begins at in each partition,
	// in the form that the parameter since takes.
	PositionsHeader = "Leat-Positions"
)

// events streams a channel's events as lines of JSON, each partition in order.
func (h *handler) events(w http.ResponseWriter, r *http.Request, kind string) {
	namespace, name := r.PathValue("namespace"), r.PathValue("name")
	ch, ok := h.Channels.ByName(kind, namespace, name)
	if !ok {
		refuse(w, http.StatusNotFound, "name", fmt.Sprintf("%s %s/%s is not there, or not ready yet", kind, namespace, name))
		return
	}
	q, field, err := h.parseQuery(r.URL.RawQuery)
	if err != nil {
		refuse(w, http.StatusBadRequest, field, err.Error())
		return
	}
	// Found before the answer begins: what is appended after it is in the stream.
	starts, status, err := startOffsets(r.Context(), ch, q)
	if err != nil {
		refuse(w, status, "since", err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set(LogHeader, ch.ID().UID)
	w.Header().Set(PositionsHeader, positionsOf(starts).String())
	ctx, cancel := context.WithCancelCause(r.Context())
	batches, wait := h.read(ctx, cancel, starts, q)
	defer wait()
	defer cancel(nil)
	out := newLines(w)
	if err := out.all(batches, q.limit); err != nil {
		if errors.Is(err, errLimit) {
			out.write()
		}
		return // the reader has gone, or has all it asked for: what lies behind is not its concern
	}
	// The last there is to say: if it fails, the reader has gone.
	if err := context.Cause(ctx); r.Context().Err() != nil {
		out.add(Line{Error: errStops.Error(), Again: true})
	} else if err != nil {
		out.add(Line{Error: err.Error()})
	}
	out.write()
}

// errStops ends a stream whose reader is still there, with its request. Without a
// word, that would look like the end of the log.
var errStops = errors.New("the server stops")

// batch is what one read of a partition found: events, or that there are none
// from an offset on.
type batch struct {
	partition int
	events    []channel.Stored
	from      uint64 // of gap
	gap       *Gap
}

// read reads partitions, each in its own goroutine, which holds one batch at
// most. The channel is closed when all have ended: at the end of the log, with
// ctx, or because one failed, which cancels it with the cause. wait returns
// then.
func (h *handler) read(ctx context.Context, cancel context.CancelCauseFunc, starts []start, q query) (batches <-chan batch, wait func()) {
	out := make(chan batch)
	var group sync.WaitGroup
	for _, s := range starts {
		group.Go(func() {
			if err := h.stream(ctx, s, q, out); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	closed := make(chan struct{})
	go func() {
		group.Wait()
		close(out)
		close(closed)
	}()
	return out, func() { <-closed }
}

// lines writes a stream.
type lines struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	buf []byte // lines that have not been written
}

// linesBytes is how much is gathered before it is written: a write, through TLS
// and the frames of HTTP/2, costs as much as a line.
const linesBytes = 32 << 10

func newLines(w http.ResponseWriter) *lines {
	return &lines{w: w, rc: http.NewResponseController(w)}
}

// add adds a line that is not an event's.
func (l *lines) add(line Line) (err error) {
	l.buf, err = AppendLine(l.buf, line)
	return errors.Join(err, l.writeFull())
}

func (l *lines) event(partition int, s channel.Stored) error {
	l.buf = appendEvent(l.buf, partition, s)
	return l.writeFull()
}

func (l *lines) writeFull() error {
	if len(l.buf) < linesBytes {
		return nil
	}
	return l.write()
}

func (l *lines) write() error {
	_, err := l.w.Write(l.buf)
	l.buf = l.buf[:0]
	if cap(l.buf) > 4*linesBytes {
		l.buf = nil // a large event is no reason to hold as much from now on
	}
	return err
}

// flush sends what there is to the reader.
func (l *lines) flush() error {
	if err := l.write(); err != nil {
		return err
	}
	return l.rc.Flush()
}

// errLimit ends a stream that has as many events as it may.
var errLimit = errors.New("the limit is reached")

// all writes what comes, up to limit events (0: all), then errLimit. It flushes before it
// waits, so that a reader has seen what there is.
func (l *lines) all(batches <-chan batch, limit int) error {
	written := 0
	for {
		var b batch
		var ok bool
		select {
		case b, ok = <-batches:
		default:
			if err := l.flush(); err != nil {
				return err
			}
			b, ok = <-batches
		}
		if !ok {
			return nil
		}
		if b.gap != nil {
			if err := l.add(Line{Partition: b.partition, Offset: b.from, Gap: b.gap}); err != nil {
				return err
			}
		}
		for _, s := range b.events {
			if err := l.event(b.partition, s); err != nil {
				return err
			}
			if written++; written == limit {
				return errLimit
			}
		}
	}
}
