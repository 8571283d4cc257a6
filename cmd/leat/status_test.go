package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leat-dev/leat/cmd/leat/client"
)

// TestWatchGoesOnOverErrors that pass: each is told once, and what is there again
// is shown.
func TestWatchGoesOnOverErrors(t *testing.T) {
	down := errors.New("connection refused")
	gone := &unknownNameError{"shop"}
	for _, c := range []struct {
		name  string
		looks []error // nil: there is something to show; the last one again and again
		shown int
		told  string
		ends  error
	}{
		{"all is well", []error{nil}, 4, "", nil},
		{"the server starts again", []error{nil, down, down, nil}, 2, "no status: connection refused; asking again every 2s\n", nil},
		{"it starts later", []error{down, down, nil}, 2, "no status: connection refused; asking again every 2s\n", nil},
		{"twice", []error{down, nil, down, nil}, 2, strings.Repeat("no status: connection refused; asking again every 2s\n", 2), nil},
		{"what was there is gone", []error{nil, gone, nil}, 3, "no status: " + gone.Error() + "; asking again every 2s\n", nil},
		{"it never was there", []error{gone}, 0, "", gone},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithTimeout(t.Context(), 7*time.Second) // four looks
				defer stop()
				var out, told strings.Builder
				w := &watching{out: &out, notice: func(s string) { fmt.Fprintln(&told, s) }, interval: 2 * time.Second}
				looks := 0
				err := w.run(ctx, func(_ context.Context, out io.Writer, _ style) error {
					err := c.looks[min(looks, len(c.looks)-1)]
					looks++
					if err == nil {
						fmt.Fprintln(out, "ok")
					}
					return err
				})
				if !errors.Is(err, c.ends) || told.String() != c.told || out.String() != strings.Repeat("ok\n", c.shown) {
					t.Errorf("%v after %q, told %q", err, out.String(), told.String())
				}
			})
		})
	}
}

// TestWatchEndsWhereItIsRefused: time does not mend that.
func TestWatchEndsWhereItIsRefused(t *testing.T) {
	for status, ends := range map[int]bool{
		http.StatusUnauthorized: true, http.StatusForbidden: true, http.StatusNotFound: true,
		http.StatusTooManyRequests: false, http.StatusInternalServerError: false, http.StatusServiceUnavailable: false,
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		defer s.Close()
		cl := connect(t, s.URL)
		ctx, stop := context.WithCancel(t.Context())
		told := false
		w := &watching{out: io.Discard, notice: func(string) { told = true; stop() }, interval: time.Hour}
		err := w.run(ctx, func(ctx context.Context, _ io.Writer, _ style) error {
			_, err := cl.Status(ctx, true)
			return err
		})
		stop()
		if ends != (err != nil) || ends == told {
			t.Errorf("%d: %v, told %v", status, err, told)
		}
	}
}

// connect is a client of a server that asks for nothing.
func connect(t *testing.T, url string) *client.Client {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	config := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","clusters":[{"name":"c","cluster":{"server":%q}}],"contexts":[{"name":"c","context":{"cluster":"c","namespace":"default"}}],"current-context":"c"}`, url)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := client.Connect(client.Flags{Kubeconfig: file})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
