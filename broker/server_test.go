package broker

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// http2Client speaks HTTP/2 without TLS.
func http2Client(dial func(ctx context.Context, network, addr string) (net.Conn, error)) (c *http.Client, close func()) {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	t := &http.Transport{Protocols: &p, DialContext: dial}
	return &http.Client{Transport: t}, t.CloseIdleConnections
}

// TestHTTP2 is served with prior knowledge, also without TLS.
func TestHTTP2(t *testing.T) {
	w := newWorld(t)
	client, done := http2Client(nil)
	defer done()
	for _, path := range targets {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+path, strings.NewReader("data"))
		if err != nil {
			t.Fatal(err)
		}
		for i, h := 0, binary("Ce-Subject", "café", "Content-Type", "text/plain"); i < len(h); i += 2 {
			r.Header.Set(h[i], h[i+1])
		}
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusAccepted || res.ProtoMajor != 2 {
			t.Errorf("%s %s", res.Proto, res.Status)
		}
		if e := w.at(path).take()[0][0]; e.Subject != "café" || string(e.Data) != "data" {
			t.Errorf("%s, data %q", attributes(e), e.Data)
		}
	}
}

// TestTrickledBodiesTimeOutInHTTP2 too, where one connection has many requests.
func TestTrickledBodiesTimeOutInHTTP2(t *testing.T) {
	inFakeTime(t, IngressOptions{}, func(w *pipeWorld) {
		client, done := http2Client(func(context.Context, string, string) (net.Conn, error) { return w.dial(), nil })
		defer done()
		body, writer := io.Pipe()
		w.peers.Go(func() {
			for {
				time.Sleep(time.Second)
				if _, err := io.WriteString(writer, "x"); err != nil {
					return
				}
			}
		})
		r, err := http.NewRequestWithContext(w.Context(), http.MethodPost, "http://x"+brokerPath, body)
		if err != nil {
			t.Fatal(err)
		}
		for i, h := 0, binary(); i < len(h); i += 2 {
			r.Header.Set(h[i], h[i+1])
		}
		start := time.Now()
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if took := time.Since(start); res.StatusCode != http.StatusRequestTimeout || took > 61*time.Second {
			t.Errorf("%s after %v", res.Status, took)
		}
		body.Close()
	})
}
