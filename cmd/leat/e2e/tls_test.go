package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// authority issues certificates for this machine.
type authority struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	last int64
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.key = a.newKey()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der := a.sign(template, template, a.key)
	a.put("ca.crt", "CERTIFICATE", der)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.last = 1
	return a
}

func (a *authority) newKey() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return k
}

func (a *authority) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) put(name, kind string, der []byte) {
	if err := os.WriteFile(a.file(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// issue writes a certificate with a serial number of its own, and its key.
func (a *authority) issue() (serial int64) {
	a.last++
	key := a.newKey()
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.put("tls.key", "PRIVATE KEY", private)
	a.put("tls.crt", "CERTIFICATE", a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(a.last), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, a.cert, key))
	return a.last
}

// client trusts the authority, and speaks HTTP/2 where it is offered. Each
// request has a connection of its own.
func (a *authority) client() *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true, DisableKeepAlives: true,
	}}
}

const relay = broker + `
---
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: second}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: relay}
spec:
  broker: default
  subscriber: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: second}}`

// TestHTTPS: addresses say https, events are sent and passed on over it, and a
// new certificate is used without a restart, if it is a good one.
func TestHTTPS(t *testing.T) {
	a := newAuthority(t)
	serial := a.issue()
	if _, stderr, status := leat(t, nil, "", "server", "--data", t.TempDir(), "--http", "127.0.0.1:0", "--api", "127.0.0.1:0", "--tls-cert", a.file("ca.crt"), "--tls-key", a.file("tls.key")); status != 1 || !strings.Contains(stderr, "--tls-cert") {
		t.Errorf("with a key of another certificate: %d, %s", status, stderr)
	}
	s := startServer(t, "--tls-cert", a.file("tls.crt"), "--tls-key", a.file("tls.key"), "--tls-reload", "20ms", "--delivery-ca", a.file("ca.crt"))
	if !strings.HasPrefix(s.HTTP, "https://127.0.0.1:") {
		t.Errorf("endpoints.json says %s", s.HTTP)
	}
	s.apply(relay)
	b := parse(t, broker)[0]
	got, err := resource(s.client(), b).Get(t.Context(), "default", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if url, _, _ := unstructured.NestedString(got.Object, "status", "address", "url"); url != s.HTTP+"/default/default" {
		t.Errorf("status.address.url is %s", url)
	}

	if _, stderr, status := leat(t, s.env(), "", "send", "default"); status != 1 || !strings.Contains(stderr, "certificate") || !strings.Contains(stderr, "--ca") {
		t.Errorf("send without the authority: %d, %s", status, stderr)
	}
	if _, stderr, status := leat(t, s.env(), "", "send", "default", "--id", "one", "--ca", a.file("ca.crt")); status != 0 {
		t.Errorf("send: %d, %s", status, stderr)
	}
	if out, stderr, _ := leat(t, s.env(), "", "tail", "second", "--since", "beginning", "--limit", "1", "-o", "name"); out != "one\n" {
		t.Errorf("the second broker has %q; %s", out, stderr)
	}

	client := a.client()
	served := func() (serial int64, proto string) {
		t.Helper()
		resp, err := client.Get(s.HTTP + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.TLS.PeerCertificates[0].SerialNumber.Int64(), resp.Proto
	}
	if got, proto := served(); got != serial || proto != "HTTP/2.0" {
		t.Errorf("certificate %d over %s, want %d over HTTP/2.0", got, proto, serial)
	}
	serial = a.issue()
	eventually(t, 10*time.Second, "the new certificate is served", func() bool { got, _ := served(); return got == serial })
	a.put("tls.crt", "CERTIFICATE", []byte("nonsense"))
	eventually(t, 10*time.Second, "the bad one is told of", func() bool {
		b, err := os.ReadFile(s.dir + ".log")
		return err == nil && strings.Contains(string(b), "the one before stays in use")
	})
	if got, _ := served(); got != serial {
		t.Errorf("certificate %d is served, want %d", got, serial)
	}
	serial = a.issue()
	eventually(t, 10*time.Second, "a good one is served again", func() bool { got, _ := served(); return got == serial })
	if resp, err := http.Get("http://" + hostPort(s.HTTP) + "/healthz"); err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("without TLS: %s", resp.Status)
		}
	}
}
