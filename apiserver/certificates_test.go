package apiserver

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
)

// TestCertificatesAreCheckedOnce: each once, until it expires; one that was
// refused is checked each time.
func TestCertificatesAreCheckedOnce(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	checks := map[string]int{}
	k := newKnownCertificates(authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
		raw := string(r.TLS.PeerCertificates[0].Raw)
		checks[raw]++
		if raw == "bad" {
			return nil, false, errors.New("not one of ours")
		}
		return &authenticator.Response{User: &user.DefaultInfo{Name: raw}}, true, nil
	}), func() time.Time { return now })
	ask := func(raw string) (name string) {
		t.Helper()
		r := &http.Request{TLS: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Raw: []byte(raw), NotAfter: now.Add(time.Hour)}}}}
		if raw == "old" {
			r.TLS.PeerCertificates[0].NotAfter = now.Add(-time.Second)
		}
		is, ok, err := k.AuthenticateRequest(r)
		if ok != (err == nil) || ok == (raw == "bad") {
			t.Errorf("%s: %v, %v", raw, ok, err)
		}
		if ok {
			name = is.User.GetName()
		}
		return name
	}
	for range 3 {
		for _, raw := range []string{"a", "b", "bad", "old"} {
			if name := ask(raw); raw != "bad" && name != raw {
				t.Errorf("%s is taken for %s", raw, name)
			}
		}
	}
	for raw, want := range map[string]int{"a": 1, "b": 1, "bad": 3, "old": 3} {
		if checks[raw] != want {
			t.Errorf("%s was checked %d times, want %d", raw, checks[raw], want)
		}
	}
	now = now.Add(2 * time.Hour)
	if ask("a"); checks["a"] != 2 {
		t.Errorf("a certificate that has expired was checked %d times, want once more", checks["a"])
	}
}
