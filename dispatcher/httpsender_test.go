package dispatcher

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leat-dev/leat/api/event"
)

// TestBothClientsSendTheSame: whichever makes a request, the subscriber gets the
// same.
func TestBothClientsSendTheSame(t *testing.T) {
	e := newEndpoint(t, answers(200, ""))
	host := strings.TrimPrefix(e.URL, "http://")
	sender := NewHTTPSender(HTTPOptions{Tokens: map[string]string{e.URL: "ours"}}).(*httpSender)
	defer sender.Close()
	trace := event.NewTrace()
	trace.State = "vendor=1"
	whole := &event.Event{
		ID: "1", Source: "/s?x=y", Type: "t", Subject: "päckchen \" % ", Time: "2024-01-01T12:00:00.5+02:00", DataSchema: "http://x/y",
		DataContentType: "text/plain; charset=utf-8", Data: []byte("hello"),
		Extensions: []event.Extension{{Name: "color", Value: event.Value{Str: "red"}}, {Name: "n", Value: event.IntegerValue(-7)}, {Name: "knativebrokerttl", Value: event.IntegerValue(7)}, {Name: "ok", Value: event.BooleanValue(true)}, {Name: "traceparent", Value: event.Value{Str: trace.String()}}},
		PassThrough: []event.Header{
			{Name: "Knative-A", Value: "1"}, {Name: "Knative-A", Value: "2"}, {Name: "Traceparent", Value: "old"}, {Name: "Tracestate", Value: "old"}, {Name: "X-Request-Id", Value: "r1"},
			{Name: "Transfer-Encoding", Value: "chunked"}, {Name: "Content-Length", Value: "1"}, {Name: "Authorization", Value: "theirs"}, {Name: "Host", Value: "theirs"},
		},
	}
	for name, r := range map[string]*Request{
		"whole":      {Event: whole, Namespace: "shop", WantReply: true, Trace: trace},
		"odd name":   {Event: &event.Event{ID: "1", Source: "/s", Type: "t", DataContentType: "text/plain", Extensions: []event.Extension{{Name: "0x1", Value: event.Value{Str: "ä"}}}}, WantReply: true},
		"no state":   {Event: whole, Namespace: "shop", Trace: event.NewTrace()},
		"no trace":   {Event: whole, Namespace: "shop"},
		"no data":    {Event: &event.Event{ID: "1", Source: "/s", Type: "t"}},
		"structured": {Event: &event.Event{ID: "1", Source: "/s", Type: "t", DataContentType: "application/cloudevents+json", Data: []byte("{}")}},
	} {
		for _, url := range []string{e.URL, e.URL + "/a b/%2F?x=1%202#f", "http://u:p%40@" + host + "/"} {
			to, err := sender.destinations.get(url, sender.o.Tokens)
			if err != nil || to.address != host {
				t.Fatalf("%s: %+v, %v", url, to, err)
			}
			if _, sent, err := sender.sendPlain(t.Context(), to, r); err != nil || !sent {
				t.Fatalf("%s is not plain: %v", name, err)
			}
			if _, err := sender.sendStandard(t.Context(), to, r); err != nil {
				t.Fatal(err)
			}
			all := e.requests()
			plain, standard := all[len(all)-2], all[len(all)-1]
			if !reflect.DeepEqual(plain.header, standard.header) || plain.body != standard.body || plain.path != standard.path {
				t.Errorf("%s at %s:\n%+v\n%+v", name, url, plain, standard)
			}
			if auth := plain.header.Get("Authorization"); auth == "" || auth == "theirs" {
				t.Errorf("Authorization is %q", auth)
			}
		}
	}
}

// TestWhatIsNotPlain is made by net/http, or refused there.
func TestWhatIsNotPlain(t *testing.T) {
	for url, plain := range map[string]bool{
		"http://x": true, "http://x.y:8080/": true, "http://[::1]:80/a?b": true, "http://u:p@x/": true, "http://x/ä": true,
		"https://x": false, "http://bücher.example/": false, "http://[fe80::1%25eth0]/": false, "http://x:/": false, "http://:80/": false,
	} {
		d, err := newDestination(url, nil)
		if err != nil || (d.address != "") != plain {
			t.Errorf("%s: %+v, %v", url, d, err)
		}
	}
	e := newEndpoint(t, answers(200, ""))
	sender := NewHTTPSender(HTTPOptions{})
	defer sender.Close()
	for name, odd := range map[string]*Request{
		"name":      {Event: &event.Event{ID: "1", Source: "/s", Type: "t", Extensions: []event.Extension{{Name: "a b", Value: event.Value{Str: "1"}}}}},
		"no name":   {Event: &event.Event{ID: "1", Source: "/s", Type: "t", Extensions: []event.Extension{{Value: event.Value{Str: "1"}}}}},
		"namespace": {Event: &event.Event{ID: "1", Source: "/s", Type: "t"}, Namespace: "a\nb"},
	} {
		if request, ok := odd.plain(nil); ok {
			t.Errorf("%s: %q is plain", name, request)
		}
	}
	for _, value := range []string{"text/plain\r\nX-Evil: 1", "a\x00b"} {
		_, err := sender.Send(t.Context(), &Request{URL: e.URL, Event: &event.Event{ID: "1", Source: "/s", Type: "t", DataContentType: value}})
		if err == nil || len(e.requests()) != 0 {
			t.Errorf("%q was sent: %v, %+v", value, err, e.requests())
		}
	}
	large := strings.Repeat("x", 1<<20)
	if res, err := sender.Send(t.Context(), &Request{URL: e.URL, Event: &event.Event{ID: "1", Source: "/s", Type: "t", Data: []byte(large)}}); err != nil || res.Status != http.StatusOK || e.requests()[0].body != large {
		t.Errorf("a large one: %+v, %v", res, err)
	}
}

// TestAttemptEnds at its time or with what it lives in, whoever asks.
func TestAttemptEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		a := &attempt{Context: parent, until: time.Now().Add(time.Second)}
		if d, ok := a.Deadline(); !ok || time.Until(d) != time.Second || a.Err() != nil {
			t.Errorf("ends in %v: %v", time.Until(d), a.Err())
		}
		<-a.Done()
		if !errors.Is(a.Err(), context.DeadlineExceeded) || parent.Err() != nil {
			t.Error(a.Err())
		}
		a.end()
		b := &attempt{Context: parent, until: time.Now().Add(time.Hour)}
		if d, ok := b.Deadline(); !ok || time.Until(d) != 59*time.Second {
			t.Errorf("ends in %v", time.Until(d))
		}
		cancel()
		if <-b.Done(); !errors.Is(b.Err(), context.Canceled) {
			t.Error(b.Err())
		}
		b.end()
		(&attempt{Context: parent}).end() // nobody has asked
	})
}
