package apiserver

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apiserver/pkg/server/dynamiccertificates"
)

// How long certificates last. A leaf is replaced when a third of its time is
// left; the authority's own certificate is renewed, for the same key, so that
// what it has signed stays valid.
const (
	authorityLife = 10 * 365 * 24 * time.Hour
	authorityRest = 365 * 24 * time.Hour
	leafLife      = 365 * 24 * time.Hour
	// clockSkew is how far behind a client's clock may be.
	clockSkew = time.Hour
)

const (
	authorityCert = "ca.crt"
	authorityKey  = "ca.key"
)

// authority signs the certificates of the server and of the admin. Its key is
// all that has to last: credentials are signed anew at each start, and those
// given out before stay valid.
type authority struct {
	cert *x509.Certificate
	pem  []byte
	key  crypto.Signer
}

// openKeys makes the directory of the keys, and closes it to others.
func openKeys(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	return nil
}

// openAuthority reads the authority in dir, or makes one.
func openAuthority(dir string, now time.Time) (*authority, error) {
	certPath, keyPath := filepath.Join(dir, authorityCert), filepath.Join(dir, authorityKey)
	key, err := readKey(keyPath)
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(certPath); err == nil {
			return nil, fmt.Errorf("%s is there but its key %s is not: put it back, or delete the certificate to make a new authority, which revokes all kubeconfigs", certPath, keyPath)
		}
		key, err = createKey(keyPath)
	}
	if err != nil {
		return nil, err
	}
	a := &authority{key: key}
	if err := a.load(certPath, now); err != nil {
		return nil, err
	}
	return a, nil
}

// load reads the certificate, or makes another where there is none, or little
// of its time is left.
func (a *authority) load(path string, now time.Time) error {
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return a.renew(path, now)
	case err != nil:
		return fmt.Errorf("keys: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" {
		return fmt.Errorf("%s holds no certificate in PEM; delete it to make another for the same key", path)
	}
	if a.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		return fmt.Errorf("%s: %w; delete it to make another for the same key", path, err)
	}
	if public, ok := a.cert.PublicKey.(*ecdsa.PublicKey); !ok || !public.Equal(a.key.Public()) {
		return fmt.Errorf("%s does not belong to the key beside it; delete it to make one that does", path)
	}
	a.pem = b
	if now.Add(authorityRest).After(a.cert.NotAfter) {
		return a.renew(path, now)
	}
	return nil
}

func (a *authority) renew(path string, now time.Time) error {
	template := &x509.Certificate{
		// The name is the same for each renewal: chains are built by it.
		Subject:   pkix.Name{CommonName: "leat"},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	cert, b, err := sign(template, template, a.key.Public(), a.key)
	if err != nil {
		return fmt.Errorf("make the certificate authority: %w", err)
	}
	a.cert, a.pem = cert, b
	return writeFile(path, b)
}

var _ dynamiccertificates.CAContentProvider = &authority{}

// Name implements dynamiccertificates.CAContentProvider.
func (a *authority) Name() string { return "leat" }

// CurrentCABundleContent implements dynamiccertificates.CAContentProvider.
func (a *authority) CurrentCABundleContent() []byte { return a.pem }

// VerifyOptions implements dynamiccertificates.CAContentProvider.
func (a *authority) VerifyOptions() (x509.VerifyOptions, bool) {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, true
}

// AddListener implements dynamiccertificates.CAContentProvider: the content
// does not change while the server runs.
func (a *authority) AddListener(dynamiccertificates.Listener) {}

// leaf is a certificate with its key, both in PEM.
type leaf struct {
	cert, key []byte
	// renewAt is when it should be replaced.
	renewAt time.Time
}

// issue signs a certificate for a new key.
func (a *authority) issue(template *x509.Certificate, now time.Time) (*leaf, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template.NotBefore, template.NotAfter = now.Add(-clockSkew), now.Add(leafLife)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	_, cert, err := sign(template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for %s: %w", template.Subject.CommonName, err)
	}
	b, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return &leaf{cert: cert, key: b, renewAt: now.Add(leafLife * 2 / 3)}, nil
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) (*x509.Certificate, []byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	template.SerialNumber = serial.Add(serial, big.NewInt(1))
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func createKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	b, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return key, writeFile(path, b)
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s holds no key in PEM", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T, not an ECDSA key", path, parsed)
	}
	return key, nil
}

// writeFile puts a file in place in one step, readable by its owner only, and
// durable when it returns.
func writeFile(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", path, err), f.Close(), os.Remove(f.Name()))
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, openErr := os.Open(dir)
	if openErr != nil {
		return errors.Join(openErr, f.Close())
	}
	return errors.Join(d.Sync(), d.Close(), f.Close())
}
