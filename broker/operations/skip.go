package operations

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/raftlog"
)

// Skip names damage that is to be given up: the offset at which it begins, and
// the file and byte that verification names. It must be the damage there.
type Skip struct {
	Partition int    `json:"partition"`
	Offset    uint64 `json:"offset"`
	// File is a name or a path; its last element counts. Empty, with At 0, where
	// the damage is in no file (a record that cannot be decoded).
	File string `json:"file"`
	At   int64  `json:"at"` // bytes from the file's begin
}

// Skipped are the offsets that were given up, both included.
type Skipped struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

// maxSkipBytes bounds the body of a Skip.
const maxSkipBytes = 64 << 10

// skip gives up a damaged range, so that those who have to pass it go on.
func (h *handler) skip(w http.ResponseWriter, r *http.Request, kind string) {
	namespace, name := r.PathValue("namespace"), r.PathValue("name")
	ch, ok := h.Channels.ByName(kind, namespace, name)
	if !ok {
		refuse(w, http.StatusNotFound, "name", fmt.Sprintf("%s %s/%s is not there, or not ready yet", kind, namespace, name))
		return
	}
	var s Skip
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxSkipBytes))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		refuse(w, http.StatusBadRequest, "", fmt.Sprintf("the body must be a JSON object with partition, offset, file and at: %v", err))
		return
	}
	partitions := ch.Partitions()
	if s.Partition < 0 || s.Partition >= len(partitions) {
		refuse(w, http.StatusBadRequest, "partition", fmt.Sprintf("there are %d partitions, from 0 on", len(partitions)))
		return
	}
	p, ok := partitions[s.Partition].(channel.Passer)
	if !ok {
		refuse(w, http.StatusConflict, "", "the log of this channel cannot pass damage")
		return
	}
	passed, err := p.Pass(r.Context(), s.Offset, channel.Place{File: s.File, Position: s.At})
	switch {
	case errors.Is(err, channel.ErrNotDamaged), errors.As(err, new(*channel.PassedError)):
		refuse(w, http.StatusConflict, "offset", err.Error())
	case errors.Is(err, channel.ErrNotFound):
		refuse(w, http.StatusNotFound, "name", err.Error())
	case err != nil:
		status, reason := explainWrite(err)
		refuse(w, status, "", reason)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(Skipped{passed.From, passed.To - 1}) // if it fails, the caller has gone
	}
}

// explainWrite is the status of a write that failed, and what is said of it: what
// passes by itself is a 503, as it is for events.
func explainWrite(err error) (status int, reason string) {
	switch {
	case errors.Is(err, raftlog.ErrStalled):
		reason = "the server's disk does not answer: try again when it does (GET /readyz says so)"
	case errors.Is(err, raftlog.ErrDiskFull):
		reason = "the server has too little disk space to write that down: make room, and try again"
	case errors.Is(err, raftlog.ErrOverloaded):
		reason = "more is waiting for the server's disk than may: try again"
	case errors.Is(err, raftlog.ErrUnknownOutcome), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		reason = "it could not be confirmed in time that it is written down, which it may be: ask again, and what is done already is refused as passed"
	case errors.Is(err, raftlog.ErrNotLeader), errors.Is(err, raftlog.ErrClosed):
		reason = "the log cannot be written here now: try again"
	default:
		return http.StatusInternalServerError, err.Error()
	}
	return http.StatusServiceUnavailable, fmt.Sprintf("%s (%v)", reason, err)
}
