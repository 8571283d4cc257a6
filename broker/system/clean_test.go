package system

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// decodedAppearance is what clean gives, made in the way that knows no doubt.
func decodedAppearance(r redactor, stored []byte, version string) (string, error) {
	o, err := decodeObject(withoutManagers(stored))
	if err != nil {
		return "", err
	}
	if meta := o.metadata(); meta != nil {
		delete(meta, "managedFields")
		meta["resourceVersion"] = version
	}
	r.fields(o)
	b, err := encode(o)
	return string(b), err
}

const appliedTrigger = `{"apiVersion":"eventing.knative.dev/v1","kind":"Trigger","metadata":{"annotations":{"eventing.knative.dev/creator":"admin","kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"eventing.knative.dev/v1\",\"kind\":\"Trigger\",\"metadata\":{\"annotations\":{},\"name\":\"t-0\",\"namespace\":\"default\"},\"spec\":{\"broker\":\"default\",\"delivery\":{\"jitter\":true,\"retry\":3},\"filters\":[{\"exact\":{\"type\":\"a\"}}],\"subscriber\":{\"uri\":\"http://127.0.0.1:1/\"}}}\n"},` +
	`"creationTimestamp":"2026-01-02T15:04:05Z","generation":1,"managedFields":[{"apiVersion":"eventing.knative.dev/v1","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{".":{},"f:secret":{}}},"manager":"kubectl","operation":"Update","time":"2026-01-02T15:04:05Z"}],"name":"t-0","namespace":"default","uid":"6ba7b810-9dad-11d1-80b4-00c04fd430c8"},` +
	`"spec":{"broker":"default","delivery":{"jitter":true,"retry":3},"filters":[{"exact":{"type":"a"}}],"subscriber":{"uri":"http://127.0.0.1:1/"}},"status":{"conditions":[{"lastTransitionTime":"2026-01-02T15:04:05Z","status":"True","type":"Ready"},{"lastTransitionTime":"2026-01-02T15:04:05Z","message":"the log is being told","status":"True","type":"SubscriptionReady"}],"observedGeneration":1}}` + "\n"

// cleanSeeds are objects in which something is odd, or a credential.
func cleanSeeds() []string {
	seeds := []string{appliedTrigger, "{}", `{"metadata":{}}`, `{"metadata":null}`, `{"metadata":[]}`, `{"a":1}`, "", "null", `{"metadata":{"managedFields":[]}}`, `{"metadata":{"managedFields":[],"managedFields":[]}}`, `{"metadata":{"resourceVersion":"1"}}`,
		`{"metadata":{"annotations":{"` + lastApplied + `":"{\"a\":1` + "\t" + `}"}}}`}
	for _, member := range []string{
		`"":1`, `"a":-0`, `"a":1.50`, `"a":1E5`, `"a":12345678901234567890123`, `"a":01`, `"a":nul`, `"a":true`, `"a":`, `"a":"b`, `"a" :1`, `"a": 1`, `"a":1,"a":2`, `"b":1,"a":2`, `"a":1,`,
		`"a":"\u003c"`, `"a":"<&>"`, "\"a\":\"\u2028\"", "\"a\":\"\xff\"", "\"a\":\"\x01\"", "\"a\":\"\x7f\"", `"a":"\"`, `"a":"tab\t"`, `"a\u0062":1`, "\"a\u2029\":1", `"a":"ä"`, `"a":"` + "\u00a0" + `{\"password\":1}"`,
		`"a":[]`, `"a":[1,]`, `"a":[1,2,"x",{"b":[{}]}]`, `"a":[{"b":1,"b":2}]`, `"a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100),
		`"password":""`, `"password":"x"`, `"password":7`, `"password":{"a":"b"}`, `"token":null`, `"a":{"apiKey":"x"}`, `"env":[{"name":"TOKEN","value":"x"}]`, `"env":[{"name":"X","value":"x"}]`,
		`"a":"http://u:p@h/"`, `"a":"?sig=x"`, `"a":"Bearer 0123456789"`, `"a":"x bEARER\t0123456789"`, `"a":"b baſic 0123456789"`, `"a":"a forbearer 0123456789"`, `"a":"bearer"`, `"a":"bearer "`, `"a":"what is basic is what 0123456789"`, `"a":"eyJhbGciOiJIUzI1NiJ9.eyJ.x"`, `"a":"-----BEGIN PRIVATE KEY-----x"`, `"a":"{}"`, `"a":" {}"`,
		`"a":{"kind":"Secret","data":{"x":"y"}}`, `"kind":"Secret"`, `"kind":["Secret"]`,
	} {
		seeds = append(seeds, `{`+member+`,"metadata":{"name":"x"}}`, `{"metadata":{"name":"x"},"spec":{`+member+`}}`, `{"metadata":{"annotations":{`+member+`},"name":"x"}}`, `{"metadata":{"name":"x",`+member+`}}`)
		for _, content := range []string{`{` + member + `}`, `{` + member + "}\n", `{"spec":{` + member + "}}\n\n", member} {
			b, err := json.Marshal(content)
			if err != nil {
				panic(err)
			}
			seeds = append(seeds, `{"metadata":{"annotations":{"`+lastApplied+`":`+string(b)+`},"name":"x"}}`, `{"metadata":{"annotations":{"`+lastApplied+`":"`+content+`"}}}`)
		}
	}
	return seeds
}

func compareClean(t *testing.T, r redactor, stored string) (ok bool) {
	t.Helper()
	given := strings.Clone(stored)
	got, ok := r.clean([]byte(given), "17")
	if given != stored {
		t.Fatalf("%q was changed to %q", stored, given)
	}
	if !ok {
		return false
	}
	want, err := decodedAppearance(r, []byte(stored), "17")
	if err != nil || string(got) != want {
		t.Errorf("%q appears as\n%q, want\n%q, %v", stored, got, want, err)
	}
	return true
}

// TestCleanIsAsIfDecoded: what is not decoded appears as if it were, or is decoded.
func TestCleanIsAsIfDecoded(t *testing.T) {
	r := newRedactor()
	if !compareClean(t, r, appliedTrigger) {
		t.Error("a Trigger as kubectl applies it is decoded")
	}
	seeds, n := cleanSeeds(), 0
	for _, seed := range seeds {
		if compareClean(t, r, seed) {
			n++
		}
	}
	if n < 40 || n > len(seeds)/2 {
		t.Errorf("%d of %d objects are not decoded", n, len(seeds))
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		b := []byte(appliedTrigger)
		for range 1 + random.IntN(3) {
			at := random.IntN(len(b))
			switch random.IntN(4) {
			case 0:
				b[at] = "\"\\{}[]:,0a@=. \n"[random.IntN(15)]
			case 1:
				b = append(b[:at:at], b[at+1:]...)
			case 2:
				other := seeds[random.IntN(len(seeds))]
				b = append(append(append([]byte{}, b[:at]...), other...), b[at:]...)
			default:
				to := at + random.IntN(len(b)-at)
				b = append(append(append([]byte{}, b[:to]...), b[at:to]...), b[to:]...)
			}
		}
		compareClean(t, r, string(b))
	}
}

func FuzzClean(f *testing.F) {
	for _, seed := range cleanSeeds() {
		f.Add(seed)
	}
	r := newRedactor()
	f.Fuzz(func(t *testing.T, stored string) { compareClean(t, r, stored) })
}

func BenchmarkAppearance(b *testing.B) {
	r := newRedactor()
	for name, f := range map[string]func() error{
		"clean": func() error {
			if _, ok := r.clean([]byte(appliedTrigger), "17"); !ok {
				return fmt.Errorf("it is in doubt")
			}
			return nil
		},
		"decoded": func() error {
			_, err := decodedAppearance(r, []byte(appliedTrigger), "17")
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestPatternsAreNotPassedOver: where one finds something it is asked.
func TestPatternsAreNotPassedOver(t *testing.T) {
	parts := strings.Split(`Bearer|basic|ba`+"\u017f"+`ic|BASIC|x|://|u:p@|@|?|sig=|token=|&|0123456789|eyJhbGciOi|.abc|.|-----BEGIN |PRIVATE KEY-----|RSA | |`+"\t|\n|\u00a0|\f|\r|{|\"", "|")
	random, found := rand.New(rand.NewPCG(3, 4)), map[int]int{}
	all := patterns()
	for range 50_000 {
		var b strings.Builder
		for range 1 + random.IntN(8) {
			b.WriteString(parts[random.IntN(len(parts))])
		}
		for i := range all {
			if p := &all[i]; p.MatchString(b.String()) {
				if found[i]++; !p.maybe([]byte(b.String())) {
					t.Fatalf("%s finds something in %q, and is not asked", p, b.String())
				}
			}
		}
	}
	if len(found) != len(all) {
		t.Errorf("of %d patterns %v found something", len(all), found)
	}
}
