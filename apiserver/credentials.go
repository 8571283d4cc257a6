package apiserver

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// credentials are the server's certificate and the admin's, and replace both in
// time. It is the serving library's source of the server's certificate.
type credentials struct {
	authority *authority
	hosts     []string
	now       func() time.Time

	mu            sync.Mutex
	server, admin *leaf
	listeners     []dynamiccertificates.Listener
}

var _ dynamiccertificates.CertKeyContentProvider = &credentials{}

func newCredentials(a *authority, hosts []string, now func() time.Time) (*credentials, error) {
	c := &credentials{authority: a, hosts: hosts, now: now}
	return c, c.renew()
}

// renew signs both certificates anew.
func (c *credentials) renew() error {
	server := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "leat-api"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range c.hosts {
		if ip := net.ParseIP(h); ip != nil {
			server.IPAddresses = append(server.IPAddresses, ip)
		} else {
			server.DNSNames = append(server.DNSNames, h)
		}
	}
	admin := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "admin", Organization: []string{user.SystemPrivilegedGroup}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	now := c.now()
	s, err := c.authority.issue(server, now)
	if err != nil {
		return err
	}
	a, err := c.authority.issue(admin, now)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.server, c.admin = s, a
	for _, l := range c.listeners {
		l.Enqueue()
	}
	return nil
}

// renewRetry is the wait after a renewal that failed. It is no reason to end a
// server: a third of the certificates' time is left.
const renewRetry = time.Hour

// run replaces the certificates in time, until ctx ends; renewed is called
// after each time, failed when that or the renewal fails.
func (c *credentials) run(ctx context.Context, after func(time.Duration) <-chan time.Time, renewed func() error, failed func(error)) {
	c.mu.Lock()
	wait := c.server.renewAt.Sub(c.now())
	c.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return
		case <-after(wait):
		}
		err := c.renew()
		if err == nil {
			err = renewed()
		}
		if err != nil {
			failed(err)
			wait = renewRetry
			continue
		}
		c.mu.Lock()
		wait = c.server.renewAt.Sub(c.now())
		c.mu.Unlock()
	}
}

// Name implements dynamiccertificates.CertKeyContentProvider.
func (c *credentials) Name() string { return "leat" }

// CurrentCertKeyContent implements dynamiccertificates.CertKeyContentProvider.
func (c *credentials) CurrentCertKeyContent() (cert, key []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.server.cert, c.server.key
}

// AddListener implements dynamiccertificates.Notifier.
func (c *credentials) AddListener(l dynamiccertificates.Listener) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listeners = append(c.listeners, l)
}

// kubeconfig is the admin's configuration for the server at an address.
func (c *credentials) kubeconfig(address string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	const name, user = "leat", "leat-admin"
	b, err := clientcmd.Write(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: "https://" + address, CertificateAuthorityData: c.authority.pem}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{user: {ClientCertificateData: c.admin.cert, ClientKeyData: c.admin.key}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: user, Namespace: "default"}},
		CurrentContext: name,
	})
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	return b, nil
}

// certificateHosts are the names that clients may know the server by.
func certificateHosts(bound net.Addr, more []string) ([]string, error) {
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	if name, err := os.Hostname(); err == nil && name != "" {
		hosts = append(hosts, name)
	}
	if a, ok := bound.(*net.TCPAddr); ok {
		if !a.IP.IsUnspecified() {
			hosts = append(hosts, a.IP.String())
		} else {
			all, err := net.InterfaceAddrs()
			if err != nil {
				return nil, fmt.Errorf("addresses of this machine, for the server's certificate: %w", err)
			}
			for _, addr := range all {
				if n, ok := addr.(*net.IPNet); ok {
					hosts = append(hosts, n.IP.String())
				}
			}
		}
	}
	hosts = append(hosts, more...)
	slices.Sort(hosts)
	return slices.Compact(hosts), nil
}

// reachable is a bound address as this machine can dial it.
func reachable(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return a.String()
	}
	at := tcp.AddrPort()
	if at.Addr().IsUnspecified() {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port()).String()
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()).String()
}
