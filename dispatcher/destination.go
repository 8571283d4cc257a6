package dispatcher

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// maxDestinations bounds how many addresses are kept taken apart.
const maxDestinations = 10_000

// destinations are addresses of subscribers, taken apart once.
type destinations struct {
	mu    sync.RWMutex
	known map[string]*destination
}

// destination is where requests go. It is never modified.
type destination struct {
	url           *url.URL // without credentials
	authorization string
	// address is where to connect, and head begins a request, where it can be
	// made without net/http's client; address is empty where it cannot.
	address, head string
}

func (d *destinations) get(raw string, tokens map[string]string) (*destination, error) {
	d.mu.RLock()
	known := d.known[raw]
	d.mu.RUnlock()
	if known != nil {
		return known, nil
	}
	made, err := newDestination(raw, tokens)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil || len(d.known) >= maxDestinations {
		d.known = make(map[string]*destination)
	}
	d.known[raw] = made
	return made, nil
}

func newDestination(raw string, tokens map[string]string) (*destination, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		// The parser's own error would show the credentials in it.
		return nil, fmt.Errorf("%s is no http or https URL with a host", redact(raw))
	}
	d := &destination{url: u}
	if u.User != nil {
		password, _ := u.User.Password()
		r := http.Request{Header: http.Header{}}
		r.SetBasicAuth(u.User.Username(), password)
		d.authorization = r.Header.Get("Authorization")
		u.User = nil
	} else if token, ok := tokens[u.Scheme+"://"+u.Host]; ok {
		d.authorization = "Bearer " + token
	}
	d.setHead()
	return d, nil
}

// setHead begins requests over plain HTTP to a host that needs no translation.
func (d *destination) setHead() {
	port := d.url.Port()
	if port == "" {
		port = "80"
	}
	uri := d.url.RequestURI()
	if d.url.Scheme != "http" || !ascii(d.url.Host) || strings.ContainsAny(d.url.Host, "%/\\?#@") || !ascii(uri) || d.url.Hostname() == "" || strings.HasSuffix(d.url.Host, ":") {
		return
	}
	d.address = net.JoinHostPort(d.url.Hostname(), port)
	d.head = "POST " + uri + " HTTP/1.1\r\nHost: " + d.url.Host + "\r\nUser-Agent: leat\r\n"
	if d.authorization != "" {
		d.head += "Authorization: " + d.authorization + "\r\n"
	}
}

// ascii says whether s has nothing but visible characters of ASCII.
func ascii(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
