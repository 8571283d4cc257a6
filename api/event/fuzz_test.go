package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"testing"
	"unicode/utf8"
)

// FuzzDecodeRecord: what reads as a record is written as one that reads alike.
func FuzzDecodeRecord(f *testing.F) {
	f.Add(AppendRecord(nil, sample()))
	f.Add(AppendRecord(nil, &Event{}))
	f.Add([]byte{recordVersion, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeRecord(b)
		if err != nil {
			return
		}
		again, err := DecodeRecord(AppendRecord(nil, e))
		if err != nil || !reflect.DeepEqual(e, again) {
			t.Errorf("%v: %+v, %+v", err, e, again)
		}
	})
}

// FuzzFromMessage: no message crashes it. What it takes is valid, and is the
// same event after any of its formats: the record, JSON, a batch, binary mode.
// What it refuses has a reason.
func FuzzFromMessage(f *testing.F) {
	f.Add("application/json", "Ce-X", "x", []byte("{}"))
	f.Add("text/plain", "ce-Subject", `"%C3%A9 \""`, []byte("\xff"))
	f.Add("application/json", "Ce-Time", "2026-01-02T03:04:05Z", []byte("\"\xff\""))
	f.Add("text/plain; charset=latin1", "Knative-X", "y", []byte("a"))
	f.Add("", "Ce-Datacontentencoding", "base64", []byte(" null "))
	f.Add(StructuredType, "X-B3-Sampled", "", []byte(`{"specversion":"1.0","id":"1","source":"s","type":"t","data":[1]}`))
	f.Add(StructuredType, "", "", []byte(`{"specversion":"0.3","id":"1","source":"s","type":"t","datacontenttype":"text/xml","data":"<\u00e9>","x":-1,"y":true}`))
	f.Add(BatchType, "", "", []byte(`[{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":""},{"specversion":"1.0","id":"2","source":"s","type":"t","data":null}]`))
	f.Add(BatchType, "", "", []byte(`[{"specversion":"1.0","id":"1","source":"s","type":"t"},{}]`))
	f.Add("", "Ce-\xe4", "", []byte("a"))
	f.Fuzz(func(t *testing.T, contentType, name, value string, body []byte) {
		h := headers{"Content-Type": {contentType}, "Ce-Specversion": {"1.0"}, "Ce-Source": {"/s"}, "Ce-Type": {"t"}, "Ce-Id": {"1"}, name: {value}}
		events, _, err := FromMessage(h, body, Limits{})
		if err != nil {
			checkReason(t, err)
			return
		}
		for _, e := range events {
			if err := e.Validate(); err != nil {
				t.Fatalf("taken, though %v", err)
			}
			checkRecord(t, e)
			checkBinary(t, e)
		}
		checkBatch(t, events)
	})
}

func checkReason(t *testing.T, err error) {
	var one *FormatError
	var batch BatchError
	switch {
	case errors.As(err, &batch):
		for _, f := range batch {
			if f.Index < 0 || f.Reason == "" {
				t.Fatalf("%+v", f)
			}
		}
	case !errors.As(err, &one) || one.Reason == "" || one.Index >= 0:
		t.Fatalf("%#v", err)
	}
	if !utf8.ValidString(err.Error()) {
		t.Fatalf("not UTF-8: %q", err)
	}
}

func checkRecord(t *testing.T, e *Event) {
	record := AppendRecord(nil, e)
	got, err := DecodeRecord(record)
	if err != nil {
		t.Fatalf("%+v: %v", e, err)
	}
	checkSame(t, "record", e, got)
}

// checkBatch reads events back from a batch in the JSON format.
func checkBatch(t *testing.T, events []*Event) {
	b := AppendBatch(nil, events)
	got, _, err := FromMessage(headers{"Content-Type": {BatchType}}, b, Limits{})
	if err != nil || len(got) != len(events) {
		t.Fatalf("%v: %q", err, b)
	}
	for i, e := range events {
		want := e.Clone()
		want.PassThrough = nil
		if IsJSON(e.DataContentType) && e.Data != nil {
			if json.Valid(e.Data) && utf8.Valid(e.Data) {
				want.Data = bytes.Trim(e.Data, " \t\r\n") // which surrounds the JSON
			}
			if e.DataContentType == "" {
				want.DataContentType = got[i].DataContentType // implied by the JSON format
			}
		}
		checkSame(t, "JSON", want, got[i])
	}
}

// checkBinary reads an event back from binary mode.
func checkBinary(t *testing.T, e *Event) {
	if mode, err := ModeOf(e.DataContentType); mode != Binary || err != nil {
		return // its data is an event format
	}
	h := http.Header{}
	for _, x := range e.AppendBinary(nil) {
		h[x.Name] = append(h[x.Name], x.Value)
	}
	events, _, err := FromMessage(headers(h), e.Data, Limits{})
	if err != nil {
		t.Fatalf("%v: %q", err, h)
	}
	want := e.Clone()
	for i, x := range want.Extensions { // a header has no types
		want.Extensions[i].Value = Value{Str: x.Value.Str}
	}
	if len(want.Data) == 0 {
		want.Data = nil
	}
	checkSame(t, "binary mode", want, events[0])
}

// checkSame compares events by their records, which hold all of them.
func checkSame(t *testing.T, by string, want, got *Event) {
	t.Helper()
	if !bytes.Equal(AppendRecord(nil, want), AppendRecord(nil, got)) {
		t.Fatalf("by %s\n%+v became\n%+v", by, want, got)
	}
}

// FuzzParseTraceparent: what is taken is written as it came.
func FuzzParseTraceparent(f *testing.F) {
	f.Add("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=1,b=2")
	f.Add("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", "\x00")
	f.Fuzz(func(t *testing.T, s, state string) {
		p, err := ParseTraceparent(s)
		if err == nil && p.String()[2:] != s[2:55] {
			t.Errorf("%q became %q", s, p)
		}
		trace, ok := ParseTrace(s, state)
		if ok != (err == nil) {
			t.Errorf("%q: %v, %v", s, ok, err)
		}
		if !ok {
			return
		}
		e := &Event{ID: "1", Source: "s", Type: "t"}
		e.SetTrace(trace)
		if got, ok := e.Trace(); !ok || got != trace || e.Validate() != nil {
			t.Errorf("%q became %q", s, got)
		}
		hop := trace.Child()
		e.SetTrace(hop)
		if got, ok := e.Trace(); !ok || got != hop {
			t.Errorf("%q became %q", hop, got)
		}
	})
}
