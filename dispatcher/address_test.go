package dispatcher

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
)

func TestDeniedDestination(t *testing.T) {
	e := newEndpoint(t, answers(200, ""))
	own := netip.MustParseAddrPort(strings.TrimPrefix(e.URL, "http://"))
	_, port, _ := net.SplitHostPort(own.String())
	for _, to := range []string{
		"http://169.254.169.254/latest/meta-data", "http://[fe80::1]/", "http://[fd00:ec2::254]/", "http://0.0.0.0:1/", "http://[::]:1/",
		"http://[::ffff:169.254.169.254]/", "http://224.0.0.1/", "http://100.100.100.200/", e.URL, "http://api.localhost:" + port,
	} {
		t.Run(to, func(t *testing.T) {
			t.Parallel()
			w := newWire(t, HTTPOptions{DeniedAddrs: []netip.AddrPort{own}}, func(t *Target) { t.URL = to })
			w.deliver()
			if w.outcome() != channel.Denied || len(w.kept()) != 1 || w.kept()[0].Attempts != 1 {
				t.Errorf("outcome %v, dead letters %+v; want denied, after one attempt", w.outcome(), w.kept())
			}
		})
	}
	if n := len(e.requests()); n != 0 {
		t.Errorf("%d requests came through", n)
	}
}

// TestDeniedSinks: the rule holds for each address that a spec names.
func TestDeniedSinks(t *testing.T) {
	const metadata = "http://169.254.169.254/latest/meta-data"
	t.Run("dead letter sink", func(t *testing.T) {
		e := newEndpoint(t, answers(400, ""))
		w := newWire(t, HTTPOptions{}, func(t *Target) { t.URL, t.DeadLetterURL = e.URL, metadata })
		w.deliver()
		if len(w.kept()) != 1 || w.outcome() != channel.Kept || !strings.Contains(w.kept()[0].Reason, "refused") {
			t.Errorf("outcome %v, dead letters %+v", w.outcome(), w.kept())
		}
	})
	t.Run("reply sink", func(t *testing.T) {
		e, dls := newEndpoint(t, reply(200)), newEndpoint(t, answers(200, ""))
		w := newWire(t, HTTPOptions{}, func(t *Target) { t.URL, t.ReplyURL, t.DeadLetterURL = e.URL, metadata, dls.URL })
		w.deliver()
		if got := dls.requests(); len(got) != 1 || got[0].header.Get("Ce-Knativeerrordest") != metadata || w.outcome() != channel.Denied {
			t.Errorf("outcome %v, at the sink %+v; want the original, denied", w.outcome(), got)
		}
	})
}

// TestDeniedAfterDNS: names are judged by what they resolve to, at the time of
// the connection.
func TestDeniedAfterDNS(t *testing.T) {
	e := newEndpoint(t, answers(200, ""))
	own := netip.MustParseAddrPort(strings.TrimPrefix(e.URL, "http://"))
	names := map[string][4]byte{
		"metadata.example.": {169, 254, 169, 254}, "cloud.example.": {100, 100, 100, 200}, "api.example.": {127, 0, 0, 1}, "fine.example.": {127, 0, 0, 1},
	}
	resolver := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: fakeDNS(t, names)}
	t.Cleanup(func() { net.DefaultResolver = resolver })
	to := func(url string, denied ...netip.AddrPort) *wire {
		w := newWire(t, HTTPOptions{DeniedAddrs: denied}, func(t *Target) { t.URL = url })
		w.deliver()
		return w
	}
	port := fmt.Sprint(own.Port())
	for _, w := range []*wire{to("http://metadata.example/"), to("http://cloud.example/"), to("http://api.example:"+port, own)} {
		if w.outcome() != channel.Denied {
			t.Errorf("outcome %v, dead letters %+v; want denied", w.outcome(), w.kept())
		}
	}
	if n := len(e.requests()); n != 0 {
		t.Errorf("%d requests came through", n)
	}
	if w := to("http://fine.example:" + port); len(w.kept()) != 0 || len(e.requests()) != 1 {
		t.Errorf("an allowed name: %d requests, dead letters %+v", len(e.requests()), w.kept())
	}
}

// fakeDNS dials a name server that knows these names.
func fakeDNS(t *testing.T, names map[string][4]byte) func(context.Context, string, string) (net.Conn, error) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Response, m.Additionals = true, nil
			addr, ok := names[q.Name.String()]
			if !ok {
				m.RCode = dnsmessage.RCodeNameError
			} else if q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}, Body: &dnsmessage.AResource{A: addr},
				}}
			}
			if answer, err := m.Pack(); err == nil {
				_, _ = server.WriteTo(answer, from)
			}
		}
	}()
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", server.LocalAddr().String())
	}
}

func TestLocalhostNames(t *testing.T) {
	e := newEndpoint(t, answers(200, ""))
	u, err := url.Parse(e.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"localhost", "orders.default.localhost", "ORDERS.default.LOCALHOST."} {
		w := newWire(t, HTTPOptions{}, func(t *Target) { t.URL = "http://" + host + ":" + u.Port() })
		w.deliver()
		if len(w.kept()) != 0 {
			t.Errorf("%s: %+v", host, w.kept())
		}
	}
}

func TestAddressRule(t *testing.T) {
	api := netip.MustParseAddrPort("0.0.0.0:6443")
	mine := func() ([]net.Addr, error) {
		return []net.Addr{&net.IPNet{IP: net.ParseIP("192.0.2.7"), Mask: net.CIDRMask(24, 32)}}, nil
	}
	strict := &addressRule{denied: []netip.AddrPort{api}, local: mine}
	open := &addressRule{denied: []netip.AddrPort{api}, local: mine, allowLinkLocal: true, allowed: []netip.Prefix{netip.MustParsePrefix("224.0.0.0/4")}}
	got := make(map[string][2]bool)
	want := map[string][2]bool{
		"127.0.0.1:80": {true, true}, "192.0.2.8:6443": {true, true}, "192.0.2.7:80": {true, true},
		"192.0.2.7:6443": {}, "127.0.0.1:6443": {}, "[::1]:6443": {}, "0.0.0.0:6443": {}, "[::ffff:127.0.0.1]:6443": {},
		"169.254.169.254:80": {false, true}, "[64:ff9b::a9fe:a9fe]:80": {false, true}, "[fe80::1%eth0]:80": {false, true},
		"168.63.129.16:80": {false, true}, "[fd20:ce::254]:80": {false, true}, "224.0.0.1:80": {false, true}, "[ff02::1]:80": {}, "0.0.0.0:80": {},
		"10.0.0.1:80": {true, true}, "[2001:db8::1]:443": {true, true},
	}
	for addr := range want {
		to := netip.MustParseAddrPort(addr)
		got[addr] = [2]bool{strict.check(to) == "", open.check(to) == ""}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("allowed strictly, and with settings (-want +got):\n%s", diff)
	}
}

// TestDeniesWhatIsKnownBeforehand: a literal address is judged as it will be
// when it is dialled; of a name nothing is known yet.
func TestDeniesWhatIsKnownBeforehand(t *testing.T) {
	strict := HTTPOptions{DeniedAddrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:6443")}}
	open := HTTPOptions{AllowedPrefixes: []netip.Prefix{netip.MustParsePrefix("169.254.0.0/16")}}
	for url, want := range map[string][2]bool{
		"http://169.254.169.254/latest": {true, false}, "http://u:p@169.254.169.254:8080/": {true, false}, "https://[fe80::1%25eth0]/": {true, true},
		"http://0.0.0.0:1/": {true, true}, "https://localhost:6443/": {true, false}, "http://api.localhost:6443/": {true, false},
		"http://localhost:3000/": {}, "http://10.0.0.1/": {}, "http://metadata.example/": {}, "": {}, "http://[": {}, "http://127.0.0.1:99999/": {},
	} {
		for i, o := range []HTTPOptions{strict, open} {
			if why := o.Denies(url); (why != "") != want[i] || strings.Contains(why, "u:p") {
				t.Errorf("%s, options %d: %q", url, i, why)
			}
		}
	}
}

func TestMalformedURLShowsNoCredentials(t *testing.T) {
	for _, raw := range []string{"http://user:secret@", "http://user:secret@host:port/", "ftp://user:secret@host/", "http://user:sec ret@host/", "user:secret@host"} {
		_, err := NewHTTPSender(HTTPOptions{}).Send(t.Context(), &Request{URL: raw, Event: &event.Event{}})
		if err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "sec ret") {
			t.Errorf("%s: %v", raw, err)
		}
	}
}
