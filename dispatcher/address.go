package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
)

// metadata are addresses at which clouds give credentials to their machines,
// beside the link-local ones.
var metadata = [...]netip.Addr{
	netip.AddrFrom4([4]byte{100, 100, 100, 200}),                                       // Alibaba Cloud
	netip.AddrFrom4([4]byte{168, 63, 129, 16}),                                         // Azure
	netip.AddrFrom4([4]byte{192, 0, 0, 192}),                                           // Oracle Cloud
	netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x00, 2: 0x0e, 3: 0xc2, 14: 0x02, 15: 0x54}), // AWS
	netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x20, 2: 0x00, 3: 0xce, 14: 0x02, 15: 0x54}), // Google Cloud
}

// nat64 is the prefix under which an IPv4 address may hide in an IPv6 one.
var nat64 = netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0x00, 1: 0x64, 2: 0xff, 3: 0x9b}), 96)

// addressRule decides which addresses may be dialled. It is asked after DNS,
// with the address that the connection goes to, so that no name gets around it.
type addressRule struct {
	denied         []netip.AddrPort
	allowLinkLocal bool
	allowed        []netip.Prefix
	// local lists this machine's addresses.
	local func() ([]net.Addr, error)
}

// check says why an address is refused; "" when it is not.
func (r *addressRule) check(to netip.AddrPort) string {
	addr := to.Addr().Unmap().WithZone("")
	if nat64.Contains(addr) {
		b := addr.As16()
		addr = netip.AddrFrom4([4]byte(b[12:]))
	}
	for _, d := range r.denied {
		if d.Port() == to.Port() && r.sameMachine(d.Addr().Unmap(), addr) {
			return "it is the server's own API"
		}
	}
	for _, p := range r.allowed {
		if p.Contains(addr) {
			return ""
		}
	}
	switch {
	case addr.IsUnspecified():
		return "it is no address of a host"
	case addr.IsMulticast():
		return "it is a multicast address"
	case addr.IsLinkLocalUnicast() && !r.allowLinkLocal:
		return "it is a link-local address, where machines' credentials are served; the server's setting allow-destinations allows it"
	}
	for _, m := range metadata {
		if addr == m && !r.allowLinkLocal {
			return "it is a cloud's metadata address, where machines' credentials are served; the server's setting allow-destinations allows it"
		}
	}
	return ""
}

// sameMachine says whether a listener on d is reached by dialling to.
func (r *addressRule) sameMachine(d, to netip.Addr) bool {
	if d == to || to.IsUnspecified() {
		return true
	}
	if !d.IsUnspecified() {
		return d.IsLoopback() && to.IsLoopback()
	}
	if to.IsLoopback() {
		return true
	}
	addrs, err := r.local()
	if err != nil {
		return true // not to know is no reason to allow
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap() == to {
				return true
			}
		}
	}
	return false
}

// Denies says why no request would go to a URL; "" where that is not known
// before its name is looked up, or nothing speaks against it. It knows literal
// addresses, and localhost with all names below it.
func (o HTTPOptions) Denies(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if isLocalhost(host) {
		host = "127.0.0.1"
	}
	to, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	if err != nil {
		return ""
	}
	if why := o.addressRule().check(to); why != "" {
		return fmt.Sprintf("deliveries to %s are refused: %s", to, why)
	}
	return ""
}

func (o HTTPOptions) addressRule() *addressRule {
	return &addressRule{denied: o.DeniedAddrs, allowLinkLocal: o.AllowLinkLocal, allowed: o.AllowedPrefixes, local: net.InterfaceAddrs}
}

// control is a net.Dialer's: it runs for each address that is dialled.
func (r *addressRule) control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return &DeniedError{Addr: address, Reason: "it is no IP address and port"}
	}
	if why := r.check(to); why != "" {
		return &DeniedError{Addr: to.String(), Reason: why}
	}
	return nil
}

// dial connects, and resolves localhost and all names below it here, because
// not every resolver does.
func (r *addressRule) dial(d *net.Dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("dial %s: %w", address, err)
		}
		if !isLocalhost(host) {
			return d.DialContext(ctx, network, address)
		}
		conn, err := d.DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
		var denied *DeniedError
		if err == nil || errors.As(err, &denied) || ctx.Err() != nil {
			return conn, err
		}
		if conn6, err6 := d.DialContext(ctx, network, net.JoinHostPort("::1", port)); err6 == nil {
			return conn6, nil
		}
		return nil, err
	}
}

func isLocalhost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// redact is a URL without its credentials.
func redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" { // what it is may be a credential
		return "(malformed URL)"
	}
	u.User = nil
	return u.String()
}
