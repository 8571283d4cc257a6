package broker

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	sdk "github.com/cloudevents/sdk-go/v2"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/leat-dev/leat/api/event"
)

func TestBinaryMode(t *testing.T) {
	w := newWorld(t)
	for _, path := range targets {
		e := w.accepted(path, "{ }", binary(
			"Ce-Subject", "caf%C3%A9%20%22%25", "Ce-Raw", "café", "Ce-Percent", "100%", "Ce-Quoted", `"a \"b\""`, "CE-MiXed", "x",
			"Ce-Time", "2026-01-02t03:04:05.60+02:00", "Ce-Dataschema", "urn:x", "Content-Type", "text/plain; charset=utf-8",
			"X-Request-Id", "r1", "Knative-X", "k", "X-B3-Traceid", "b", "User-Agent", "u", "Authorization", "Bearer secret")...)[0]
		want := `specversion=1.0 id=1 source=/s type=t subject=café "% time=2026-01-02t03:04:05.60+02:00 datacontenttype=text/plain; charset=utf-8 dataschema=urn:x ` +
			`mixed=x(0) percent=100%(0) quoted=a "b"(0) raw=café(0)`
		if got := attributes(e); got != want || string(e.Data) != "{ }" {
			t.Errorf("got  %s\nwant %s\ndata %q", got, want, e.Data)
		}
		if got := fmt.Sprint(e.PassThrough); got != "[{Knative-X k} {X-B3-Traceid b} {X-Request-Id r1}]" {
			t.Errorf("passed through: %s", got)
		}
		if e := w.accepted(path, "", binary()...)[0]; e.Data != nil || e.DataContentType != "" {
			t.Errorf("no data became %q of %q", e.Data, e.DataContentType)
		}
	}
}

// TestRawUTF8InHeaders: as other clients than Go's write it.
func TestRawUTF8InHeaders(t *testing.T) {
	w := newWorld(t)
	c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST /default/b HTTP/1.1\r\nHost: x\r\nce-specversion: 1.0\r\nCE-ID: ü€😀\r\nce-source:/s\r\nce-type:\tt \r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\nda\r\n2\r\nta\r\n0\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != http.StatusAccepted {
		t.Fatalf("%v, %v", res, err)
	}
	e := w.broker.take()[0][0]
	if e.ID != "ü€😀" || e.Type != "t" || string(e.Data) != "data" {
		t.Errorf("%s, data %q", attributes(e), e.Data)
	}
}

func TestStructuredModeKeepsTypesAndSpelling(t *testing.T) {
	w := newWorld(t)
	for _, path := range targets {
		e := w.accepted(path, structured(`"n":7`, `"s":"7"`, `"yes":true`, `"no":false`, `"gone":null`, `"time":"2026-01-02T03:04:05.600+02:00"`, `"data":{ "a" : 1.50, "b":"\u00e9" }`), structuredMode()...)[0]
		want := "specversion=1.0 id=1 source=/s type=t time=2026-01-02T03:04:05.600+02:00 datacontenttype=application/json n=7(1) no=false(2) s=7(0) yes=true(2)"
		if got := attributes(e); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if string(e.Data) != `{ "a" : 1.50, "b":"\u00e9" }` {
			t.Errorf("data %s", e.Data)
		}
	}
}

// TestVersion03IsKeptAs10, in all modes.
func TestVersion03IsKeptAs10(t *testing.T) {
	w := newWorld(t)
	v03 := strings.Replace(structured(`"schemaurl":"http://x/s"`, `"datacontenttype":"text/plain"`, `"datacontentencoding":"base64"`, `"data":"aGk="`), "1.0", "0.3", 1)
	h := binary("Ce-Specversion", "0.3", "Ce-Schemaurl", "http://x/s", "Ce-Datacontentencoding", "base64", "Content-Type", "text/plain")
	const want = "specversion=1.0 id=1 source=/s type=t datacontenttype=text/plain dataschema=http://x/s"
	for _, path := range targets {
		for _, events := range [][]*event.Event{
			w.accepted(path, "aGk=", h...), w.accepted(path, v03, structuredMode()...), w.accepted(path, "["+v03+"]", batchMode()...),
		} {
			if got := attributes(events[0]); got != want || string(events[0].Data) != "hi" {
				t.Errorf("got  %s, data %q\nwant %s", got, events[0].Data, want)
			}
		}
	}
}

func TestEmptyBatchIs202(t *testing.T) {
	w := newWorld(t)
	for _, path := range targets {
		for _, body := range []string{"[]", " [ \n] "} {
			if a := w.post(path, body, batchMode()...); a.status != http.StatusAccepted {
				t.Errorf("%d %s", a.status, a.body)
			}
			if n := len(w.at(path).take()); n > 0 {
				t.Errorf("%d appends", n)
			}
		}
	}
}

// TestBatchesAreAllOrNothing, and each bad event is told of by index, also
// where it is the TTL or the size that is bad.
func TestBatchesAreAllOrNothing(t *testing.T) {
	w := newWorld(t, func(o *IngressOptions) { o.Limits.MaxDataBytes = 10 })
	large := structured(`"data":"more than ten"`)
	noID := `{"specversion":"1.0","source":"s","type":"t"}`
	for name, c := range map[string]struct {
		events []string
		status int
		want   string
	}{
		"format":    {[]string{structured(), noID, structured(`"X":"1"`), structured(), "7"}, 400, "1 id, 2 X, 4 "},
		"too large": {[]string{structured(), large}, 413, "1 data"},
		"both":      {[]string{large, noID}, 400, "0 data, 1 id"},
		"one":       {[]string{noID}, 400, "0 id"},
	} {
		for _, path := range targets {
			a := w.post(path, "["+strings.Join(c.events, ",")+"]", batchMode()...)
			w.refused(a, c.status, "", "none was accepted")
			if got := problems(a.problem); got != c.want {
				t.Errorf("%s: got %s, want %s: %s", name, got, c.want, a.body)
			}
		}
	}
	a := w.post(brokerPath, "["+strings.Join([]string{structured(`"knativebrokerttl":1`), structured(), structured(`"knativebrokerttl":"0"`)}, ",")+"]", batchMode()...)
	w.refused(a, http.StatusBadRequest, "", "none was accepted")
	if got := problems(a.problem); got != "0 knativebrokerttl, 2 knativebrokerttl" {
		t.Errorf("TTL: %s", a.body)
	}
	many := strings.Repeat("{},", 250)
	a = w.post(brokerPath, "["+many[:len(many)-1]+"]", batchMode()...)
	w.refused(a, http.StatusBadRequest, "", "250 events are bad")
	if n := len(a.problem.Events); n != maxProblems {
		t.Errorf("told of %d bad events, want %d", n, maxProblems)
	}
}

// problems lists index and attribute of each bad event; each has a reason.
func problems(p Problem) string {
	var out []string
	for _, e := range p.Events {
		if e.Reason == "" {
			return "no reason"
		}
		out = append(out, fmt.Sprintf("%d %s", e.Index, e.Attribute))
	}
	return strings.Join(out, ", ")
}

// TestSecondOpinion: the CloudEvents SDK's client is understood in its three
// modes, and takes 202 for success.
func TestSecondOpinion(t *testing.T) {
	w := newWorld(t)
	in := sdk.NewEvent()
	in.SetID("id-1")
	in.SetSource("/source")
	in.SetType("type")
	in.SetSubject("subject")
	in.SetTime(now.UTC())
	in.SetExtension("number", 42)
	in.SetExtension("flag", true)
	if err := in.SetData(sdk.ApplicationJSON, map[string]int{"a": 1}); err != nil {
		t.Fatal(err)
	}
	const asText = "specversion=1.0 id=id-1 source=/source type=type subject=subject time=2026-01-02T02:04:05.678901234Z datacontenttype=application/json flag=true(0) number=42(0)"
	const typed = "specversion=1.0 id=id-1 source=/source type=type subject=subject time=2026-01-02T02:04:05.678901234Z datacontenttype=application/json flag=true(2) number=42(1)"
	for _, path := range targets {
		client, err := sdk.NewClientHTTP(cehttp.WithTarget(w.url + path))
		if err != nil {
			t.Fatal(err)
		}
		var answer *cehttp.Result
		if r := client.Send(t.Context(), in); !sdk.IsACK(r) || !sdk.ResultAs(r, &answer) || answer.StatusCode != http.StatusAccepted {
			t.Fatalf("binary: %v", r)
		}
		if r := client.Send(sdk.WithEncodingStructured(t.Context()), in); !sdk.IsACK(r) {
			t.Fatalf("structured: %v", r)
		}
		r, err := cehttp.NewHTTPRequestFromEvents(t.Context(), w.url+path, []sdk.Event{in, in})
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil || res.StatusCode != http.StatusAccepted {
			t.Fatalf("batch: %v, %v", res, err)
		}
		res.Body.Close()
		appends := w.at(path).take()
		if len(appends) != 3 || len(appends[2]) != 2 {
			t.Fatalf("%d appends", len(appends))
		}
		for i, want := range []string{asText, typed, typed, typed} {
			e := appends[min(i, 2)][max(0, i-2)]
			if got := attributes(e); got != want || string(e.Data) != `{"a":1}` {
				t.Errorf("%d: got  %s, data %q\nwant %s", i, got, e.Data, want)
			}
			var back sdk.Event
			if b, err := e.MarshalJSON(); err != nil || json.Unmarshal(b, &back) != nil || back.Validate() != nil || back.ID() != in.ID() {
				t.Errorf("the SDK does not read %s", b)
			}
		}
	}
	// A refusal is no success to it.
	client, err := sdk.NewClientHTTP(cehttp.WithTarget(w.url + "/default/unknown"))
	if err != nil {
		t.Fatal(err)
	}
	var answer *cehttp.Result
	if r := client.Send(t.Context(), in); sdk.IsACK(r) || !sdk.ResultAs(r, &answer) || answer.StatusCode != http.StatusNotFound {
		t.Errorf("unknown broker: %v", r)
	}
}
