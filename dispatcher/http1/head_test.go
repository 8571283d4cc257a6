package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestWhatIsPlain, and what is left to net/http.
func TestWhatIsPlain(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nDate: now\r\n"
	for text, want := range map[string]verdict{
		ok + "Content-Length: 0\r\n\r\n":                                         plain,
		ok + "content-length: 12 \r\nConnection: keep-alive\r\n\r\n":             plain,
		ok + "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}rest": plain,
		"HTTP/1.1 204 No Content\r\n\r\n":                                        plain,
		"HTTP/1.1 299\r\nContent-Length: 0\r\n\r\n":                              plain,
		"":                              incomplete,
		"HTTP/1.1 2":                    incomplete,
		ok:                              incomplete,
		"HTTP/1.1 100 Continue\r\n\r\n": other,
		"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n": other,
		"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n":        other,
		"HTTP/1.1 200OK\r\nContent-Length: 0\r\n\r\n":         other,
		"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n":        other,
		"HTTP/1.1 20\r\nContent-Length: 0\r\n\r\n":            other,
		"SMTP":                                   other,
		ok + "\r\n":                              other,
		"HTTP/1.1 200 OK\nContent-Length: 0\n\n": other,
		ok + "Content-Length: 1\r\nContent-Length: 1\r\n\r\n":                          other,
		ok + "Content-Length: -1\r\n\r\n":                                              other,
		ok + "Content-Length: 1,1\r\n\r\n":                                             other,
		ok + "Content-Length:\r\n\r\n":                                                 other,
		ok + "Transfer-Encoding: chunked\r\n\r\n":                                      other,
		ok + "Content-Length: 0\r\nConnection: close\r\n\r\n":                          other,
		ok + "Content-Length: 0\r\nTrailer: X\r\n\r\n":                                 other,
		ok + "Content-Length: 0\r\nCe-Specversion: 1.0\r\n\r\n":                        other,
		ok + "Content-Length: 0\r\nce-id: 1\r\n\r\n":                                   other,
		ok + "Content-Length: 2\r\nContent-Type: Application/CloudEvents+json\r\n\r\n": other,
		ok + "Content-Length: 0\r\nX\r\n\r\n":                                          other,
		ok + "Content-Length: 0\r\n X: y\r\n\r\n":                                      other,
		ok + "Content-Length: 0\r\nX : y\r\n\r\n":                                      other,
		ok + "Content-Length: 0\r\nX: \x00\r\n\r\n":                                    other,
		"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n":                         other,
		"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n":                      other,
	} {
		if _, got := parse([]byte(text)); got != want {
			t.Errorf("%q is %d, want %d", text, got, want)
		}
	}
}

// FuzzLikeNetHTTP: net/http accepts each plain answer, and understands it so.
func FuzzLikeNetHTTP(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndataHTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n", "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nDate: now\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 201 \r\nConnection: Keep-Alive\r\nContent-Length: 010\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 299\r\ncontent-length:1\r\n\r\nx", "HTTP/1.1 200 OK\r\nce-type: x\r\nContent-Length: 0\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, v := parse(raw)
		if v != plain {
			return
		}
		const mark = "the rest"
		whole := int64(len(raw)) >= int64(h.size)+h.length
		end := min(int64(len(raw)), int64(h.size)+h.length)
		buffered := bufio.NewReader(io.MultiReader(bytes.NewReader(raw[:end]), strings.NewReader(mark)))
		res, err := http.ReadResponse(buffered, &http.Request{Method: http.MethodPost})
		if err != nil {
			t.Fatalf("net/http refuses it: %v", err)
		}
		if res.StatusCode != h.status || res.ContentLength != h.length || res.Close || len(res.TransferEncoding) > 0 || res.Uncompressed {
			t.Fatalf("net/http reads %+v, not %+v", res, h)
		}
		if res.Header.Get("Ce-Specversion") != "" || strings.HasPrefix(strings.ToLower(res.Header.Get("Content-Type")), "application/cloudevents") {
			t.Fatalf("it may be an event: %v", res.Header)
		}
		if !whole {
			return
		}
		body, err := io.ReadAll(res.Body)
		if err != nil || !bytes.Equal(body, raw[h.size:end]) {
			t.Fatalf("net/http reads the body %q (%v), not %q", body, err, raw[h.size:end])
		}
		if rest, _ := io.ReadAll(buffered); string(rest) != mark {
			t.Fatalf("net/http goes on at %q", rest)
		}
	})
}
