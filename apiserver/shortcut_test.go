package apiserver

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// TestBodyThatDoesNotCome: who sends the head of a creation, and not all of its
// body, is answered in the time that a request has, and takes no place among the
// requests in progress from then on.
func TestBodyThatDoesNotCome(t *testing.T) {
	s, client := plainServer(t, func(o *Options) {
		o.RequestTimeout = time.Second
		o.MaxMutatingRequests = 1
	})
	settle(t, s, client)
	body := oddTriggers()[0]
	for name, c := range map[string]*http.Client{"HTTP/2.0": client, "HTTP/1.1": withoutHTTP2(t, s)} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		pending, w := io.Pipe()
		go func() {
			_, _ = io.WriteString(w, body[:len(body)/2]) // the rest does not come
		}()
		r, err := http.NewRequestWithContext(ctx, "POST", s.config.Host+triggersPath, pending)
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = int64(len(body))
		r.Header.Set("Accept", "application/json")
		r.Header.Set("Content-Type", "application/json")
		answer, err := c.Do(r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != http.StatusGatewayTimeout || answer.Proto != name || !strings.Contains(string(b), "Timeout") {
			t.Errorf("%s: %s %s %s %v", name, answer.Proto, answer.Status, b, err)
		}
		answer.Body.Close()
		w.Close()
		// The only place is free again.
		for {
			created := (plainCase{method: "POST", path: triggersPath, body: strings.Replace(body, "NAME", "after-"+strings.ToLower(name[5:6]), 1)}).ask(t, s, client)
			if !strings.HasPrefix(created, "429") {
				if !strings.HasPrefix(created, "201") {
					t.Errorf("%s: afterwards: %s", name, created)
				}
				break
			}
			if ctx.Err() != nil {
				t.Fatalf("%s: the place was not given back", name)
			}
		}
	}
}

// withoutHTTP2 is a client of the admin's that speaks HTTP/1.1.
func withoutHTTP2(t *testing.T, s *running) *http.Client {
	t.Helper()
	c := rest.CopyConfig(s.config)
	c.NextProtos = []string{"http/1.1"}
	config, err := rest.TLSConfigFor(c)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: config, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}
