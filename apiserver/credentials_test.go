package apiserver

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/leat-dev/leat/raftlog/kv/kvtest"
)

func parsePEM(t *testing.T, b []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(b)
	if block == nil {
		t.Fatalf("no PEM: %q", b)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestRenewal: certificates are replaced in time; a renewal that fails is tried
// again, and ends nothing.
func TestRenewal(t *testing.T) {
	clock := kvtest.NewClock()
	a, err := openAuthority(t.TempDir(), clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	c, err := newCredentials(a, []string{"localhost", "127.0.0.1"}, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	waits, renewed, failed := make(chan time.Duration), make(chan error), make(chan error)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.run(ctx, func(d time.Duration) <-chan time.Time {
			due := clock.After(d) // before the test moves the clock
			waits <- d
			return due
		}, func() error { return <-renewed }, func(err error) { failed <- err })
	}()
	first, _ := c.CurrentCertKeyContent()
	wait := <-waits
	clock.Advance(wait)
	full := errors.New("disk is full")
	renewed <- full
	if err := <-failed; !errors.Is(err, full) {
		t.Errorf("told of %v", err)
	}
	if again := <-waits; again != renewRetry {
		t.Errorf("tried again after %s, want %s", again, renewRetry)
	}
	clock.Advance(renewRetry)
	renewed <- nil
	if again := <-waits; again != wait {
		t.Errorf("the next renewal is after %s, want %s", again, wait)
	}
	second, _ := c.CurrentCertKeyContent()
	before, after := parsePEM(t, first), parsePEM(t, second)
	if left := before.NotAfter.Sub(clock.Now()); left < leafLife/4 {
		t.Errorf("replaced with %s left", left)
	}
	if !after.NotAfter.After(before.NotAfter) || after.VerifyHostname("localhost") != nil || after.VerifyHostname("127.0.0.1") != nil {
		t.Errorf("the new certificate lasts until %s and is for %v", after.NotAfter, after.DNSNames)
	}
	if err := after.CheckSignatureFrom(a.cert); err != nil {
		t.Error(err)
	}
	stop()
	<-done
}

// TestAuthorityRenewal: the authority's certificate is renewed for the same
// key, so that what it has signed stays valid.
func TestAuthorityRenewal(t *testing.T) {
	clock, dir := kvtest.NewClock(), t.TempDir()
	first, err := openAuthority(dir, clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	clock.Advance(authorityLife - authorityRest - time.Hour)
	same, err := openAuthority(dir, clock.Now())
	if err != nil || !same.cert.Equal(first.cert) {
		t.Fatalf("renewed too early: %v", err)
	}
	old, err := newCredentials(same, nil, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	clock.Advance(2 * time.Hour)
	renewed, err := openAuthority(dir, clock.Now())
	if err != nil || renewed.cert.Equal(first.cert) {
		t.Fatalf("not renewed: %v", err)
	}
	options, _ := renewed.VerifyOptions()
	options.CurrentTime = clock.Now()
	if _, err := parsePEM(t, old.admin.cert).Verify(options); err != nil {
		t.Errorf("what it signed before: %v", err)
	}

	if err := os.Remove(filepath.Join(dir, authorityKey)); err != nil {
		t.Fatal(err)
	}
	if _, err := openAuthority(dir, clock.Now()); err == nil {
		t.Error("a certificate without its key was replaced in silence")
	}
}
