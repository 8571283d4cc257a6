package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// issue makes a self-signed certificate and its key, in PEM.
func issue(t *testing.T, name string, until time.Time) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}

func put(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// journal is a log to look at while it is written.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

// take returns what was logged since the last time.
func (j *journal) take() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	defer j.b.Reset()
	return j.b.String()
}

// TestReload goes through what may happen to the files, one look after another.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	synctest.Test(t, func(t *testing.T) {
		later := time.Now().Add(24 * 365 * time.Hour)
		firstCert, firstKey := issue(t, "first", later)
		secondCert, secondKey := issue(t, "second", later)
		oldCert, oldKey := issue(t, "old", time.Now().Add(-time.Hour))
		put(t, certFile, firstCert)
		put(t, keyFile, firstKey)
		var log journal
		p, err := Load(Options{Cert: certFile, Key: keyFile, Every: 5 * time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		go p.Run(t.Context())
		// step lets the files be looked at three times, and checks what is
		// served then, and how often the log says something of it.
		step := func(what, want, logged string, times int) {
			t.Helper()
			log.take()
			time.Sleep(15 * time.Second) // in fake time
			synctest.Wait()
			c, _ := p.Get(nil)
			if c.Leaf.Subject.CommonName != want {
				t.Errorf("%s: %s is served, want %s", what, c.Leaf.Subject.CommonName, want)
			}
			if text := log.take(); strings.Count(text, logged) != times {
				t.Errorf("%s: %q is not logged %d times:\n%s", what, logged, times, text)
			}
		}
		step("nothing happens", "first", "level", 0)
		put(t, certFile, secondCert)
		step("the certificate without its key", "first", "stays in use", 1)
		put(t, keyFile, secondKey)
		step("both", "second", "read anew", 1)
		put(t, certFile, []byte("nonsense"))
		step("nonsense", "second", "both must be PEM", 1)
		put(t, certFile, oldCert)
		put(t, keyFile, oldKey)
		step("one that has expired", "second", "has expired", 1)
		if err := os.Remove(keyFile); err != nil {
			t.Fatal(err)
		}
		step("the key is gone", "second", "no such file", 1)
		put(t, certFile, firstCert)
		put(t, keyFile, firstKey)
		step("both again", "first", "read anew", 1)
	})
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	o := Options{Cert: certFile, Key: keyFile, Logger: slog.New(slog.DiscardHandler)}
	if _, err := Load(o); err == nil || !strings.Contains(err.Error(), certFile) {
		t.Errorf("without files: %v", err)
	}
	cert, _ := issue(t, "a", time.Now().Add(time.Hour))
	_, other := issue(t, "b", time.Now().Add(time.Hour))
	put(t, certFile, cert)
	put(t, keyFile, other)
	if _, err := Load(o); err == nil || !strings.Contains(err.Error(), "belong together") {
		t.Errorf("with another's key: %v", err)
	}
	if _, err := Pool(keyFile); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("a key as an authority: %v", err)
	}
	if _, err := Pool(certFile); err != nil {
		t.Error(err)
	}
}
