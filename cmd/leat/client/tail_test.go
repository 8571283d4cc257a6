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
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Query().Get("since"))
		if len(asked) > len(all) {
			t.Errorf("it was asked for %d streams", len(asked))
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set(operations.LogHeader, "log")
		w.Header().Set(operations.PositionsHeader, strings.Replace(r.URL.Query().Get("since"), "beginning", "0:0", 1))
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
