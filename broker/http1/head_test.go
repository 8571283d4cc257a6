package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/leat-dev/leat/api/event"
)

const plainHead = "POST /default/b HTTP/1.1\r\nHost: x:80\r\nCe-Id: 1\r\n"

// TestWhatIsPlain, and what is left to net/http.
func TestWhatIsPlain(t *testing.T) {
	for text, want := range map[string]verdict{
		plainHead + "\r\n":                                            plain,
		plainHead + "Content-Length: 0\r\n\r\n":                       plain,
		plainHead + "content-length:  12\t\r\n\r\n":                   plain,
		plainHead + "Connection: Keep-Alive\r\n\r\n":                  plain,
		plainHead + "X-Empty:\r\n\r\n":                                plain,
		plainHead + "Ce-Subject: caf\u00e9\r\n\r\n":                   plain,
		"POST / HTTP/1.1\r\nhost: [::1]:80\r\n\r\n":                   plain,
		"POST /a HTTP/1.1\r\nHost: x\r\n\r\nPOST /b HTTP/1.1\r\n\r\n": plain,
		"":                                            incomplete,
		"PO":                                          incomplete,
		"POST /a":                                     incomplete,
		plainHead:                                     incomplete,
		plainHead + "\r":                              incomplete,
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n":           other,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":            other,
		"post / HTTP/1.1\r\nHost: x\r\n\r\n":          other,
		"\x16\x03\x01":                                other,
		"\r\n" + plainHead + "\r\n":                   other,
		"POST  / HTTP/1.1\r\nHost: x\r\n\r\n":         other,
		"POST / HTTP/1.0\r\nHost: x\r\n\r\n":          other,
		"POST / HTTP/1.1 \r\nHost: x\r\n\r\n":         other,
		"POST / \r\nHost: x\r\n\r\n":                  other,
		"POST /\r\nHost: x\r\n\r\n":                   other,
		"POST * HTTP/1.1\r\nHost: x\r\n\r\n":          other,
		"POST //x/ HTTP/1.1\r\nHost: x\r\n\r\n":       other,
		"POST /a%62 HTTP/1.1\r\nHost: x\r\n\r\n":      other,
		"POST /a?b HTTP/1.1\r\nHost: x\r\n\r\n":       other,
		"POST http://x/a HTTP/1.1\r\nHost: x\r\n\r\n": other,
		"POST / HTTP/1.1\r\n\r\n":                     other,
		"POST / HTTP/1.1\r\nHost:\r\n\r\n":            other,
		"POST / HTTP/1.1\r\nHost: a/b\r\n\r\n":        other,
		"POST / HTTP/1.1\nHost: x\n\n":                other,
		plainHead + "X: y\n":                          other,
		plainHead + "X: y\n\r\n\r\n":                  other,
		plainHead + "Host: x\r\n\r\n":                 other,
		plainHead + "Content-Length: 1\r\nContent-Length: 1\r\n\r\n": other,
		plainHead + "Content-Length: 1, 1\r\n\r\n":                   other,
		plainHead + "Content-Length: +1\r\n\r\n":                     other,
		plainHead + "Content-Length: -1\r\n\r\n":                     other,
		plainHead + "Content-Length: 0x1\r\n\r\n":                    other,
		plainHead + "Content-Length: 1_0\r\n\r\n":                    other,
		plainHead + "Content-Length:\r\n\r\n":                        other,
		plainHead + "Content-Length: 9999999999999999\r\n\r\n":       other,
		plainHead + "Content-Length : 1\r\n\r\n":                     other,
		plainHead + " Content-Length: 1\r\n\r\n":                     other,
		plainHead + "Transfer-Encoding: chunked\r\n\r\n":             other,
		plainHead + "transfer-encoding: identity\r\n\r\n":            other,
		plainHead + "Expect: 100-continue\r\n\r\n":                   other,
		plainHead + "Upgrade: h2c\r\n\r\n":                           other,
		plainHead + "Connection: close\r\n\r\n":                      other,
		plainHead + "Connection: keep-alive, upgrade\r\n\r\n":        other,
		plainHead + "Trailer: x\r\n\r\n":                             other,
		plainHead + "X: a\r\n b\r\n\r\n":                             other,
		plainHead + "X\r\n\r\n":                                      other,
		plainHead + ": x\r\n\r\n":                                    other,
		plainHead + "X y: z\r\n\r\n":                                 other,
		plainHead + "X: a\rb\r\n\r\n":                                other,
		plainHead + "X: a\x00b\r\n\r\n":                              other,
		plainHead + strings.Repeat("X: y\r\n", maxLines) + "\r\n":    other,
	} {
		var h head
		if got := h.parse([]byte(text)); got != want {
			t.Errorf("%q is %d, want %d", text, got, want)
		}
	}
}

// TestHeadIsReadAsItStands, and forgets the one before.
func TestHeadIsReadAsItStands(t *testing.T) {
	var h head
	b := []byte(plainHead + "ce-ID: 2\r\nContent-Length: 007\r\nx-request-id: \t a  b \r\n\r\nrest")
	for range 2 {
		if v := h.parse(b); v != plain {
			t.Fatal(v)
		}
	}
	for i := range b {
		b[i] = '?' // nothing of it is kept
	}
	want := event.HeaderList{{Name: "Ce-Id", Value: "1"}, {Name: "ce-ID", Value: "2"}, {Name: "Content-Length", Value: "007"}, {Name: "X-Request-Id", Value: "a  b"}}
	if h.path != "/default/b" || h.host != "x:80" || h.length != 7 || h.size != len(b)-len("rest") || !slices.Equal(h.headers, want) {
		t.Errorf("%+v", h)
	}
	if h.headers.Get("CE-ID") != "1" || h.headers.Get("ce-i") != "" {
		t.Error(h.headers)
	}
}

// TestHeadAfterAnother is read as if it were the first one, whatever of it is like
// what came before; and what is kept of those is no more than one head.
func TestHeadAfterAnother(t *testing.T) {
	heads := []string{
		plainHead + "Content-Length: 4\r\nCe-Type: a\r\n\r\n",
		plainHead + "Content-Length: 4\r\nCe-Type: a\r\n\r\n", // the same
		plainHead + "Content-Length: 5\r\nCe-Type: a\r\n\r\n",
		"POST /default/other HTTP/1.1\r\nHost: x:80\r\nCe-Id: 2\r\nContent-Length: 5\r\nCe-Type: b\r\n\r\n",
		"POST / HTTP/1.1\r\nCe-Id: 2\r\nHost: x:80\r\n\r\n", // in another order, and fewer
		"POST / HTTP/1.1\r\nCe-Id: 22\r\nHost: x:8\r\n\r\n", // one begins like the one before
		"POST / HTTP/1.1\r\nCe-Id: 2\r\nHost: x:80\r\nX-Request-ID: 1\r\nContent-Length: 3\r\n\r\n",
		plainHead + "Host: x:80\r\n\r\n", // two of what may be there once
		plainHead + "Content-Length: 4\r\nCe-Type: a\r\n\r\n",
		plainHead + "Content-Length: 4\r\nContent-Length: 4\r\n\r\n",
		plainHead + "Content-Length: 4\r\nX: a\r\n b\r\n\r\n",
		"POST /default/b HTTP/1.1\r\nCe-Id: 1\r\n\r\n", // no host
		plainHead + "Content-Length: 4\r\nCe-Type: a\r\n\r\n",
		plainHead + strings.Repeat("X: y\r\n", maxLines-1) + "\r\n",
		plainHead + strings.Repeat("X: y\r\n", maxLines) + "\r\n",
	}
	var h head
	for _, next := range heads {
		parseAlike(t, &h, []byte(next))
		if kept := len(h.lines); kept > strings.Count(next, "\r\n") {
			t.Errorf("%d lines are kept of %q", kept, next)
		}
		for _, l := range h.lines[len(h.lines):cap(h.lines)] {
			if l != (line{}) {
				t.Errorf("%q is kept after %q", l.text, next)
			}
		}
	}
	for i := range heads {
		for _, next := range heads {
			var h head
			h.parse([]byte(heads[i]))
			parseAlike(t, &h, []byte(next))
		}
	}
	h.parse([]byte(heads[0]))
	h.forget()
	if h.first != "" || h.path != "" || h.host != "" || slices.ContainsFunc(h.lines[:cap(h.lines)], func(l line) bool { return l != line{} }) {
		t.Errorf("%+v is kept", h)
	}
}

// parseAlike has a head that has read others read one, as one does that has not.
func parseAlike(t *testing.T, h *head, b []byte) {
	t.Helper()
	var fresh head
	want := fresh.parse(b)
	if got := h.parse(b); got != want {
		t.Fatalf("%q is %d, want %d", b, got, want)
	}
	if want == plain && (h.size != fresh.size || h.path != fresh.path || h.host != fresh.host || h.length != fresh.length || !slices.Equal(h.headers, fresh.headers)) {
		t.Fatalf("%q is read as %+v, want %+v", b, h, fresh)
	}
}

// FuzzHeadAfterAnother: what came before changes nothing.
func FuzzHeadAfterAnother(f *testing.F) {
	f.Add([]byte(plainHead+"Content-Length: 4\r\n\r\n"), []byte(plainHead+"Content-Length: 5\r\n\r\n"))
	f.Add([]byte(plainHead+"\r\n"), []byte(plainHead+"Host: x:80\r\n\r\n"))
	f.Add([]byte(plainHead+"X: a\r\n\r\n"), []byte("POST / HTTP/1.1\r\nX: a\r\nHost: x:80\r\n\r\n"))
	f.Fuzz(func(t *testing.T, before, raw []byte) {
		var h head
		h.parse(before)
		parseAlike(t, &h, raw)
		parseAlike(t, &h, before)
	})
}

// FuzzLikeNetHTTP: net/http accepts each plain head, and understands it so:
// where it ends, where its body ends, and what it says.
func FuzzLikeNetHTTP(f *testing.F) {
	for _, s := range []string{
		plainHead + "\r\n", plainHead + "Content-Length: 4\r\n\r\ndataPOST / HTTP/1.1\r\nHost: y\r\n\r\n", plainHead + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		plainHead + "Content-Length: 4\r\nContent-Length: 5\r\n\r\ndata!", plainHead + "X: a\r\n b\r\nY :c\r\n\r\n", plainHead + "Knative-X: a\r\nknative-x: b\r\nx-b3-y:\t\r\n\r\n",
		"POST /a/../b~_. HTTP/1.1\r\nHost: [::1%25x]:1\r\nConnection: keep-alive\r\n\r\n", "POST / HTTP/1.1\nHost: x\n\n", plainHead + "A: \x80\xff\r\n\r\n",
		plainHead + "Pragma: no-cache\r\nTe: trailers\r\nTrailer: Content-Length\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var h head
		if h.parse(raw) != plain {
			return
		}
		const mark = "the rest"
		end := min(int64(len(raw)), int64(h.size)+h.length)
		whole := int64(len(raw)) >= int64(h.size)+h.length
		buffered := bufio.NewReader(io.MultiReader(bytes.NewReader(raw[:end]), strings.NewReader(mark)))
		r, err := http.ReadRequest(buffered)
		if err != nil {
			t.Fatalf("net/http refuses it: %v", err)
		}
		if r.Method != http.MethodPost || r.URL.Path != h.path || r.URL.RawQuery != "" || r.Host != h.host || r.ContentLength != h.length ||
			r.ProtoMajor != 1 || r.ProtoMinor != 1 || r.Close || len(r.TransferEncoding) > 0 || len(r.Trailer) > 0 {
			t.Fatalf("net/http reads %+v, not %+v", r, h)
		}
		h.headers.Each(func(name, value string) {
			if !slices.Contains(r.Header.Values(name), value) {
				t.Fatalf("net/http has no %s: %q", name, value)
			}
			if event.IsPassThrough(name) && name != http.CanonicalHeaderKey(name) {
				t.Fatalf("%s would go on to subscribers so", name)
			}
			if h.headers.Get(name) != r.Header.Get(name) {
				t.Fatalf("%s is %q, to net/http %q", name, h.headers.Get(name), r.Header.Get(name))
			}
		})
		lines := 0
		for _, values := range r.Header {
			lines += len(values)
		}
		if r.Header.Get("Pragma") == "no-cache" && h.headers.Get("Cache-Control") == "" {
			lines -= len(r.Header["Cache-Control"]) // which net/http adds
		}
		if lines != len(h.headers) {
			t.Fatalf("net/http has %d headers, not %d", lines, len(h.headers))
		}
		if !whole {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || !bytes.Equal(body, raw[h.size:end]) {
			t.Fatalf("net/http reads the body %q (%v), not %q", body, err, raw[h.size:end])
		}
		if rest, err := io.ReadAll(buffered); string(rest) != mark || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("net/http goes on at %q", rest)
		}
	})
}

// BenchmarkHead is what it takes to read a sender's head, after another one with
// an id of its own.
func BenchmarkHead(b *testing.B) {
	text := []byte("POST /default/orders HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: Go-http-client/1.1\r\nCe-Specversion: 1.0\r\n" +
		"Ce-Id: 6f6b1a52-6c53-4c0e-9d4c-0f4b8b1f3f0a\r\nCe-Source: /shop\r\nCe-Type: dev.leat.order.created\r\n" +
		"Content-Type: application/json\r\nContent-Length: 24\r\nAccept-Encoding: gzip\r\n\r\n{\"order\":17,\"total\":250}")
	id := bytes.Index(text, []byte("6f6b1a52"))
	var h head
	b.ReportAllocs()
	for b.Loop() {
		text[id] ^= 1
		if h.parse(text) != plain {
			b.Fatal("not plain")
		}
	}
}
