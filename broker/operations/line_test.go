package operations

import (
	"bytes"
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
)

// encoded is a line as encoding/json has it.
func encoded(t testing.TB, l Line) string {
	t.Helper()
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(l); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestLinesAreAsEncodingJSONHasThem, and mean the same when they are read.
func TestLinesAreAsEncodingJSONHasThem(t *testing.T) {
	for _, data := range []string{
		`{"n":1}`, "{ \"n\" :\t1,\r\n \"html\": \"<&> \u2028\" }", `" a \" b \\" `, `["\\\\\" ","", " \\"]`, ` 1 `, `"` + strings.Repeat(`\\\" `, 40) + `"`, `[]`, `not JSON "`,
	} {
		e := &event.Event{ID: "i\"\\", Source: "/s <&>", Type: "t", DataContentType: "application/json", Data: []byte(data)}
		for _, micros := range []int64{0, 1, 1_767_323_045_000_000, 1_767_323_045_120_000} {
			s := channel.Stored{Offset: 1 << 60, Time: micros, Event: e}
			got := appendEvent([]byte("before"), 3, s)
			want := Line{Partition: 3, Offset: s.Offset, Time: time.UnixMicro(micros).UTC(), Event: e.AppendJSON(nil)}
			if "before"+encoded(t, want) != string(got) {
				t.Errorf("got  %s\nwant %s", got, encoded(t, want))
			}
			read, err := ParseLine(got[len("before"):])
			if err != nil {
				t.Fatal(err)
			}
			if again, err := AppendLine(nil, read); err != nil || string(again) != string(got[len("before"):]) {
				t.Errorf("%s became %s, %v", got, again, err)
			}
		}
	}
	for _, l := range []Line{{Error: "no"}, {Offset: 4, Gap: &Gap{To: 7, Reason: GapExpired}}, {Event: json.RawMessage(`{"id":"x"}`)}} {
		b, err := AppendLine(nil, l)
		if err != nil || string(b) != encoded(t, l) {
			t.Errorf("got %s, %v, want %s", b, err, encoded(t, l))
		}
		if read, err := ParseLine(b); err != nil || encoded(t, read) != encoded(t, l) {
			t.Errorf("%s was read as %+v, %v", b, read, err)
		}
	}
}

// FuzzParseLine: the short way to read a line gives what encoding/json gives,
// or leaves it to that.
func FuzzParseLine(f *testing.F) {
	for _, s := range []string{
		`{"partition":0,"offset":1,"time":"2026-01-02T03:00:01Z","event":{"id":"x"}}`,
		`{"partition":0,"offset":1,"time":"2026-01-02T03:00:01Z","event":{"id":"x"},"error":"y"}`,
		`{"partition":+1,"offset":01,"time":"2026-01-02T03:00:01Z","event":{}}`,
		`{"partition":0,"offset":1,"time":"x","event":1}`, `{"partition":0,"offset":2,"gap":{"to":3,"reason":"expired"}}`,
		`{"partition":0,"offset":1,"time":"2026-01-02T03:00:01,5Z","event":null}`, `{"offset":1,"event":{}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := parseEvent(b)
		if !ok {
			return
		}
		var want Line
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatalf("%q was read, where encoding/json says: %v", b, err)
		}
		if got.Partition != want.Partition || got.Offset != want.Offset || !got.Time.Equal(want.Time) || !bytes.Equal(bytes.TrimSpace(got.Event), want.Event) {
			t.Errorf("%q was read as %+v, not %+v", b, got, want)
		}
	})
}

// FuzzMembers: they are those that encoding/json finds.
func FuzzMembers(f *testing.F) {
	for _, s := range []string{
		`{}`, ` { } `, `{"id":"x","data":{"a":[1,{"b":"}],\\\""}],"c":2},"n":1.5e3,"t":true,"z":null}`, `{ "i\u0064" : "\u00e4\"" , "data" : [ ] }`, `{"":"\\"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var want map[string]json.RawMessage
		if err := json.Unmarshal(b, &want); err != nil || want == nil {
			return
		}
		got := map[string]json.RawMessage{}
		for name, value := range (Line{Event: b}).Members {
			got[name] = bytes.Clone(value)
			var text string
			if json.Unmarshal(value, &text) != nil {
				text = ""
			}
			if Text(value) != text {
				t.Errorf("%s says %q, not %q", value, Text(value), text)
			}
		}
		if !maps.EqualFunc(got, want, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
			t.Errorf("%s has %s, not %s", b, got, want)
		}
	})
}
