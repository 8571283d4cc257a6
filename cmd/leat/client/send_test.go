package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestSendKnowsWhatBecameOfEachEvent: what is on its way when another is refused
// is waited for, and told apart by its answer.
func TestSendKnowsWhatBecameOfEachEvent(t *testing.T) {
	dial := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	for _, c := range []struct {
		name    string
		status  int
		err     error
		durable int // of ten events; the first is refused
		unknown int
	}{
		{"accepted", http.StatusAccepted, nil, 9, 0},
		{"refused as well", http.StatusTooManyRequests, nil, 0, 0},
		{"an answer that leaves it open", http.StatusServiceUnavailable, nil, 0, 9},
		{"no answer", 0, io.ErrUnexpectedEOF, 0, 9},
		{"nobody to ask", 0, dial, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answers := roundTripper(func(r *http.Request) (*http.Response, error) {
					var e struct{ ID string }
					if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
						return nil, err
					}
					status := http.StatusBadRequest
					time.Sleep(time.Second) // all have begun by then
					if e.ID != "e-0" {
						status = c.status
						time.Sleep(time.Second) // the first is refused by then
						if err := errors.Join(r.Context().Err(), c.err); err != nil {
							return nil, err
						}
					}
					return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Body: io.NopCloser(strings.NewReader(`{"reason":"no"}`))}, nil
				})
				progress := 0
				sent, err := Send(t.Context(), &http.Client{Transport: answers}, "http://broker/", Template{ID: "e", Source: "/s", Type: "t"}.Events(10),
					Plan{Batch: 1, Concurrency: 10, Progress: func(n int) { progress = n }})
				if want := (Sent{c.durable, c.unknown}); sent != want || err == nil || progress != c.durable {
					t.Errorf("%+v, %v, progress %d, want %+v", sent, err, progress, want)
				}
			})
		})
	}
}

// TestSendThatIsStopped leaves open what becomes of what is on its way, and
// begins nothing more.
func TestSendThatIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		begun := 0
		hangs := roundTripper(func(r *http.Request) (*http.Response, error) {
			begun++
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		go func() {
			time.Sleep(time.Second)
			stop()
		}()
		sent, err := Send(ctx, &http.Client{Transport: hangs}, "http://broker/", Template{Source: "/s", Type: "t"}.Events(10),
			Plan{Batch: 3, Concurrency: 1, Progress: func(int) {}})
		if want := (Sent{0, 3}); sent != want || begun != 1 || !errors.Is(err, context.Canceled) {
			t.Errorf("%+v, %v after %d requests, want %+v after one", sent, err, begun, want)
		}
	})
}
