package client

import "net/http"

// WithToken sends a bearer token with each request; an empty one: none. What
// uses it must not follow redirects, which would carry it elsewhere.
func WithToken(next http.RoundTripper, token string) http.RoundTripper {
	if token == "" {
		return next
	}
	return &bearer{next, token}
}

type bearer struct {
	next  http.RoundTripper
	token string
}

// RoundTrip implements http.RoundTripper.
func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.next.RoundTrip(r)
}
