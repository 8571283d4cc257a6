package event

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzScanner: the scanner takes what encoding/json takes, and nothing else;
// and its strings are the same, but that it refuses half a surrogate pair.
func FuzzScanner(f *testing.F) {
	for _, s := range []string{
		`{}`, `[]`, ` [ 1 , -0.5e+3 , true,false , null ] `, `{"a":{"b":[[],{}]},"c":"\u00e9\ud83d\ude00\n"}`, `"ü\"\\"`,
		`{"a":1,}`, `[1,]`, `[,1]`, `{"a"}`, `{1:2}`, `01`, `1.`, `-`, `1e`, `tru`, `"\x"`, `"\u12"`, "\"\x01\"", `"open`, `[1 2]`, `{"a":1 "b":2}`, `[}`, `{]`, ``, ` `,
		"\x00", `"\ud800"`, `"\ud800\u0041"`, `"twelve bytes\t"`, strings.Repeat("[", 70) + strings.Repeat("]", 70),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if !utf8.Valid(b) {
			return
		}
		s := scanner{b: b, maxDepth: 10_000}
		got, err := s.value()
		if err == nil {
			err = s.end()
		}
		if json.Valid(b) != (err == nil) {
			t.Fatalf("%q: got %v, want valid %v", b, err, json.Valid(b))
		}
		if err != nil {
			return
		}
		if !bytes.Equal(got, bytes.Trim(b, " \t\r\n")) {
			t.Fatalf("%q: the value is %q", b, got)
		}
		var want string
		if got[0] != '"' || json.Unmarshal(b, &want) != nil {
			return
		}
		text, bad := unquoteJSON([]byte("x"), got)
		if bad == nil && string(text) != want {
			t.Fatalf("%q: got %q, want %q", b, text, want)
		}
		if bad != nil && !strings.ContainsRune(want, utf8.RuneError) {
			t.Fatalf("%q: %v", b, bad)
		}
	})
}

func TestScannerBoundsDepth(t *testing.T) {
	for depth, ok := range map[int]bool{3: true, 4: false} {
		s := scanner{b: []byte(strings.Repeat("[", depth) + strings.Repeat("]", depth)), maxDepth: 3}
		if _, err := s.value(); (err == nil) != ok {
			t.Errorf("depth %d: %v", depth, err)
		}
	}
}

// FuzzQuote: what is written as a JSON string reads back, in encoding/json too.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "plain", "\"\\\n\r\t\b\x00\x7f", "ü€😀", "bad \xff utf8", "\u2028<&>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b := appendQuoted(nil, s)
		var got string
		if err := json.Unmarshal(b, &got); err != nil || got != string([]rune(s)) {
			t.Fatalf("%q became %q: %v", s, got, err)
		}
	})
}

// FuzzHeaderValue: what is written as a header's value reads back, and is
// nothing but visible ASCII.
func FuzzHeaderValue(f *testing.F) {
	for _, s := range []string{"", "plain", `"quoted"`, "100%", "%41", "a b", "ü€😀", "\x00\x7f\r\n", `\`, `"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h := encodeHeader(s)
		for i := range len(h) {
			if h[i] <= 0x20 || h[i] >= 0x7f {
				t.Fatalf("%q became %q", s, h)
			}
		}
		if got := decodeHeader(h); got != s {
			t.Fatalf("%q became %q, which reads as %q", s, h, got)
		}
	})
}

// TestPlainEndsAtWhatNeedsCare, wherever that stands.
func TestPlainEndsAtWhatNeedsCare(t *testing.T) {
	for _, length := range []int{0, 1, 7, 8, 9, 31, 40, 159, 160, 161, 300, 420} {
		for at := range length + 1 {
			for _, c := range []byte{'"', '\\', 0, 0x1f, ' ', 0x7f, 0x80, 0xff} {
				b, want := bytes.Repeat([]byte{'x'}, length), length
				if at < length {
					if b[at] = c; c < 0x20 || c == '"' || c == '\\' {
						want = at
					}
				}
				if got := plain(b); got != want {
					t.Fatalf("%q: %d, not %d", b, got, want)
				}
			}
		}
	}
}

// TestPrintable: whatever stands wherever among eight bytes.
func TestPrintable(t *testing.T) {
	for c := range 256 {
		for at := range 17 {
			s := []byte("abcdefghijklmnopq")
			s[at] = byte(c)
			want := 16
			if c < ' ' || c >= 0x7f {
				want = min(at/8*8, 16)
			}
			if got := Printable(string(s)); got != want {
				t.Fatalf("%q: %d, want %d", s, got, want)
			}
		}
	}
}
