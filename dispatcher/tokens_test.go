package dispatcher

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/leat-dev/leat/api/event"
)

// TestTokensStayAtTheirOrigin: a token goes nowhere but where it is for, also
// where the URL only looks alike; and an event cannot bring another.
func TestTokensStayAtTheirOrigin(t *testing.T) {
	got := make(chan string, 1)
	tell := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("Authorization") })
	own, other := httptest.NewServer(tell), httptest.NewServer(tell)
	defer own.Close()
	defer other.Close()
	s := NewHTTPSender(HTTPOptions{Tokens: map[string]string{own.URL: "ours"}})
	defer s.Close()
	host := strings.TrimPrefix(own.URL, "http://")
	for url, want := range map[string]string{
		own.URL + "/a/b":                 "Bearer ours",
		other.URL + "/a/b":               "",
		other.URL + "/?" + own.URL:       "",
		"http://u:p@" + host + "/a/b":    "Basic dTpw",
		"http://localhost:" + port(host): "",
	} {
		_, err := s.Send(t.Context(), &Request{URL: url, Event: &event.Event{ID: "1", Source: "/s", Type: "t"}})
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if auth := <-got; auth != want {
			t.Errorf("%s gets %q, want %q", url, auth, want)
		}
	}
}

func port(host string) string { return host[strings.LastIndexByte(host, ':')+1:] }
