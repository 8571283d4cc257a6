//go:build linux

package ceiling

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// Serve is a server as a process of its own: it prints its address, and
// answers each request with 202, storing nothing; with a target it first
// relays the request there. It ends with the process.
func Serve(target string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(os.Stdout, l.Addr()); err != nil {
		return err
	}
	var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	})
	if target != "" {
		h = &relay{target, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 512}}}
	}
	return (&http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: h}).Serve(l)
}

// relay hands each request on, and answers when that has been answered.
type relay struct {
	target string
	client *http.Client
}

func (y *relay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out, err := http.NewRequestWithContext(r.Context(), http.MethodPost, y.target, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	out.Header = r.Header
	out.ContentLength = r.ContentLength
	resp, err := y.client.Do(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.WriteHeader(resp.StatusCode)
}
