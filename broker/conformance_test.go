package broker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/raftlog"
)

// The rows of the table of answers, each for brokers and for channels.

func TestAcceptedIs202(t *testing.T) {
	w := newWorld(t)
	v03 := strings.Replace(structured(), "1.0", "0.3", 1)
	for _, target := range targets {
		for _, path := range []string{target, target + "/"} {
			for _, c := range []struct {
				name, body string
				headers    []string
				events     int
			}{
				{"binary", "data", binary("Content-Type", "text/plain"), 1},
				{"binary without data", "", binary(), 1},
				{"binary 0.3", "data", binary("Ce-Specversion", "0.3"), 1},
				{"structured", structured(), structuredMode(), 1},
				{"structured with charset", structured(), []string{"Content-Type", "application/cloudevents+json; charset=UTF-8"}, 1},
				{"structured 0.3", v03, structuredMode(), 1},
				{"batch", "[" + structured() + "," + v03 + "]", batchMode(), 2},
			} {
				events := w.accepted(path, c.body, c.headers...)
				if len(events) != c.events {
					t.Errorf("%s %s: %d events", path, c.name, len(events))
				}
				for _, e := range events {
					if v, _ := e.Attribute("specversion"); v.Str != "1.0" || e.ID != "1" || e.AppendBinary(nil)[0].Value != "1.0" {
						t.Errorf("%s %s: %s", path, c.name, attributes(e))
					}
				}
				parts := strings.Split(strings.Trim(target, "/"), "/")
				want := count{parts[len(parts)-2], parts[len(parts)-1], http.StatusAccepted, c.events}
				if got := <-w.counted; got != want {
					t.Errorf("%s %s: counted %+v, want %+v", path, c.name, got, want)
				}
			}
		}
	}
}

func TestOptions(t *testing.T) {
	w := newWorld(t)
	limited := newWorld(t, func(o *IngressOptions) { o.WebHookRate = 120 })
	for _, path := range targets {
		a := w.send(http.MethodOptions, path, nil)
		h := a.header
		if a.status != http.StatusOK || h.Get("Allow") != "POST, OPTIONS" || h.Get("WebHook-Allowed-Origin") != "*" || h.Get("WebHook-Allowed-Rate") != "*" {
			t.Errorf("%s: %d %v", path, a.status, h)
		}
		a = limited.send(http.MethodOptions, path+"/", nil, "WebHook-Request-Origin", "eventemitter.example.com", "WebHook-Request-Rate", "1000")
		h = a.header
		if a.status != http.StatusOK || h.Get("WebHook-Allowed-Origin") != "eventemitter.example.com" || h.Get("WebHook-Allowed-Rate") != "120" {
			t.Errorf("%s: %d %v", path, a.status, h)
		}
	}
	w.refused(w.send(http.MethodOptions, "/default/unknown", nil), http.StatusNotFound, "", "not there")
}

func TestOtherMethodsAre405(t *testing.T) {
	w := newWorld(t)
	for _, path := range targets {
		for _, method := range []string{"GET", "PUT", "PATCH", "DELETE", "TRACE", "QUERY"} {
			a := w.send(method, path, nil)
			w.refused(a, http.StatusMethodNotAllowed, "", method)
			if a.header.Get("Allow") != "POST, OPTIONS" {
				t.Errorf("%s: Allow is %q", method, a.header.Get("Allow"))
			}
		}
		if a := w.send(http.MethodHead, path, nil); a.status != http.StatusMethodNotAllowed {
			t.Errorf("HEAD: %d", a.status)
		}
	}
}

func TestPathsThatNameNothingAre404(t *testing.T) {
	w := newWorld(t)
	for path, reason := range map[string]string{
		"/": "send them to", "/default": "send them to", "//": "send them to", "/default/": "send them to", "//default/b": "send them to",
		"/default/b/c": "send them to", "/default/b//": "send them to", "/channels/default/c/d": "send them to", "/default%2Fb/x/y": "send them to",
		"/default/unknown": "broker default/unknown is not there", "/other/b": "not there", "/default/B": "not there",
		"/default/c":                  "broker default/c is not there",
		"/channels/c":                 "broker channels/c is not there",
		"/channels/default/unknown":   "channel default/unknown is not there",
		"/channels/default/b":         "channel default/b is not there",
		"/channels/default/unknown/":  "not there",
		"/channels//c":                "send them to",
		"/default/%00":                "not there",
		"/default/" + "%ff":           "not there",
		"/default/../default/unknown": "",
	} {
		w.refused(w.post(path, "", binary()...), http.StatusNotFound, "", reason)
		if c := <-w.counted; c != (count{status: http.StatusNotFound}) {
			t.Errorf("%s: counted %+v", path, c)
		}
	}
	w.broker.failing(func(context.Context) error { return fmt.Errorf("append: %w", channel.ErrNotFound) })
	w.refused(w.post(brokerPath, "", binary()...), http.StatusNotFound, "", "deleted")
}

func TestBadRequestsAre400WithAttributeAndReason(t *testing.T) {
	w := newWorld(t, func(o *IngressOptions) {
		o.Limits = event.Limits{MaxExtensions: 3, MaxNameBytes: 10, MaxValueBytes: 50, MaxAttributeBytes: 120, MaxPassThrough: 20, MaxDepth: 3}
	})
	for name, c := range map[string]struct {
		body              string
		headers           []string
		attribute, reason string
	}{
		"no event":               {"x", nil, "specversion", "is required"},
		"form":                   {"a=b", []string{"Content-Type", "application/x-www-form-urlencoded"}, "specversion", "is required"},
		"specversion":            {"", binary("Ce-Specversion", "0.2"), "specversion", `"0.2" is not supported`},
		"no id":                  {"", binary("Ce-Id", ""), "id", "required"},
		"no source":              {"", binary("Ce-Source", ""), "source", "required"},
		"no type":                {"", binary("Ce-Type", ""), "type", "required"},
		"empty id":               {"", append(binary("Ce-Id", ""), "Ce-Id", ""), "id", "empty"},
		"id twice":               {"", append(binary(), "Ce-Id", "2"), "id", "more than once"},
		"extension twice":        {"", binary("Ce-Ext", "1", "ce-EXT", "2"), "ext", "more than once"},
		"time":                   {"", binary("Ce-Time", "2026-02-30T00:00:00Z"), "time", "RFC 3339"},
		"dataschema":             {"", binary("Ce-Dataschema", "relative"), "dataschema", "absolute"},
		"source":                 {"", binary("Ce-Source", "http://[::1"), "source", "URI reference"},
		"content type":           {"", binary("Content-Type", "json"), "datacontenttype", "media type"},
		"ce-datacontenttype":     {"", binary("Ce-Datacontenttype", "text/plain"), "datacontenttype", "Content-Type header"},
		"name with underscore":   {"", binary("Ce-My_ext", "x"), "my_ext", "a-z and 0-9"},
		"name with hyphen":       {"", binary("Ce-My-Ext", "x"), "my-ext", "a-z and 0-9"},
		"name too long":          {"", binary("Ce-"+strings.Repeat("a", 11), "x"), strings.Repeat("a", 11), "1 to 10"},
		"name data":              {"", binary("Ce-Data", "x"), "data", "no name"},
		"value too long":         {"", binary("Ce-Ext", strings.Repeat("x", 51)), "ext", "limit of 50"},
		"too many extensions":    {"", binary("Ce-A", "1", "Ce-B", "2", "Ce-C", "3", "Ce-D", "4"), "*", "limit of 3"},
		"attributes too long":    {"", binary("Ce-A", strings.Repeat("x", 50), "Ce-B", strings.Repeat("x", 50), "Ce-C", strings.Repeat("x", 50)), "", "limit of 120"},
		"pass-through too long":  {"", binary("Knative-X", strings.Repeat("x", 20)), "Knative-X", "limit of 20"},
		"pass-through not UTF-8": {"", binary("Knative-X", "\xff"), "Knative-X", "UTF-8"},
		"not UTF-8":              {"", binary("Ce-Subject", "%FF"), "subject", "UTF-8"},
		"raw not UTF-8":          {"", binary("Ce-Subject", "\xff"), "subject", "UTF-8"},
		"control character":      {"", binary("Ce-Subject", "a%0Ab"), "subject", "U+000A"},
		"unknown event format":   {"", []string{"Content-Type", "application/cloudevents+avro"}, "Content-Type", "not supported"},
		"unknown batch format":   {"", binary("Content-Type", "application/cloudevents-batch+protobuf"), "Content-Type", "not supported"},
		"charset":                {structured(), []string{"Content-Type", "application/cloudevents+json; charset=latin1"}, "Content-Type", "utf-8"},
		"content encoding":       {"", binary("Content-Encoding", "gzip"), "Content-Encoding", "not supported"},
		"0.3 encoding":           {"", binary("Ce-Specversion", "0.3", "Ce-Datacontentencoding", "gzip"), "*", ""},
		"0.3 base64":             {"%", binary("Ce-Specversion", "0.3", "Ce-Datacontentencoding", "base64"), "*", ""},
		"empty body":             {"", structuredMode(), "", "byte 0"},
		"JSON not an object":     {"[]", structuredMode(), "", "JSON object"},
		"JSON syntax":            {`{"id":}`, structuredMode(), "", "byte 6"},
		"JSON cut short":         {structured()[:20], structuredMode(), "", "byte 20"},
		"more than one value":    {structured() + structured(), structuredMode(), "", "follows"},
		"JSON not UTF-8":         {structured(`"a":"` + "\xff" + `"`), structuredMode(), "", "not UTF-8"},
		"member twice":           {structured(`"id":"2"`), structuredMode(), "id", "more than once"},
		"data and data_base64":   {structured(`"data":1,"data_base64":"aGk="`), structuredMode(), "data_base64", "excludes data"},
		"data_base64":            {structured(`"data_base64":"aGk"`), structuredMode(), "data_base64", "base64"},
		"data_base64 a number":   {structured(`"data_base64":1`), structuredMode(), "data_base64", "string"},
		"data no string":         {structured(`"datacontenttype":"text/plain","data":{}`), structuredMode(), "data", "string"},
		"data too deep":          {structured(`"data":[[[[1]]]]`), structuredMode(), "", "limit of 3"},
		"fraction":               {structured(`"x":1.5`), structuredMode(), "x", "integer"},
		"too large integer":      {structured(`"x":2147483648`), structuredMode(), "x", "integer"},
		"nested":                 {structured(`"x":{}`), structuredMode(), "x", "nest"},
		"upper case":             {structured(`"myExt":"x"`), structuredMode(), "myExt", "a-z and 0-9"},
		"empty subject":          {structured(`"subject":""`), structuredMode(), "subject", "empty"},
		"id a number":            {strings.Replace(structured(), `"id":"1"`, `"id":1`, 1), structuredMode(), "id", "string"},
		"batch not an array":     {structured(), batchMode(), "", "array"},
		"batch cut short":        {"[" + structured(), batchMode(), "", "byte"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range targets {
				a := w.post(path, c.body, c.headers...)
				attribute := c.attribute
				if attribute == "*" { // which one is told depends on the order of headers
					attribute = a.problem.Attribute
				}
				(&world{T: t, fakes: w.fakes}).refused(a, http.StatusBadRequest, attribute, c.reason)
			}
		})
	}
}

// auth lets the token "good" send to default.
type auth struct{}

func (auth) Authorize(_ context.Context, authorization, namespace string) error {
	switch {
	case authorization != "Bearer good":
		return fmt.Errorf("%w: a bearer token is needed", ErrUnauthenticated)
	case namespace != "default":
		return fmt.Errorf("%w: the token is for default", ErrForbidden)
	}
	return nil
}

func TestAuthentication(t *testing.T) {
	w := newWorld(t, func(o *IngressOptions) { o.Authenticator = auth{} })
	for _, path := range append(targets, "/default/unknown", "/channels/default/unknown") {
		for _, h := range [][]string{nil, {"Authorization", "Bearer bad"}} {
			a := w.post(path, "", binary(h...)...)
			w.refused(a, http.StatusUnauthorized, "", "a bearer token is needed")
			if a.header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("%v", a.header)
			}
		}
		other := strings.Replace(path, "default", "other", 1)
		w.refused(w.post(other, "", binary("Authorization", "Bearer good")...), http.StatusForbidden, "", "for default")
		// Nobody learns by another method what is there.
		if a := w.send(http.MethodOptions, path, nil); a.status != http.StatusOK {
			t.Errorf("OPTIONS %s: %d", path, a.status)
		}
		w.refused(w.send(http.MethodGet, path, nil), http.StatusMethodNotAllowed, "", "POST")
	}
	for _, path := range targets {
		w.accepted(path, "", binary("Authorization", "Bearer good")...)
	}
	w.refused(w.post("/default/unknown", "", binary("Authorization", "Bearer good")...), http.StatusNotFound, "", "not there")
}

// chunked hides a body's length.
type chunked struct{ r *strings.Reader }

func (c chunked) Read(b []byte) (int, error) { return c.r.Read(b) }

func TestBodiesOverTheLimitAre413(t *testing.T) {
	w := newWorld(t, func(o *IngressOptions) {
		o.Limits = event.Limits{MaxDataBytes: 10_000, MaxBatchEvents: 3}
		o.MaxBodyBytes = 50_000
	})
	data := strings.Repeat("x", 10_001)
	inJSON := structured(`"data":"` + data + `"`)
	for name, c := range map[string]struct {
		body      string
		headers   []string
		attribute string
		reason    string
	}{
		"binary":       {data, binary("Content-Type", "text/plain"), "", "limit of 10000"},
		"structured":   {inJSON, structuredMode(), "data", "limit of 10000"},
		"base64":       {structured(`"data_base64":"` + strings.Repeat("AAAA", 3334) + `"`), structuredMode(), "data", "10002 bytes"},
		"whole body":   {structured(`"data":"` + strings.Repeat("x", 50_000) + `"`), structuredMode(), "", "limit of 50000"},
		"whole batch":  {"[" + strings.Repeat(" ", 50_000) + "]", batchMode(), "", "limit of 50000"},
		"batch events": {"[" + strings.Join([]string{structured(), structured(), structured(), structured()}, ",") + "]", batchMode(), "", "limit of 3"},
	} {
		for _, path := range targets {
			t.Run(name+path, func(t *testing.T) {
				w := &world{T: t, fakes: w.fakes, url: w.url}
				w.refused(w.post(path, c.body, c.headers...), http.StatusRequestEntityTooLarge, c.attribute, c.reason)
				w.refused(w.send(http.MethodPost, path, chunked{strings.NewReader(c.body)}, c.headers...), http.StatusRequestEntityTooLarge, c.attribute, c.reason)
			})
		}
	}
	for _, path := range targets {
		// The limit counts data as delivered, not as it is written.
		for _, e := range []*event.Event{
			w.accepted(path, data[1:], binary("Content-Type", "text/plain")...)[0],
			w.accepted(path, structured(`"datacontenttype":"text/plain","data":"`+strings.Repeat(`\u0078`, 5_000)+data[5_001:]+`"`), structuredMode()...)[0],
			w.accepted(path, structured(`"data_base64":"`+strings.Repeat("eHh4", 3333)+`eA=="`), structuredMode()...)[0],
			w.accepted(path, strings.Repeat("eHh4", 3333)+"eA==", binary("Ce-Specversion", "0.3", "Ce-Datacontentencoding", "base64")...)[0],
		} {
			if string(e.Data) != data[1:] {
				t.Errorf("%s: %d bytes of data, %.20q…", path, len(e.Data), e.Data)
			}
		}
	}
}

// TestUnavailableIs503WithRetryAfter: never 429, which would mean a quota of
// the sender's own.
func TestUnavailableIs503WithRetryAfter(t *testing.T) {
	w := newWorld(t, func(o *IngressOptions) { o.RetryAfter, o.AppendTimeout = 2100*time.Millisecond, time.Nanosecond })
	for _, c := range []struct {
		err    error
		reason string
	}{
		{raftlog.ErrOverloaded, "more events are waiting"},
		{raftlog.ErrDiskFull, "too little disk space"},
		{fmt.Errorf("%w: %w", raftlog.ErrStalled, context.DeadlineExceeded), "nothing was accepted"},
		{raftlog.ErrNotLeader, "nothing was accepted"},
		{raftlog.ErrClosed, "nothing was accepted"},
		{raftlog.ErrUnknownOutcome, "they may be"},
		{context.Canceled, "they may be"},
		{errors.New("something else"), "something else"},
		{nil, "they may be"}, // the deadline
	} {
		for _, path := range targets {
			w.at(path).failing(func(ctx context.Context) error {
				if c.err == nil {
					<-ctx.Done()
					return ctx.Err()
				}
				return fmt.Errorf("append to the channel: %w", c.err)
			})
			a := w.post(path, "", binary()...)
			w.refused(a, http.StatusServiceUnavailable, "", c.reason)
			if a.header.Get("Retry-After") != "3" { // rounded up: never earlier than asked
				t.Errorf("%v: Retry-After is %q", c.err, a.header.Get("Retry-After"))
			}
		}
	}
}

func TestMoreRequestsThanMayAre503(t *testing.T) {
	w := newWorld(t, func(o *IngressOptions) { o.MaxRequests = 1 })
	entered, leave := make(chan bool), make(chan bool)
	w.broker.failing(func(context.Context) error {
		entered <- true
		<-leave
		return nil
	})
	first := make(chan answer)
	go func() { first <- w.post(brokerPath, "", binary()...) }()
	<-entered
	a := w.post(channelPath, "", binary()...)
	w.refused(a, http.StatusServiceUnavailable, "", "limit")
	if a.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
	}
	close(leave)
	if a := <-first; a.status != http.StatusAccepted {
		t.Errorf("the first: %d %s", a.status, a.body)
	}
	w.accepted(channelPath, "", binary()...)
}
