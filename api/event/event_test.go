package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"

	sdk "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/google/go-cmp/cmp"
)

// headers is a message's headers as net/http has them.
type headers http.Header

func (h headers) Get(name string) string { return http.Header(h).Get(name) }

func (h headers) Each(f func(name, value string)) {
	for name, values := range h {
		for _, v := range values {
			f(name, v)
		}
	}
}

func binaryMode(attributes map[string]string) headers {
	h := http.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/s"}, "Ce-Type": {"t"}}
	for k, v := range attributes {
		if v == "" {
			h.Del(k)
			continue
		}
		h.Set(k, v)
	}
	return headers(h)
}

func structured() headers { return headers{"Content-Type": {StructuredType}} }

func one(t *testing.T, h Headers, body string) *Event {
	t.Helper()
	events, _, err := FromMessage(h, []byte(body), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return events[0]
}

func sample() *Event {
	return &Event{
		ID: "a b%\"ü", Source: "/s?x=1", Type: "t", Subject: "sübject", Time: "2026-01-02T03:04:05.5+02:00",
		DataContentType: "application/json", DataSchema: "https://example.com/s",
		Extensions: []Extension{{"a", Value{Str: "1"}}, {"b", IntegerValue(-7)}, {"c", BooleanValue(true)}, {"empty", Value{}}},
		Data:       []byte(`{"n": 1}`), PassThrough: []Header{{"Knative-X", "y"}},
	}
}

func TestRecordRoundTrip(t *testing.T) {
	for _, e := range []*Event{sample(), {ID: "1", Source: "s", Type: "t"}, {ID: "1", Source: "s", Type: "t", Data: []byte{}}} {
		b := AppendRecord([]byte("prefix"), e)[len("prefix"):]
		got, err := DecodeRecord(b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(e, got); d != "" {
			t.Error(d)
		}
		for cut := range b[:len(b)-len(e.Data)] {
			if _, err := DecodeRecord(b[:cut]); err == nil {
				t.Errorf("a record cut to %d bytes was read", cut)
			}
		}
	}
}

func TestRecordsWithOtherValuesAreRefused(t *testing.T) {
	good := AppendRecord(nil, &Event{ID: "1", Source: "s", Type: "t", Extensions: []Extension{{"x", BooleanValue(true)}}})
	boolean := bytes.Index(good, []byte("x\x02\x02"))
	for name, change := range map[string]func(b []byte) []byte{
		"version":          func(b []byte) []byte { b[0]++; return b },
		"boolean of 2":     func(b []byte) []byte { b[boolean+2] = 4; return b },
		"unknown kind":     func(b []byte) []byte { b[boolean+1] = 3; return b },
		"data without say": func(b []byte) []byte { return append(b, 'x') },
		"unknown name":     func(b []byte) []byte { b[boolean-1], b[boolean] = 0, knownNames; return b },
		"empty":            func([]byte) []byte { return nil },
	} {
		if e, err := DecodeRecord(change(bytes.Clone(good))); err == nil {
			t.Errorf("%s: read as %+v", name, e)
		}
	}
}

func TestBinaryRoundTrip(t *testing.T) {
	e := sample()
	h := http.Header{}
	for _, x := range e.AppendBinary(nil) {
		h.Set(x.Name, x.Value)
	}
	got := one(t, headers(h), string(e.Data))
	want := sample()
	for i := range want.Extensions { // a header has no types, and no empty values
		want.Extensions[i].Value = Value{Str: want.Extensions[i].Value.Str}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestStructuredRoundTrip(t *testing.T) {
	e := sample()
	e.PassThrough = nil
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	want := sample()
	want.PassThrough = nil
	want.Data = []byte(`{"n":1}`) // json.Marshal compacts
	if d := cmp.Diff(want, one(t, structured(), string(b))); d != "" {
		t.Error(d)
	}
	for contentType, data := range map[string][]byte{
		"text/plain": []byte("hällo"), "application/octet-stream": {0xff, 0}, "application/json": []byte("not json"), "": []byte(`"text"`),
	} {
		e := &Event{ID: "1", Source: "s", Type: "t", DataContentType: contentType, Data: data}
		b, err := e.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if got := one(t, structured(), string(b)); !bytes.Equal(got.Data, data) {
			t.Errorf("%s: %q became %q by way of %s", contentType, data, got.Data, b)
		}
	}
}

func TestBinaryMode(t *testing.T) {
	e := one(t, binaryMode(map[string]string{
		"Ce-Subject": `"quoted \"%20x\""`, "Ce-Myext": "caf%C3%A9", "Ce-Raw": "caf\u00e9", "Ce-Percent": "100%",
		"Content-Type": "text/plain; charset=utf-8", "Ce-Time": "2026-01-02t03:04:05z",
	}), "data")
	want := &Event{ID: "1", Source: "/s", Type: "t", Subject: `quoted " x"`, Time: "2026-01-02t03:04:05z", DataContentType: "text/plain; charset=utf-8",
		Extensions: []Extension{{"myext", Value{Str: "café"}}, {"percent", Value{Str: "100%"}}, {"raw", Value{Str: "café"}}}, Data: []byte("data")}
	if d := cmp.Diff(want, e); d != "" {
		t.Error(d)
	}
}

func TestSpecversion03IsConverted(t *testing.T) {
	e := one(t, binaryMode(map[string]string{"Ce-Specversion": "0.3", "Ce-Schemaurl": "http://x/s", "Ce-Datacontentencoding": "base64"}), "aGk=")
	if e.DataSchema != "http://x/s" || string(e.Data) != "hi" || len(e.Extensions) != 0 {
		t.Errorf("%+v", e)
	}
	e = one(t, structured(), `{"specversion":"0.3","id":"1","source":"s","type":"t","datacontentencoding":"base64","data":"aGk="}`)
	if string(e.Data) != "hi" {
		t.Errorf("%+v", e)
	}
}

func TestTypesAndDataOfJSON(t *testing.T) {
	e := one(t, structured(), `{"specversion":"1.0","id":"1","source":"s","type":"t","n":7,"neg":-2147483648,"yes":true,"gone":null,"s":"7","data":{ "a" : 1.50 } }`)
	want := []Extension{{"n", IntegerValue(7)}, {"neg", IntegerValue(-2147483648)}, {"s", Value{Str: "7"}}, {"yes", BooleanValue(true)}}
	if d := cmp.Diff(want, e.Extensions); d != "" {
		t.Error(d)
	}
	if string(e.Data) != `{ "a" : 1.50 }` || e.DataContentType != "application/json" {
		t.Errorf("data %q of %q", e.Data, e.DataContentType)
	}
}

func TestRefusalsNameAttributeAndReason(t *testing.T) {
	const ok = `"specversion":"1.0","id":"1","source":"s","type":"t"`
	for name, c := range map[string]struct {
		h               Headers
		body            string
		attribute, want string
	}{
		"no event":          {headers{}, "x", "specversion", "is required"},
		"an empty type":     {structured(), `{"specversion":"1.0","id":"1","source":"s","type":""}`, "type", "is required and must not be empty"},
		"an empty subject":  {structured(), `{` + ok + `,"subject":""}`, "subject", "must not be empty; leave it out"},
		"specversion":       {binaryMode(map[string]string{"Ce-Specversion": "2.0"}), "", "specversion", `"2.0" is not supported`},
		"no id":             {binaryMode(map[string]string{"Ce-Id": ""}), "", "id", "required"},
		"time":              {binaryMode(map[string]string{"Ce-Time": "yesterday"}), "", "time", "RFC 3339"},
		"schema":            {binaryMode(map[string]string{"Ce-Dataschema": "relative"}), "", "dataschema", "absolute"},
		"source":            {binaryMode(map[string]string{"Ce-Source": "http://[::1"}), "", "source", "URI reference"},
		"content type":      {binaryMode(map[string]string{"Content-Type": "json"}), "", "datacontenttype", "media type"},
		"extension name":    {binaryMode(map[string]string{"Ce-My_ext": "x"}), "", "my_ext", "a-z and 0-9"},
		"not UTF-8":         {binaryMode(map[string]string{"Ce-Subject": "%FF"}), "", "subject", "UTF-8"},
		"control character": {binaryMode(map[string]string{"Ce-Subject": "a%00b"}), "", "subject", "U+0000"},
		"event format":      {headers{"Content-Type": {"application/cloudevents+avro"}}, "", "Content-Type", "not supported"},
		"charset":           {headers{"Content-Type": {"application/cloudevents+json; charset=latin1"}}, "{}", "Content-Type", "utf-8"},
		"not an object":     {structured(), `[]`, "", "JSON object"},
		"syntax":            {structured(), `{"id":}`, "", "byte"},
		"cut short":         {structured(), `{"id":"1"`, "", "byte"},
		"more behind":       {structured(), `{` + ok + `} x`, "", "follows"},
		"twice":             {structured(), `{` + ok + `,"id":"2"}`, "id", "more than once"},
		"both datas":        {structured(), `{` + ok + `,"data":1,"data_base64":"aGk="}`, "data_base64", "excludes data"},
		"base64":            {structured(), `{` + ok + `,"data_base64":"%"}`, "data_base64", "base64"},
		"float":             {structured(), `{` + ok + `,"x":1.5}`, "x", "integer"},
		"too large integer": {structured(), `{` + ok + `,"x":2147483648}`, "x", "integer"},
		"nested":            {structured(), `{` + ok + `,"x":{}}`, "x", "nest"},
		"id a number":       {structured(), `{"specversion":"1.0","id":1,"source":"s","type":"t"}`, "id", "string"},
		"upper case":        {structured(), `{` + ok + `,"myExt":"x"}`, "myExt", "a-z and 0-9"},
		"name data":         {binaryMode(map[string]string{"Ce-Data": "x"}), "", "data", "no name"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := FromMessage(c.h, []byte(c.body), Limits{})
			var f *FormatError
			if !errors.As(err, &f) || f.Attribute != c.attribute || !strings.Contains(f.Reason, c.want) {
				t.Errorf("got %v, want %s: …%s…", err, c.attribute, c.want)
			}
		})
	}
}

func TestBatchIsWholeOrNothing(t *testing.T) {
	h := headers{"Content-Type": {BatchType + "; charset=UTF-8"}}
	good := `{"specversion":"1.0","id":"1","source":"s","type":"t"}`
	if events, mode, err := FromMessage(h, []byte("["+good+","+good+"]"), Limits{}); err != nil || len(events) != 2 || mode != Batch {
		t.Errorf("%d events, %v", len(events), err)
	}
	if events, _, err := FromMessage(h, []byte("[]"), Limits{}); err != nil || len(events) != 0 {
		t.Errorf("the empty batch: %d events, %v", len(events), err)
	}
	events, _, err := FromMessage(h, []byte(`[`+good+`,{"id":"2"},`+good+`,7]`), Limits{})
	var bad BatchError
	if !errors.As(err, &bad) || events != nil || len(bad) != 2 || bad[0].Index != 1 || bad[1].Index != 3 {
		t.Errorf("%d events, %v", len(events), err)
	}
	for _, body := range []string{"", "{}", "[" + good, "[" + good + "] x", "[" + good + ",]"} {
		if _, _, err := FromMessage(h, []byte(body), Limits{}); err == nil {
			t.Errorf("%q was taken", body)
		}
	}
}

func TestLimits(t *testing.T) {
	big := binaryMode(map[string]string{"Content-Type": "text/plain"})
	_, _, err := FromMessage(big, make([]byte, 11), Limits{MaxDataBytes: 10})
	var f *FormatError
	if !errors.As(err, &f) || !f.TooLarge {
		t.Errorf("got %v", err)
	}
	for _, l := range []Limits{{MaxExtensions: 1}, {MaxNameBytes: 2}, {MaxValueBytes: 3}} {
		if _, _, err := FromMessage(binaryMode(map[string]string{"Ce-Aaa": "1234", "Ce-Bbb": "2"}), nil, l); err == nil {
			t.Errorf("%+v did not hold", l)
		}
	}
}

// TestSecondOpinion: what the CloudEvents SDK writes is read here, and the
// other way round. (The SDK does not decode percent-encoding, so there is none.)
func TestSecondOpinion(t *testing.T) {
	in := sdk.NewEvent()
	in.SetID("id-1")
	in.SetSource("/source")
	in.SetType("type")
	in.SetSubject("subject")
	in.SetExtension("text", "text")
	in.SetExtension("number", 42)
	in.SetExtension("flag", true)
	if err := in.SetData(sdk.ApplicationJSON, map[string]any{"a": 1}); err != nil {
		t.Fatal(err)
	}
	for name, encode := range map[string]func() (headers, []byte){
		"binary": func() (headers, []byte) {
			r, _ := http.NewRequest(http.MethodPost, "http://x", nil)
			if err := cehttp.WriteRequest(t.Context(), binding.ToMessage(&in), r); err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			b.ReadFrom(r.Body)
			return headers(r.Header), b.Bytes()
		},
		"structured": func() (headers, []byte) {
			b, err := json.Marshal(in)
			if err != nil {
				t.Fatal(err)
			}
			return structured(), b
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, body := encode()
			e := one(t, h, string(body))
			out := http.Header{}
			for _, x := range e.AppendBinary(nil) {
				out.Set(x.Name, x.Value)
			}
			back, err := binding.ToEvent(t.Context(), cehttp.NewMessage(out, nopCloser{bytes.NewReader(e.Data)}))
			if err != nil {
				t.Fatal(err)
			}
			if back.ID() != in.ID() || back.Subject() != in.Subject() || back.Extensions()["text"] != in.Extensions()["text"] || !bytes.Equal(back.Data(), in.Data()) {
				t.Errorf("sent\n%s\ngot\n%s", in, back)
			}
			b, err := e.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			var again sdk.Event
			if err := json.Unmarshal(b, &again); err != nil || again.ID() != in.ID() || !bytes.Equal(again.Data(), in.Data()) {
				t.Errorf("%v: %s", err, b)
			}
			if name == "structured" && !reflect.DeepEqual(again.Extensions(), in.Extensions()) {
				t.Errorf("%v, want %v", again.Extensions(), in.Extensions())
			}
		})
	}
}

type nopCloser struct{ *bytes.Reader }

func (nopCloser) Close() error { return nil }

func TestTrace(t *testing.T) {
	const header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	p, err := ParseTraceparent(header)
	if err != nil || p.String() != header {
		t.Errorf("%s, %v", p, err)
	}
	if c := p.Child(); c.TraceID != p.TraceID || c.SpanID == p.SpanID || c.Flags != 1 {
		t.Errorf("child %s of %s", c, p)
	}
	if n := NewTrace(); n.TraceID == NewTrace().TraceID {
		t.Error("two traces have one ID")
	}
	for _, s := range []string{"", "00", header[:54], header + "x", "ff" + header[2:], strings.ToUpper(header), "00-" + strings.Repeat("0", 32) + "-b7ad6b7169203331-01",
		"0A" + header[2:], strings.Replace(header, "af", "aF", 1), strings.Replace(header, "b7ad", "B7ad", 1), header[:54] + "A", header[:54] + "g"} {
		if _, err := ParseTraceparent(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

// BenchmarkTrace is what each delivery asks an event for.
func BenchmarkTrace(b *testing.B) {
	e := sample()
	e.SetTrace(NewTrace())
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := e.Trace(); !ok {
			b.Fatal("no trace")
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	e := sample()
	e.Data = make([]byte, 1024)
	record := AppendRecord(nil, e)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		buf := make([]byte, 0, 2*len(record))
		for b.Loop() {
			buf = AppendRecord(buf[:0], e)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := DecodeRecord(record); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("binary", func(b *testing.B) {
		b.ReportAllocs()
		h := binaryMode(map[string]string{"Content-Type": "application/json", "Ce-Subject": "x"})
		for b.Loop() {
			if _, _, err := FromMessage(h, e.Data, Limits{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestKnownNamesAreTheFormat: the numbers stand in records for ever.
func TestKnownNamesAreTheFormat(t *testing.T) {
	for n := range byte(knownNames) {
		if got, ok := knownNumber(knownName(n)); !ok || got != n {
			t.Errorf("number %d is %q, which is number %d", n, knownName(n), got)
		}
	}
	e := &Event{ID: "1", Source: "s", Type: "t", Extensions: []Extension{{Traceparent, Value{Str: "x"}}, {"z", BooleanValue(true)}}}
	want := "\x01\x16" + "\x011" + "\x01s" + "\x01t" + "\x00\x00\x00\x00" + "\x02" + "\x00\x03\x00\x01x" + "\x01z\x02\x02" + "\x00" + "\x00"
	if got := AppendRecord(nil, e); string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestEveryEventHasARecord: what should not be in the log must not make it
// unreadable when it is.
func TestEveryEventHasARecord(t *testing.T) {
	e := &Event{Extensions: []Extension{{"b", Value{Kind: Boolean, Int: 7}}, {"a", Value{Kind: Integer, Int: -1, Str: "x"}}, {"b", Value{Str: "second"}}, {"", Value{Kind: 9, Str: "odd"}}}}
	want := &Event{Extensions: []Extension{{"", Value{Str: "odd"}}, {"a", IntegerValue(-1)}, {"b", BooleanValue(true)}}}
	got, err := DecodeRecord(AppendRecord(nil, e))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	e.AppendBinary(nil)
	e.AppendJSON(nil)
}

// TestRecordsShareTheRoomOfTheirExtensions: events that are made one after another
// have their extensions behind each other's, each its own, and in memory of their own
// when there is no room left.
func TestRecordsShareTheRoomOfTheirExtensions(t *testing.T) {
	room := make([]Extension, 0, 3)
	var events [3]Event
	var want [3]*Event
	for i := range events {
		want[i] = &Event{ID: strconv.Itoa(i), Source: "/s", Type: "t"}
		for j := range 2 {
			want[i].SetExtension("x"+strconv.Itoa(j), IntegerValue(int32(10*i+j)))
		}
		var err error
		events[i].Subject = "of an earlier one"
		if room, err = events[i].FromRecord(AppendRecord(nil, want[i]), room); err != nil {
			t.Fatal(err)
		}
	}
	events[0].Extensions = append(events[0].Extensions, Extension{Name: "more"})
	events[0].Extensions = events[0].Extensions[:2]
	for i := range events {
		if !reflect.DeepEqual(&events[i], want[i]) {
			t.Errorf("event %d is %+v, want %+v", i, events[i], want[i])
		}
	}
	bad := AppendRecord(nil, want[0])
	if _, err := events[0].FromRecord(bad[:len(bad)-1], room); err == nil || !reflect.DeepEqual(events[0], Event{}) {
		t.Errorf("half a record is %+v, %v", events[0], err)
	}
}
