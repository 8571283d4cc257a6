package operations

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
)

type parameter struct {
	Ref, Name, In string
	Required      bool
}

type operation struct {
	OperationID string
	Parameters  []parameter
	Responses   map[string]json.RawMessage
}

type document struct {
	OpenAPI    string
	Paths      map[string]map[string]json.RawMessage
	Components struct {
		Parameters map[string]parameter
		Responses  map[string]json.RawMessage
		Schemas    map[string]struct {
			Properties map[string]json.RawMessage
			Required   []string
		}
	}
}

func readDocument(t *testing.T, b []byte) document {
	t.Helper()
	var d document
	// A reference is a name with a dollar, which is no field's.
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(b), `"$ref"`, `"ref"`)), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// resolve gives the parameters that refer to components.
func (d document) resolve(t *testing.T, list []parameter) []parameter {
	t.Helper()
	var out []parameter
	for _, p := range list {
		if name, ok := strings.CutPrefix(p.Ref, "#/components/parameters/"); ok {
			if p, ok = d.Components.Parameters[name]; !ok {
				t.Errorf("parameter %s is not there", name)
			}
		}
		out = append(out, p)
	}
	return out
}

func decode[T any](t *testing.T, raw json.RawMessage) T {
	t.Helper()
	var v T
	if raw != nil {
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

// TestOpenAPIDescribesWhatIsServed: exactly the paths, the parameters and the
// fields that there are.
func TestOpenAPIDescribesWhatIsServed(t *testing.T) {
	w := newWorld(t)
	res := w.open(t.Context(), "/openapi.json")
	served, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "application/json" || string(served) != string(OpenAPI()) {
		t.Fatalf("%s, %v: %s", res.Status, err, served)
	}
	d := readDocument(t, served)
	var described []string
	for path, item := range d.Paths {
		shared := d.resolve(t, decode[[]parameter](t, item["parameters"]))
		for method, raw := range item {
			if method == "parameters" {
				continue
			}
			pattern := strings.ToUpper(method) + " " + path
			described = append(described, pattern)
			checkOperation(t, d, path, shared, decode[operation](t, raw))
		}
	}
	routes := slices.Sorted(maps.Keys((&handler{}).routes()))
	if slices.Sort(described); !slices.Equal(described, routes) {
		t.Errorf("described %q, served %q", described, routes)
	}
	for name, of := range map[string]any{
		"Ready": Ready{}, "Index": Index{}, "Line": Line{}, "Problem": Problem{}, "Version": Version{}, "Disk": Disk{},
		"Status": Status{}, "ChannelStatus": ChannelStatus{}, "SubscriptionStatus": SubscriptionStatus{},
		"VerifyLine": VerifyLine{}, "VerifySummary": VerifySummary{}, "FileReport": FileReport{}, "DamageReport": DamageReport{}, "Lost": Lost{}, "Skip": Skip{}, "Skipped": Skipped{},
	} {
		var fields []string
		for _, f := range reflect.VisibleFields(reflect.TypeOf(of)) {
			tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			fields = append(fields, tag)
		}
		slices.Sort(fields)
		if got := slices.Sorted(maps.Keys(d.Components.Schemas[name].Properties)); !slices.Equal(got, fields) {
			t.Errorf("%s: described %q, has %q", name, got, fields)
		}
	}
}

func checkOperation(t *testing.T, d document, path string, shared []parameter, o operation) {
	t.Helper()
	var query, inPath, want []string
	for _, p := range append(d.resolve(t, o.Parameters), shared...) {
		switch p.In {
		case "query":
			query = append(query, p.Name)
		case "path":
			inPath = append(inPath, "{"+p.Name+"}")
		}
	}
	for element := range strings.SplitSeq(path, "/") {
		if strings.HasPrefix(element, "{") {
			want = append(want, element)
		}
	}
	slices.Sort(inPath)
	if slices.Sort(want); !slices.Equal(inPath, want) {
		t.Errorf("%s: describes %q", path, inPath)
	}
	takes := parameters
	if !strings.HasSuffix(path, "/events") {
		takes = nil
	}
	if !slices.Equal(query, takes) {
		t.Errorf("%s: describes the parameters %q, takes %q", path, query, takes)
	}
	if o.OperationID == "" || len(o.Responses) == 0 {
		t.Errorf("%s: %+v", path, o)
	}
	for status, raw := range o.Responses {
		r := decode[struct{ Ref string }](t, raw)
		if name, ok := strings.CutPrefix(r.Ref, "#/components/responses/"); ok && d.Components.Responses[name] == nil {
			t.Errorf("%s: response %s of %s is not there", path, name, status)
		}
	}
	if len(takes) > 0 {
		if got := slices.Sorted(maps.Keys(o.Responses)); !slices.Equal(got, []string{"200", "400", "404", "500"}) {
			t.Errorf("%s: describes the answers %q", path, got)
		}
	}
}
