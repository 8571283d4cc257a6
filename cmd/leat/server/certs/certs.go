// Package certs keeps a certificate up to date with the files that it is in.
package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// Options configure a Pair.
type Options struct {
	// Cert and Key are PEM files: the certificate with its chain, and its key.
	Cert, Key string
	// Every is how often the files are looked at.
	Every  time.Duration
	Logger *slog.Logger
}

// Pair is a certificate with its key. Whoever asks for it never waits.
type Pair struct {
	o       Options
	current atomic.Pointer[tls.Certificate]
	// cert and key are what was looked at last, whether good or not. They are
	// Run's.
	cert, key []byte
	unread    string // why the files could not be read last time
}

// Load reads the files. An error says what is wrong with them.
func Load(o Options) (*Pair, error) {
	p := &Pair{o: o}
	cert, key, err := p.read()
	if err != nil {
		return nil, err
	}
	c, err := p.parse(cert, key)
	if err != nil {
		return nil, err
	}
	if err := expired(c, time.Now()); err != nil {
		o.Logger.Warn("peers will not accept this server's certificate", "file", o.Cert, "error", err)
	}
	p.cert, p.key = cert, key
	p.current.Store(c)
	return p, nil
}

func (p *Pair) read() (cert, key []byte, err error) {
	if cert, err = os.ReadFile(p.o.Cert); err != nil {
		return nil, nil, fmt.Errorf("read the certificate: %w", err)
	}
	if key, err = os.ReadFile(p.o.Key); err != nil {
		return nil, nil, fmt.Errorf("read the certificate's key: %w", err)
	}
	return cert, key, nil
}

func (p *Pair) parse(cert, key []byte) (*tls.Certificate, error) {
	c, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w; both must be PEM, and belong together", p.o.Cert, p.o.Key, err)
	}
	return &c, nil
}

func expired(c *tls.Certificate, now time.Time) error {
	if now.After(c.Leaf.NotAfter) {
		return fmt.Errorf("it has expired, at %s", c.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// Get is tls.Config.GetCertificate.
func (p *Pair) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.current.Load(), nil }

// Run looks at the files until ctx ends. New ones that are not good are told of
// once, and the certificate stays what it was.
func (p *Pair) Run(ctx context.Context) error {
	tick := time.NewTicker(p.o.Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.look()
		case <-ctx.Done():
			return nil
		}
	}
}

func (p *Pair) look() {
	cert, key, err := p.read()
	if err != nil {
		if p.unread != err.Error() {
			p.refused(err)
		}
		p.unread = err.Error()
		return
	}
	p.unread = ""
	if bytes.Equal(cert, p.cert) && bytes.Equal(key, p.key) {
		return
	}
	p.cert, p.key = cert, key
	c, err := p.parse(cert, key)
	if err == nil {
		err = expired(c, time.Now())
	}
	if err != nil {
		p.refused(err)
		return
	}
	p.current.Store(c)
	p.o.Logger.Info("the certificate was read anew", "file", p.o.Cert, "expires", c.Leaf.NotAfter.UTC())
}

func (p *Pair) refused(err error) {
	p.o.Logger.Error("the new certificate cannot be used; the one before stays in use",
		"file", p.o.Cert, "key", p.o.Key, "expires", p.current.Load().Leaf.NotAfter.UTC(), "error", err)
}

// Pool is the system's authorities and those of a PEM file.
func Pool(file string) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a system without any
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read certificate authorities: %w", err)
	}
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return pool, nil
}
