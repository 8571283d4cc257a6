package members

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"testing"
)

const sample = `{"a":1,"b":{"x":[1,{"y":"}\",{"}],"z":{}},"d":"text","e":[],"f":null}` + "\n"

func TestParts(t *testing.T) {
	o, err := Of([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	var whole map[string]json.RawMessage
	if err := json.Unmarshal([]byte(sample), &whole); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range o {
		names = append(names, string(m.Name))
		if !bytes.Equal(m.Value, whole[string(m.Name)]) {
			t.Errorf("%s is %s, want %s", m.Name, m.Value, whole[string(m.Name)])
		}
	}
	if want := slices.Sorted(maps.Keys(whole)); !slices.Equal(names, want) || !o.Sorted() {
		t.Errorf("members %v, want %v", names, want)
	}
	if s, ok := o.Text("d"); !ok || s != "text" {
		t.Errorf("d is %q, %v", s, ok)
	}
	if _, ok := o.Text("a"); ok {
		t.Error("a number is taken for a text")
	}
	inner, err := Of(o.Get("b").Value)
	if err != nil {
		t.Fatal(err)
	}
	items, err := Items(inner.Get("x").Value)
	if err != nil || len(items) != 2 || string(items[1]) != `{"y":"}\",{"}` {
		t.Errorf("items %q, %v", items, err)
	}
}

// TestReplaced: what is spliced is what decoding, changing and encoding gives.
func TestReplaced(t *testing.T) {
	for _, text := range []string{sample, `{}`, `{"c":1}`, `{"a":1}`, `{"z":1}`} {
		o, err := Of([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		for _, name := range []string{"", "a", "b", "c", "f", "zz"} {
			var whole map[string]any
			if err := json.Unmarshal([]byte(text), &whole); err != nil {
				t.Fatal(err)
			}
			without := maps.Clone(whole)
			delete(without, name)
			whole[name] = []any{"new"}
			encoded := func(v any) string {
				b, err := json.Marshal(v)
				if err != nil {
					t.Fatal(err)
				}
				return string(b)
			}
			if got, want := string(o.AppendWith(nil, []byte(text), name, []byte(`["new"]`))), encoded(whole); got != want {
				t.Errorf("%s with %q: %s, want %s", text, name, got, want)
			}
			if got, want := string(bytes.TrimSpace(o.Without([]byte(text), name))), encoded(without); got != want {
				t.Errorf("%s without %q: %s, want %s", text, name, got, want)
			}
		}
	}
}

// FuzzParts: whatever the text, it is refused or taken apart so that it can be
// put together again; what encoders write is never refused.
func FuzzParts(f *testing.F) {
	for _, s := range []string{sample, `{`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{"a":1 }`, `[1]`, `{"a\n":1}`, `{"a":"\`, `{"a":[}`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		o, err := Of(text)
		if err == nil {
			again := []byte{'{'}
			for i, m := range o {
				if i > 0 {
					again = append(again, ',')
				}
				again = append(append(append(append(again, '"'), m.Name...), '"', ':'), m.Value...)
			}
			if again = append(again, '}'); !bytes.Equal(again, bytes.TrimSuffix(text, []byte("\n"))) {
				t.Errorf("%q was taken apart to %q", text, again)
			}
		}
		var whole map[string]any
		if json.Unmarshal(text, &whole) != nil || whole == nil {
			return
		}
		encoded, err := json.Marshal(whole)
		if err != nil {
			t.Fatal(err)
		}
		if o, err = Of(encoded); err != nil && !bytes.ContainsRune(encoded, '\\') || err == nil && len(o) != len(whole) {
			t.Errorf("%s: %d members, %v", encoded, len(o), err)
		}
	})
}
