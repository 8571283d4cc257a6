package operations

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/segment"
)

// Verifier reads the whole log and calls report for each file.
type Verifier func(ctx context.Context, report func(FileReport) error) error

// VerifyLine is one line of a verification: a file, or at the end the sum of
// all, or the error that ended it before.
type VerifyLine struct {
	File  *FileReport    `json:"file,omitempty"`
	Sum   *VerifySummary `json:"sum,omitempty"`
	Error string         `json:"error,omitempty"`
}

// VerifySummary sums up a verification that read everything.
type VerifySummary struct {
	Files   int   `json:"files"`
	Bytes   int64 `json:"bytes"`
	Records int   `json:"records"`
	Damages int   `json:"damages"`
}

// Add counts a file.
func (s *VerifySummary) Add(f FileReport) {
	s.Files++
	s.Bytes += f.Bytes
	s.Records += f.Records
	s.Damages += len(f.Damages)
}

// FileReport is what reading a file found.
type FileReport struct {
	Group string `json:"group"`
	Path  string `json:"path"`
	Kind  string `json:"kind"` // state, segment, snapshot or votes
	// Bytes and Records were read; First and Last are the entries found.
	Bytes   int64  `json:"bytes"`
	Records int    `json:"records"`
	First   uint64 `json:"first"`
	Last    uint64 `json:"last"`
	// Torn is where the end of an interrupted write begins, which was never
	// acknowledged; 0: there is none.
	Torn    int64          `json:"torn,omitempty"`
	Damages []DamageReport `json:"damages,omitempty"`
}

// DamageReport is a piece of a file that does not read back.
type DamageReport struct {
	Offset int64 `json:"offset"` // bytes from the file's begin
	// First and Last are the entries concerned, 0 where that is not known.
	First  uint64 `json:"first"`
	Last   uint64 `json:"last"`
	Reason string `json:"reason"`
	// Known says whether Lost is all that is lost.
	Known bool   `json:"known"`
	Lost  []Lost `json:"lost,omitempty"`
}

// Lost is what cannot be read any more of a broker or channel.
type Lost struct {
	Kind      string `json:"kind"` // Broker or Channel
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Partition int    `json:"partition"`
	// What is lost: events, outcomes or dead letters, the latter of the
	// Subscription with this UID.
	What         string `json:"what"`
	Subscription string `json:"subscription,omitempty"`
	// From and To are offsets, or positions; both are lost.
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

// Report makes a report of what was found. lost says what rows stand for; nil
// where a group holds no events.
func Report(group string, c segment.FileCheck, lost func([]raftlog.Row) []channel.Lost) FileReport {
	r := FileReport{Group: group, Path: c.Path, Kind: c.Kind, Bytes: c.Bytes, Records: c.Records, First: c.First, Last: c.Last, Torn: c.Torn}
	for _, d := range c.Damages {
		report := DamageReport{Offset: d.Offset, First: d.First, Last: d.Last, Reason: d.Reason, Known: d.Indexed && d.First != 0}
		if lost != nil {
			for _, l := range lost(d.Rows) {
				report.Lost = append(report.Lost, Lost{
					Kind: l.Channel.Kind, Namespace: l.Channel.Namespace, Name: l.Channel.Name, Partition: l.Partition,
					What: string(l.Kind), Subscription: l.UID, From: l.Range.From, To: l.Range.To - 1,
				})
			}
		}
		r.Damages = append(r.Damages, report)
	}
	return r
}

// verify streams a report for each file, while it reads.
func (h *handler) verify(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	encoder, rc := json.NewEncoder(w), http.NewResponseController(w)
	var sum VerifySummary
	err := h.Verify(r.Context(), func(f FileReport) error {
		sum.Add(f)
		if err := encoder.Encode(VerifyLine{File: &f}); err != nil {
			return err
		}
		return rc.Flush()
	})
	last := VerifyLine{Sum: &sum}
	if err != nil {
		last = VerifyLine{Error: err.Error()}
	}
	_ = encoder.Encode(last) // if it fails, the reader has gone
}
