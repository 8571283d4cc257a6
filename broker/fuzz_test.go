package broker

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/leat-dev/leat/api/event"
)

// FuzzRequest: whatever request arrives, it is answered, with a reason where
// it is refused; a refused one stores nothing, an accepted one only events that
// are valid and stamped; and no memory stays taken.
func FuzzRequest(f *testing.F) {
	head := strings.Join([]string{"POST /default/b HTTP/1.1", "Host: x", "Ce-Specversion: 1.0", "Ce-Id: 1", "Ce-Source: /s", "Ce-Type: t", ""}, "\r\n")
	body := func(contentType, body string) string {
		return "POST /channels/default/c/ HTTP/1.1\r\nHost: x\r\nContent-Type: " + contentType + "\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" +
			strings.Join([]string{string("0123456789abcdef"[len(body)>>4&15]) + string("0123456789abcdef"[len(body)&15]), body, "0", "", ""}, "\r\n")
	}
	for _, s := range []string{
		head + "Content-Length: 4\r\n\r\ndata", head + "Ce-Ext: %C3%A9\r\nTraceparent: x\r\nKnative-X: y\r\n\r\n", head + "Ce-Knativebrokerttl: 1\r\n\r\n",
		head + "Content-Length: 40\r\n\r\ncut short", head + "Content-Encoding: gzip\r\n\r\n",
		body(event.StructuredType, structured(`"x":1,"data":[1]`)), body(event.BatchType, "["+structured()+",{}]"), body(event.BatchType, "[]"),
		strings.Replace(head, "1.0", "0.3", 1) + "Ce-Datacontentencoding: base64\r\nContent-Length: 4\r\n\r\naGk=",
		"OPTIONS /default/b HTTP/1.1\r\nHost: x\r\nWebHook-Request-Origin: o\r\n\r\n", "GET / HTTP/1.0\r\n\r\n", "POST /channels/a HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return // net/http answers
		}
		fakes := newFakes()
		i := NewIngress(IngressOptions{Resolver: fakes, MaxBodyMemory: 64 << 10, MaxBodyBytes: 20 << 10})
		w := httptest.NewRecorder()
		i.ServeHTTP(w, r)
		if n := i.bodies.used.Load(); n != 0 {
			t.Fatalf("%d bytes are still held", n)
		}
		appends := append(fakes.broker.take(), fakes.channel.take()...)
		if w.Code == http.StatusAccepted || w.Code == http.StatusOK {
			for _, events := range appends {
				checkStamped(t, events)
			}
			return
		}
		var p Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Reason == "" || w.Code < 400 || w.Code >= 600 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if len(appends) > 0 {
			t.Fatalf("refused with %d %s, and stored", w.Code, w.Body)
		}
	})
}

func checkStamped(t *testing.T, events []*event.Event) {
	for _, e := range events {
		// Our own stamps come on top of what a sender may have.
		if err := e.ValidateWithin(event.Limits{MaxExtensions: 128 + 5, MaxAttributeBytes: 70 << 10}); err != nil {
			t.Fatalf("stored, though %v", err)
		}
		if _, ok := e.Attribute(arrivalExtension); !ok {
			t.Fatalf("not stamped: %s", attributes(e))
		}
		if _, ok := e.Trace(); !ok {
			t.Fatalf("no trace: %s", attributes(e))
		}
	}
}
