package dispatcher

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "0", "7", " 7 ", "-1", "1.5", "9223372036854775807", "99999999999999999999", "Sat, 01 Jan 2000 00:01:00 GMT", "soon"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := parseRetryAfter(s, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))
		if d < 0 || !ok && d != 0 {
			t.Errorf("%q: %v, %v", s, d, ok)
		}
	})
}

func FuzzRedact(f *testing.F) {
	for _, s := range []string{"http://u:secret@h/p", "http://h", "u:secret@h", "//u:secret@h", "http://u:sec%zzret@h", "http://u:secret@h:port/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := redact(s)
		if at := strings.Index(s, "secret@"); at >= 0 && strings.Count(s, "secret") == 1 && strings.Count(s, "@") == 1 &&
			!strings.ContainsAny(s[:at], "/?#") && strings.Contains(got, "secret") {
			t.Errorf("%q became %q", s, got)
		}
	})
}

// FuzzAnswer: whatever a subscriber answers, it is read within bounds.
func FuzzAnswer(f *testing.F) {
	f.Add(200, "1.0", "application/json", `{"a":1}`)
	f.Add(200, "", "application/cloudevents+json", `{"specversion":"1.0","id":"1","source":"/","type":"t"}`)
	f.Add(200, "", "application/cloudevents-batch+json", `[{}]`)
	f.Add(200, "0.3", "text/plain", "x")
	f.Add(503, "", "", strings.Repeat("x", 10_000))
	f.Add(202, "1.0", "", "")
	f.Fuzz(func(t *testing.T, code int, specversion, contentType, body string) {
		h := http.Header{"Ce-Id": {"1"}, "Ce-Source": {"/s"}, "Ce-Type": {"t"}, "Content-Type": {contentType}}
		if specversion != "" {
			h.Set("Ce-Specversion", specversion)
		}
		s := &httpSender{o: HTTPOptions{MaxReplyBytes: 100}.withDefaults()}
		out, err := s.answer(&Request{WantReply: true}, &http.Response{StatusCode: code, Header: h, Body: io.NopCloser(strings.NewReader(body))})
		if err != nil {
			t.Fatalf("a whole answer gives %v", err)
		}
		if len(out.Body) > maxAnswer || out.Refused != nil && (out.RefusedReply == nil || len(out.RefusedReply.Data) > maxKeptReply) {
			t.Errorf("answer %+v", out)
		}
		for _, r := range out.Replies {
			if len(r.Data) > 100 {
				t.Errorf("a reply of %d bytes was taken", len(r.Data))
			}
		}
	})
}
