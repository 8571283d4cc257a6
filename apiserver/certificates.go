package apiserver

import (
	"crypto/sha256"
	"net/http"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
)

// maxKnownCertificates bounds the certificates that are remembered as checked.
const maxKnownCertificates = 1024

// knownCertificates remembers which clients' certificates were checked: to check
// the signature again for each request takes longer than to answer it. An
// authority is not replaced while the server runs, and revokes nothing but by
// being replaced, so that a certificate that was good is good until it expires.
type knownCertificates struct {
	check authenticator.Request
	now   func() time.Time

	mu    sync.Mutex
	known map[[sha256.Size]byte]knownCertificate
}

type knownCertificate struct {
	is    *authenticator.Response
	until time.Time
}

var _ authenticator.Request = &knownCertificates{}

func newKnownCertificates(check authenticator.Request, now func() time.Time) *knownCertificates {
	return &knownCertificates{check: check, now: now, known: map[[sha256.Size]byte]knownCertificate{}}
}

// AuthenticateRequest implements authenticator.Request.
func (k *knownCertificates) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return k.check.AuthenticateRequest(r)
	}
	leaf := r.TLS.PeerCertificates[0]
	id, now := sha256.Sum256(leaf.Raw), k.now()
	k.mu.Lock()
	was, ok := k.known[id]
	k.mu.Unlock()
	if ok && !now.After(was.until) {
		is := *was.is
		return &is, true, nil
	}
	is, good, err := k.check.AuthenticateRequest(r)
	if err != nil || !good {
		return is, good, err
	}
	until := leaf.NotAfter
	for _, c := range r.TLS.PeerCertificates[1:] {
		if c.NotAfter.Before(until) {
			until = c.NotAfter
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.known) >= maxKnownCertificates {
		clear(k.known) // they are few; whoever floods it pays for each check
	}
	k.known[id] = knownCertificate{is, until}
	return is, good, nil
}
