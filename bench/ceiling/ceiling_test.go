//go:build linux

package ceiling

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/leat-dev/leat/bench/stats"
)

// TestRelayHandsOnTheWholeRequest: with its length, as the subscriber wants
// it, and it answers as the subscriber does.
func TestRelayHandsOnTheWholeRequest(t *testing.T) {
	var got string
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = r.Header.Get("Ce-Id") + " " + r.Header.Get("Content-Length") + " " + string(b)
		w.WriteHeader(http.StatusTeapot)
	}))
	defer target.Close()
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("data"))
	r.Header.Set("Ce-Id", "7")
	w := httptest.NewRecorder()
	(&relay{target.URL, target.Client()}).ServeHTTP(w, r)
	if got != "7 4 data" || w.Code != http.StatusTeapot {
		t.Errorf("the target got %q, the sender %d", got, w.Code)
	}
}

func TestSyncCountsBlocks(t *testing.T) {
	for _, write := range []func(context.Context, string, int, time.Duration) (stats.Sample, error){Sync, Append} {
		s, err := write(t.Context(), t.TempDir(), 1<<20, 50*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if s.Events == 0 || s.Bytes != 1<<20 || s.P50 <= 0 || s.P99 < s.P50 {
			t.Errorf("got %+v", s)
		}
	}
}
