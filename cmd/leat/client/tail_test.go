package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leat-dev/leat/broker/operations"
)

// streams serves streams, one after another, each with the lines that it has, and
// notes where each was asked to begin.
func streams(t *testing.T, all ...[]operations.Line) (c *Client, since func() []string) {
	t.Helper()
	return streamsAt(t, nil, all...)
}

// streamsAt is streams whose positions are not those that were asked for, where
// they are named.
func streamsAt(t *testing.T, positions []string, all ...[]operations.Line) (c *Client, since func() []string) {
	t.Helper()
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Query().Get("since"))
		if len(asked) > len(all) {
			t.Errorf("it was asked for %d streams", len(asked))
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set(operations.LogHeader, "log")
		at := strings.Replace(r.URL.Query().Get("since"), "beginning", "0:0", 1)
		if n := len(asked) - 1; n < len(positions) && positions[n] != "" {
			at = positions[n]
		}
		w.Header().Set(operations.PositionsHeader, at)
		for _, l := range all[len(asked)-1] {
			b, err := operations.AppendLine(nil, l)
			if err != nil {
				t.Error(err)
			}
			w.Write(b) // the reader may have left
		}
	}))
	t.Cleanup(s.Close)
	base, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return &Client{Namespace: "default", http: s.Client(), base: base}, func() []string { return asked }
}

// TestTailEndsWhereALineDoesNotParse, instead of asking for that line for ever.
func TestTailEndsWhereALineDoesNotParse(t *testing.T) {
	bad := eventLine(1)
	bad.Event = json.RawMessage(`{"id":`)
	c, _ := streams(t, []operations.Line{eventLine(0), bad, eventLine(2)})
	err := c.Tail(t.Context(), "b", TailQuery{Since: "beginning", Follow: true, Reconnect: time.Hour}, func(operations.Line) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "does not parse") {
		t.Error(err)
	}
}

func eventLine(offset uint64) operations.Line {
	return operations.Line{Offset: offset, Time: time.Unix(1, 0).UTC(), Event: json.RawMessage(fmt.Sprintf(`{"id":"%d"}`, offset))}
}

// TestTailGoesOnWhereTheServerStops: the end of a server is not that of the log,
// also for who wants nothing beyond it.
func TestTailGoesOnWhereTheServerStops(t *testing.T) {
	for _, follow := range []bool{false, true} {
		c, since := streams(t,
			[]operations.Line{eventLine(0), eventLine(1), {Error: "the server stops", Again: true}},
			[]operations.Line{eventLine(2), eventLine(3)})
		var got []uint64
		err := c.Tail(t.Context(), "b", TailQuery{Since: "beginning", Follow: follow, Limit: 4, Reconnect: time.Minute}, func(l operations.Line) error {
			got = append(got, l.Offset)
			return nil
		})
		if err != nil || !slices.Equal(got, []uint64{0, 1, 2, 3}) || !slices.Equal(since(), []string{"beginning", "0:2"}) {
			t.Errorf("following %v: %v, %v, asked from %v on", follow, got, err, since())
		}
	}
}

// TestTailWaitsForAnOffsetOverBreaks: one that is yet to come is asked for again as
// it was, as the server refuses to go on beyond the end. What has come since, and
// gone, is told of.
func TestTailWaitsForAnOffsetOverBreaks(t *testing.T) {
	stops := operations.Line{Error: "the server stops", Again: true}
	for _, c := range []struct {
		floor  string // where the second stream begins
		notice string
	}{
		{"0:7", ""},
		{"0:9", "the events at offsets 7 to 8 of partition 0 are gone"},
	} {
		at, _ := operations.ParsePositions(c.floor)
		first := at[0]
		cl, since := streamsAt(t, []string{"0:7", c.floor, ""}, []operations.Line{stops}, []operations.Line{eventLine(first), stops}, []operations.Line{eventLine(first + 1)})
		var got []uint64
		var notices []string
		q := TailQuery{Since: "7", Follow: true, Limit: 2, Reconnect: time.Minute, Notice: func(s string) { notices = append(notices, s) }}
		err := cl.Tail(t.Context(), "b", q, func(l operations.Line) error {
			got = append(got, l.Offset)
			return nil
		})
		want := []string{"7", "7", fmt.Sprintf("0:%d", first+1)}
		if err != nil || !slices.Equal(got, []uint64{first, first + 1}) || !slices.Equal(since(), want) {
			t.Errorf("%v, %v, asked from %v on, want %v", got, err, since(), want)
		}
		if told := strings.Join(notices, "\n"); strings.Contains(told, "are gone") != (c.notice != "") || !strings.Contains(told, c.notice) {
			t.Errorf("from %s on it told %q", c.floor, told)
		}
	}
}

// TestTailEndsWhereTheLogCannotBeRead, at once, also where it had broken off
// before: time does not mend that.
func TestTailEndsWhereTheLogCannotBeRead(t *testing.T) {
	c, _ := streams(t,
		[]operations.Line{eventLine(0), {Error: "the server stops", Again: true}},
		[]operations.Line{eventLine(1), {Error: "offset 2 is damaged"}})
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Second, errors.New("it tried on and on"))
	defer cancel()
	err := c.Tail(ctx, "b", TailQuery{Since: "beginning", Follow: true, Reconnect: time.Hour}, func(operations.Line) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "offset 2 is damaged") || ctx.Err() != nil {
		t.Errorf("%v, %v", err, context.Cause(ctx))
	}
}
