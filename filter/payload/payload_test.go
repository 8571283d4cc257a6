package payload

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestValues(t *testing.T) {
	for text, want := range map[string]any{
		`null`: nil, ` true `: true, "false": false, `"a"`: "a", `0`: 0, `-12`: -12, `1.5`: 1.5, `1e2`: 100.0, `1.0`: 1.0,
		`9007199254740993`: 9007199254740993, `9223372036854775807`: math.MaxInt64, `9223372036854775808`: 9223372036854775808.0,
		`[]`: []any{}, `{}`: map[string]any{}, `[1,"x",[null]]`: []any{1, "x", []any{nil}}, ` { "a" : { "b" : [ 1 , 2 ] } , "a" : 3 } `: map[string]any{"a": 3},
		`"\"\\\/\b\f\n\r\t\u00fc\ud83d\ude00\ud83dx"`: "\"\\/\b\f\n\r\tü😀\ufffdx", `"grün"`: "grün", "\"a\xffb\"": "a\ufffdb",
	} {
		got, err := Parse([]byte(text), Limits{})
		if err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("%s = %#v, %v", text, got, err)
		}
	}
}

func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"": "byte 0: a value", "x": "byte 0: a value", "tru": "a value", "1 2": "byte 2: text after", "01": "byte 1: text after", "-": "byte 1: a digit", "1.": "a digit", "1e": "a digit",
		"1e999": "byte 0: a number that is too large", `"a`: "without an end", "\"a\nb\"": "byte 2: a control character", `"ü` + "\n": "control", `"\x"`: "unknown escape", `"\u12"`: "four hex", `"\`: "without an end",
		"[1": "comma or ]", "[1,": "value", "[1 2]": "comma or ]", "{1:2}": "key", `{"a"}`: "colon", `{"a":}`: "value", `{"a":1,}`: "key", `{"a":1`: "comma or }",
		strings.Repeat("[", 65) + strings.Repeat("]", 65): "byte 64: nested deeper than the limit of 64",
		`[` + strings.Repeat("0,", 100_000) + `0]`:        "more values than the limit of 100000",
		`"` + strings.Repeat("x", 1<<20) + `"`:            "more than the limit of 1048576",
	} {
		_, err := Parse([]byte(text), Limits{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: %v, want %s", text, err, want)
		}
	}
}

// FuzzParse: within the limits the standard library is of the same opinion.
func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5,-3e7,"x\u00e9\n",true,false,null],"":{}}`, `"\ud800"`, `[[[]]]`, `-0`, `1E+2`, "\ufeff1", `{"a":1,"a":2}`, "\"\xc3\x28\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := Parse(text, Limits{MaxDepth: 9000})
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if (err == nil) != json.Valid(text) {
			if err == nil || !strings.Contains(err.Error(), "limit") && !strings.Contains(err.Error(), "too large") {
				t.Fatalf("%q: %v, valid %v", text, err, json.Valid(text))
			}
			return
		}
		if err != nil {
			return
		}
		var want any
		if err := d.Decode(&want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(numbers(want), got); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	})
}

func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil && v != "-0" {
			return int(n)
		}
		f, _ := v.Float64()
		return f
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = numbers(v[k])
		}
	}
	return v
}

func BenchmarkParse(b *testing.B) {
	text := []byte(`{"kind":"order","id":"0b7e","customer":{"name":"Ada","country":"GB"},"items":[{"sku":"a-1","qty":2,"price":12.5},{"sku":"b-7","qty":1,"price":99}],"note":"` + strings.Repeat("x", 700) + `"}`)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(text, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}
