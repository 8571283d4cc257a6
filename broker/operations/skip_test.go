package operations

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/raftlog"
)

// hurt is a channel whose one partition is damaged from offset 5 to 7.
type hurt struct {
	channel.Channel
	passed *int
}

func (h hurt) Partitions() []channel.Partition {
	return []channel.Partition{hurtPartition{h.Channel.Partitions()[0], h.passed}}
}

type hurtPartition struct {
	channel.Partition
	passed *int
}

func (p hurtPartition) Read(ctx context.Context, offset uint64, most, maxBytes int) ([]channel.Stored, error) {
	if *p.passed > 0 && offset >= 5 && offset < 8 {
		return nil, &channel.PassedError{Range: channel.Range{From: 5, To: 8}}
	}
	if offset < 5 {
		most = min(most, int(5-offset))
	}
	return p.Partition.Read(ctx, offset, most, maxBytes)
}

func (p hurtPartition) Pass(_ context.Context, offset uint64, place channel.Place) (channel.Range, error) {
	switch {
	case offset == 9:
		return channel.Range{}, errors.New("no such file")
	case offset >= 100 && int(offset) < 100+len(passing):
		return channel.Range{}, fmt.Errorf("pass offset %d: %w", offset, passing[offset-100])
	case offset == 5 && *p.passed > 0:
		return channel.Range{}, fmt.Errorf("pass offset %d: %w", offset, &channel.PassedError{Range: channel.Range{From: 5, To: 8}})
	case offset != 5 || place != channel.Place{File: "7.seg", Position: 4096}:
		return channel.Range{}, fmt.Errorf("offset %d: %w", offset, channel.ErrNotDamaged)
	}
	*p.passed++
	return channel.Range{From: 5, To: 8}, nil
}

// passing are errors of the log that end by themselves.
var passing = []error{
	raftlog.ErrStalled, raftlog.ErrDiskFull, raftlog.ErrOverloaded, raftlog.ErrClosed, raftlog.ErrNotLeader,
	fmt.Errorf("%w: %w", raftlog.ErrUnknownOutcome, context.DeadlineExceeded),
}

// TestSkipThatIsToBeTriedAgain: where the log cannot be written, as when the disk
// is full or does not answer, that passes, and says so.
func TestSkipThatIsToBeTriedAgain(t *testing.T) {
	w := newWorld(t)
	w.fill(w.broker, 0, 10)
	passed := 0
	w.broken = func(ch channel.Channel) channel.Channel { return hurt{ch, &passed} }
	for n, want := range passing {
		status, body := w.post("/namespaces/default/brokers/b/skip", fmt.Sprintf(`{"partition":0,"offset":%d}`, 100+n))
		var p Problem
		if err := json.Unmarshal(body, &p); err != nil || status != http.StatusServiceUnavailable || !strings.Contains(p.Reason, "again") && !strings.Contains(p.Reason, "it does") {
			t.Errorf("%v: %d: %s", want, status, body)
		}
		w.schemas.check(t, "Problem", body)
	}
}

func (w *world) post(path, body string) (int, []byte) {
	w.Helper()
	req, err := http.NewRequestWithContext(w.Context(), http.MethodPost, w.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		w.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.Fatal(err)
	}
	return res.StatusCode, b
}

// TestSkipNamesTheDamage: only the damage that the caller names is given up, and
// readers go on behind it.
func TestSkipNamesTheDamage(t *testing.T) {
	w := newWorld(t)
	w.fill(w.broker, 0, 10)
	passed := 0
	w.broken = func(ch channel.Channel) channel.Channel { return hurt{ch, &passed} }
	const path = "/namespaces/default/brokers/b/skip"
	for _, c := range []struct {
		path, body string
		status     int
	}{
		{path, `{"partition":0,"offset":5,"file":"8.seg","at":4096}`, http.StatusConflict},
		{path, `{"partition":0,"offset":6,"file":"7.seg","at":4096}`, http.StatusConflict},
		{path, `{"partition":0,"offset":9,"file":"7.seg","at":4096}`, http.StatusInternalServerError},
		{path, `{"partition":1,"offset":5,"file":"7.seg","at":4096}`, http.StatusBadRequest},
		{path, `{"partition":-1}`, http.StatusBadRequest},
		{path, `{"everything":true}`, http.StatusBadRequest},
		{path, ``, http.StatusBadRequest},
		{"/namespaces/default/brokers/none/skip", `{}`, http.StatusNotFound},
	} {
		status, body := w.post(c.path, c.body)
		w.schemas.check(t, "Problem", body)
		if status != c.status {
			t.Errorf("%s: %d, want %d: %s", c.body, status, c.status, body)
		}
	}
	if passed != 0 {
		t.Fatal("something was given up")
	}
	status, body := w.post(path, `{"partition":0,"offset":5,"file":"7.seg","at":4096}`)
	w.schemas.check(t, "Skipped", body)
	var got Skipped
	if err := json.Unmarshal(body, &got); err != nil || status != http.StatusOK || got != (Skipped{5, 7}) {
		t.Fatalf("%d: %s", status, body)
	}
	if status, body := w.post(path, `{"partition":0,"offset":5,"file":"7.seg","at":4096}`); status != http.StatusConflict || !bytes.Contains(body, []byte("have been passed")) {
		t.Errorf("the same again: %d: %s", status, body)
	}
	if got := ids(w.read(brokerEvents + "?since=beginning&limit=7")); got != "n0 n1 n2 n3 n4 damaged:5-8 n8 n9" {
		t.Errorf("read %s", got)
	}
}
